package httpapi_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/resultstore"
)

// readOnly is a store that takes no writes on demand.
type readOnly struct {
	gateway.Results
	on atomic.Bool
}

func (s *readOnly) set(on bool) { s.on.Store(on) }

func (s *readOnly) fault() error {
	if s.on.Load() {
		return fmt.Errorf("READONLY: %w", resultstore.ErrUnavailable)
	}
	return nil
}

func (s *readOnly) Finish(ctx context.Context, entries []resultstore.Entry) ([]resultstore.Outcome, error) {
	if err := s.fault(); err != nil {
		return make([]resultstore.Outcome, len(entries)), err
	}
	return s.Results.Finish(ctx, entries)
}

func (s *readOnly) Ping(ctx context.Context) error {
	if err := s.fault(); err != nil {
		return err
	}
	return s.Results.Ping(ctx)
}

// frozen is a store or a queue that answers nothing on demand, as after SIGSTOP, and counts who asks.
type frozen struct {
	mu    sync.Mutex
	on    bool
	asked int
}

func (f *frozen) set(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.on, f.asked = on, 0
}

func (f *frozen) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

func (f *frozen) wait(ctx context.Context) error {
	f.mu.Lock()
	on := f.on
	f.asked++
	f.mu.Unlock()
	if !on {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

type frozenResults struct {
	gateway.Results
	frozen
}

func (f *frozenResults) Get(ctx context.Context, ids ...job.ID) ([][]byte, error) {
	if err := f.wait(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", resultstore.ErrUnavailable, err)
	}
	return f.Results.Get(ctx, ids...)
}

func (f *frozenResults) Finish(ctx context.Context, e []resultstore.Entry) ([]resultstore.Outcome, error) {
	if err := f.wait(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", resultstore.ErrUnavailable, err)
	}
	return f.Results.Finish(ctx, e)
}

func (f *frozenResults) Ping(ctx context.Context) error {
	if err := f.wait(ctx); err != nil {
		return fmt.Errorf("%w: %w", resultstore.ErrUnavailable, err)
	}
	return f.Results.Ping(ctx)
}

type frozenQueue struct {
	gateway.Queue
	gateway.Submitter
	frozen
}

func (f *frozenQueue) Locate(ctx context.Context, t job.Ticket) (job.Location, error) {
	if err := f.wait(ctx); err != nil {
		return job.Location{}, fmt.Errorf("%w: %w", producer.ErrUnavailable, err)
	}
	return f.Queue.Locate(ctx, t)
}

func (f *frozenQueue) Remove(ctx context.Context, t job.Ticket) (bool, error) {
	if err := f.wait(ctx); err != nil {
		return false, fmt.Errorf("%w: %w", producer.ErrUnavailable, err)
	}
	return f.Queue.Remove(ctx, t)
}

func (f *frozenQueue) Submit(ctx context.Context, r producer.Request) (producer.Submission, error) {
	if err := f.wait(ctx); err != nil {
		return producer.Submission{}, fmt.Errorf("%w: %w", producer.ErrUnavailable, err)
	}
	return f.Submitter.Submit(ctx, r)
}

// timed makes a request and verifies that it was turned away with Retry-After within a bound.
func timed(t *testing.T, r *rig, bound time.Duration, method, path string, header ...string) {
	t.Helper()
	body := ""
	if method == "POST" {
		body = oneRow
	}
	start := time.Now()
	a := r.call(t, method, path, body, header...)
	a.problem(t, 503, "unavailable")
	if took := time.Since(start); took > bound || a.header.Get("Retry-After") == "" {
		t.Errorf("%s %s after %s, expected at most %s; header %v", method, path, took, bound, a.header)
	}
}

// A result store that answers nothing: the first requests are answered within their bounds, the next ones at once, and
// when it is back so is everything, within a second. Submits go on all the time.
func TestFrozenResultStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store *frozenResults
		r := newRig(t, func(_ *config, d *deps) {
			store = &frozenResults{Results: d.Results}
			d.Results = store
		})
		ticket := r.submit(t)
		cfg := defaultConfig()
		store.set(true)
		for range 3 {
			timed(t, r, cfg.LookupTimeout, "GET", "/v1/jobs/"+ticket.String())
		}
		asked := store.count()
		for range 20 {
			timed(t, r, 0, "GET", "/v1/jobs/"+ticket.String())
			timed(t, r, 0, "DELETE", "/v1/jobs/"+ticket.String())
			timed(t, r, 0, "GET", "/v1/jobs/"+ticket.String()+"?wait=30s")
		}
		if n := store.count(); n != asked {
			t.Errorf("the store was asked %d times more while it was known to be out of reach", n-asked)
		}
		timed(t, r, 2*time.Second, "POST", "/v1/models/digits/predict")
		timed(t, r, 0, "POST", "/v1/models/digits/predict")
		if n := len(r.queue.waiting); n != 1 {
			t.Errorf("%d jobs wait: a predict was submitted whose result nobody could have been given", n)
		}
		start := time.Now()
		r.submit(t)
		if time.Since(start) != 0 {
			t.Errorf("a submit took %s", time.Since(start))
		}
		if m := r.call(t, "GET", "/metrics", ""); !strings.Contains(m.body, `sheaf_gateway_unreachable{what="results_read"} 1`) {
			t.Error("the metrics do not show it")
		}
		if a := r.call(t, "GET", "/healthz", ""); a.status != 200 {
			t.Error("the process says that it is dead")
		}

		store.set(false)
		<-time.After(4 * time.Second) // the probe that hangs, and the pause after it
		if a := r.call(t, "GET", "/v1/jobs/"+ticket.String(), ""); a.status != 200 || a.str("status") != "queued" {
			t.Errorf("after the store was back: %d %s", a.status, a.body)
		}
		r.work(t, digitsResult)
		if a := r.call(t, "POST", "/v1/models/digits/predict", oneRow); a.status != 200 {
			t.Errorf("a predict after the store was back: %d %s", a.status, a.body)
		}
		if m := r.call(t, "GET", "/metrics", ""); !strings.Contains(m.body, `sheaf_gateway_unreachable{what="results_read"} 0`) {
			t.Error("the metrics do not show that it is over")
		}
	})
}

