package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// poll looks at accepted jobs until ctx ends.
func (l *load) poll(ctx context.Context) {
	var all sync.WaitGroup
	for range pollers {
		all.Go(func() {
			for sleep(ctx, time.Duration(rand.IntN(30))*time.Millisecond) { //nolint:gosec // needs no secrecy
				if e, finished := l.ledger.pick(); e != nil {
					wait := ""
					if rand.IntN(4) == 0 { //nolint:gosec // as above
						wait = "?wait=1s"
					}
					if !finished && rand.Float64() < l.cfg.cancels { //nolint:gosec // as above
						l.cancel(ctx, e)
					}
					base := l.lab.api[rand.IntN(len(l.lab.api))] //nolint:gosec // as above
					l.look(ctx, e, finished, base, wait)
				}
			}
		})
	}
	all.Wait()
}

// look asks one shim for one job. true if the answer was clear.
func (l *load) look(ctx context.Context, e *entry, finished bool, base, query string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/jobs/"+e.ticket+query, nil)
	if err != nil {
		l.note("poll: " + err.Error())
		return false
	}
	status, body, err := l.do(req)
	switch {
	case err != nil, status == http.StatusTooManyRequests, status >= 500:
		return false // trouble; it says nothing of the job
	case status == http.StatusNotFound:
		l.ledger.vanished(e, fmt.Sprintf("%s, at %s", base, clock(time.Now())))
	case status == http.StatusOK:
		id, o, err := ofJSON(body)
		if err != nil || id != e.ticket {
			l.note(fmt.Sprintf("poll: the answer for %s is not of that job (%v)", e.ticket, err))
			return false
		}
		l.ledger.saw(e, finished, &o, base)
	default:
		l.note(fmt.Sprintf("poll: status %d: %s", status, body))
	}
	return true
}
