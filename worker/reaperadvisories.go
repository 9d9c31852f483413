package worker

import (
	"sync"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// advisoriesKept bounds the advisories of one process that wait. What finds no room is found by a sweep, but not before
// its consumer is idle for once.
const advisoriesKept = 4096

// advisories are those that the reaper has heard of and not acted upon, each once: JetStream says a thing only once, so
// what fails must be kept.
type advisories struct {
	wake chan struct{} // has something in it after there was something new

	mu      sync.Mutex
	known   map[advisory]queue.GivenUp // all: fresh, failed and in hand
	fresh   []advisory                 // to be tried, oldest first
	failed  []advisory                 // to be tried again, oldest try first
	dropped int
}

// advisory is what an advisory is about.
type advisory struct {
	lane     job.Lane
	consumer string
	seq      uint64
}

func about(g queue.GivenUp) advisory { return advisory{g.Lane, g.Consumer, g.Seq} }

func newAdvisories() *advisories {
	return &advisories{wake: make(chan struct{}, 1), known: make(map[advisory]queue.GivenUp)}
}

// add notes an advisory, or drops it if there are too many. It does not block.
func (a *advisories) add(g queue.GivenUp) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := about(g)
	_, known := a.known[key]
	switch {
	case known:
		a.known[key] = g
		return
	case len(a.known) >= advisoriesKept:
		a.dropped++
		return
	}
	a.known[key] = g
	a.freshen(key)
}

func (a *advisories) freshen(key advisory) {
	a.fresh = append(a.fresh, key)
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// untried is how many there are to be tried.
func (a *advisories) untried() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.fresh)
}

// next takes one in hand, which done or fail ends.
func (a *advisories) next() (queue.GivenUp, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.fresh) == 0 {
		return queue.GivenUp{}, false
	}
	key := a.fresh[0]
	a.fresh = a.fresh[1:]
	return a.known[key], true
}

// done forgets the one in hand, unless it was heard again in the meantime.
func (a *advisories) done(g queue.GivenUp) {
	a.mu.Lock()
	defer a.mu.Unlock()
	key := about(g)
	if a.known[key] != g {
		a.freshen(key)
		return
	}
	delete(a.known, key)
}

// fail keeps the one in hand until again. all says that the others need no try before: they come ahead of it then.
func (a *advisories) fail(g queue.GivenUp, all bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if all {
		a.failed = append(a.failed, a.fresh...)
		a.fresh = nil
	}
	a.failed = append(a.failed, about(g))
}

// failing reports whether some wait for again.
func (a *advisories) failing() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.failed) > 0
}

// again makes what failed to be tried again. It returns how many found no room since the last call.
func (a *advisories) again() (dropped int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fresh, a.failed = append(a.failed, a.fresh...), nil
	dropped, a.dropped = a.dropped, 0
	return dropped
}
