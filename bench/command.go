package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// commandRun is what a program that came to its end has used.
type commandRun struct {
	Seconds float64 `json:"seconds"` // from its start to its end
	CPU     float64 `json:"cpu_s"`
	Peak    int64   `json:"peak_rss_bytes"` // -1 where the system does not tell
	Status  int     `json:"exit_status"`

	log string
}

// runCommand runs a program to its end, and takes its exit status for an answer and not for an error.
func runCommand(ctx context.Context, name, dir, program string, args ...string) (commandRun, error) {
	began := time.Now()
	p, err := startProcess(name, dir, program, args...)
	if err != nil {
		return commandRun{}, err
	}
	peak := make(chan int64, 1)
	go func() { peak <- p.peak() }()
	select {
	case <-p.done:
	case <-ctx.Done():
		p.stop()
		return commandRun{}, p.failure(fmt.Sprintf("did not end in time (%v)", context.Cause(ctx)))
	}
	r := commandRun{Seconds: time.Since(began).Seconds(), Peak: <-peak, log: p.log}
	state := p.cmd.ProcessState
	r.CPU = (state.UserTime() + state.SystemTime()).Seconds()
	r.Status = state.ExitCode()
	var exit *exec.ExitError
	if p.err != nil && !errors.As(p.err, &exit) || r.Status < 0 {
		return r, p.failure(fmt.Sprintf("ended with %v", p.err))
	}
	return r, nil
}

// expect is an error unless the program has ended with the status.
func (r *commandRun) expect(name string, status int) error {
	if r.Status == status {
		return nil
	}
	return fmt.Errorf("%s ended with status %d, expected %d; the end of its log:\n%s", name, r.Status, status, logTail(r.log, 2000))
}

// peakInterval is how often a process is asked for its peak. The peak only grows, so only what came after the last time
// is missed.
const peakInterval = 20 * time.Millisecond

// peak returns the most memory that the process has had, when it has ended. The kernel's figure of a child that was
// waited for will not do: it counts what its parent had when it started it.
func (p *process) peak() int64 {
	last := int64(-1)
	ticker := time.NewTicker(peakInterval)
	defer ticker.Stop()
	for {
		if now := peakRSS(p.pid()); now > 0 {
			last = now
		}
		select {
		case <-p.done:
			return last
		case <-ticker.C:
		}
	}
}

// peakRSS reads VmHWM of /proc/PID/status, -1 if there is none.
func peakRSS(pid int) int64 {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return -1
	}
	_, rest, ok := bytes.Cut(b, []byte("VmHWM:"))
	fields := bytes.Fields(rest)
	if !ok || len(fields) == 0 {
		return -1
	}
	kilobytes, err := strconv.ParseInt(string(fields[0]), 10, 64)
	if err != nil {
		return -1
	}
	return kilobytes << 10
}
