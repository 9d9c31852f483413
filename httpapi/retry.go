package httpapi

import (
	"context"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

// guess is the time that a message ahead takes where the rate is not known: a low guess for one worker.
const guess = time.Millisecond

// again says when to ask for a job that is not finished: at the end of its expected wait, or at its deadline if that is
// before.
func (a *API) again(v *jobView) time.Duration {
	d := time.Duration(v.ahead) * guess
	if v.timed {
		d = v.eta
	}
	if !v.deadline.IsZero() {
		d = min(d, time.Until(v.deadline))
	}
	return d
}

// foresee adds when the job is expected to be finished, as far as that is known. A submit asks nobody for it. For a job
// whose place was looked up the queue has just been asked, so it answers at once.
func (a *API) foresee(ctx context.Context, v *jobView) {
	if v.state != job.Queued || a.deps.Forecaster == nil {
		return
	}
	var f producer.Forecast
	if v.placed {
		f, v.timed = a.deps.Forecaster.ForecastNow(ctx, v.ticket.Lane, v.model, v.tenant)
	} else {
		f, v.timed = a.deps.Forecaster.Forecast(v.ticket.Lane, v.model, v.tenant)
	}
	switch {
	case !v.timed:
	case v.placed:
		v.eta = f.After(v.ahead)
	default:
		v.eta = f.Wait
	}
}

// retryAfter sets Retry-After for a client that polls.
func (a *API) retryAfter(h http.Header, d time.Duration) {
	setSeconds(h, wholeSeconds(min(max(d, a.cfg.RetryAfter), a.cfg.RetryAfterMax)))
}

// refuse sets Retry-After for a client that is turned away, as many others may be at the same moment: each is given
// another second, up to half as late again, so that they do not come back as a crowd.
func (a *API) refuse(h http.Header, d time.Duration) {
	least, most := wholeSeconds(a.cfg.RetryAfter), wholeSeconds(a.cfg.RetryAfterMax)
	from := min(max(wholeSeconds(d), least), most)
	to := from + from/2 + 1
	if to > most {
		from, to = max(least, min(from, most-most/3)), most
	}
	setSeconds(h, from+rand.N(to-from+1)) //nolint:gosec // a spread needs no secrecy
}

func setSeconds(h http.Header, n int) { h.Set("Retry-After", strconv.Itoa(n)) }

// wholeSeconds rounds up.
func wholeSeconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
