package backfill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// HTTPConfig says how [OverHTTP] asks.
type HTTPConfig struct {
	// Server is the base URL of the HTTP API.
	Server string
	Client *http.Client
	// Authorize shows who asks. Nil: nobody in particular.
	Authorize func(*http.Request)
	// Model is the announcement that the inputs were made for.
	Model model.Info
	// Outputs are those that are wanted; empty: all, in the model's order.
	Outputs []string
	// Wait is how long one look at an unfinished job lasts.
	Wait time.Duration
	// Patience is how long a server that is full or out of reach is waited for; 0: for ever.
	Patience time.Duration
}

// overHTTP are Jobs that are submitted to the HTTP API.
type overHTTP struct {
	cfg HTTPConfig
	// slack is how long an answer may take beyond the wait.
	slack time.Duration
}

// OverHTTP returns Jobs that wait on the bulk lane behind an HTTP API, asked by the Open Inference Protocol with binary
// data. Results stay there for their time to live.
func OverHTTP(cfg HTTPConfig) Jobs {
	if cfg.Wait <= 0 {
		cfg.Wait = defaultWait
	}
	return &overHTTP{cfg: cfg, slack: 15 * time.Second}
}

// Forget implements Jobs: the API has no way to say it.
func (*overHTTP) Forget(context.Context, []string) {}

// Do implements Jobs.
func (o *overHTTP) Do(ctx context.Context, key string, inputs []job.Tensor) (job.Result, error) {
	body, err := o.body(inputs)
	if err != nil {
		return job.Result{}, err
	}
	for generation := range generations {
		result, err := o.do(ctx, keyOf(key, generation), body)
		if !errors.Is(err, errMoved) {
			return result, err
		}
	}
	return job.Result{}, fmt.Errorf("job %q was asked %d times, and is gone each time; is the result store losing its records?", key, generations)
}

// inferRequest is the JSON of an inference request of the Open Inference Protocol; the data of the inputs follows it.
type inferRequest struct {
	Inputs     []httpTensor   `json:"inputs"`
	Outputs    []httpTensor   `json:"outputs,omitempty"`
	Parameters map[string]any `json:"parameters"`
}

// httpTensor is a tensor in the JSON of a request or an answer.
type httpTensor struct {
	Name       string            `json:"name"`
	Datatype   string            `json:"datatype,omitempty"`
	Shape      []int64           `json:"shape,omitempty"`
	Parameters *tensorParameters `json:"parameters,omitempty"`
}

type tensorParameters struct {
	BinaryDataSize int `json:"binary_data_size"`
}

// httpBody is a request: JSON and, from header on, the data.
type httpBody struct {
	data   []byte
	header int
}

func (o *overHTTP) body(inputs []job.Tensor) (httpBody, error) {
	q := inferRequest{Parameters: map[string]any{"binary_data_output": true}}
	size := 0
	for i := range inputs {
		t := &inputs[i]
		q.Inputs = append(q.Inputs, httpTensor{Name: t.Name, Datatype: t.Datatype.String(), Shape: t.Shape, Parameters: &tensorParameters{len(t.Data)}})
		size += len(t.Data)
	}
	for _, name := range o.cfg.Outputs {
		q.Outputs = append(q.Outputs, httpTensor{Name: name})
	}
	text, err := json.Marshal(&q)
	if err != nil {
		return httpBody{}, fmt.Errorf("encode a request: %w", err)
	}
	b := append(make([]byte, 0, len(text)+size), text...)
	for i := range inputs {
		b = append(b, inputs[i].Data...)
	}
	return httpBody{b, len(text)}, nil
}

// do asks one job, and waits out what may pass. Asked again under its key, it is the same job.
func (o *overHTTP) do(ctx context.Context, key string, body httpBody) (job.Result, error) {
	pause, failing := retryFirst, time.Time{}
	for {
		asked := time.Now()
		result, err := o.look(ctx, key, body)
		var again *againError
		switch {
		case errors.Is(err, errUnfinished):
			failing = time.Time{}
			if time.Since(asked) > retryMost {
				pause = retryFirst
				continue
			}
			again = &againError{} // a server that lets nobody wait for long
		case ctx.Err() != nil:
			return job.Result{}, ctx.Err()
		case !errors.As(err, &again):
			return result, err
		}
		now := time.Now()
		if failing.IsZero() && again.err != nil {
			failing = now
		}
		if o.cfg.Patience > 0 && !failing.IsZero() && now.Sub(failing) > o.cfg.Patience {
			return job.Result{}, fmt.Errorf("%w for %s: %w", ErrUnavailable, o.cfg.Patience, err)
		}
		if err := sleep(ctx, max(pause, min(again.after, retryMost))); err != nil {
			return job.Result{}, err
		}
		pause = min(2*pause, retryMost)
	}
}

// againError says that another try may succeed.
type againError struct {
	err   error
	after time.Duration
}

func (e *againError) Error() string { return e.err.Error() }
func (e *againError) Unwrap() error { return e.err }

// errUnfinished says that the job is accepted, and goes on.
var errUnfinished = errors.New("the job is not finished")

const headerJSONLength = "Inference-Header-Content-Length"

