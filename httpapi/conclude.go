package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"time"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/resultstore"
)

// cancel ends a job on request. It returns the view of what stands then, which may be another's record.
func (a *API) cancel(ctx context.Context, tenant string, v *jobView) (*jobView, error) {
	return a.conclude(ctx, tenant, v, job.Canceled, job.Errorf(job.CodeCanceled, "", "canceled on request"))
}

// expire ends a job whose deadline has passed, whoever looks at it first, be there a worker or not. If that cannot be
// recorded, the job is what it was: nobody may be told of an end that does not stand.
//
// The deadline was set by the clock of whoever submitted the job, and every process goes by its own: they are assumed to
// be kept in step (NTP), far closer than deadlines are long. A clock that is wrong moves the end of a job by as much; it
// never makes two, since the first record stands.
func (a *API) expire(ctx context.Context, tenant string, v *jobView) *jobView {
	now, err := a.conclude(ctx, tenant, v, job.Expired, job.Errorf(job.CodeExpired, "",
		"the job's deadline, %s, passed before it was finished", v.deadline.UTC().Format(time.RFC3339Nano)))
	if err != nil {
		a.log.LogAttrs(ctx, slog.LevelDebug, "cannot record that a job is expired", slog.String("job", v.ticket.String()), slog.String("error", err.Error()))
		return v
	}
	return now
}

// conclude writes the terminal record of a job that has none yet, and clears the job away. It returns the view of the
// record that stands then: a worker's, or another process's, may have come first. A client that leaves meanwhile does
// not stop it half-way.
func (a *API) conclude(ctx context.Context, tenant string, v *jobView, state job.State, why *job.Error) (*jobView, error) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.LookupTimeout)
	defer stop()
	token, err := newToken()
	if err != nil {
		return nil, err
	}
	record := job.AppendRecord(nil, &job.Result{
		ID: v.ticket.ID, State: state, Tenant: v.tenant, Model: v.model, Version: v.version,
		Error: why, CreatedAt: v.created, FinishedAt: time.Now(), Token: token,
	})
	outcomes, err := a.results.Finish(ctx, []resultstore.Entry{{ID: v.ticket.ID, Record: record, TTL: a.ttl(v.model)}})
	if err == nil && len(outcomes) != 1 {
		err = fmt.Errorf("the result store gave %d outcomes for one record", len(outcomes))
	}
	if err == nil {
		err = outcomes[0].Err
	}
	if err != nil {
		return nil, fmt.Errorf("write that job %s is %s: %w", v.ticket, state, err)
	}
	if !outcomes[0].Won {
		return view(tenant, v.ticket, outcomes[0].Existing)
	}
	a.metrics.concluded.WithLabelValues(state.String()).Inc()
	a.clearAway(ctx, v.ticket, state)
	return view(tenant, v.ticket, record)
}

// ttl is how long the model's results are kept, 0 if it leaves that to the store.
func (a *API) ttl(name string) time.Duration {
	info, _ := a.deps.Models.Get(name, "")
	return info.ResultTTL
}

// clearAway tells the workers of a canceled job (of a deadline they know), then whoever waits, and deletes the message
// if the job is alone in it. All of it is best effort: the record counts, and the worker that meets the message finds it.
func (a *API) clearAway(ctx context.Context, t job.Ticket, state job.State) {
	reach := a.deps.Reach
	if state != job.Canceled {
		reach = nil // the steps of the crash table are a cancel's
	}
	best := func(what string, err error) {
		if err != nil {
			a.log.LogAttrs(ctx, slog.LevelDebug, "cannot "+what, slog.String("job", t.String()), slog.String("error", err.Error()))
		}
	}
	reach.Reach(failpoint.CancelRecorded)
	ids := []job.ID{t.ID}
	if state == job.Canceled {
		best("tell the workers of a canceled job", a.queue.NotifyCanceled(ids))
	}
	best("tell those who wait for a job", a.queue.NotifyDone(ids))
	reach.Reach(failpoint.CancelTold)
	_, err := a.queue.Remove(ctx, t)
	best("remove a finished job from the queue", err)
	reach.Reach(failpoint.CancelRemoved)
}

func newToken() (uint64, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, fmt.Errorf("make an attempt token: %w", err)
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}