// A store that is read-only can be read: results that are there are given out.
func TestReadOnlyResultStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store *readOnly
		r := newRig(t, func(_ *config, d *deps) { store = &readOnly{Results: d.Results}; d.Results = store })
		finished, waiting := r.submit(t), r.submit(t)
		r.settle(t, finished, job.Result{State: job.Succeeded})
		store.set(true)
		for range 5 {
			timed(t, r, 0, "DELETE", "/v1/jobs/"+waiting.String())
			timed(t, r, 0, "POST", "/v1/models/digits/predict")
			if a := r.call(t, "GET", "/v1/jobs/"+finished.String(), ""); a.status != 200 || a.str("status") != "succeeded" {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
		}
		r.submit(t)
	})
}

// The same with the queue: results are read, submits and look-ups are refused.
func TestFrozenQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q *frozenQueue
		r := newRig(t, func(_ *config, d *deps) {
			q = &frozenQueue{Queue: d.Queue, Submitter: d.Submitter}
			d.Queue, d.Submitter = q, q
		})
		ticket, finished := r.submit(t), r.submit(t)
		r.settle(t, finished, job.Result{State: job.Succeeded})
		cfg := defaultConfig()
		q.set(true)
		for range 3 {
			timed(t, r, cfg.LookupTimeout, "GET", "/v1/jobs/"+ticket.String())
			timed(t, r, cfg.SubmitTimeout, "POST", "/v1/models/digits/jobs")
		}
		timed(t, r, 0, "POST", "/v1/models/digits/predict")
		asked := q.count()
		for range 10 {
			timed(t, r, 0, "POST", "/v1/models/digits/jobs")
		}
		if q.count() != asked {
			t.Error("the queue was asked while it was known to be out of reach")
		}
		if a := r.call(t, "GET", "/v1/jobs/"+finished.String(), ""); a.status != 200 {
			t.Errorf("a result that is there: %d %s", a.status, a.body)
		}
		q.set(false)
		<-time.After(4 * time.Second)
		r.submit(t)
		if a := r.call(t, "GET", "/v1/jobs/"+ticket.String(), ""); a.status != 200 {
			t.Errorf("after the queue was back: %d %s", a.status, a.body)
		}
	})
}

