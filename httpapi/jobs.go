package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/resultstore"
)

// submit answers POST …/jobs.
func (a *API) submit(w *response, r *http.Request) error {
	w.Header().Set("Vary", "Prefer")
	prefer := parsePrefer(r.Header.Values("Prefer"))
	s, err := a.read(w, r)
	if err == nil {
		err = a.submitJob(r.Context(), w, s)
	}
	a.metrics.submitted(s != nil && s.duplicate, err)
	if err != nil {
		return err
	}
	v := &jobView{ticket: s.ticket, state: job.Queued, tenant: s.request.Tenant, model: s.request.Model, version: s.request.Version, created: s.created}
	wait := min(prefer.wait, a.cfg.MaxWait)
	waited := false
	if prefer.waits && wait > 0 {
		// A wait is a preference only: without a seat the job is accepted all the same.
		if seat, full := a.waiters.take(); full == nil {
			defer seat.leave()
			waited = true
			if v, err = a.await(r.Context(), seat, s, v, wait); err != nil {
				return err
			}
		}
	} else if s.request.IdempotencyKey != "" {
		// JetStream forgets keys sooner than the record does: the job may be finished although this looked like the first.
		v = a.refresh(r.Context(), s, v)
	}
	if err := s.clash(v); err != nil {
		return err
	}
	setLocation(w, w.ticket)
	status := http.StatusAccepted
	if waited && v.state.Terminal() {
		status = http.StatusOK
	}
	prefer.applied(w.Header(), status == http.StatusAccepted, waited, wait)
	a.sendJob(w, status, v)
	a.deps.Reach.Reach(failpoint.Answered)
	return nil
}

// await waits for the record of a job that was just submitted, and returns what is known of the job afterwards.
func (a *API) await(ctx context.Context, seat *seat, s *submission, v *jobView, wait time.Duration) (*jobView, error) {
	seat.watch(s.ticket.ID, true)
	if record := seat.wait(ctx, wait); record != nil {
		return view(s.request.Tenant, s.ticket, record)
	}
	if ctx.Err() != nil {
		return nil, errClientGone
	}
	return a.refresh(ctx, s, v), nil
}

// refresh returns what is known now of a job that was accepted. That it cannot be looked up makes it no less accepted.
func (a *API) refresh(ctx context.Context, s *submission, v *jobView) *jobView {
	now, err := a.find(ctx, s.request.Tenant, s.ticket)
	if err != nil {
		a.log.LogAttrs(ctx, slog.LevelDebug, "cannot look up an accepted job", slog.String("job", s.ticket.String()), slog.String("error", err.Error()))
		return v
	}
	if now.result == nil {
		now.version, now.created = v.version, v.created
	}
	return now
}

// clash refuses an answer that is another request's: its Idempotency-Key was used for a job of another model.
func (s *submission) clash(v *jobView) error {
	name := v.model
	if v.result != nil {
		name = v.result.Model
	}
	if s.request.IdempotencyKey == "" || name == s.request.Model {
		return nil
	}
	return job.Invalidf(headerKey, "the key was used before, for a job of another model: expected a key of its own for each request")
}

// getJob answers GET /v1/jobs/{id}.
func (a *API) getJob(w *response, r *http.Request) error {
	t, err := a.ticketOf(w, r)
	if err != nil {
		return err
	}
	query, err := queryOf(r)
	if err != nil {
		return err
	}
	wait, err := parseWait(query["wait"])
	if err != nil {
		return err
	}
	tenant := a.scope(r)
	var v *jobView
	if wait = min(wait, a.cfg.MaxWait); wait > 0 && !a.waiters.isClosed() {
		v, err = a.findWithin(r.Context(), tenant, t, wait)
	} else {
		v, err = a.find(r.Context(), tenant, t)
	}
	if err != nil {
		return err
	}
	a.sendJob(w, http.StatusOK, v)
	return nil
}

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
	if record := seat.wait(ctx, wait); record != nil {
		return view(tenant, t, record)
	}
	if ctx.Err() != nil {
		return nil, errClientGone
	}
	return a.find(ctx, tenant, t)
}

// cancelJob answers DELETE /v1/jobs/{id}: 200 with the canceled job, also if it was canceled before, and 409 if it is
// finished otherwise. A running job is canceled if this record comes before the worker's.
func (a *API) cancelJob(w *response, r *http.Request) error {
	t, err := a.ticketOf(w, r)
	if err != nil {
		return err
	}
	tenant := a.scope(r)
	v, err := a.find(r.Context(), tenant, t)
	if err == nil && !v.state.Terminal() {
		v, err = a.cancel(r.Context(), tenant, v)
	}
	if err != nil {
		return err
	}
	if v.state != job.Canceled {
		return &problem{code: codeFinished, detail: "the job is finished, its result stands", ticket: t.String(), state: v.state}
	}
	a.sendJob(w, http.StatusOK, v)
	return nil
}

// cancel writes the canceled record of a job, and clears the job away. It returns the record that stands then, which
// may be another's. A client that leaves meanwhile does not stop it half-way.
func (a *API) cancel(ctx context.Context, tenant string, v *jobView) (*jobView, error) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.LookupTimeout)
	defer stop()
	token, err := newToken()
	if err != nil {
		return nil, err
	}
	record := job.AppendRecord(nil, &job.Result{
		ID: v.ticket.ID, State: job.Canceled, Tenant: v.tenant, Model: v.model, Version: v.version,
		Error:     job.Errorf(job.CodeCanceled, "", "canceled on request"),
		CreatedAt: v.created, FinishedAt: time.Now(), Token: token,
	})
	outcomes, err := a.deps.Results.Finish(ctx, []resultstore.Entry{{ID: v.ticket.ID, Record: record, TTL: a.ttl(v.model)}})
	if err == nil && len(outcomes) != 1 {
		err = fmt.Errorf("the result store gave %d outcomes for one record", len(outcomes))
	}
	if err == nil {
		err = outcomes[0].Err
	}
	if err != nil {
		return nil, fmt.Errorf("cancel job %s: %w", v.ticket, err)
	}
	if !outcomes[0].Won {
		return view(tenant, v.ticket, outcomes[0].Existing)
	}
	a.deps.Reach.Reach(failpoint.CancelRecorded)
	a.clearAway(ctx, v.ticket)
	return view(tenant, v.ticket, record)
}

// ttl is how long the model's results are kept, 0 if it leaves that to the store.
func (a *API) ttl(name string) time.Duration {
	info, _ := a.deps.Models.Get(name, "")
	return info.ResultTTL
}

// clearAway tells whoever waits for a canceled job, and deletes its message. Both are best effort: the record counts,
// and the worker that meets the message finds it.
func (a *API) clearAway(ctx context.Context, t job.Ticket) {
	if err := a.deps.Queue.NotifyDone([]job.ID{t.ID}); err != nil {
		a.log.LogAttrs(ctx, slog.LevelDebug, "cannot tell of a canceled job", slog.String("job", t.String()), slog.String("error", err.Error()))
	}
	if _, err := a.deps.Queue.Remove(ctx, t); err != nil {
		a.log.LogAttrs(ctx, slog.LevelDebug, "cannot remove a canceled job from the queue", slog.String("job", t.String()), slog.String("error", err.Error()))
	}
}

func newToken() (uint64, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, fmt.Errorf("make an attempt token: %w", err)
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}
