package httpapi

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"sync"
	"time"
)

// readiness remembers the last answer of the checks, so that whoever asks often does not load what is checked.
type readiness struct {
	mu    sync.Mutex
	at    time.Time
	ready bool
	body  readyView
}

// readyView is the document of /readyz.
type readyView struct {
	Status string            `json:"status"` // "ready" or "unready"
	Checks map[string]string `json:"checks"` // "ok", or what is wrong
}

// readyFor is how long an answer of the checks stands.
const readyFor = time.Second

// readyTimeout is how long the checks may take; those who ask, such as orchestrators, are impatient.
const readyTimeout = 2 * time.Second

// health answers GET /healthz.
func (a *API) health(w *response, _ *http.Request) error {
	sendJSON(w, http.StatusOK, []byte(`{"status":"ok"}`+"\n"))
	return nil
}

// readyz answers GET /readyz.
func (a *API) readyz(w *response, r *http.Request) error {
	body, ready := a.isReady(r.Context())
	status := http.StatusOK
	if !ready {
		status = http.StatusServiceUnavailable
		a.retryAfter(w.Header(), 0) // who asks here is no crowd
	}
	return marshal(w, status, body)
}

// isReady reports whether requests are taken, and what stands in the way.
func (a *API) isReady(ctx context.Context) (readyView, bool) {
	body, ready := a.checkReady(ctx)
	switch {
	case a.waiters.isClosed():
		body, ready = readyView{Status: "unready", Checks: map[string]string{"server": "going down"}}, false
	case a.queue.stuck():
		checks := maps.Clone(body.Checks)
		checks["submits"] = "the queue answers, and does not take jobs"
		body, ready = readyView{Status: "unready", Checks: checks}, false
	}
	return body, ready
}

// checkReady runs the checks, all at the same time, unless they have just been run. Its answer serves everybody who
// asks meanwhile, so it does not end with the one who asked first.
func (a *API) checkReady(ctx context.Context) (readyView, bool) {
	rd := &a.ready
	rd.mu.Lock()
	defer rd.mu.Unlock()
	if !rd.at.IsZero() && time.Since(rd.at) < readyFor {
		return rd.body, rd.ready
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(a.cfg.LookupTimeout, readyTimeout))
	defer cancel()
	faults := make([]error, len(a.deps.Ready))
	var wg sync.WaitGroup
	for i, c := range a.deps.Ready {
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
	rd.ready = true
	rd.body = readyView{Status: "ready", Checks: make(map[string]string, len(faults))}
	for i, err := range faults {
		rd.body.Checks[a.deps.Ready[i].Name] = "ok"
		if err != nil {
			rd.ready, rd.body.Status = false, "unready"
			rd.body.Checks[a.deps.Ready[i].Name] = err.Error()
		}
	}
	rd.at = time.Now()
	return rd.body, rd.ready
}
