package grpcapi

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
)

// inference is an inference request and what it says besides its job.
type inference struct {
	gateway.Submission
	timeout time.Duration // 0: none
	typed   bool          // tensors came in typed contents
	final   bool          // each answer is to say that it is the last one to its request
}

// modelInfer answers ModelInfer: submit and wait.
func (a *API) modelInfer(ctx context.Context, f *frame) (any, error) {
	q, v, err := a.infer(ctx, f.b, "")
	if err != nil {
		return nil, err
	}
	return q.answer(v), nil
}

// infer submits the job of an inference request, and waits for its result. A job that does not succeed, or not in time,
// is an error; the result has outputs. place makes the idempotency key of a stream one of this request.
func (a *API) infer(ctx context.Context, body []byte, place string) (*inference, *gateway.Job, error) {
	q, err := a.readInference(ctx, body)
	if err == nil {
		err = q.takeMetadata(ctx, place)
	}
	if err != nil {
		a.jobs.Refused(err)
		return q, nil, err
	}
	q.boundByTimeout()
	wait := a.cfg.InferTimeout
	if end, ok := ctx.Deadline(); ok {
		// Who waits is woken by the call's end, and the job is canceled then.
		wait = min(time.Until(end)+time.Second, a.jobs.MaxWait())
		if q.Request.IdempotencyKey == "" {
			q.bound(end)
		}
	}
	start := time.Now()
	v, err := a.jobs.Ask(ctx, &q.Submission, wait)
	if err != nil {
		return q, nil, explain(err, &q.Info)
	}
	if !v.State.Terminal() {
		return q, nil, &gateway.Problem{
			Code: gateway.CodeTimeout, Ticket: v.Ticket.String(), State: v.State, Polls: true, After: v.Again(),
			Detail: "no result within " + time.Since(start).Round(time.Millisecond).String() + "; the job goes on, ask sheaf.v1.Jobs/Get for it",
		}
	}
	return q, v, v.Failure()
}

// readInference makes a submission of an inference.ModelInferRequest, without submitting it. What it returns beside an
// error has the request's id, if that could be read.
func (a *API) readInference(ctx context.Context, body []byte) (*inference, error) {
	q := &inference{}
	var j job.Job
	typed, err := job.DecodeRequestGRPC(body, &j, a.cfg.Limits, tensorParameter)
	q.typed, q.Request.RequestID, q.Request.Model = typed, j.RequestID, j.Model
	switch {
	case err != nil:
		// The model is known, perhaps, and then so is what it takes.
		info, _ := a.jobs.ModelFor(ctx, j.Model, j.Version)
		return q, explain(err, &info)
	case j.Model == "":
		return q, job.Invalidf("model_name", "expected the name of a model")
	}
	if q.Info, err = a.jobs.ModelFor(ctx, j.Model, j.Version); err != nil {
		return q, err
	}
	if len(j.Inputs) == 0 {
		return q, explain(job.Invalidf("inputs", "expected the model's inputs, a list of tensors"), &q.Info)
	}
	if err := q.takeParameters(&j); err != nil {
		return q, err
	}
	r := &q.Request
	r.Version, r.Tenant = j.Version, auth.FromContext(ctx).Owner()
	r.Inputs, r.Outputs, r.Parameters = j.Inputs, j.Outputs, j.Parameters
	return q, nil
}

// bound makes the job's deadline end, or what else bounds it if that is sooner.
func (q *inference) bound(end time.Time) {
	now, deadline := time.Now(), q.Request.Deadline
	switch {
	case !deadline.IsZero() && deadline.Before(end):
	case deadline.IsZero() && q.Info.Deadline > 0 && now.Add(q.Info.Deadline).Before(end): // the producer sets the model's own
	default:
		q.Request.Deadline = end
	}
}

// boundByTimeout makes the job's deadline what the request's parameter says, if that is sooner.
func (q *inference) boundByTimeout() {
	if q.timeout > 0 {
		q.bound(time.Now().Add(q.timeout))
	}
}

// takeParameters takes out of a job the parameters that are the server's: jobs share a batch only if theirs agree. Those
// that it does not know stay.
func (q *inference) takeParameters(j *job.Job) error {
	var fault *job.Error
	j.Parameters = slices.DeleteFunc(j.Parameters, func(p job.Parameter) bool {
		known, err := q.parameter(p)
		if err != nil && fault == nil {
			err.Field = "parameters." + p.Name
			fault = err
		}
		return known
	})
	if fault != nil {
		return fault
	}
	return nil
}

// parameter reads one parameter of a request, false if the server does not know it.
func (q *inference) parameter(p job.Parameter) (known bool, err *job.Error) {
	switch p.Name {
	case "binary_data_output":
		_, err = boolean(p.Value)
	case "triton_enable_empty_final_response":
		q.final, err = boolean(p.Value)
	case "priority":
		// Of two lanes interactive is the first already, so there is nothing more to give to 1, and bulk is asked for by name.
		_, err = whole(p.Value)
	case "timeout":
		var us int64
		us, err = whole(p.Value)
		q.timeout = time.Duration(min(us, math.MaxInt64/int64(time.Microsecond))) * time.Microsecond
	case "sequence_id", "sequence_start", "sequence_end":
		return true, job.Errorf(gateway.CodeUnsupported, "", "models here keep no state from one request to the next: send requests without a sequence")
	default:
		return false, nil
	}
	return true, err
}

// tensorParameter takes one parameter of an input, or of a wanted output.
func tensorParameter(_ bool, p job.Parameter) error {
	switch p.Name {
	case "classification":
		return job.Errorf(gateway.CodeUnsupported, "", "there is no classification: take the output as it is, and its largest values from that")
	case "shared_memory_region", "shared_memory_offset", "shared_memory_byte_size":
		return job.Errorf(gateway.CodeUnsupported, "", "there is no shared memory: send and take tensors in the messages")
	}
	return nil
}

func boolean(value any) (bool, *job.Error) {
	b, ok := value.(bool)
	if !ok {
		return false, job.Errorf(job.CodeMalformed, "", "expected true or false")
	}
	return b, nil
}

func whole(value any) (int64, *job.Error) {
	n, ok := value.(int64)
	if !ok || n < 0 {
		return 0, job.Errorf(job.CodeMalformed, "", "expected a whole number, 0 or larger")
	}
	return n, nil
}
