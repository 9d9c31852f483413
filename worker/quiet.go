package worker

import (
	"context"
	"sync"
	"time"
)

// quiet lets a run have the process to itself: a job that may have killed a process before is run while nothing else
// is, whatever the number of models and instances. Should the process die then, it is known who did it.
//
// It is a readers-writer lock whose waiting ends with a context, and which does not let those who want to be alone hold
// up the others much: who waits when one of them is done goes before the next of them; and while one of them waits for a
// run that takes long, it keeps others from beginning for a fifth of the time only, if for longer and longer pieces of it.
type quiet struct {
	mu       sync.Mutex
	running  int           // runs that mind no company
	alone    bool          // one that does is being run
	barriers int           // of those that wait to be alone: nothing new begins
	common   int           // those that wait and mind no company
	let      int           // of these, those that may begin all the same
	freed    chan struct{} // closed when who waits should look again; nil if nobody waits
}

// How long a run that wants to be alone keeps others from beginning, to start with, and how many times as long it lets
// them begin after that.
const (
	barrierTime = 250 * time.Millisecond
	barrierRest = 4
)

// enter waits until the run may begin; leave must follow. It returns false if ctx ended first.
func (q *quiet) enter(ctx context.Context, alone bool) bool {
	if ctx.Err() != nil {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.take(alone) {
		return true
	}
	if !alone {
		q.common++
		defer func() { q.common--; q.let = min(q.let, q.common) }()
		return q.await(ctx, nil, func() bool { return q.take(false) })
	}
	for length := barrierTime; ; length *= 2 {
		for _, part := range [...]struct {
			barrier int
			length  time.Duration
		}{{1, length}, {0, barrierRest * length}} {
			q.barriers += part.barrier
			timer := time.NewTimer(part.length)
			ok := q.await(ctx, timer.C, func() bool { return q.take(true) })
			timer.Stop()
			q.barriers -= part.barrier
			if part.barrier > 0 && !ok {
				q.wake()
			}
			if ok || ctx.Err() != nil {
				return ok
			}
		}
	}
}

// await waits until take returns true, or returns false when the time is over or ctx ends. q.mu is held, but not while
// it waits.
func (q *quiet) await(ctx context.Context, over <-chan time.Time, take func() bool) bool {
	for !take() {
		if q.freed == nil {
			q.freed = make(chan struct{})
		}
		freed, ended := q.freed, false
		q.mu.Unlock()
		select {
		case <-freed:
		case <-over:
			ended = true
		case <-ctx.Done():
			ended = true
		}
		q.mu.Lock()
		if ended {
			return false
		}
	}
	return true
}

// take begins the run if it may begin. q.mu is held.
func (q *quiet) take(alone bool) bool {
	switch {
	case q.alone:
		return false
	case alone:
		if q.running > 0 || q.let > 0 {
			return false
		}
		q.alone = true
	default:
		if q.barriers > 0 && q.let == 0 {
			return false
		}
		q.let = max(0, q.let-1)
		q.running++
	}
	return true
}

// leave says that the run is over.
func (q *quiet) leave(alone bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if alone {
		q.alone, q.let = false, q.common
		q.wake()
	} else if q.running--; q.running == 0 {
		q.wake()
	}
}

// wake has everybody who waits look again. q.mu is held.
func (q *quiet) wake() {
	if q.freed != nil {
		close(q.freed)
		q.freed = nil
	}
}
