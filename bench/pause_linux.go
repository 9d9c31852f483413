package main

import (
	"syscall"
	"time"
)

// pause blocks the thread for d, to within some tens of microseconds. A signal may end it early.
func pause(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil)
}
