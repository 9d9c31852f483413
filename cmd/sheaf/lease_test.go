package main

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

// longer asks for enough rounds of the model slow that one run takes d, as fast as this machine is now.
func longer(t testing.TB, h *hazard, p *producer.Producer, d time.Duration) (thousands float64) {
	t.Helper()
	const some = 30
	r := h.record(t, single(t, p, slowJob(some, 1)).ID)
	if err := isSlowAnswer(r, 1); err != nil {
		t.Fatal(err)
	}
	return some * float64(d) / float64(max(r.Timings.Infer, time.Millisecond))
}

// A job that is computed for four times as long as its lease lasts is computed once: the lease is kept.
func TestLongInference(t *testing.T) {
	t.Parallel()
	h := newHazard(t)
	w := h.worker(t, nil)
	p := h.producer(t)

	const atLeast = 4 * hazardAckWait
	thousands := longer(t, h, p, 5*hazardAckWait)
	jobs := 1
	for {
		value := float64(jobs)
		r := h.record(t, single(t, p, slowJob(thousands, value)).ID)
		jobs++
		if err := isSlowAnswer(r, value); err != nil {
			t.Fatal(err)
		}
		if r.Attempts != 1 {
			t.Fatalf("the record of a run of %v tells of %d attempts", r.Timings.Infer, r.Attempts)
		}
		if r.Timings.Infer >= atLeast {
			break
		}
		thousands *= 1.5 // the machine was busier when it was measured
	}
	h.awaitEmpty(t)
	if n := w.computed(t); n != jobs {
		t.Errorf("%d jobs were computed for %d", n, jobs)
	}
	if n := metric(t, w.ops(), "sheaf_worker_redelivered_messages_total", ""); n != 0 {
		t.Errorf("%v messages were delivered again", n)
	}
	if s := h.stream(t, job.Interactive.String()); s.deliveries != jobs {
		t.Errorf("the broker delivered %d times, expected %d", s.deliveries, jobs)
	}
}

// A worker is stopped in the middle of a run, for longer than its lease, while another computes the job. Going on, it
// changes nothing.
func TestStaleAttempt(t *testing.T) {
	t.Parallel()
	h := newHazard(t)
	stale := h.worker(t, nil)
	p := h.producer(t)
	thousands := longer(t, h, p, 3*hazardAckWait)

	// The run lasts as long as its slowest row asks for.
	const jobs = 3
	ids := idsOf(sheaf(t, p, slowJob(0, 0), slowJob(thousands, 1), slowJob(0, 2)))
	eventually(t, func() error {
		if metric(t, stale.ops(), "sheaf_worker_in_flight_rows", `"slow"`) != jobs {
			return fmt.Errorf("the run has not begun")
		}
		return nil
	})
	if err := stale.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for i, record := range h.raw(t, ids...) {
		if record != nil {
			t.Fatalf("job %d was finished before the worker was stopped: the run was too short", i)
		}
	}
	fresh := h.worker(t, nil)
	for i, id := range ids {
		r := h.record(t, id)
		if err := isSlowAnswer(r, float64(i)); err != nil {
			t.Error(err)
		}
		if r.Attempts < 2 {
			t.Errorf("the record of job %d tells of %d attempts, expected that of the other worker", i, r.Attempts)
		}
	}
	h.awaitEmpty(t)
	before, deliveries := h.raw(t, ids...), h.stream(t, job.Interactive.String()).deliveries

	if err := stale.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if n := metric(t, stale.ops(), "sheaf_worker_late_results_total", `"slow"`); n != jobs {
			return fmt.Errorf("the stale attempt has come too late with %v of %d results", n, jobs)
		}
		return nil
	})
	for i, record := range h.raw(t, ids...) {
		if !bytes.Equal(record, before[i]) {
			t.Errorf("the record of job %d was changed by the stale attempt", i)
		}
	}
	// Both go on, and nothing was delivered again for the stale attempt's ack or for want of it.
	const more = 20
	for i := range more {
		if err := isSlowAnswer(h.record(t, single(t, p, slowJob(0, float64(i))).ID), float64(i)); err != nil {
			t.Error(err)
		}
	}
	h.awaitEmpty(t)
	if s := h.stream(t, job.Interactive.String()); s.deliveries != deliveries+more {
		t.Errorf("the broker delivered %d times, expected %d and %d", s.deliveries, deliveries, more)
	}
	if n := metric(t, fresh.ops(), "sheaf_worker_late_results_total", ""); n != 0 {
		t.Errorf("the other worker came too late with %v results", n)
	}
}
