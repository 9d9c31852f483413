package main

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

// endless is more rounds of the model slow than end while a test lasts, or before a worker's run timeout.
const endless = 1e6

// cancel asks the shim to, and expects that it does.
func cancel(t testing.TB, url string, ticket job.Ticket) {
	t.Helper()
	code, body := request(t, http.MethodDelete, url+"/v1/jobs/"+ticket.String(), nil, nil)
	if code != http.StatusOK || decodeJob(t, body).Status != "canceled" {
		t.Fatalf("cancel is answered %d: %s", code, body)
	}
}

// staysCanceled checks that the shim and the store say so, and that the record is still the one that stood before.
func (h *hazard) staysCanceled(t testing.TB, url string, ticket job.Ticket, before []byte) {
	t.Helper()
	if code, body := get(t, url+"/v1/jobs/"+ticket.String()); code != http.StatusOK || decodeJob(t, body).Status != "canceled" {
		t.Errorf("the canceled job is answered %d: %s", code, body)
	}
	if after := h.raw(t, ticket.ID)[0]; before == nil || !bytes.Equal(before, after) {
		t.Error("the canceled record was written over")
	}
}

// awaitGauge waits until a metric of the model slow has the value.
func (w *pool) awaitGauge(t testing.TB, name string, want float64) {
	t.Helper()
	eventually(t, func() error {
		if got := metric(t, w.ops(), name, `"slow"`); got != want {
			return fmt.Errorf("%s is %v, expected %v", name, got, want)
		}
		return nil
	})
}

const (
	inFlight = "sheaf_worker_in_flight_rows"
	buffered = "sheaf_worker_buffered_rows"
)

// A job that waits is canceled: its message is gone, and a worker that comes later computes nothing of it.
func TestCancelQueued(t *testing.T) {
	t.Parallel()
	h := newHazard(t)
	h.announceModels(t)
	_, url := h.api(t, nil)
	p := h.producer(t)
	doomed, kept := single(t, p, slowJob(endless, 1)), single(t, p, slowJob(0, 2))
	cancel(t, url, doomed)
	if n := h.stream(t, job.Interactive.String()).messages; n != 1 {
		t.Errorf("%d messages are left, expected that of the other job", n)
	}
	before := h.raw(t, doomed.ID)[0]
	w := h.worker(t, nil)
	if err := isSlowAnswer(h.record(t, kept.ID), 2); err != nil {
		t.Errorf("the other job: %v", err)
	}
	h.awaitEmpty(t)
	if n := w.computed(t); n != 1 {
		t.Errorf("%d rows were computed, expected that of the other job", n)
	}
	h.staysCanceled(t, url, doomed, before)
}

// Jobs that run alone are canceled: the run ends, and the worker is there for the next job, which else would come only
// after an hour of work.
func TestCancelRunning(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		jobs []producer.Request
	}{
		{"alone", []producer.Request{slowJob(endless, 1)}},
		{"the whole batch", []producer.Request{slowJob(endless, 1), slowJob(1, 2), slowJob(endless, 3)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHazard(t)
			w := h.worker(t, nil)
			_, url := h.api(t, nil)
			p := h.producer(t)
			doomed := sheaf(t, p, c.jobs...)
			w.awaitGauge(t, inFlight, float64(len(doomed)))
			eventually(t, func() error {
				if _, body := get(t, url+"/v1/jobs/"+doomed[0].String()); decodeJob(t, body).Status != "running" {
					return fmt.Errorf("the job in the run is answered %s", body)
				}
				return nil
			})
			before := make([][]byte, len(doomed))
			for i, ticket := range doomed {
				cancel(t, url, ticket)
				before[i] = h.raw(t, ticket.ID)[0]
			}
			if err := isSlowAnswer(h.record(t, single(t, p, slowJob(0, 5)).ID), 5); err != nil {
				t.Errorf("the next job: %v", err)
			}
			h.awaitEmpty(t)
			for i, ticket := range doomed {
				h.staysCanceled(t, url, ticket, before[i])
			}
			if n := h.stream(t, "dead").messages; n != 0 {
				t.Errorf("%d dead letters", n)
			}
			if s := h.stream(t, job.Interactive.String()); s.deliveries != 2 {
				t.Errorf("the broker delivered %d times, expected one message and the next", s.deliveries)
			}
		})
	}
}

