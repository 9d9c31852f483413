//go:build unix

package main

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/sheafml/sheaf/backfill"
)

// pauseOnSignal pauses a backfill at SIGUSR1, and lets it go on at SIGUSR2.
func pauseOnSignal(run *backfill.Run, w io.Writer) (stop func()) {
	signals := make(chan os.Signal, 4)
	over := make(chan struct{})
	signal.Notify(signals, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		defer close(over)
		for s := range signals {
			if s == syscall.SIGUSR1 {
				run.Pause()
				fmt.Fprintf(w, "Paused. Go on with: kill -USR2 %d\n", os.Getpid())
				continue
			}
			run.Resume()
			fmt.Fprintln(w, "Goes on.")
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-over
	}
}