// A queue that answers questions and stores nothing: after a few submits the others are refused at once, but for one now
// and then, and the first that is taken opens it for all.
func TestQueueThatDoesNotStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q *frozenQueue
		r := newRig(t, func(_ *config, d *deps) {
			q = &frozenQueue{Queue: d.Queue, Submitter: d.Submitter}
			d.Submitter = q
		})
		ticket := r.submit(t)
		cfg := defaultConfig()
		q.set(true)
		for range 3 {
			timed(t, r, cfg.SubmitTimeout, "POST", "/v1/models/digits/jobs")
		}
		for range 20 {
			timed(t, r, 0, "POST", "/v1/models/digits/jobs")
		}
		if a := r.call(t, "GET", "/v1/jobs/"+ticket.String(), ""); a.status != 200 {
			t.Errorf("a poll: %d %s", a.status, a.body)
		}
		if n := q.count(); n != 3 {
			t.Errorf("%d submits went through, expected 3", n)
		}
		if m := r.call(t, "GET", "/metrics", ""); !strings.Contains(m.body, `sheaf_gateway_unreachable{what="queue_store"} 1`) {
			t.Error("the metrics do not show it")
		}
		if a := r.call(t, "GET", "/readyz", ""); a.status != 503 || !strings.Contains(a.body, `"submits":`) {
			t.Errorf("a server whose submits are all refused says that it is ready: %s", a.body)
		}
		<-time.After(1100 * time.Millisecond)
		trial := make(chan reply, 1)
		go func() { trial <- r.call(t, "POST", "/v1/models/digits/jobs", oneRow) }()
		synctest.Wait()
		timed(t, r, 0, "POST", "/v1/models/digits/jobs") // beside the one that tries
		<-trial
		q.set(false)
		<-time.After(1100 * time.Millisecond)
		r.submit(t)
		r.submit(t)
		if a := r.call(t, "GET", "/readyz", ""); a.status != 200 {
			t.Errorf("not ready although submits are taken again: %s", a.body)
		}
	})
}

// A queue that is full, or a tenant that has had its share, is no outage: the next request is tried.
func TestFullIsNoOutage(t *testing.T) {
	r := newRig(t, nil)
	for _, err := range []error{producer.ErrTenantFull, producer.ErrFull} {
		r.queue.publishErr = err
		for range 10 {
			if a := r.call(t, "POST", "/v1/models/digits/jobs", oneRow); a.str("type") == "/problems/unavailable" {
				t.Fatal(a.body)
			}
		}
		r.queue.publishErr = nil
		r.submit(t)
	}
}

// Whether a key's job is finished cannot be read: nobody is told that it is queued. The job is there for the next try.
func TestRepeatWhileRecordsCannotBeRead(t *testing.T) {
	for name, finished := range map[string]bool{"finished": true, "waiting": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var store *flaky
				r := newRig(t, func(_ *config, d *deps) { store = &flaky{Results: d.Results}; d.Results = store })
				ticket := r.submitTo(t, "digits", "Idempotency-Key", "k")
				if finished {
					r.settle(t, ticket, job.Result{State: job.Succeeded})
				}
				store.set(resultstore.ErrUnavailable)
				for _, prefer := range []string{"", "wait=5"} {
					a := r.call(t, "POST", "/v1/models/digits/jobs", oneRow, "Idempotency-Key", "k", "Prefer", prefer)
					a.problem(t, 503, "unavailable")
					if a.str("id") != ticket.String() || a.header.Get("Retry-After") == "" || strings.Contains(a.body, "queued") {
						t.Errorf("header %v: %s", a.header, a.body)
					}
				}
				// Without a key the job is a new one, which is queued and nothing else.
				r.submit(t)
				store.set(nil)
				<-time.After(1100 * time.Millisecond)
				want := map[bool]string{true: "succeeded", false: "queued"}[finished]
				if a := r.call(t, "POST", "/v1/models/digits/jobs", oneRow, "Idempotency-Key", "k"); a.status != 202 || a.str("status") != want {
					t.Errorf("status %d: %s", a.status, a.body)
				}
			})
		})
	}
}

// A repeat of a finished job needs no room in the queue.
func TestRepeatWhileTheQueueIsFull(t *testing.T) {
	for _, err := range []error{producer.ErrTenantFull, producer.ErrFull, producer.ErrTooLate} {
		r := newRig(t, nil)
		ticket := r.submitTo(t, "digits", "Idempotency-Key", "k")
		r.settle(t, ticket, job.Result{State: job.Succeeded, Outputs: []job.Tensor{fp32("probabilities", []int64{1, 2}, 0.25, 0.75)}})
		r.queue.publishErr = err
		a := r.call(t, "POST", "/v1/models/digits/jobs", oneRow, "Idempotency-Key", "k")
		if a.status != 202 || a.str("status") != "succeeded" || !strings.HasPrefix(a.str("id"), ticket.ID.String()) {
			t.Errorf("%v: status %d: %s", err, a.status, a.body)
		}
		if a := r.call(t, "POST", "/v1/models/digits/predict", oneRow, "Idempotency-Key", "k"); a.status != 200 {
			t.Errorf("%v: a predict: status %d: %s", err, a.status, a.body)
		}
		if a := r.call(t, "POST", "/v1/models/digits/jobs", oneRow, "Idempotency-Key", "another"); a.status < 429 {
			t.Errorf("%v: status %d: %s", err, a.status, a.body)
		}
	}
}
