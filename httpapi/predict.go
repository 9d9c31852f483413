package httpapi

import (
	"net/http"
	"time"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
)

// predict answers POST …/predict: submit and wait in one call.
func (a *API) predict(w *response, r *http.Request) error {
	s, result, err := a.ask(w, r, func() (*submission, error) {
		s, err := a.read(w, r, a.ownForm())
		if err == nil && s.Request.Webhook != "" {
			err = job.Invalidf("webhook", "the answer of …/predict is its result: expected a webhook only of …/jobs")
		}
		return s, err
	})
	if err != nil {
		return err
	}
	sendPrediction(w, s, result)
	return nil
}

// ask submits what read makes of a request, and waits for its result. A job that does not succeed, or not in time, is
// an error; the result has outputs.
func (a *API) ask(w *response, r *http.Request, read func() (*submission, error)) (*submission, *job.Result, error) {
	w.Header().Add("Vary", "Prefer")
	s, err := read()
	if err != nil {
		a.jobs.Refused(err)
		return nil, nil, err
	}
	prefer := parsePrefer(r.Header.Values("Prefer"))
	wait, preferred := a.cfg.PredictTimeout, prefer.wait > 0
	if preferred {
		wait = min(prefer.wait, a.jobs.MaxWait())
	}
	start := time.Now()
	v, err := a.jobs.Ask(r.Context(), &s.Submission, wait)
	w.about(s.Ticket)
	tellQuota(w.Header(), &s.Quota)
	if err != nil {
		return nil, nil, explain(err, s)
	}
	prefer.applied(w.Header(), false, preferred, wait)
	setLocation(w.Header(), w.ticket)
	if !v.State.Terminal() {
		return nil, nil, &gateway.Problem{
			Code: gateway.CodeTimeout, Ticket: w.ticket, State: v.State, Polls: true, After: v.Again(),
			Detail: "no result within " + time.Since(start).Round(time.Millisecond).String() + "; the job goes on, poll the path in Location",
		}
	}
	if err := v.Failure(); err != nil {
		return nil, nil, err
	}
	return s, v.Result, nil
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
		if outputs[i].Name == s.Info.Prediction {
			t = outputs[i]
		}
	}
	if s.single && len(t.Shape) > 0 && t.Shape[0] == 1 {
		t.Shape = t.Shape[1:]
	}
	return &t
}
