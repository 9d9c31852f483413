package gateway

import (
	"context"
	"log/slog"
	"time"

	"github.com/sheafml/sheaf/job"
)

// lookAgain is when a waiting request looks at its job again after what should have been known could not be had.
const lookAgain = time.Second

// findWithin is find for a client that waits until the job is finished.
func (g *Gateway) findWithin(ctx context.Context, tenant string, t job.Ticket, wait time.Duration) (*Job, error) {
	seat, full := g.waiters.take(1)
	if full != nil {
		return nil, full
	}
	defer seat.leave()
	// The seat watches before the look-up: a record that is written after the look-up is told of.
	seat.watch(false, t.ID)
	v, err := g.find(ctx, tenant, t)
	if err != nil || v.State.Terminal() {
		return v, err
	}
	return g.hold(ctx, seat, tenant, t, v.Deadline, wait)
}

// await waits for the record of a job that was just submitted, and returns what is known of the job afterwards.
func (g *Gateway) await(ctx context.Context, seat *seat, s *Submission, v *Job, wait time.Duration) (*Job, error) {
	seat.watch(true, s.Ticket.ID)
	now, err := g.hold(ctx, seat, s.Request.Tenant, s.Ticket, s.Deadline, wait)
	if ctx.Err() != nil {
		return nil, ErrClientGone
	}
	return g.sure(ctx, s, v, now, err)
}

// refresh returns what is known now of a job that was accepted.
func (g *Gateway) refresh(ctx context.Context, s *Submission, v *Job) (*Job, error) {
	now, err := g.find(ctx, s.Request.Tenant, s.Ticket)
	return g.sure(ctx, s, v, now, err)
}

// sure makes of a look-up what may be said of an accepted job, of which v was known before. That it cannot be looked up
// makes it no less accepted. But a job with an Idempotency-Key may have been there before, and finished: that it is
// queued is then a guess, which the client is not told for the truth. It asks again with the same key.
func (g *Gateway) sure(ctx context.Context, s *Submission, v, now *Job, err error) (*Job, error) {
	switch {
	case err == nil:
		if now.Result == nil {
			now.Version, now.Created = v.Version, v.Created
		}
		return now, nil
	case ProblemOf(err).Code == CodeKeyReused:
		return nil, err
	case s.Request.IdempotencyKey == "":
		g.log.LogAttrs(ctx, slog.LevelDebug, "cannot look up an accepted job", slog.String("job", s.Ticket.String()), slog.String("error", err.Error()))
		return v, nil
	}
	return nil, &Problem{
		Code: CodeUnavailable, Busy: true, Ticket: s.Ticket.String(), Cause: err,
		Detail: "the job is accepted, but it cannot be looked up whether this key's job is finished already; repeat the request with the same key, or poll the path in instance",
	}
}

// hold waits until the job is finished or the time is over, and returns what is known then. A job whose deadline passes
// before is expired there and then.
func (g *Gateway) hold(ctx context.Context, seat *seat, tenant string, t job.Ticket, deadline time.Time, wait time.Duration) (*Job, error) {
	end := time.Now().Add(wait)
	for {
		until := end
		if !deadline.IsZero() && deadline.Before(end) {
			until = deadline
		}
		if record := seat.wait(ctx, time.Until(until)); record != nil {
			return view(tenant, t, record)
		}
		if ctx.Err() != nil {
			return nil, ErrClientGone
		}
		v, err := g.find(ctx, tenant, t)
		now := time.Now()
		if !now.Before(end) || g.waiters.isClosed() {
			return v, err
		}
		switch {
		case err != nil && !ProblemOf(err).Busy:
			return nil, err
		case err != nil:
			deadline = now.Add(lookAgain)
		case v.State.Terminal():
			return v, nil
		case v.overdue(now):
			deadline = now.Add(lookAgain) // its end could not be recorded
		default:
			deadline = v.Deadline // another than was thought: the job was there before, under the same key
		}
	}
}
