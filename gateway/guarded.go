package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/resultstore"
)

// results is the result store behind guards.
type results struct {
	store         Results
	reads, writes *guard
	timeout       time.Duration // of a check

	mu       sync.Mutex
	checking bool
	checked  time.Time
	fault    error // of the last check
}

func newResults(life context.Context, store Results, log *slog.Logger, m *metrics, cfg *Config) *results {
	const what = "the result store"
	read := func(ctx context.Context) error {
		_, err := store.Get(ctx, job.ID{}) // no job has it
		return err
	}
	return &results{
		store: store, timeout: min(cfg.LookupTimeout, readyTimeout),
		reads:  newGuard(life, "results_read", what, log, m, cfg, read),
		writes: newGuard(life, "results_write", what, log, m, cfg, store.Ping),
	}
}

// Get is Results.Get.
func (r *results) Get(ctx context.Context, ids ...job.ID) ([][]byte, error) {
	return guarded(r.reads, func() ([][]byte, error) { return r.store.Get(ctx, ids...) })
}

// Finish is Results.Finish.
func (r *results) Finish(ctx context.Context, entries []resultstore.Entry) ([]resultstore.Outcome, error) {
	return guarded(r.writes, func() ([]resultstore.Outcome, error) { return r.store.Finish(ctx, entries) })
}

// usable says why results cannot be written or read now, as it was within the last second. One caller a second asks;
// the others go by what the last one has found, and none asks while that is known.
func (r *results) usable(ctx context.Context) error {
	for _, g := range []*guard{r.reads, r.writes} {
		if g.open.Load() {
			return g.refusal()
		}
	}
	r.mu.Lock()
	if r.checking || !r.checked.IsZero() && time.Since(r.checked) < readyFor {
		defer r.mu.Unlock()
		return r.fault
	}
	r.checking = true
	r.mu.Unlock()
	// The answer is for everybody, so it does not end with the client that asked.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.timeout)
	defer cancel()
	err := r.store.Ping(ctx)
	if err != nil {
		err = fmt.Errorf("check the result store: %w", err)
		if outOfReach(err) {
			r.writes.suspect()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checking, r.checked, r.fault = false, time.Now(), err
	return err
}

// guardedQueue is the queue with its look-ups behind a guard, and one for submits. Notices are sent and forgotten, and
// need none.
type guardedQueue struct {
	Queue
	lookups, submits *guard
	// stores is for a queue that answers questions, and so every probe, but not what it is to store: nats-server does so
	// when its disk was full. Only a submit can find out whether that is over, so one is let through now and then.
	stores *gobreaker.CircuitBreaker[producer.Submission]
	// refusedAt is when the queue was last found not to store, in nanoseconds of Unix time; 0 while it does.
	refusedAt atomic.Int64
}

// tripAfter is how many submits in a row have to fail for that.
const tripAfter = 3

// stuckFor is how long a queue that did not store makes this server unready. Without traffic nobody would find out that
// it is over.
const stuckFor = 10 * time.Second

// stuck reports whether the queue has been found not to store of late.
func (q *guardedQueue) stuck() bool {
	at := q.refusedAt.Load()
	return at != 0 && time.Since(time.Unix(0, at)) < stuckFor
}

// submit makes one submit through the guards.
func (q *guardedQueue) submit(call func() (producer.Submission, error)) (producer.Submission, error) {
	sub, err := guarded(q.submits, func() (producer.Submission, error) { return q.stores.Execute(call) })
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		err = q.submits.refusal()
	}
	return sub, err
}

func newGuardedQueue(life context.Context, q Queue, log *slog.Logger, m *metrics, cfg *Config) *guardedQueue {
	const what = "the queue"
	// The leader of the stream is asked for a message that does not exist. Where it does not answer, it does not take
	// messages either.
	look := func(ctx context.Context) error {
		_, err := q.Locate(ctx, job.Ticket{Seq: math.MaxInt64})
		return err
	}
	stores := m.unreachable.WithLabelValues("queue_store")
	stores.Set(0)
	g := &guardedQueue{
		Queue:   q,
		lookups: newGuard(life, "queue_lookup", what, log, m, cfg, look), submits: newGuard(life, "queue_submit", what, log, m, cfg, look),
	}
	g.stores = gobreaker.NewCircuitBreaker[producer.Submission](gobreaker.Settings{
		MaxRequests: 1, Timeout: probeEvery,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
		IsSuccessful: func(err error) bool { return !outOfReach(err) },
		// A client that left says nothing of the queue.
		IsExcluded: func(err error) bool { return errors.Is(err, context.Canceled) },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			switch to {
			case gobreaker.StateOpen:
				g.refusedAt.Store(time.Now().UnixNano())
				if from == gobreaker.StateClosed {
					stores.Set(1)
					log.Error("the queue does not take jobs; they are refused until it does")
				}
			case gobreaker.StateHalfOpen:
			case gobreaker.StateClosed:
				g.refusedAt.Store(0)
				stores.Set(0)
				log.Info("the queue takes jobs again")
			}
		},
	})
	return g
}

// Locate is Queue.Locate.
func (q *guardedQueue) Locate(ctx context.Context, t job.Ticket) (job.Location, error) {
	return guarded(q.lookups, func() (job.Location, error) { return q.Queue.Locate(ctx, t) })
}

// Remove is Queue.Remove.
func (q *guardedQueue) Remove(ctx context.Context, t job.Ticket) (bool, error) {
	return guarded(q.lookups, func() (bool, error) { return q.Queue.Remove(ctx, t) })
}
