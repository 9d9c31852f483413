package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// fakeQueue keeps deliveries in memory, on the clock of a bubble.
type fakeQueue struct {
	mu      sync.Mutex
	waiting []*fakeDelivery
	changed chan struct{}
	givenUp []string
	full    bool
	broken  error
}

type fakeDelivery struct {
	q       *fakeQueue
	w       queue.Webhook
	visible time.Time
	held    bool
	puts    int
}

func (q *fakeQueue) put(w queue.Webhook) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, &fakeDelivery{q: q, w: w})
	close(q.changed)
	q.changed = make(chan struct{})
}

func (q *fakeQueue) open(context.Context) (source, error) { return q, nil }

func (q *fakeQueue) again(_ context.Context, w queue.Webhook) error {
	q.mu.Lock()
	full := q.full
	q.mu.Unlock()
	if full {
		return queue.ErrTenantFull
	}
	q.put(w)
	return nil
}

func (q *fakeQueue) giveUp(_ context.Context, w *queue.Webhook, reason string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.broken != nil {
		return q.broken
	}
	q.givenUp = append(q.givenUp, fmt.Sprintf("%d: %s", w.Attempts, reason))
	return nil
}

func (q *fakeQueue) backlog(context.Context) (waiting, givenUp uint64, err error) { return 0, 0, nil }

func (q *fakeQueue) fetch(ctx context.Context, limit int, wait time.Duration, fn func(queue.Webhook, lease)) error {
	q.mu.Lock()
	var ready []*fakeDelivery
	for _, d := range q.waiting {
		if !d.held && !time.Now().Before(d.visible) && len(ready) < limit {
			d.held = true
			ready = append(ready, d)
		}
	}
	changed := q.changed
	q.mu.Unlock()
	for _, d := range ready {
		fn(d.w, d)
	}
	if len(ready) > 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-changed:
	case <-t.C:
	}
	return nil
}

func (d *fakeDelivery) Done(context.Context) error {
	d.q.mu.Lock()
	defer d.q.mu.Unlock()
	d.q.waiting = slices.DeleteFunc(d.q.waiting, func(o *fakeDelivery) bool { return o == d })
	return nil
}

func (d *fakeDelivery) Defer(delay time.Duration) error {
	d.q.mu.Lock()
	defer d.q.mu.Unlock()
	d.held, d.visible, d.puts = false, time.Now().Add(delay), d.puts+1
	return nil
}

func (q *fakeQueue) left() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// fakeVault keeps secrets in memory.
type fakeVault map[string][]byte

func (v fakeVault) Ensure(context.Context) error { return nil }

func (v fakeVault) GetRevision(_ context.Context, key string) ([]byte, uint64, error) {
	if s := v[key]; s != nil {
		return s, 1, nil
	}
	return nil, 0, job.ErrNotFound
}

func (v fakeVault) Create(_ context.Context, key string, value []byte) error {
	v[key] = value
	return nil
}

func (v fakeVault) Update(_ context.Context, key string, value []byte, _ uint64) error {
	v[key] = value
	return nil
}

// fakeResults has one record for every job.
type fakeResults struct {
	mu  sync.Mutex
	err error
}

func (f *fakeResults) Get(_ context.Context, ids ...job.ID) ([][]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	r := job.Result{ID: ids[0], State: job.Failed, Tenant: "default", Webhook: "https://hooks.example/", FinishedAt: time.Unix(1, 0)}
	return [][]byte{job.AppendRecord(nil, &r)}, nil
}

func (f *fakeResults) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// inBubble runs a sender whose receiver is a function, on a clock of its own.
func inBubble(t *testing.T, change func(*Config), answer func(*http.Request) (int, error), fn func(q *fakeQueue, results *fakeResults)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		q, results, cfg := &fakeQueue{changed: make(chan struct{})}, &fakeResults{}, DefaultConfig()
		if change != nil {
			change(&cfg)
		}
		s, err := newSender(cfg, Deps{
			Results: results, Secrets: NewSecrets(fakeVault{}, cfg.Overlap),
			Render: func(job.Ticket, *job.Result, bool) []byte { return []byte("{}") },
		}, q)
		if err != nil {
			t.Fatal(err)
		}
		s.client.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			code, err := answer(r)
			if err != nil {
				return nil, err
			}
			return &http.Response{StatusCode: code, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { s.Run(ctx) })
		fn(q, results)
		cancel()
		done.Wait()
	})
}

func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the clock is the bubble's
	synctest.Wait()
}

