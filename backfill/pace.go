package backfill

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// pace says when the next part may be asked: not while the run is paused, outside the windows, or faster than allowed.
type pace struct {
	windows []Window
	limit   *rate.Limiter // nil: none

	mu      sync.Mutex
	paused  chan struct{} // closed by Resume; nil: not paused
	waiting string        // what for
}

func newPace(cfg *Config) *pace {
	p := &pace{windows: cfg.Windows}
	if cfg.MaxRate > 0 {
		// A part is asked at once, and paid for by the pause after it: so parts may be larger than a second's worth.
		p.limit = rate.NewLimiter(rate.Limit(cfg.MaxRate), 1)
	}
	return p
}

// pause holds up the next parts; what is in flight goes on.
func (p *pace) pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused == nil {
		p.paused = make(chan struct{})
	}
}

func (p *pace) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused != nil {
		close(p.paused)
		p.paused = nil
	}
}

// state tells whether the run is paused, and what it waits for.
func (p *pace) state() (paused bool, waiting string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused != nil, p.waiting
}

func (p *pace) say(waiting string) {
	p.mu.Lock()
	p.waiting = waiting
	p.mu.Unlock()
}

// longestLook is how long a window is waited for before the clock is looked at again: it may be set.
const longestLook = time.Minute

// wait returns when the next part may be asked, or ctx's error.
func (p *pace) wait(ctx context.Context) error {
	defer p.say("")
	for {
		p.mu.Lock()
		paused := p.paused
		p.mu.Unlock()
		if paused != nil {
			p.say("paused")
			select {
			case <-paused:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		now := time.Now()
		left := opens(p.windows, now)
		if left == 0 {
			return ctx.Err()
		}
		p.say(fmt.Sprintf("waits for its window, from %s", now.Add(left).Format("15:04")))
		if err := sleep(ctx, min(left, longestLook)); err != nil {
			return err
		}
	}
}

// paid waits until units that are asked now are paid for.
func (p *pace) paid(ctx context.Context, units int) error {
	if p.limit == nil {
		return nil
	}
	// The limiter has no room for more than one unit, so they are reserved one by one, and only the last is waited for.
	var last time.Duration
	now := time.Now()
	for range units {
		last = p.limit.ReserveN(now, 1).DelayFrom(now)
	}
	return sleep(ctx, last)
}

// sleep waits, or returns ctx's error.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