// One of two jobs in a run is canceled: the other succeeds, in this very run.
func TestCancelSparesNeighbours(t *testing.T) {
	t.Parallel()
	h := newHazard(t)
	w := h.worker(t, nil)
	_, url := h.api(t, nil)
	p := h.producer(t)
	thousands := longer(t, h, p, 2*time.Second)
	measured := w.computed(t)

	tickets := sheaf(t, p, slowJob(thousands, 1), slowJob(0, 2))
	doomed, kept := tickets[0], tickets[1]
	w.awaitGauge(t, inFlight, 2)
	cancel(t, url, doomed)
	before := h.raw(t, doomed.ID)[0]
	if h.raw(t, kept.ID)[0] != nil {
		t.Fatal("the run was over before the job was canceled: it was too short")
	}
	r := h.record(t, kept.ID)
	if err := isSlowAnswer(r, 2); err != nil {
		t.Error(err)
	}
	if r.Attempts != 1 || r.Timings.BatchRows != 2 {
		t.Errorf("the neighbour took %d attempts, the last in a batch of %d rows; expected the first, of 2 rows", r.Attempts, r.Timings.BatchRows)
	}
	h.awaitEmpty(t)
	if n := w.computed(t) - measured; n != 2 {
		t.Errorf("%d rows were computed, expected 2", n)
	}
	h.staysCanceled(t, url, doomed, before)
}

// A job that a worker holds and has not begun is canceled: it is dropped from the batch that it would have been in.
func TestCancelDropsBuffered(t *testing.T) {
	t.Parallel()
	h := newHazard(t)
	w := h.worker(t, nil)
	_, url := h.api(t, nil)
	p := h.producer(t)
	thousands := longer(t, h, p, 2*time.Second)
	measured := w.computed(t)

	first := single(t, p, slowJob(thousands, 1))
	w.awaitGauge(t, inFlight, 1)
	tickets := sheaf(t, p, slowJob(endless, 2), slowJob(0, 3)) // one message, so that it cannot be removed
	doomed, kept := tickets[0], tickets[1]
	w.awaitGauge(t, buffered, 2)
	cancel(t, url, doomed)
	before := h.raw(t, doomed.ID)[0]
	if h.raw(t, first.ID)[0] != nil {
		t.Fatal("the run was over before the job was canceled: it was too short")
	}
	if err := isSlowAnswer(h.record(t, first.ID), 1); err != nil {
		t.Errorf("the job before: %v", err)
	}
	if err := isSlowAnswer(h.record(t, kept.ID), 3); err != nil {
		t.Errorf("the neighbour: %v", err)
	}
	h.awaitEmpty(t)
	if n := w.computed(t) - measured; n != 2 {
		t.Errorf("%d rows were computed, expected the first job's and the neighbour's", n)
	}
	h.staysCanceled(t, url, doomed, before)
}

// The deadline of a job passes while no worker lives: whoever asks is told that it has expired, and it stays so.
func TestExpiredWithoutWorker(t *testing.T) {
	t.Parallel()
	h := newHazard(t)
	h.announceModels(t)
	_, url := h.api(t, nil)
	p := h.producer(t)
	// The deadline is later than the time that the submit may take; the first look may come before it or after.
	late := slowJob(endless, 1)
	late.Deadline = time.Now().Add(2 * time.Second)
	overdue := single(t, p, late)
	late.Deadline = time.Now().Add(2 * time.Second)
	company := sheaf(t, p, late, slowJob(0, 2))
	for _, ticket := range []job.Ticket{overdue, company[0]} {
		eventually(t, func() error {
			code, body := get(t, url+"/v1/jobs/"+ticket.String())
			if code != http.StatusOK || decodeJob(t, body).Status != "expired" {
				return fmt.Errorf("the overdue job is answered %d: %s", code, body)
			}
			return nil
		})
		if code, body := request(t, http.MethodDelete, url+"/v1/jobs/"+ticket.String(), nil, nil); code != http.StatusConflict {
			t.Errorf("cancel of the expired job is answered %d, expected 409: %s", code, body)
		}
	}
	before := h.raw(t, overdue.ID, company[0].ID)
	if before[0] == nil || before[1] == nil {
		t.Error("an expired job has no record")
	}
	w := h.worker(t, nil)
	if err := isSlowAnswer(h.record(t, company[1].ID), 2); err != nil {
		t.Errorf("the neighbour: %v", err)
	}
	h.awaitEmpty(t)
	if n := w.computed(t); n != 1 {
		t.Errorf("%d rows were computed, expected the neighbour's", n)
	}
	for i, after := range h.raw(t, overdue.ID, company[0].ID) {
		if !bytes.Equal(before[i], after) {
			t.Errorf("the record of expired job %d was written over", i)
		}
	}
}
