package httpapi

import (
	"context"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
)

// sendJob answers with a job. One that is not finished says when to ask again.
func (a *API) sendJob(ctx context.Context, w *response, status int, v *gateway.Job) {
	a.foresee(ctx, w.Header(), v)
	sendJSON(w, status, appendJob(make([]byte, 0, sizeHint(v)), v))
}

// foresee says of a job that is not finished when to ask for it again.
func (a *API) foresee(ctx context.Context, h fields, v *gateway.Job) {
	if !v.State.Terminal() {
		a.jobs.Foresee(ctx, v)
		a.retryAfter(h, v.Again())
	}
}

// sizeHint estimates the JSON of a job, in bytes.
func sizeHint(v *gateway.Job) int {
	n := 512
	if v.Result != nil {
		for i := range v.Result.Outputs {
			n += 3*len(v.Result.Outputs[i].Data) + 128
		}
	}
	return n
}

// appendJob appends the JSON of a job; what does not apply is left out.
func appendJob(b []byte, v *gateway.Job) []byte { return appendJobWith(b, v, true) }

// JobJSON is the JSON of a finished job as GET gives it. Without its outputs it says so.
func JobJSON(t job.Ticket, r *job.Result, outputs bool) []byte {
	v := &gateway.Job{Ticket: t, State: r.State, Result: r}
	if outputs || r.State != job.Succeeded {
		return appendJobWith(make([]byte, 0, sizeHint(v)), v, true)
	}
	b := appendJobWith(make([]byte, 0, 512), v, false)
	return append(b[:len(b)-1], `,"outputs_omitted":true}`...)
}

// appendJobWith is appendJob with the outputs or without.
func appendJobWith(b []byte, v *gateway.Job, outputs bool) []byte {
	o := object{b: append(b, '{')}
	o.key("id")
	o.b = append(v.Ticket.Append(append(o.b, '"')), '"')
	o.string("status", v.State.String())
	r := v.Result
	if r == nil {
		o.text("model", v.Model)
		o.text("model_version", v.Version)
		o.time("created_at", v.Created)
		if v.Placed {
			o.int("position", v.Ahead)
		}
		if v.Timed {
			o.int("eta_ms", int(v.ETA.Milliseconds()))
		}
		return o.end()
	}
	o.text("model", r.Model)
	o.text("model_version", r.Version)
	o.time("created_at", r.CreatedAt)
	o.time("finished_at", r.FinishedAt)
	if r.Attempts > 0 {
		o.int("attempts", r.Attempts)
	}
	if outputs && r.State == job.Succeeded {
		o.key("outputs")
		o.b = append(o.b, '[')
		for i := range r.Outputs {
			if i > 0 {
				o.b = append(o.b, ',')
			}
			o.b = job.AppendTensorJSON(o.b, &r.Outputs[i])
		}
		o.b = append(o.b, ']')
	}
	if r.Error != nil {
		o.key("error")
		o.b = appendProblem(o.b, gateway.ProblemOf(r.Error))
	}
	appendTimings(&o, r)
	return o.end()
}

// appendTimings writes where the time of a job went, if a worker has seen it.
func appendTimings(o *object, r *job.Result) {
	t := r.Timings
	if t == (job.Timings{}) {
		return
	}
	o.key("timings")
	in := object{b: append(o.b, '{')}
	in.millis("queue_ms", t.Queue)
	in.millis("batch_wait_ms", t.BatchWait)
	in.millis("infer_ms", t.Infer)
	if t.BatchRows > 0 {
		in.int("batch_rows", t.BatchRows)
	}
	o.b = in.end()
}

// setLocation names the job's own resource.
func setLocation(h fields, ticket string) { h.Set("Location", jobPath(ticket)) }
