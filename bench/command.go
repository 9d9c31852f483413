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
	// Early and Late are the medians of its memory in the second and in the last quarter of its time.
	Early  float64 `json:"early_rss_bytes"`
	Late   float64 `json:"late_rss_bytes"`
	Status int     `json:"exit_status"`

	log string
}

// runCommand runs a program to its end, and takes its exit status for an answer and not for an error.
func runCommand(ctx context.Context, name, dir, program string, args ...string) (commandRun, error) {
	began := time.Now()
	p, err := startProcess(name, dir, program, args...)
	if err != nil {
		return commandRun{}, err
	}
	memory := make(chan memoryUse, 1)
	go func() { memory <- p.memory() }()
	select {
	case <-p.done:
	case <-ctx.Done():
		p.stop()
		return commandRun{}, p.failure(fmt.Sprintf("did not end in time (%v)", context.Cause(ctx)))
	}
	r := commandRun{Seconds: time.Since(began).Seconds(), log: p.log}
	use := <-memory
	r.Peak, r.Early, r.Late = use.peak, use.median(1, 2), use.median(3, 4)
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

// memoryInterval is how often a process is asked for its memory. The peak only grows, so only what came after the last
// time is missed.
const memoryInterval = 20 * time.Millisecond

// memoryUse is what a process had in memory.
type memoryUse struct {
	peak   int64
	series []float64
}

// median is that of the quarters from one to another of the time.
func (m *memoryUse) median(from, to int) float64 {
	n := len(m.series)
	return summarize(m.series[n*from/4 : n*to/4]).Median
}

// memory watches the process until it has ended. The kernel's figure of a child that was waited for will not do: it counts
// what its parent had when it started it.
func (p *process) memory() memoryUse {
	m := memoryUse{peak: -1}
	ticker := time.NewTicker(memoryInterval)
	defer ticker.Stop()
	for {
		if status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid()), "status")); err == nil {
			// A process that has ended and was not waited for has no such lines.
			if peak := statusBytes(status, "VmHWM:"); peak > 0 {
				m.peak, m.series = peak, append(m.series, float64(statusBytes(status, "VmRSS:")))
			}
		}
		select {
		case <-p.done:
			return m
		case <-ticker.C:
		}
	}
}

// statusBytes reads a field of /proc/PID/status, -1 if there is none.
func statusBytes(status []byte, name string) int64 {
	_, rest, ok := bytes.Cut(status, []byte(name))
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