func aDelivery() queue.Webhook {
	return queue.Webhook{Ticket: job.Ticket{ID: job.ID{1}}, Tenant: "default", Host: "hooks.example", Since: time.Now()}
}

// The pauses of the default schedule, each up to a fifth longer and a fetch later.
func TestSchedule(t *testing.T) {
	var at []time.Time
	inBubble(t, nil, func(*http.Request) (int, error) {
		at = append(at, time.Now())
		return 500, nil
	}, func(q *fakeQueue, _ *fakeResults) {
		q.put(aDelivery())
		pass(48 * time.Hour)
		want := DefaultConfig().Schedule
		if len(at) != len(want)+1 || q.left() != 0 || len(q.givenUp) != 1 || !strings.HasPrefix(q.givenUp[0], "7: given up after 7 attempts") {
			t.Fatalf("%d attempts, %d left, given up %v", len(at), q.left(), q.givenUp)
		}
		for i, pause := range want {
			if got := at[i+1].Sub(at[i]); got < pause || got > pause+pause/5+2*fetchWait {
				t.Errorf("pause %d is %v, expected %v", i+1, got, pause)
			}
		}
	})
}

// What is not the receiver's fault costs no attempt: a store that is down, a queue that has no room for the next one.
func TestTroubleOfOurOwnCostsNoAttempt(t *testing.T) {
	var code, calls atomic.Int64
	code.Store(500)
	inBubble(t, nil, func(*http.Request) (int, error) {
		calls.Add(1)
		return int(code.Load()), nil
	}, func(q *fakeQueue, results *fakeResults) {
		results.set(errors.New("down"))
		q.put(aDelivery())
		pass(time.Hour)
		if calls.Load() != 0 || q.left() != 1 {
			t.Fatalf("%d calls, %d left", calls.Load(), q.left())
		}
		results.set(nil)
		q.mu.Lock()
		q.full = true
		q.mu.Unlock()
		pass(time.Minute)
		q.mu.Lock()
		if calls.Load() < 2 || len(q.waiting) != 1 || q.waiting[0].w.Attempts != 0 {
			t.Errorf("%d calls, waiting %+v", calls.Load(), q.waiting)
		}
		q.full = false
		q.mu.Unlock()
		code.Store(200)
		pass(time.Minute)
		if q.left() != 0 || len(q.givenUp) != 0 {
			t.Errorf("%d left, given up %v", q.left(), q.givenUp)
		}
	})
}

// A queue that never has room again does not keep a delivery for ever.
func TestPatienceEnds(t *testing.T) {
	inBubble(t, func(c *Config) { c.Schedule = []time.Duration{time.Hour} }, func(*http.Request) (int, error) { return 500, nil }, func(q *fakeQueue, _ *fakeResults) {
		q.mu.Lock()
		q.full = true
		q.mu.Unlock()
		q.put(aDelivery())
		pass(30 * time.Hour)
		if q.left() != 0 || len(q.givenUp) != 1 {
			t.Errorf("%d left, given up %v", q.left(), q.givenUp)
		}
	})
}

// Those that find no room at their receiver come back when there is likely to be some, and not all the time.
func TestCrowdIsPutOff(t *testing.T) {
	const crowd = 500
	delivered := 0
	var mu sync.Mutex
	inBubble(t, func(c *Config) { c.PerHost = 4 }, func(*http.Request) (int, error) {
		pass2(100 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		delivered++
		return 200, nil
	}, func(q *fakeQueue, _ *fakeResults) {
		var all []*fakeDelivery
		for i := range crowd {
			w := aDelivery()
			w.Ticket.ID[1], w.Ticket.ID[2] = byte(i), byte(i>>8)
			q.put(w)
		}
		q.mu.Lock()
		all = append(all, q.waiting...)
		q.mu.Unlock()
		pass(5 * time.Minute) // 500 of 100 ms, four at a time, take 12.5 s
		puts := 0
		for _, d := range all {
			puts += d.puts
		}
		if delivered != crowd || q.left() != 0 {
			t.Errorf("%d are delivered, %d left", delivered, q.left())
		}
		if puts > 12*crowd {
			t.Errorf("they were put off %d times in all", puts)
		}
	})
}

func pass2(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // the clock is the bubble's

func TestRetryAfterHeader(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "-5": 0, "x": 0, "120": 2 * time.Minute, "99999999999": 24 * time.Hour, "9999999999999999999999": 0,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 03:00:00 GMT": 0, "Fri, 02 Jan 2027 03:00:00 GMT": 24 * time.Hour,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q: got %v, expected %v", value, got, want)
		}
	}
}
