package gateway

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/producer"
)

// Submission is a request, and what became of it. The protocol sets Request and Info, the gateway the rest.
type Submission struct {
	Request producer.Request
	// Info is the model that the request was read for; afterwards the one that it was checked against.
	Info    model.Info
	Ticket  job.Ticket
	Created time.Time
	// Deadline is the job's, unless it was there already.
	Deadline time.Time
	// Duplicate says that the job was there already.
	Duplicate bool
	// Quota is how the caller stands with its rate limit, if it has one; set also if the job is refused.
	Quota auth.Quota
}

// Submit submits a job, and waits for its result if wait is positive. The job is accepted if the error is nil, and also
// after [ErrClientGone]. A wait is a preference only: where no more may wait it is accepted all the same, and waited is
// false.
func (g *Gateway) Submit(ctx context.Context, s *Submission, wait time.Duration) (v *Job, waited bool, err error) {
	if err := g.submit(ctx, s); err != nil {
		return nil, false, err
	}
	v = s.job()
	wait = min(wait, g.cfg.MaxWait)
	if wait > 0 {
		if seat, full := g.waiters.take(1); full == nil {
			defer seat.leave()
			waited = true
			v, err = g.await(ctx, seat, s, v, wait)
		}
	} else if s.Request.IdempotencyKey != "" {
		// JetStream forgets keys sooner than the record does: the job may be finished although this looked like the first.
		v, err = g.refresh(ctx, s, v)
	}
	return v, waited, err
}

// Ask submits a job and waits for its result for as long as wait says, MaxWait or not. The job that it returns need not
// be finished: the wait may have been over before. A job that nobody can be given the result of is not submitted; one whose client leaves is canceled.
func (g *Gateway) Ask(ctx context.Context, s *Submission, wait time.Duration) (*Job, error) {
	// Without a place to put the result, or a seat, the job is not submitted: nobody could be given its result.
	if err := g.results.usable(ctx); err != nil {
		g.Refused(err)
		return nil, err
	}
	seat, full := g.waiters.take(1)
	if full != nil {
		g.Refused(full)
		return nil, full
	}
	defer seat.leave()
	if err := g.submit(ctx, s); err != nil {
		return nil, err
	}
	v := s.job()
	now, err := g.await(ctx, seat, s, v, wait)
	if err != nil {
		if ctx.Err() != nil {
			g.abandon(ctx, s, v)
		}
		return nil, err
	}
	if !now.State.Terminal() {
		g.Foresee(ctx, now)
	}
	return now, nil
}

// Refused counts a submit that came to nothing before it came to the gateway: it could not be read.
func (g *Gateway) Refused(err error) { g.metrics.submitted(false, err) }

// submit submits the job, and counts that.
func (g *Gateway) submit(ctx context.Context, s *Submission) error {
	err := g.admit(ctx, s)
	if err == nil {
		err = g.accept(ctx, s)
	}
	g.metrics.submitted(s.Duplicate, err)
	return err
}

func (g *Gateway) accept(ctx context.Context, s *Submission) error {
	limited, cancel := g.submits.limit(ctx)
	defer cancel()
	sub, err := g.queue.submit(func() (producer.Submission, error) {
		return g.deps.Submitter.Submit(limited, s.Request)
	})
	switch {
	case err == nil:
		s.Ticket, s.Created, s.Deadline, s.Duplicate, s.Info = sub.Ticket, sub.CreatedAt, sub.Deadline, sub.Duplicate, sub.Info
	case ctx.Err() != nil:
		return ErrClientGone
	case s.Request.IdempotencyKey != "" && g.repeats(ctx, sub.Ticket, err):
		s.Ticket, s.Duplicate = sub.Ticket, true
	default:
		return err
	}
	return nil
}

// repeats reports whether a submit that the queue has no room for is that of a job which is finished already: its answer
// needs no room.
func (g *Gateway) repeats(ctx context.Context, t job.Ticket, err error) bool {
	for _, full := range []error{producer.ErrTenantFull, producer.ErrFull, producer.ErrTooLate} {
		if errors.Is(err, full) {
			ctx, cancel := context.WithTimeout(ctx, g.cfg.LookupTimeout)
			defer cancel()
			records, err := g.results.Get(ctx, t.ID)
			return err == nil && len(records) == 1 && records[0] != nil
		}
	}
	return false
}

// job is what is known of a job that was just accepted.
func (s *Submission) job() *Job {
	return &Job{
		Ticket: s.Ticket, State: job.Queued, Tenant: s.Request.Tenant, Model: s.Request.Model, Version: s.Request.Version,
		Created: s.Created, Deadline: s.Deadline, Webhook: s.Request.Webhook,
	}
}

// abandon cancels a job that nobody will ask for: its client has left and was never told the id. A client with an
// Idempotency-Key may come back for it.
func (g *Gateway) abandon(ctx context.Context, s *Submission, v *Job) {
	if s.Request.IdempotencyKey != "" {
		return
	}
	if _, err := g.cancel(ctx, "", v); err != nil {
		g.log.LogAttrs(ctx, slog.LevelDebug, "cannot cancel an abandoned job", slog.String("job", s.Ticket.String()), slog.String("error", err.Error()))
	}
}
