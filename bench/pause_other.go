//go:build !linux

package main

import "time"

// pause blocks for d.
func pause(d time.Duration) { time.Sleep(d) }
