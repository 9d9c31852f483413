//go:build !unix

package main

import (
	"io"

	"github.com/sheafml/sheaf/backfill"
)

// pauseOnSignal does nothing where there are no such signals.
func pauseOnSignal(*backfill.Run, io.Writer) (stop func()) { return func() {} }
