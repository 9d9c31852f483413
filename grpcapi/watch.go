package grpcapi

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/sheafpb"
)

// maxWatched bounds the jobs of one Watch.
const maxWatched = 100

// A job that is watched is looked at again after firstLook, then less and less often up to lastLook, to see whether it
// runs: nobody tells of that. Of its end the watch is told at once.
const (
	firstLook = 250 * time.Millisecond
	lastLook  = 5 * time.Second
)

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
	ctx, cancel := context.WithCancelCause(s.Context())
	defer cancel(nil)
	go func() {
		select {
		case <-a.closing:
			cancel(errGoingDown())
		case <-ctx.Done():
		}
	}()
	news := make(chan *sheafpb.JobStatus)
	followers, following := errgroup.WithContext(ctx)
	for _, id := range q.GetIds() {
		followers.Go(func() (err error) {
			defer func() {
				if v := recover(); v != nil {
					err = a.panicked(ctx, "/"+jobsService+"/Watch", v)
				}
			}()
			return a.follow(following, id, q.GetTypedContents(), func(v *sheafpb.JobStatus) {
				select {
				case news <- v:
				case <-following.Done():
				}
			})
		})
	}
	var failed error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		failed = followers.Wait()
	}()
	tick := time.NewTicker(a.cfg.CallerInterval)
	defer tick.Stop()
	for {
		var err error
		select {
		case v := <-news:
			err = s.SendMsg(v)
		case <-tick.C:
			err = s.stillAllowed()
		case <-ended:
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return failed
		}
		if err != nil {
			cancel(err)
			<-ended
			return err
		}
	}
}

// follow tells how one job stands, at once and on every change, until it is finished.
func (a *API) follow(ctx context.Context, id string, typed bool, tell func(*sheafpb.JobStatus)) error {
	t, err := ticketOf(id)
	if err != nil {
		tell(&sheafpb.JobStatus{Id: excerpt(id), Error: a.jobError(gateway.ProblemOf(err))})
		return nil
	}
	told := job.Unknown
	for look := time.Duration(0); ; look = min(max(2*look, firstLook), lastLook) {
		start := time.Now()
		v, err := a.jobs.Find(ctx, auth.FromContext(ctx).View(), t, look)
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		var p *gateway.Problem
		switch {
		case err == nil:
			if v.State != told {
				told = v.State
				tell(a.jobStatus(ctx, v, typed))
			}
			if v.State.Terminal() {
				return nil
			}
		case errors.As(err, &p) && p.Code == gateway.CodeUnknownJob:
			tell(&sheafpb.JobStatus{Id: excerpt(id), Error: a.jobError(p)})
			return nil
		case !gateway.ProblemOf(err).Busy:
			return err
		}
		// The look itself waited, unless it could not.
		if rest := look - time.Since(start); rest > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(rest):
			}
		}
	}
}
