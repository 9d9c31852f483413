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

// OverHTTP returns Jobs that wait on the bulk lane behind an HTTP API. Results stay there for their time to live.
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
	body := o.body(inputs)
	for generation := range generations {
		result, err := o.do(ctx, keyOf(key, generation), body)
		if !errors.Is(err, errMoved) {
			return result, err
		}
	}
	return job.Result{}, fmt.Errorf("job %q was asked %d times, and is gone each time; is the result store losing its records?", key, generations)
}

func (o *overHTTP) body(inputs []job.Tensor) []byte {
	b := []byte(`{"inputs":[`)
	for i := range inputs {
		if i > 0 {
			b = append(b, ',')
		}
		b = job.AppendTensorJSON(b, &inputs[i])
	}
	b = append(b, ']')
	for i, name := range o.cfg.Outputs {
		b = append(b, [2]string{`,"outputs":[{"name":`, `,{"name":`}[min(i, 1)]...)
		b = strconv.AppendQuote(b, name)
		b = append(b, '}')
	}
	if len(o.cfg.Outputs) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}

// do asks one job, and waits out what may pass.
func (o *overHTTP) do(ctx context.Context, key string, body []byte) (job.Result, error) {
	id := ""
	pause, failing := retryFirst, time.Time{}
	for {
		a, err := o.look(ctx, key, body, id)
		var again *againError
		switch {
		case err == nil && a.terminal():
			if a.Status == job.Expired.String() {
				return job.Result{}, errMoved
			}
			return a.result()
		case err == nil:
			id, pause, failing = a.ID, retryFirst, time.Time{}
			continue
		case ctx.Err() != nil:
			return job.Result{}, ctx.Err()
		case !errors.As(err, &again):
			return job.Result{}, err
		}
		now := time.Now()
		if failing.IsZero() {
			failing = now
		}
		if o.cfg.Patience > 0 && now.Sub(failing) > o.cfg.Patience {
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

// look submits the job, unless it has an id by now, and waits for its end for a while.
func (o *overHTTP) look(ctx context.Context, key string, body []byte, id string) (*httpJob, error) {
	ctx, cancel := context.WithTimeout(ctx, o.cfg.Wait+o.slack)
	defer cancel()
	var req *http.Request
	var err error
	if id == "" {
		where := o.cfg.Server + "/v1/models/" + url.PathEscape(o.cfg.Model.Name) + "/versions/" + url.PathEscape(o.cfg.Model.Version) + "/jobs?lane=bulk"
		if req, err = http.NewRequestWithContext(ctx, http.MethodPost, where, bytes.NewReader(body)); err == nil {
			req.Header.Set("Content-Type", job.ContentTypeJSON)
			req.Header.Set("Idempotency-Key", key)
			req.Header.Set("Prefer", "wait="+strconv.Itoa(int(o.cfg.Wait.Seconds())))
			req.Header.Set(job.HeaderDeadline, time.Now().Add(noDeadline).UTC().Format(time.RFC3339))
		}
	} else {
		req, err = http.NewRequestWithContext(ctx, http.MethodGet, o.cfg.Server+"/v1/jobs/"+url.PathEscape(id)+"?wait="+o.cfg.Wait.String(), nil)
	}
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	if o.cfg.Authorize != nil {
		o.cfg.Authorize(req)
	}
	resp, err := o.cfg.Client.Do(req)
	if err != nil {
		return nil, &againError{err: err}
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, &againError{err: fmt.Errorf("read the server's answer: %w", err)}
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusAccepted {
		var a httpJob
		if err := json.Unmarshal(text, &a); err != nil {
			return nil, fmt.Errorf("the server's answer is not a job: %w", err)
		}
		return &a, nil
	}
	return nil, refusal(resp, text, id != "")
}

// refusal reads an answer that is not a job.
func refusal(resp *http.Response, text []byte, submitted bool) error {
	var p httpProblem
	if json.Unmarshal(text, &p) != nil || p.Title == "" {
		p.Title = http.StatusText(resp.StatusCode)
	}
	err := fmt.Errorf("the server answered %d: %s", resp.StatusCode, p.text())
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound && submitted, p.Type == "/problems/key-reused":
		return errMoved
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code >= 500 && code != http.StatusNotImplemented:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return &againError{err: err, after: time.Duration(seconds) * time.Second}
	}
	return err
}

// httpJob is what is read of a job.
type httpJob struct {
	ID       string       `json:"id"`
	Status   string       `json:"status"`
	Version  string       `json:"model_version"`
	Attempts int          `json:"attempts"`
	Outputs  []httpTensor `json:"outputs"`
	Error    *httpProblem `json:"error"`
}

type httpTensor struct {
	Name     string          `json:"name"`
	Datatype string          `json:"datatype"`
	Shape    []int64         `json:"shape"`
	Data     json.RawMessage `json:"data"`
}

type httpProblem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Field  string `json:"field"`
	Detail string `json:"detail"`
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

func (a *httpJob) terminal() bool {
	return a.Status != job.Queued.String() && a.Status != job.Running.String()
}

// result is the job as the engine takes it.
func (a *httpJob) result() (job.Result, error) {
	r := job.Result{Version: a.Version, Attempts: a.Attempts}
	for _, s := range []job.State{job.Succeeded, job.Failed, job.Canceled} {
		if s.String() == a.Status {
			r.State = s
		}
	}
	if r.State == job.Unknown {
		return r, fmt.Errorf("job %s is %q, which this version of sheaf does not know", a.ID, a.Status)
	}
	if a.Error != nil {
		const prefix = "/problems/"
		code := job.CodeInternal
		if len(a.Error.Type) > len(prefix) {
			code = job.Code(a.Error.Type[len(prefix):])
		}
		r.Error = job.Errorf(code, a.Error.Field, "%s", a.Error.Detail)
	}
	for i := range a.Outputs {
		t, err := a.Outputs[i].tensor()
		if err != nil {
			return r, fmt.Errorf("job %s: output %q: %w", a.ID, a.Outputs[i].Name, err)
		}
		r.Outputs = append(r.Outputs, t)
	}
	return r, nil
}

func (o *httpTensor) tensor() (job.Tensor, error) {
	dt, err := job.ParseDatatype(o.Datatype)
	if err != nil {
		return job.Tensor{}, err
	}
	lim := job.DefaultLimits()
	lim.MaxBytes, lim.MaxElements = math.MaxInt32, math.MaxInt32 // the server has bounded it
	if dt.Size() > 0 && bytes.Contains(o.Data, []byte("null")) {
		return o.withNaN(dt, lim)
	}
	_, raw, err := job.ScanArray("data", o.Data, dt, lim)
	if err != nil {
		return job.Tensor{}, err
	}
	return job.Tensor{Name: o.Name, Datatype: dt, Shape: o.Shape, Data: raw}, nil
}

// withNaN reads data in which null stands for what JSON has no number for.
func (o *httpTensor) withNaN(dt job.Datatype, lim job.Limits) (job.Tensor, error) {
	nan, ok := map[job.Datatype][]byte{
		job.FP16: {0, 0x7e}, job.BF16: {0xc0, 0x7f}, job.FP32: {0, 0, 0xc0, 0x7f}, job.FP64: {0, 0, 0, 0, 0, 0, 0xf8, 0x7f},
	}[dt]
	if !ok {
		return job.Tensor{}, fmt.Errorf("null is no %s", dt)
	}
	var values []*float64
	if err := json.Unmarshal(o.Data, &values); err != nil {
		return job.Tensor{}, err
	}
	_, raw, err := job.ScanArray("data", bytes.ReplaceAll(o.Data, []byte("null"), []byte("0")), dt, lim)
	if err != nil {
		return job.Tensor{}, err
	}
	for i, v := range values {
		if v == nil {
			copy(raw[i*len(nan):], nan)
		}
	}
	return job.Tensor{Name: o.Name, Datatype: dt, Shape: o.Shape, Data: raw}, nil
}
