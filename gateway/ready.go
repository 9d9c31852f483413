package gateway

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"
)

// Readiness says whether requests are taken, and what stands in the way.
type Readiness struct {
	Ready  bool
	Checks map[string]string // by name: "ok", or what is wrong
}

// readiness remembers the last answer of the checks, so that whoever asks often does not load what is checked.
type readiness struct {
	mu   sync.Mutex
	at   time.Time
	last Readiness
}

// readyFor is how long an answer of the checks stands.
const readyFor = time.Second

// readyTimeout is how long the checks may take; those who ask, such as orchestrators, are impatient.
const readyTimeout = 2 * time.Second

// Ready reports whether requests are taken.
func (g *Gateway) Ready(ctx context.Context) Readiness {
	r := g.checkReady(ctx)
	switch {
	case g.waiters.isClosed():
		return Readiness{Checks: map[string]string{"server": "going down"}}
	case g.queue.stuck():
		checks := maps.Clone(r.Checks)
		checks["submits"] = "the queue answers, and does not take jobs"
		return Readiness{Checks: checks}
	}
	return r
}

// checkReady runs the checks, all at the same time, unless they have just been run. Its answer serves everybody who
// asks meanwhile, so it does not end with the one who asked first.
func (g *Gateway) checkReady(ctx context.Context) Readiness {
	rd := &g.ready
	rd.mu.Lock()
	defer rd.mu.Unlock()
	if !rd.at.IsZero() && time.Since(rd.at) < readyFor {
		return rd.last
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(g.cfg.LookupTimeout, readyTimeout))
	defer cancel()
	faults := make([]error, len(g.deps.Ready))
	var wg sync.WaitGroup
	for i, c := range g.deps.Ready {
		wg.Go(func() {
			defer func() {
				if recover() != nil {
					faults[i] = errors.New("the check panicked")
				}
			}()
			faults[i] = c.Run(ctx)
		})
	}
	wg.Wait()
	rd.last = Readiness{Ready: true, Checks: make(map[string]string, len(faults))}
	for i, err := range faults {
		rd.last.Checks[g.deps.Ready[i].Name] = "ok"
		if err != nil {
			rd.last.Ready = false
			rd.last.Checks[g.deps.Ready[i].Name] = err.Error()
		}
	}
	rd.at = time.Now()
	return rd.last
}
