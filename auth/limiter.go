package auth

import (
	"container/list"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limiter bounds how many jobs each caller submits. It counts in this process alone. Its methods may be called from
// many goroutines.
type Limiter struct {
	fallback Rate
	most     int
	mu       sync.Mutex
	byID     map[string]*list.Element // of *counted
	recent   *list.List               // the one that was used last in front
}

// counted is a caller's bucket of tokens.
type counted struct {
	id     string
	rate   Rate
	bucket *rate.Limiter
}

// maxCounted bounds the memory of a Limiter: who was not seen for longest is forgotten, and begins with a full burst.
const maxCounted = 10_000

// NewLimiter returns a limiter with the rate of those who have none of their own.
func NewLimiter(fallback Rate) (*Limiter, error) {
	if err := fallback.Validate(); err != nil {
		return nil, fmt.Errorf("rate limit: %w", err)
	}
	return &Limiter{fallback: fallback, most: maxCounted, byID: make(map[string]*list.Element), recent: list.New()}, nil
}

// Allow counts n jobs of a caller, if it may submit them now. More than Quota.Limit at once are never allowed.
func (l *Limiter) Allow(p *Principal, n int) (Quota, bool) {
	if p == nil {
		return Quota{}, true
	}
	want := l.fallback
	if p.Rate != nil {
		want = *p.Rate
	}
	if want.PerSecond == 0 {
		return Quota{}, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	c := l.counted(string(p.Kind)+" "+p.ID, want, now)
	ok := c.bucket.AllowN(now, n)
	return c.quota(now, n, ok), ok
}

// counted finds a caller's bucket, or makes it. l.mu is held.
func (l *Limiter) counted(id string, want Rate, now time.Time) *counted {
	e := l.byID[id]
	if e == nil {
		e = l.recent.PushFront(&counted{id: id, rate: want, bucket: rate.NewLimiter(rate.Limit(want.PerSecond), want.burst())})
		l.byID[id] = e
		if len(l.byID) > l.most {
			oldest := l.recent.Back()
			delete(l.byID, l.recent.Remove(oldest).(*counted).id)
		}
	}
	l.recent.MoveToFront(e)
	c := e.Value.(*counted)
	if c.rate != want {
		c.rate = want
		c.bucket.SetLimitAt(now, rate.Limit(want.PerSecond))
		c.bucket.SetBurstAt(now, want.burst())
	}
	return c
}

// quota tells how the bucket stands.
func (c *counted) quota(now time.Time, n int, ok bool) Quota {
	tokens, limit := max(0, c.bucket.TokensAt(now)), c.rate.burst()
	fill := func(tokens float64) time.Duration {
		return time.Duration(min(math.Ceil(tokens/c.rate.PerSecond*1e9), math.MaxInt64/2))
	}
	q := Quota{
		Limit: limit, Window: time.Second * time.Duration(max(1, seconds(fill(float64(limit))))),
		Remaining: int(tokens), Reset: fill(float64(limit) - tokens),
	}
	if !ok {
		q.After = fill(float64(min(n, limit)) - tokens)
	}
	return q
}

// Len is how many callers are counted.
func (l *Limiter) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.byID)
}
