package main

import "errors"

// errLocked says that another process has the file.
var errLocked = errors.New("locked by another process")
