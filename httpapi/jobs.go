package httpapi

import (
	"net/http"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
)

// submit answers POST …/jobs.
func (a *API) submit(w *response, r *http.Request) error {
	w.Header().Add("Vary", "Prefer")
	prefer := parsePrefer(r.Header.Values("Prefer"))
	s, err := a.read(w, r, a.ownForm())
	if err != nil {
		a.jobs.Refused(err)
		return err
	}
	wait := min(prefer.wait, a.jobs.MaxWait())
	v, waited, err := a.jobs.Submit(r.Context(), &s.Submission, wait)
	w.about(s.Ticket)
	tellQuota(w.Header(), &s.Quota)
	if err != nil {
		return explain(err, s)
	}
	setLocation(w.Header(), w.ticket)
	status := http.StatusAccepted
	if waited && v.State.Terminal() {
		status = http.StatusOK
	}
	prefer.applied(w.Header(), status == http.StatusAccepted, waited, wait)
	a.sendJob(r.Context(), w, status, v)
	a.deps.Reach.Reach(failpoint.Answered)
	return nil
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
	v, err := a.jobs.Find(r.Context(), a.scope(r), t, wait)
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
	v, err := a.jobs.Cancel(r.Context(), a.scope(r), t)
	if err != nil {
		return err
	}
	if v.State != job.Canceled {
		return &gateway.Problem{Code: gateway.CodeFinished, Detail: "the job is finished, its result stands", Ticket: t.String(), State: v.State}
	}
	a.sendJob(r.Context(), w, http.StatusOK, v)
	return nil
}

// ticketOf reads the job of the path. What cannot be a ticket is an unknown job.
func (a *API) ticketOf(w *response, r *http.Request) (job.Ticket, error) {
	t, err := job.ParseTicket(r.PathValue("id"))
	if err != nil {
		return job.Ticket{}, &gateway.Problem{Code: gateway.CodeUnknownJob, Detail: err.Error()}
	}
	w.about(t)
	return t, nil
}

// tenant says whose the jobs are that a request submits.
func (a *API) tenant(r *http.Request) string { return auth.FromContext(r.Context()).Owner() }

// scope says whose jobs a request may see and cancel; "" is everybody's.
func (a *API) scope(r *http.Request) string { return auth.FromContext(r.Context()).View() }
