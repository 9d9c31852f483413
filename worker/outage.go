package worker

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// outage is the circuit breaker of something that many goroutines depend on. Whoever meets a failure says so; from then
// on everybody rests in wait, and one goroutine asks with growing pauses until it is answered. It logs once when an
// outage begins and once when it ends.
type outage struct {
	what  string
	log   *slog.Logger
	probe func(ctx context.Context) error
	cfg   *Config

	down   atomic.Bool // so that nothing costs more than this while all is well
	begins chan struct{}

	mu    sync.Mutex
	since time.Time
	over  chan struct{} // closed when the outage ends; nil if there is none
	cause error
}

func newOutage(what string, log *slog.Logger, cfg *Config, probe func(ctx context.Context) error) *outage {
	return &outage{what: what, log: log, cfg: cfg, probe: probe, begins: make(chan struct{}, 1)}
}

// fail says that a request got no answer, or one that says later.
func (o *outage) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over != nil {
		return
	}
	o.since, o.cause, o.over = time.Now(), err, make(chan struct{})
	o.down.Store(true)
	o.log.Error(o.what+" fails; trying again until it works", slog.Any("error", err))
	select {
	case o.begins <- struct{}{}:
	default:
	}
}

// heal says that a request was answered.
func (o *outage) heal() {
	if !o.down.Load() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over == nil {
		return
	}
	o.log.Info(o.what+" works again", slog.Duration("after", time.Since(o.since)))
	o.down.Store(false)
	close(o.over)
	o.over, o.cause = nil, nil
}

func (o *outage) isDown() bool { return o.down.Load() }

// err returns what began the outage, nil if there is none.
func (o *outage) err() error {
	if !o.down.Load() {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.cause
}

// wait returns true at once while there is no outage, else when it is over; false if ctx has ended.
func (o *outage) wait(ctx context.Context) bool {
	for o.down.Load() {
		o.mu.Lock()
		over := o.over
		o.mu.Unlock()
		if over == nil {
			break
		}
		select {
		case <-over:
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}

// probeTime bounds one question whether it works again.
const probeTime = 5 * time.Second

// run ends outages until ctx ends. Nobody else has to have something to write or to fetch for that.
func (o *outage) run(ctx context.Context) {
	for {
		select {
		case <-o.begins:
		case <-ctx.Done():
			return
		}
		for tries := 0; o.down.Load(); tries++ {
			if o.ask(ctx) == nil {
				o.heal()
			} else if !pause(ctx, backoff(tries, o.cfg.OutageDelay, o.cfg.OutageDelayMax)) {
				return
			}
		}
	}
}

func (o *outage) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	return o.probe(ctx)
}

// rest waits after a request to the result store that failed, the more the more often it did, and then until the store
// is known to work. It returns false as soon as ctx ends.
func (e *engine) rest(ctx context.Context, tries int) bool {
	return pause(ctx, backoff(tries, e.cfg.OutageDelay, e.cfg.OutageDelayMax)) && e.store.wait(ctx)
}

// backoff returns the n-th pause, n from 0: base doubled n times up to limit, and of that a random half to all of it, so
// that many workers do not come back at the same moment.
func backoff(n int, base, limit time.Duration) time.Duration {
	d := base
	for range n {
		if d *= 2; d >= limit || d <= 0 {
			d = limit
			break
		}
	}
	d = min(d, limit)
	return d/2 + rand.N(d/2+1) //nolint:gosec // jitter needs no secret
}

// pause waits, or returns false as soon as ctx ends.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
