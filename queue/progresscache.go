package queue

import (
	"context"
	"sync"
	"time"

	"github.com/sheafml/sheaf/job"
)

// maxProgress bounds the models whose progress is remembered.
const maxProgress = 1024

type progressKey struct {
	lane  job.Lane
	model string
}

// progressCache remembers the progress of each lane and model for a moment, and learns its rate from what it sees.
type progressCache struct {
	mu   sync.Mutex
	seen map[progressKey]*progressEntry
}

type progressEntry struct {
	last    *progress // nil before the first answer
	meter   meter
	refresh *refresh // in flight, nil if there is none
}

// refresh is one look at the consumers, and what came of it.
type refresh struct {
	done chan struct{} // closed when the others are set
	load loadSample
	err  error
}

// loadSample is a progress and the rate that was known with it.
type loadSample struct {
	*progress
	rate float64
}

func (e *progressEntry) sample(now time.Time) loadSample {
	return loadSample{e.last, e.meter.value(now)}
}

// freshFor is how long the last progress counts as new: shorter while messages wait and the rate is not
// known, since two looks give it.
func (e *progressEntry) freshFor(now time.Time) time.Duration {
	if e.last.waiting() > 0 && e.meter.value(now) == 0 {
		return minInterval
	}
	return progressFor
}

// get returns the last progress if it is young enough, or else a refresh to wait for, and with it what is no older than
// staleFor; mine says that the caller is to start it.
func (c *progressCache) get(k progressKey, now time.Time) (load loadSample, r *refresh, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.seen[k]
	if e == nil {
		if len(c.seen) >= maxProgress || c.seen == nil {
			c.seen = make(map[progressKey]*progressEntry)
		}
		e = &progressEntry{}
		c.seen[k] = e
	}
	if e.last != nil {
		age := now.Sub(e.last.at)
		if age < e.freshFor(now) || e.refresh != nil && age < staleFor {
			return e.sample(now), nil, false
		}
	}
	if e.last != nil && now.Sub(e.last.at) < staleFor {
		load = e.sample(now)
	}
	if e.refresh == nil {
		e.refresh, mine = &refresh{done: make(chan struct{})}, true
	}
	return load, e.refresh, mine
}

// set ends a refresh.
func (c *progressCache) set(k progressKey, r *refresh, p *progress, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(r.done)
	r.err = err
	e := c.seen[k]
	if e == nil || e.refresh != r {
		e = &progressEntry{} // it was forgotten meanwhile
	}
	e.refresh = nil
	if err != nil {
		return
	}
	if e.last != nil {
		e.meter.add(e.last, p)
	}
	e.last = p
	r.load = e.sample(p.at)
}

// cachedProgress returns the progress of a lane and model. However many ask, one request at a time is made for it.
func (q *Queue) cachedProgress(ctx context.Context, lane job.Lane, model string) (loadSample, error) {
	if !job.ValidName(model) {
		return loadSample{}, job.Invalidf("model", "not a valid name of a model")
	}
	k := progressKey{lane, model}
	load, r, mine := q.infos.get(k, time.Now())
	if r == nil {
		return load, nil
	}
	if mine && !q.spawn(func() { q.refresh(q.life, k, r) }) {
		q.infos.set(k, r, nil, ErrClosed)
	}
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	select {
	case <-r.done:
		return r.load, r.err
	case <-ctx.Done():
		return loadSample{}, requestError("look at the consumers of model "+model, ctx.Err())
	}
}

// refresh is done for all who wait for it, and so does not end with one of them.
func (q *Queue) refresh(ctx context.Context, k progressKey, r *refresh) {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	go func() {
		select {
		case <-q.closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	p, err := q.readProgress(ctx, k.lane, k.model)
	if err != nil && q.isClosed() {
		err = ErrClosed
	}
	q.infos.set(k, r, p, err)
}
