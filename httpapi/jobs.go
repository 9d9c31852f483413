package httpapi

import (
	"net/http"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
)

// submit answers POST …/jobs.
func (a *API) submit(w *response, r *http.Request) error {
	w.Header().Set("Vary", "Prefer")
	prefer := parsePrefer(r.Header.Values("Prefer"))
	s, err := a.read(w, r, a.ownForm())
	if err == nil {
		err = a.submitJob(r.Context(), w, s)
	}
	a.metrics.submitted(s != nil && s.duplicate, err)
	if err != nil {
		return err
	}
	v := s.view()
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
		if v, err = a.refresh(r.Context(), s, v); err != nil {
			return err
		}
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
	a.sendJob(r.Context(), w, status, v)
	a.deps.Reach.Reach(failpoint.Answered)
	return nil
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
	a.sendJob(r.Context(), w, http.StatusOK, v)
	return nil
}

// cancelJob answers DELETE /v1/jobs/{id}: 200 with the canceled job, also if it was canceled before, and 409 if it is
// finished otherwise, or its deadline has passed. A running job is canceled if this record comes before the worker's.
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
	a.sendJob(r.Context(), w, http.StatusOK, v)
	return nil
}
