package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/sheafml/sheaf/job"
)

// Job is what is known of a job.
type Job struct {
	Ticket job.Ticket
	State  job.State
	Result *job.Result // of a finished job
	// Of an unfinished job, as far as it is known:
	Tenant         string
	Model, Version string
	Created        time.Time
	Deadline       time.Time // zero: none
	Ahead          int       // messages before it
	Placed         bool      // Ahead is known
	ETA            time.Duration
	Timed          bool // ETA is known
	Fingerprint    uint64
	Webhook        string
}

// overdue reports whether the deadline of an unfinished job has passed.
func (v *Job) overdue(now time.Time) bool { return !v.Deadline.IsZero() && !now.Before(v.Deadline) }

// Find returns what is known of a job: at once, or with a wait when it is finished or the time is over.
func (g *Gateway) Find(ctx context.Context, scope string, t job.Ticket, wait time.Duration) (*Job, error) {
	if wait = min(wait, g.cfg.MaxWait); wait > 0 && !g.waiters.isClosed() {
		return g.findWithin(ctx, scope, t, wait)
	}
	return g.find(ctx, scope, t)
}

// find derives the state of a job: its record says that it is finished, else its message says that it waits or runs,
// else the record once more, since it may have been written and the message acknowledged in between; else there is no
// such job. A job that is not finished although its deadline has passed is ended here.
func (g *Gateway) find(ctx context.Context, tenant string, t job.Ticket) (*Job, error) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.LookupTimeout)
	defer cancel()
	v, err := g.finished(ctx, tenant, t)
	if v != nil || err != nil {
		return v, err
	}
	if !t.Bare() {
		v, missing, err := g.locate(ctx, tenant, t)
		if !missing {
			return v, err
		}
		v, err = g.finished(ctx, tenant, t)
		if v != nil || err != nil {
			return v, err
		}
	}
	return nil, unknownJob(t)
}

// locate looks for a job without a record in the queue. missing: it is not there.
func (g *Gateway) locate(ctx context.Context, tenant string, t job.Ticket) (v *Job, missing bool, err error) {
	loc, err := g.queue.Locate(ctx, t)
	switch {
	case errors.Is(err, job.ErrNotFound):
		return nil, true, nil
	case err != nil:
		return nil, false, fmt.Errorf("look up job %s in the queue: %w", t, err)
	}
	v, err = g.pending(tenant, t, loc)
	if err == nil && v.overdue(time.Now()) {
		v = g.expire(ctx, tenant, v)
	}
	return v, false, err
}

// finished returns the view of a job that has a record, nil if it has none.
func (g *Gateway) finished(ctx context.Context, tenant string, t job.Ticket) (*Job, error) {
	records, err := g.results.Get(ctx, t.ID)
	if err != nil {
		return nil, fmt.Errorf("look up the result of job %s: %w", t, err)
	}
	if len(records) == 0 || records[0] == nil {
		return nil, nil //nolint:nilnil // no record is no error
	}
	return view(tenant, t, records[0])
}

// view reads a record. A job of another tenant does not exist for this one.
func view(tenant string, t job.Ticket, record []byte) (*Job, error) {
	result, err := job.DecodeRecord(t.ID, record)
	if err != nil {
		return nil, fmt.Errorf("job %s: %w", t, err)
	}
	if tenant != "" && result.Tenant != tenant {
		return nil, unknownJob(t)
	}
	if job.Clash(t.Fingerprint, result.Fingerprint) {
		return nil, keyReused()
	}
	return &Job{Ticket: t, State: result.State, Result: &result}, nil
}

// pending is the view of a job that waits or runs. A job of another tenant does not exist for this one.
func (g *Gateway) pending(tenant string, t job.Ticket, loc job.Location) (*Job, error) {
	if tenant != "" && loc.Tenant != tenant {
		return nil, unknownJob(t)
	}
	if job.Clash(t.Fingerprint, loc.Fingerprint) {
		return nil, keyReused()
	}
	v := &Job{
		Ticket: t, State: loc.State, Fingerprint: loc.Fingerprint, Webhook: loc.Webhook, Tenant: loc.Tenant, Model: loc.Model,
		Ahead: loc.Ahead, Placed: loc.State == job.Queued, Created: loc.CreatedAt, Deadline: loc.Deadline,
	}
	if v.Created.IsZero() {
		v.Created = createdAt(t.ID)
	}
	if info, _ := g.deps.Models.Get(v.Model, ""); v.Deadline.IsZero() && info.Deadline > 0 && !v.Created.IsZero() {
		v.Deadline = v.Created.Add(info.Deadline)
	}
	return v, nil
}

// createdAt reads the instant that a UUIDv7 carries; it is zero for an ID of another version.
func createdAt(id job.ID) time.Time {
	u := uuid.UUID(id)
	if u.Version() != 7 {
		return time.Time{}
	}
	return time.Unix(u.Time().UnixTime())
}

// keyReused is for who holds a ticket of a request that came under a key which had been used for another: the job under
// its ID is the other's, and so is the answer.
func keyReused() *Problem {
	return &Problem{
		Code: CodeKeyReused, Field: "Idempotency-Key",
		Detail: "the key was used before, for another request: expected a key of its own for each request",
	}
}

func unknownJob(t job.Ticket) *Problem {
	detail := "no such job, or its result has been deleted after its time to live"
	if t.Bare() {
		detail += `; an unfinished job is found only by the whole "id" that its submit returned`
	}
	return &Problem{Code: CodeUnknownJob, Detail: detail}
}

// Failure returns the problem that a finished job ended in, nil if it has outputs.
func (v *Job) Failure() error {
	r := v.Result
	if r.State != job.Succeeded {
		p := &Problem{Code: job.CodeInternal, Detail: "the job has failed, and its record does not say why"}
		if r.Error != nil {
			p = &Problem{Code: r.Error.Code, Field: r.Error.Field, Detail: r.Error.Detail}
		}
		p.Ticket, p.State = v.Ticket.String(), r.State
		return p
	}
	if len(r.Outputs) == 0 {
		return &Problem{Code: job.CodeInternal, Detail: "the job has no outputs", Ticket: v.Ticket.String(), State: r.State}
	}
	return nil
}
