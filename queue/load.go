package queue

import (
	"context"
	"time"

	"github.com/sheafml/sheaf/job"
)

// Load is how much waits for a model in one lane, and how fast it is served.
type Load struct {
	Waiting int // messages that wait
	Running int // messages delivered and not yet acknowledged
	// Rate is the messages acknowledged a second of late, measured while others waited; 0 if that is not known.
	Rate float64
}

// Wait is how long a message that is published now will wait at that rate; false if the rate is not known.
func (l Load) Wait() (time.Duration, bool) {
	if l.Rate <= 0 {
		return 0, false
	}
	return time.Duration(float64(l.Waiting) / l.Rate * float64(time.Second)), true
}

// Load returns the load of a model. It may be as old as 200 ms, and costs no request while it is younger.
func (q *Queue) Load(ctx context.Context, lane job.Lane, model string) (Load, error) {
	p, err := q.cachedProgress(ctx, lane, model)
	return Load{Waiting: int(min(p.waiting, 1<<31-1)), Running: p.running}, err
}
