package grpcapi

import (
	"context"
	"errors"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/sheafpb"
)

// maxWatched bounds the jobs of one Watch.
const maxWatched = 100

// watch answers Watch.
func (a *API) watch(s *callStream) error {
	f, q := new(frame), new(sheafpb.WatchRequest)
	if err := s.RecvMsg(f); err != nil {
		return err
	}
	doneReading(s.Context())
	if err := decode(f, q); err != nil {
		return err
	}
	if n := len(q.GetIds()); n < 1 || n > maxWatched {
		return job.Invalidf("ids", "expected 1 to %d ids, got %d", maxWatched, n)
	}
	tickets := make([]job.Ticket, 0, len(q.GetIds()))
	var unknown []*sheafpb.JobStatus
	for _, id := range q.GetIds() {
		if t, err := ticketOf(id); err == nil {
			tickets = append(tickets, t)
		} else {
			unknown = append(unknown, a.unknown(id, err))
		}
	}
	watch, err := a.jobs.Watch(auth.FromContext(s.Context()).View(), tickets)
	if err != nil {
		return err
	}
	defer watch.Close()
	for _, v := range unknown {
		if err := s.SendMsg(v); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancelCause(s.Context())
	defer cancel(nil)
	go func() {
		select {
		case <-a.closing:
			cancel(errGoingDown())
		case <-ctx.Done():
		}
	}()
	for watch.Left() > 0 {
		err := watch.Next(ctx, a.cfg.CallerInterval, func(c gateway.Change) error {
			if c.Err != nil {
				return s.SendMsg(a.unknown(c.Ticket.String(), c.Err))
			}
			return s.SendMsg(a.jobStatus(s.Context(), c.Job, q.GetTypedContents()))
		})
		if errors.Is(err, gateway.ErrClientGone) && s.Context().Err() == nil {
			err = context.Cause(ctx)
		}
		if err == nil {
			err = s.stillAllowed()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// unknown tells of a job that cannot be found, and why.
func (a *API) unknown(id string, why error) *sheafpb.JobStatus {
	return &sheafpb.JobStatus{Id: excerpt(id), Error: a.jobError(gateway.ProblemOf(why))}
}
