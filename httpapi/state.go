package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/sheafml/sheaf/job"
)

// jobView is what the API shows of a job.
type jobView struct {
	ticket job.Ticket
	state  job.State
	result *job.Result // of a finished job
	// Of an unfinished job, as far as it is known:
	tenant         string
	model, version string
	created        time.Time
	deadline       time.Time // zero: none
	ahead          int       // messages before it
	placed         bool      // ahead is known
	eta            time.Duration
	timed          bool // eta is known
}

// overdue reports whether the deadline of an unfinished job has passed.
func (v *jobView) overdue(now time.Time) bool { return !v.deadline.IsZero() && !now.Before(v.deadline) }

// tenant says whose the jobs are that a request submits: the default tenant's, until keys tell tenants apart.
func (a *API) tenant(*http.Request) string { return job.DefaultTenant }

// scope says whose jobs a request may see and cancel; "" is everybody's, until keys tell tenants apart.
func (a *API) scope(*http.Request) string { return "" }

// ticketOf reads the job of the path. What cannot be a ticket is an unknown job.
func (a *API) ticketOf(w *response, r *http.Request) (job.Ticket, error) {
	t, err := job.ParseTicket(r.PathValue("id"))
	if err != nil {
		return job.Ticket{}, &problem{code: codeUnknownJob, detail: err.Error()}
	}
	w.ticket = t.String()
	return t, nil
}

// find derives the state of a job: its record says that it is finished, else its message says that it waits or runs,
// else the record once more, since it may have been written and the message acknowledged in between; else there is no
// such job. A job that is not finished although its deadline has passed is ended here.
func (a *API) find(ctx context.Context, tenant string, t job.Ticket) (*jobView, error) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.LookupTimeout)
	defer cancel()
	v, err := a.finished(ctx, tenant, t)
	if v != nil || err != nil {
		return v, err
	}
	if !t.Bare() {
		loc, err := a.queue.Locate(ctx, t)
		if err == nil {
			v, err := a.pending(tenant, t, loc)
			if err == nil && v.overdue(time.Now()) {
				v = a.expire(ctx, tenant, v)
			}
			return v, err
		}
		if !errors.Is(err, job.ErrNotFound) {
			return nil, fmt.Errorf("look up job %s in the queue: %w", t, err)
		}
		v, err = a.finished(ctx, tenant, t)
		if v != nil || err != nil {
			return v, err
		}
	}
	return nil, unknownJob(t)
}

// finished returns the view of a job that has a record, nil if it has none.
func (a *API) finished(ctx context.Context, tenant string, t job.Ticket) (*jobView, error) {
	records, err := a.results.Get(ctx, t.ID)
	if err != nil {
		return nil, fmt.Errorf("look up the result of job %s: %w", t, err)
	}
	if len(records) == 0 || records[0] == nil {
		return nil, nil //nolint:nilnil // no record is no error
	}
	return view(tenant, t, records[0])
}

// view reads a record. A job of another tenant does not exist for this one.
func view(tenant string, t job.Ticket, record []byte) (*jobView, error) {
	result, err := job.DecodeRecord(t.ID, record)
	if err != nil {
		return nil, fmt.Errorf("job %s: %w", t, err)
	}
	if tenant != "" && result.Tenant != tenant {
		return nil, unknownJob(t)
	}
	return &jobView{ticket: t, state: result.State, result: &result}, nil
}

// pending is the view of a job that waits or runs. A job of another tenant does not exist for this one.
func (a *API) pending(tenant string, t job.Ticket, loc job.Location) (*jobView, error) {
	if tenant != "" && loc.Tenant != tenant {
		return nil, unknownJob(t)
	}
	v := &jobView{
		ticket: t, state: loc.State, tenant: loc.Tenant, model: loc.Model,
		ahead: loc.Ahead, placed: loc.State == job.Queued, created: loc.CreatedAt, deadline: loc.Deadline,
	}
	if v.created.IsZero() {
		v.created = createdAt(t.ID)
	}
	if info, _ := a.deps.Models.Get(v.model, ""); v.deadline.IsZero() && info.Deadline > 0 && !v.created.IsZero() {
		v.deadline = v.created.Add(info.Deadline)
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

func unknownJob(t job.Ticket) *problem {
	detail := "no such job, or its result has been deleted after its time to live"
	if t.Bare() {
		detail += `; an unfinished job is found only by the whole "id" that its submit returned`
	}
	return &problem{code: codeUnknownJob, detail: detail}
}
