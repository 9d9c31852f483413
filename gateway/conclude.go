package gateway

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

// Cancel ends a job, unless it is finished, and returns what stands then: it is for the caller to see whether that is
// Canceled. A running job is canceled if this record comes before the worker's.
func (g *Gateway) Cancel(ctx context.Context, scope string, t job.Ticket) (*Job, error) {
	v, err := g.find(ctx, scope, t)
	if err != nil || v.State.Terminal() {
		return v, err
	}
	return g.cancel(ctx, scope, v)
}

// cancel ends a job on request. It returns the view of what stands then, which may be another's record.
func (g *Gateway) cancel(ctx context.Context, tenant string, v *Job) (*Job, error) {
	return g.conclude(ctx, tenant, v, job.Canceled, job.Errorf(job.CodeCanceled, "", "canceled on request"))
}

// expire ends a job whose deadline has passed, whoever looks at it first, be there a worker or not. If that cannot be
// recorded, the job is what it was: nobody may be told of an end that does not stand.
//
// The deadline was set by the clock of whoever submitted the job, and every process goes by its own: they are assumed to
// be kept in step (NTP), far closer than deadlines are long. A clock that is wrong moves the end of a job by as much; it
// never makes two, since the first record stands.
func (g *Gateway) expire(ctx context.Context, tenant string, v *Job) *Job {
	now, err := g.conclude(ctx, tenant, v, job.Expired, job.Errorf(job.CodeExpired, "",
		"the job's deadline, %s, passed before it was finished", v.Deadline.UTC().Format(time.RFC3339Nano)))
	if err != nil {
		g.log.LogAttrs(ctx, slog.LevelDebug, "cannot record that a job is expired", slog.String("job", v.Ticket.String()), slog.String("error", err.Error()))
		return v
	}
	return now
}

// conclude writes the terminal record of a job that has none yet, and clears the job away. It returns the view of the
// record that stands then: a worker's, or another process's, may have come first. A client that leaves meanwhile does
// not stop it half-way.
func (g *Gateway) conclude(ctx context.Context, tenant string, v *Job, state job.State, why *job.Error) (*Job, error) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), g.cfg.LookupTimeout)
	defer stop()
	token, err := newToken()
	if err != nil {
		return nil, err
	}
	result := job.Result{
		ID: v.Ticket.ID, State: state, Tenant: v.Tenant, Model: v.Model, Version: v.Version,
		Fingerprint: v.Fingerprint, Webhook: v.Webhook, Error: why, CreatedAt: v.Created, FinishedAt: time.Now(), Token: token,
	}
	record := job.AppendRecord(nil, &result)
	outcomes, err := g.results.Finish(ctx, []resultstore.Entry{{ID: v.Ticket.ID, Record: record, TTL: g.ttl(v.Model)}})
	if err == nil && len(outcomes) != 1 {
		err = fmt.Errorf("the result store gave %d outcomes for one record", len(outcomes))
	}
	if err == nil {
		err = outcomes[0].Err
	}
	if err != nil {
		return nil, fmt.Errorf("write that job %s is %s: %w", v.Ticket, state, err)
	}
	if !outcomes[0].Won {
		return view(tenant, v.Ticket, outcomes[0].Existing)
	}
	g.metrics.concluded.WithLabelValues(state.String()).Inc()
	g.clearAway(ctx, v.Ticket, &result)
	return view(tenant, v.Ticket, record)
}

// ttl is how long the model's results are kept, 0 if it leaves that to the store.
func (g *Gateway) ttl(name string) time.Duration {
	info, _ := g.deps.Models.Get(name, "")
	return info.ResultTTL
}

// clearAway tells the workers of a canceled job (of a deadline they know), then whoever waits, queues the delivery of its
// webhook, and deletes the message if the job is alone in it, unless the delivery could not be queued: then the worker
// that meets the message does it. All of it is best effort: the record counts, and the worker that meets the message finds it.
func (g *Gateway) clearAway(ctx context.Context, t job.Ticket, r *job.Result) {
	state, reach := r.State, g.deps.Reach
	if state != job.Canceled {
		reach = nil // the steps of the crash table are a cancel's
	}
	best := func(what string, err error) {
		if err != nil {
			g.log.LogAttrs(ctx, slog.LevelDebug, "cannot "+what, slog.String("job", t.String()), slog.String("error", err.Error()))
		}
	}
	reach.Reach(failpoint.CancelRecorded)
	ids := []job.ID{t.ID}
	if state == job.Canceled {
		best("tell the workers of a canceled job", g.queue.NotifyCanceled(ids))
	}
	best("tell those who wait for a job", g.queue.NotifyDone(ids))
	reach.Reach(failpoint.CancelTold)
	if r.Webhook != "" {
		if err := g.queueWebhook(ctx, t, r, false); err != nil {
			best("queue the webhook of a finished job", err)
			return
		}
		g.deps.Reach.Reach(failpoint.WebhookQueued)
	}
	_, err := g.queue.Remove(ctx, t)
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
