package gateway

import (
	"context"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

// guess is the time that a message ahead takes where the rate is not known: a low guess for one worker.
const guess = time.Millisecond

// Again says when to ask for a job that is not finished: at the end of its expected wait, or at its deadline if that is
// before.
func (v *Job) Again() time.Duration {
	d := time.Duration(v.Ahead) * guess
	if v.Timed {
		d = v.ETA
	}
	if !v.Deadline.IsZero() {
		d = min(d, time.Until(v.Deadline))
	}
	return d
}

// Foresee adds when the job is expected to be finished, as far as that is known. A submit asks nobody for it. For a job
// whose place was looked up the queue has just been asked, so it answers at once.
func (g *Gateway) Foresee(ctx context.Context, v *Job) {
	if v.State != job.Queued || g.deps.Forecaster == nil {
		return
	}
	var f producer.Forecast
	if v.Placed {
		f, v.Timed = g.deps.Forecaster.ForecastNow(ctx, v.Ticket.Lane, v.Model, v.Tenant)
	} else {
		f, v.Timed = g.deps.Forecaster.Forecast(v.Ticket.Lane, v.Model, v.Tenant)
	}
	switch {
	case !v.Timed:
	case v.Placed:
		v.ETA = f.After(v.Ahead)
	default:
		v.ETA = f.Wait
	}
}
