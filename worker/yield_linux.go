package worker

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// yieldThread makes the calling thread give way to others, as nice(1) does. In Linux a thread has a priority of its own.
func yieldThread(nice int) error {
	if err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), nice); err != nil {
		return fmt.Errorf("set the priority of a thread: %w", err)
	}
	return nil
}
