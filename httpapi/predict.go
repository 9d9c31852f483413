package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/sheafml/sheaf/job"
)

// predict answers POST …/predict: submit and wait in one call.
func (a *API) predict(w *response, r *http.Request) error {
	s, result, err := a.ask(w, r, func() (*submission, error) { return a.read(w, r, a.ownForm()) })
	if err != nil {
		return err
	}
	sendPrediction(w, s, result)
	return nil
}

// ask submits what read makes of a request, and waits for its result. A job that does not succeed, or not in time, is
// an error; the result has outputs.
func (a *API) ask(w *response, r *http.Request, read func() (*submission, error)) (*submission, *job.Result, error) {
	w.Header().Set("Vary", "Prefer")
	s, err := read()
	var st *seat
	if err == nil {
		// Without a place to put the result, or a seat, the job is not submitted: nobody could be given its result.
		err = a.results.usable(r.Context())
	}
	if err == nil {
		var full *problem
		if st, full = a.waiters.take(); full != nil {
			err = full
		} else {
			defer st.leave()
			err = a.submitJob(r.Context(), w, s)
		}
	}
	a.metrics.submitted(s != nil && s.duplicate, err)
	if err != nil {
		return nil, nil, err
	}
	prefer := parsePrefer(r.Header.Values("Prefer"))
	wait, preferred := a.cfg.PredictTimeout, prefer.wait > 0
	if preferred {
		wait = min(prefer.wait, a.cfg.MaxWait)
	}
	prefer.applied(w.Header(), false, preferred, wait)
	v := s.view()
	start := time.Now()
	now, err := a.await(r.Context(), st, s, v, wait)
	if err != nil {
		if r.Context().Err() != nil {
			a.abandon(r.Context(), s, v)
		}
		return nil, nil, err
	}
	if err := s.clash(now); err != nil {
		return nil, nil, err
	}
	setLocation(w, w.ticket)
	if !now.state.Terminal() {
		a.foresee(r.Context(), now)
		return nil, nil, &problem{
			code: codeTimeout, ticket: w.ticket, state: now.state, polls: true, after: a.again(now),
			detail: "no result within " + time.Since(start).Round(time.Millisecond).String() + "; the job goes on, poll the path in Location",
		}
	}
	if err := unanswerable(w, now.result); err != nil {
		return nil, nil, err
	}
	return s, now.result, nil
}

// abandon cancels a job that nobody will ask for: its client has left and was never told the id. A client with an
// Idempotency-Key may come back for it.
func (a *API) abandon(ctx context.Context, s *submission, v *jobView) {
	if s.request.IdempotencyKey != "" {
		return
	}
	if _, err := a.cancel(ctx, "", v); err != nil {
		a.log.LogAttrs(ctx, slog.LevelDebug, "cannot cancel an abandoned job", slog.String("job", s.ticket.String()), slog.String("error", err.Error()))
	}
}

// unanswerable returns the problem that a finished job ended in, nil if it has outputs.
func unanswerable(w *response, r *job.Result) error {
	if r.State != job.Succeeded {
		p := &problem{code: job.CodeInternal, detail: "the job has failed, and its record does not say why"}
		if r.Error != nil {
			p = &problem{code: r.Error.Code, field: r.Error.Field, detail: r.Error.Detail}
		}
		p.ticket, p.state = w.ticket, r.State
		return p
	}
	if len(r.Outputs) == 0 {
		return &problem{code: job.CodeInternal, detail: "the job has no outputs", ticket: w.ticket, state: r.State}
	}
	return nil
}

// sendPrediction answers with the prediction of a job that has succeeded.
func sendPrediction(w *response, s *submission, r *job.Result) {
	t := prediction(s, r.Outputs)
	o := object{b: append(make([]byte, 0, 512+3*len(t.Data)), '{')}
	o.key("prediction")
	o.b = job.AppendNestedJSON(o.b, t)
	o.string("id", w.ticket)
	o.text("model", r.Model)
	o.text("model_version", r.Version)
	appendTimings(&o, r)
	sendJSON(w, http.StatusOK, o.end())
}

// prediction picks the output that /predict answers with: the one that the model names, else the first that was asked
// for. The answer to a single row is a single row.
func prediction(s *submission, outputs []job.Tensor) *job.Tensor {
	t := outputs[0]
	for i := range outputs {
		if outputs[i].Name == s.info.Prediction {
			t = outputs[i]
		}
	}
	if s.single && len(t.Shape) > 0 && t.Shape[0] == 1 {
		t.Shape = t.Shape[1:]
	}
	return &t
}
