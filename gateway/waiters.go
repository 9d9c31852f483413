package gateway

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/sheafml/sheaf/job"
)

// waiters are the requests that wait for the records of jobs. One goroutine looks records up for all of them together:
// those that a notice has named, and at each tick every one, since a notice may be lost. What is named while a look-up
// is under way makes up the next, so the cost of a waiter falls with their number.
type waiters struct {
	results *results
	log     *slog.Logger
	metrics *metrics
	timeout time.Duration // of one look-up
	every   time.Duration
	limit   int

	mu    sync.Mutex
	count int // jobs that the taken seats are for
	byID  map[job.ID][]*seat
	due   map[job.ID]struct{}

	wake   chan struct{} // holds one token when due is not empty
	closed <-chan struct{}
	close  context.CancelFunc
}

// seat is the right to wait for a number of jobs. Whoever takes one must leave it.
type seat struct {
	w       *waiters
	jobs    int
	ids     []job.ID
	records chan arrival // is sent each record once; has room for all
}

// arrival is the record of a job that was waited for.
type arrival struct {
	id     job.ID
	record []byte
}

// lookupChunk bounds the records of one look-up.
const lookupChunk = 256

// newWaiters returns waiters that are closed when ctx ends, by close or otherwise.
func newWaiters(ctx context.Context, cancel context.CancelFunc, results *results, log *slog.Logger, m *metrics, cfg *Config) *waiters {
	return &waiters{
		results: results, log: log, metrics: m,
		timeout: cfg.LookupTimeout, every: cfg.PollInterval, limit: cfg.MaxWaiters,
		byID: make(map[job.ID][]*seat), due: make(map[job.ID]struct{}),
		wake: make(chan struct{}, 1), closed: ctx.Done(), close: cancel,
	}
}

// take returns a seat for a number of jobs, or a problem if as many as allowed are waited for or the API is closed.
func (w *waiters) take(jobs int) (*seat, *Problem) {
	if w.isClosed() {
		return nil, goingDown()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count+jobs > w.limit {
		return nil, &Problem{Code: CodeTooManyWaiters, Busy: true, Detail: "as many requests as allowed wait for results already; try again later"}
	}
	w.count += jobs
	w.metrics.waiters.Set(float64(w.count))
	return &seat{w: w, jobs: jobs, records: make(chan arrival, jobs)}, nil
}

func (w *waiters) isClosed() bool {
	select {
	case <-w.closed:
		return true
	default:
		return false
	}
}

// watch begins to wait for the records of as many jobs as the seat is for, each another. With lookUp they are looked up
// at once, in case that they stood before; without, the caller does so after watch has returned.
func (s *seat) watch(lookUp bool, ids ...job.ID) {
	s.ids = ids
	s.w.mu.Lock()
	for _, id := range ids {
		s.w.byID[id] = append(s.w.byID[id], s)
		if lookUp {
			s.w.due[id] = struct{}{}
		}
	}
	s.w.mu.Unlock()
	if lookUp {
		s.w.signal()
	}
}

// leave gives the seat back.
func (s *seat) leave() {
	w := s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count -= s.jobs
	w.metrics.waiters.Set(float64(w.count))
	for _, id := range s.ids {
		s.forget(id)
	}
}

// unwatch ends the wait for one of the jobs.
func (s *seat) unwatch(id job.ID) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.forget(id)
}

// forget is unwatch for who holds the lock.
func (s *seat) forget(id job.ID) {
	others := slices.DeleteFunc(s.w.byID[id], func(o *seat) bool { return o == s })
	if len(others) == 0 {
		delete(s.w.byID, id)
	} else {
		s.w.byID[id] = others
	}
}

// wait returns the record of the one job, or nil when the time is over, the API closes, or ctx ends.
func (s *seat) wait(ctx context.Context, timeout time.Duration) []byte {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case a := <-s.records:
		return a.record
	case <-timer.C:
	case <-s.w.closed:
	case <-ctx.Done():
	}
	return nil
}

// notice says that jobs are finished. It does not block.
func (w *waiters) notice(ids []job.ID) {
	w.mu.Lock()
	for _, id := range ids {
		if len(w.byID[id]) > 0 {
			w.due[id] = struct{}{}
		}
	}
	some := len(w.due) > 0
	w.mu.Unlock()
	if some {
		w.signal()
	}
}

func (w *waiters) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run looks records up until ctx ends.
func (w *waiters) run(ctx context.Context) {
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	failing := false
	for {
		by := "notice"
		var ids []job.ID
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
			ids = w.takeDue()
		case <-tick.C:
			by = "poll"
			ids = w.all()
		}
		for chunk := range slices.Chunk(ids, lookupChunk) {
			err := w.lookUp(ctx, chunk, by)
			if (err != nil) != failing && ctx.Err() == nil {
				failing = err != nil
				w.report(err)
			}
		}
	}
}

// report logs that look-ups began to fail, or work again.
func (w *waiters) report(err error) {
	if err != nil {
		w.log.Error("cannot look up results for those who wait; trying again", "error", err)
		return
	}
	w.log.Info("looking up results works again")
}

func (w *waiters) takeDue() []job.ID {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := make([]job.ID, 0, len(w.due))
	for id := range w.due {
		if len(w.byID[id]) > 0 {
			ids = append(ids, id)
		}
	}
	clear(w.due)
	return ids
}

func (w *waiters) all() []job.ID {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := make([]job.ID, 0, len(w.byID))
	for id := range w.byID {
		ids = append(ids, id)
	}
	return ids
}

func (w *waiters) lookUp(ctx context.Context, ids []job.ID, by string) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	records, err := w.results.Get(ctx, ids...)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, record := range records {
		if record == nil {
			continue
		}
		for _, s := range w.byID[ids[i]] {
			s.records <- arrival{ids[i], record} // has room: the seat is forgotten here
			w.metrics.wakeups.WithLabelValues(by).Inc()
		}
		delete(w.byID, ids[i])
	}
	return nil
}
