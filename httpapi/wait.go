package httpapi

import (
	"context"
	"log/slog"
	"time"

	"github.com/sheafml/sheaf/job"
)

// lookAgain is when a waiting request looks at its job again after what should have been known could not be had.
const lookAgain = time.Second

// findWithin is find for a client that waits until the job is finished.
func (a *API) findWithin(ctx context.Context, tenant string, t job.Ticket, wait time.Duration) (*jobView, error) {
	seat, full := a.waiters.take()
	if full != nil {
		return nil, full
	}
	defer seat.leave()
	// The seat watches before the look-up: a record that is written after the look-up is told of.
	seat.watch(t.ID, false)
	v, err := a.find(ctx, tenant, t)
	if err != nil || v.state.Terminal() {
		return v, err
	}
	return a.hold(ctx, seat, tenant, t, v.deadline, wait)
}

// await waits for the record of a job that was just submitted, and returns what is known of the job afterwards.
func (a *API) await(ctx context.Context, seat *seat, s *submission, v *jobView, wait time.Duration) (*jobView, error) {
	seat.watch(s.ticket.ID, true)
	now, err := a.hold(ctx, seat, s.request.Tenant, s.ticket, s.deadline, wait)
	if ctx.Err() != nil {
		return nil, errClientGone
	}
	return a.sure(ctx, s, v, now, err)
}

// refresh returns what is known now of a job that was accepted.
func (a *API) refresh(ctx context.Context, s *submission, v *jobView) (*jobView, error) {
	now, err := a.find(ctx, s.request.Tenant, s.ticket)
	return a.sure(ctx, s, v, now, err)
}

// sure makes of a look-up what may be said of an accepted job, of which v was known before. That it cannot be looked up
// makes it no less accepted. But a job with an Idempotency-Key may have been there before, and finished: that it is
// queued is then a guess, which the client is not told for the truth. It asks again with the same key.
func (a *API) sure(ctx context.Context, s *submission, v, now *jobView, err error) (*jobView, error) {
	switch {
	case err == nil:
		if now.result == nil {
			now.version, now.created = v.version, v.created
		}
		return now, nil
	case s.request.IdempotencyKey == "":
		a.log.LogAttrs(ctx, slog.LevelDebug, "cannot look up an accepted job", slog.String("job", s.ticket.String()), slog.String("error", err.Error()))
		return v, nil
	}
	return nil, &problem{
		code: codeUnavailable, busy: true, ticket: s.ticket.String(), cause: err,
		detail: "the job is accepted, but it cannot be looked up whether this key's job is finished already; repeat the request with the same key, or poll the path in instance",
	}
}

// hold waits until the job is finished or the time is over, and returns what is known then. A job whose deadline passes
// before is expired there and then.
func (a *API) hold(ctx context.Context, seat *seat, tenant string, t job.Ticket, deadline time.Time, wait time.Duration) (*jobView, error) {
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
			return nil, errClientGone
		}
		v, err := a.find(ctx, tenant, t)
		now := time.Now()
		if !now.Before(end) || a.waiters.isClosed() {
			return v, err
		}
		switch {
		case err != nil && !problemOf(err).busy:
			return nil, err
		case err != nil:
			deadline = now.Add(lookAgain)
		case v.state.Terminal():
			return v, nil
		case v.overdue(now):
			deadline = now.Add(lookAgain) // its end could not be recorded
		default:
			deadline = v.deadline // another than was thought: the job was there before, under the same key
		}
	}
}
