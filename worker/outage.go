package worker

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// outage logs the failure of something that many goroutines depend on once when it begins and once when it ends.
type outage struct {
	what string
	log  *slog.Logger

	down  atomic.Bool // so that heal costs nothing while all is well
	mu    sync.Mutex
	since time.Time
}

func (o *outage) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.down.Load() {
		o.since = time.Now()
		o.down.Store(true)
		o.log.Error(o.what+" fails; trying again until it works", slog.Any("error", err))
	}
}

func (o *outage) heal() {
	if !o.down.Load() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.down.Load() {
		o.down.Store(false)
		o.log.Info(o.what+" works again", slog.Duration("after", time.Since(o.since)))
	}
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
