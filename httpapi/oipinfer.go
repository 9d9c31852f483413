package httpapi

import (
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// oipRequest is what an inference request of the Open Inference Protocol says besides its job.
type oipRequest struct {
	timeout time.Duration // 0: none
	binary  bool          // outputs are wanted binary
	outputs map[int]bool  // the same of single outputs, by their place among those wanted; these overrule binary
}

// infer answers POST /v2/models/{model}/infer, with one version or without.
func (a *API) infer(w *response, r *http.Request) error {
	var q oipRequest
	s, result, err := a.ask(w, r, func() (*submission, error) { return a.readInfer(w, r, &q) })
	if err != nil {
		return err
	}
	q.send(w, s, result)
	return nil
}

// readInfer makes a submission of an inference request.
func (a *API) readInfer(w *response, r *http.Request, q *oipRequest) (*submission, error) {
	s, err := a.read(w, r, form{mediaBinary, func(body []byte, j *job.Job, _ *model.Members) error {
		text, data, err := splitBody(body, r.Header.Values(headerJSONLength))
		if err != nil {
			return err
		}
		if err := job.DecodeRequestBinary(text, slices.Clone(data), j, a.cfg.Limits, q.output); err != nil {
			return err
		}
		if len(j.Inputs) == 0 {
			return job.Invalidf("inputs", `expected "inputs", a list of tensors`)
		}
		return q.takeParameters(j)
	}})
	if err == nil {
		s.Request.Deadline = q.deadline(s, time.Now())
	}
	return s, err
}

// takeParameters takes out of a job the parameters that are the server's: jobs share a batch only if theirs agree. Those
// that it does not know stay.
func (q *oipRequest) takeParameters(j *job.Job) error {
	var fault *job.Error
	j.Parameters = slices.DeleteFunc(j.Parameters, func(p job.Parameter) bool {
		known, err := q.parameter(p.Name, p.Value)
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
func (q *oipRequest) parameter(name string, value any) (known bool, err *job.Error) {
	switch name {
	case "binary_data_output":
		q.binary, err = boolean(value)
	case "priority":
		// Of two lanes interactive is the first already, so there is nothing more to give to 1, and bulk is asked for by name.
		_, err = whole(value)
	case "timeout":
		var us int64
		us, err = whole(value)
		q.timeout = time.Duration(min(us, math.MaxInt64/int64(time.Microsecond))) * time.Microsecond
	case "sequence_id", "sequence_start", "sequence_end":
		return true, job.Errorf(gateway.CodeUnsupported, "", "models here keep no state from one request to the next: send requests without a sequence")
	default:
		return false, nil
	}
	return true, err
}

// output takes one parameter of the i-th wanted output.
func (q *oipRequest) output(i int, name string, value any) error {
	switch name {
	case "binary_data":
		binary, err := boolean(value)
		if err != nil {
			return err
		}
		if q.outputs == nil {
			q.outputs = make(map[int]bool)
		}
		q.outputs[i] = binary
	case "classification":
		return job.Errorf(gateway.CodeUnsupported, "", "there is no classification: take the output as it is, and its largest values from that")
	case "shared_memory_region", "shared_memory_offset", "shared_memory_byte_size":
		return job.Errorf(gateway.CodeUnsupported, "", "there is no shared memory: take the output in the answer")
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

// deadline is when the job's answer is of no more use: the timeout from now, or what else bounds it if that is sooner.
func (q *oipRequest) deadline(s *submission, now time.Time) time.Time {
	other := s.Request.Deadline
	if q.timeout == 0 {
		return other
	}
	end := now.Add(q.timeout)
	switch {
	case !other.IsZero() && other.Before(end):
		return other
	case other.IsZero() && s.Info.Deadline > 0 && s.Info.Deadline < q.timeout:
		return other // the producer sets the model's own
	}
	return end
}
