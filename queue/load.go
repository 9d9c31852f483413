package queue

import (
	"context"
	"math"
	"time"

	"github.com/sheafml/sheaf/job"
)

// Load is how much waits for a model in one lane, and how fast it is served.
type Load struct {
	// Waiting is the messages that wait before one that the tenant publishes now; without a tenant all that wait.
	Waiting int
	Running int // messages delivered and not yet acknowledged
	// Rate is the messages finished a second, averaged over the last few seconds in which others waited; 0 if that is not
	// known: nothing has waited for a minute, or nobody has asked twice.
	Rate float64
}

// maxWait is the longest that Wait says: where nothing is served, it would be for ever.
const maxWait = 24 * time.Hour

// Wait is how long the last of the messages that wait now will wait, at that rate, at most 24 h; false if the rate is
// not known.
func (l Load) Wait() (time.Duration, bool) {
	if l.Rate <= 0 {
		return 0, false
	}
	return time.Duration(min(float64(l.Waiting)/l.Rate, maxWait.Seconds()) * float64(time.Second)), true
}

// Load returns the load of a model as it is for a tenant, or with tenant "" as it is in all: what others have waiting in
// other shares delays a tenant only by the turns that they take. It may be as old as 200 ms (50 ms while messages wait and the rate is not known), and costs no request while it is younger; while the
// server takes its time to answer one caller, the others get what is as old as 2 s. It fails within the request timeout.
func (q *Queue) Load(ctx context.Context, lane job.Lane, model, tenant string) (Load, error) {
	l, err := q.cachedProgress(ctx, lane, model)
	if err != nil {
		return Load{}, err
	}
	waiting := l.waiting()
	if tenant != "" {
		share, _ := q.shareFor(ctx, subjectKey{lane, model, tenant}, l.progress)
		waiting = l.before(share, l.shares[share].waiting)
	}
	return Load{Waiting: int(min(waiting, math.MaxInt32)), Running: l.running(), Rate: l.rate}, nil
}