// look asks for the job, and waits for its end for a while.
func (o *overHTTP) look(ctx context.Context, key string, body httpBody) (job.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.Wait+o.slack)
	defer cancel()
	where := o.cfg.Server + "/v2/models/" + url.PathEscape(o.cfg.Model.Name) + "/versions/" + url.PathEscape(o.cfg.Model.Version) + "/infer?lane=bulk"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, where, bytes.NewReader(body.data))
	if err != nil {
		return job.Result{}, fmt.Errorf("ask the server: %w", err)
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set(headerJSONLength, strconv.Itoa(body.header))
	req.Header.Set("Idempotency-Key", key)
	req.Header.Set("Prefer", "wait="+strconv.Itoa(max(1, int(o.cfg.Wait.Seconds()))))
	req.Header.Set(job.HeaderDeadline, time.Now().Add(noDeadline).UTC().Format(time.RFC3339))
	if o.cfg.Authorize != nil {
		o.cfg.Authorize(req)
	}
	resp, err := o.cfg.Client.Do(req)
	if err != nil {
		return job.Result{}, &againError{err: err}
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	answer, err := readBody(resp)
	if err != nil {
		return job.Result{}, &againError{err: fmt.Errorf("read the server's answer: %w", err)}
	}
	if resp.StatusCode != http.StatusOK {
		return failure(resp, answer)
	}
	return outputs(answer, resp.Header.Get(headerJSONLength))
}

// readBody reads an answer, in one piece where its length is known.
func readBody(resp *http.Response) ([]byte, error) {
	const believed = 64 << 20
	if resp.ContentLength < 0 || resp.ContentLength > believed {
		return io.ReadAll(resp.Body)
	}
	b := make([]byte, resp.ContentLength)
	_, err := io.ReadFull(resp.Body, b)
	return b, err
}

// outputs reads the answer of a job that has succeeded: JSON of so many bytes, and the data.
func outputs(answer []byte, length string) (job.Result, error) {
	r := job.Result{State: job.Succeeded}
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 || n > len(answer) {
		return r, fmt.Errorf("the server's answer has %d bytes and %s %q: is there another server than Sheaf's?", len(answer), headerJSONLength, length)
	}
	var a struct {
		Version string       `json:"model_version"`
		Outputs []httpTensor `json:"outputs"`
	}
	if err := json.Unmarshal(answer[:n], &a); err != nil {
		return r, fmt.Errorf("the server's answer is not that of an inference: %w", err)
	}
	r.Version = a.Version
	lim := job.DefaultLimits()
	lim.MaxBytes, lim.MaxElements = math.MaxInt32, math.MaxInt32 // the server has bounded it
	data := answer[n:]
	for i := range a.Outputs {
		t := &a.Outputs[i]
		dt, err := job.ParseDatatype(t.Datatype)
		if err != nil {
			return r, fmt.Errorf("output %q: %w", t.Name, err)
		}
		if t.Parameters == nil || t.Parameters.BinaryDataSize < 0 || t.Parameters.BinaryDataSize > len(data) {
			return r, fmt.Errorf("output %q: the server's answer has no data of it", t.Name)
		}
		size := t.Parameters.BinaryDataSize
		out := job.Tensor{Name: t.Name, Datatype: dt, Shape: t.Shape, Data: data[:size:size]}
		if err := out.Check(t.Name, lim); err != nil {
			return r, fmt.Errorf("the server's answer: %w", err)
		}
		r.Outputs, data = append(r.Outputs, out), data[size:]
	}
	return r, nil
}

// httpProblem is what the server says of what went wrong.
type httpProblem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Field  string `json:"field"`
	Detail string `json:"detail"`
	// Status is that of the job, if there is one.
	Status string `json:"job_status"`
}

func (p *httpProblem) text() string {
	if p.Detail == "" {
		return p.Title
	}
	if p.Field != "" {
		return p.Title + ": " + p.Field + ": " + p.Detail
	}
	return p.Title + ": " + p.Detail
}

// failure reads an answer without outputs: of a job that has failed, of one that goes on, or a refusal.
func failure(resp *http.Response, answer []byte) (job.Result, error) {
	var p httpProblem
	if json.Unmarshal(answer, &p) != nil || p.Title == "" {
		p = httpProblem{Title: http.StatusText(resp.StatusCode)}
	}
	switch p.Status {
	case job.Queued.String(), job.Running.String():
		return job.Result{}, errUnfinished
	case job.Expired.String():
		return job.Result{}, errMoved
	case job.Failed.String(), job.Canceled.String():
		r := job.Result{State: job.Failed, Error: job.Errorf(job.CodeInternal, p.Field, "%s", p.Detail)}
		if p.Status == job.Canceled.String() {
			r.State = job.Canceled
		}
		if code, ok := strings.CutPrefix(p.Type, "/problems/"); ok && code != "" {
			r.Error.Code = job.Code(code)
		}
		return r, nil
	}
	err := fmt.Errorf("the server answered %d: %s", resp.StatusCode, p.text())
	switch code := resp.StatusCode; {
	case p.Type == "/problems/key-reused":
		return job.Result{}, errMoved
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code >= 500 && code != http.StatusNotImplemented:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return job.Result{}, &againError{err: err, after: time.Duration(seconds) * time.Second}
	}
	return job.Result{}, err
}
