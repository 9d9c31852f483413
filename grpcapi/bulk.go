package grpcapi

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/sheafpb"
)

// bulkSubmit answers BulkSubmit. Jobs that are in hand at the same time travel in the same messages.
func (a *API) bulkSubmit(s *callStream) error {
	ctx, method := s.Context(), "/"+jobsService+"/BulkSubmit"
	return a.pipeline(ctx, s, func(i uint64, body []byte) any {
		answer := &sheafpb.BulkReply{Index: i}
		a.safely(ctx, method, func() error {
			q, _, err := a.readSubmit(ctx, body, job.Bulk)
			answer.RequestId = q.Request.RequestID
			if err != nil {
				a.jobs.Refused(err)
				return err
			}
			if err := a.submitPatiently(ctx, &q.Submission); err != nil {
				return explain(err, &q.Info)
			}
			answer.Id, answer.Duplicate = q.Ticket.String(), q.Duplicate
			return nil
		}, func(err error) {
			answer.Error = a.jobError(gateway.ProblemOf(err))
		})
		return answer
	})
}

// firstRetry is the first pause at a queue that is full; it doubles up to lastRetry.
const (
	firstRetry = 20 * time.Millisecond
	lastRetry  = time.Second
)

// submitPatiently submits a job, and waits where there is no room for it, as long as the call lasts.
func (a *API) submitPatiently(ctx context.Context, s *gateway.Submission) error {
	for pause := firstRetry; ; pause = min(2*pause, lastRetry) {
		_, _, err := a.jobs.Submit(ctx, s, 0)
		if err == nil || !hasNoRoom(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-a.closing:
			return err
		case <-time.After(pause/2 + rand.N(pause/2)): //nolint:gosec // jitter needs no secrecy
		}
	}
}

// hasNoRoom reports whether a job was refused, for certain, only because of others before it. One that may have been accepted is
// not submitted again: it would be another job.
func hasNoRoom(err error) bool {
	switch gateway.ProblemOf(err).Code {
	case gateway.CodeFull, gateway.CodeTenantFull, gateway.CodeBusy, gateway.CodeRateLimited:
		return true
	default:
		return false
	}
}
