package worker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sheafml/sheaf/job"
)

// cancels remembers, for a few minutes and up to a bounded number, which jobs were canceled, and ends a run when all of
// its jobs were. It only saves work: the canceled record was written before anybody was told, and decides.
//
// The IDs are in two generations. When the young one is full, or old enough, the old one is forgotten and the young one
// takes its place, so that an ID is remembered for one to two generations' time and forgetting costs nothing.
type cancels struct {
	held atomic.Int64 // IDs in both generations; while it is 0, that is all the hot path looks at

	mu         sync.RWMutex
	young, old map[job.ID]struct{}
	began      time.Time // of the young generation
	runs       []*run
}

// The bounds of a generation. With 16 bytes an ID both take a few megabytes at most.
const (
	cancelsKept = 32 << 10
	cancelsAge  = 2 * time.Minute
)

// errAllCanceled is why a run was ended all of whose jobs were canceled.
var errAllCanceled = errors.New("every job of the run was canceled")

// add takes a notice. It ends the runs that are left without a job that anybody wants.
func (c *cancels) add(ids []job.ID) {
	c.mu.Lock()
	now := time.Now()
	c.turn(now)
	for _, id := range ids {
		if len(c.young) >= cancelsKept {
			c.age(now)
		}
		if c.young == nil {
			c.young = make(map[job.ID]struct{})
			if c.old == nil {
				c.began = now
			}
		}
		c.young[id] = struct{}{}
	}
	c.count()
	runs := c.runs
	c.mu.Unlock()
	for _, u := range runs {
		u.endIf(c.has)
	}
}

// turn forgets what is old.
func (c *cancels) turn(now time.Time) {
	for range 2 {
		if c.young == nil && c.old == nil || now.Sub(c.began) < cancelsAge {
			return
		}
		c.age(c.began.Add(cancelsAge))
	}
}

func (c *cancels) age(now time.Time) {
	c.old, c.young, c.began = c.young, nil, now
	c.count()
}

func (c *cancels) count() { c.held.Store(int64(len(c.young) + len(c.old))) }

func (c *cancels) any() bool { return c.held.Load() > 0 }

// has reports whether the job is remembered as canceled.
func (c *cancels) has(id job.ID) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if _, ok := c.young[id]; ok {
		return true
	}
	_, ok := c.old[id]
	return ok
}

// lookup returns has, or nil while no job is remembered.
func (c *cancels) lookup(now time.Time) func(job.ID) bool {
	if !c.any() {
		return nil
	}
	c.mu.Lock()
	c.turn(now)
	c.mu.Unlock()
	if !c.any() {
		return nil
	}
	return c.has
}

// watch adds what a runner computes to what a notice may end. All are added before the first notice can end one.
func (c *cancels) watch(u *run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// add walks over the slice without the lock.
	c.runs = append(slices.Clip(c.runs), u)
}

// run is what a runner computes at this moment: after a batch was halved, the present half.
type run struct {
	mu    sync.Mutex
	parts []part
	stop  context.CancelCauseFunc
}

// begin says that parts are about to be computed, and how to end that.
func (u *run) begin(parts []part, stop context.CancelCauseFunc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.parts, u.stop = parts, stop
}

func (u *run) end() { u.begin(nil, nil) }

// endIf ends the run if every job of it is canceled.
func (u *run) endIf(canceled func(job.ID) bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.parts) == 0 {
		return
	}
	for i := range u.parts {
		if !canceled(u.parts[i].task.job.ID) {
			return
		}
	}
	u.stop(errAllCanceled)
}
