//go:build !unix

package main

// lockFile locks nothing where there is no flock.
func lockFile(string) (unlock func(), err error) { return func() {}, nil }
