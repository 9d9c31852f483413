package backfill_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/backfill"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// answering is a server that answers as told, step by step.
type answering struct {
	t     *testing.T
	steps []func() (*http.Response, error)
	keys  []string
}

const lengthHeader = "Inference-Header-Content-Length"

// RoundTrip implements http.RoundTripper.
func (s *answering) RoundTrip(r *http.Request) (*http.Response, error) {
	s.keys = append(s.keys, r.Header.Get("Idempotency-Key"))
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(r.Header.Get(lengthHeader))
	if err != nil || n > len(body) {
		s.t.Fatalf("%d bytes of %d: %v", n, len(body), err)
	}
	const wanted = `{"inputs":[{"name":"b","datatype":"UINT8","shape":[1,2],"parameters":{"binary_data_size":2}},` +
		`{"name":"a","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":5}}],"outputs":[{"name":"y"}],"parameters":{"binary_data_output":true}}`
	deadline, err := time.Parse(time.RFC3339, r.Header.Get(job.HeaderDeadline))
	if string(body[:n]) != wanted || string(body[n:]) != "\x01\x02\x01\x00\x00\x00x" || r.URL.String() != "http://sheaf/v2/models/m/versions/3/infer?lane=bulk" ||
		r.Header.Get("Prefer") != "wait=20" || err != nil || time.Until(deadline) < 24*time.Hour || r.Header.Get("Authorization") != "Bearer k" {
		s.t.Errorf("asked %s %v: %q", r.URL, r.Header, body)
	}
	if len(s.steps) == 0 {
		return nil, errors.New("asked once more than expected")
	}
	step := s.steps[0]
	s.steps = s.steps[1:]
	return step()
}

func answer(status int, header http.Header, body string) func() (*http.Response, error) {
	return func() (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1}, nil
	}
}

// refused is an answer as the API writes problems; state is that of the job, if there is one.
func refused(status int, kind, state string) func() (*http.Response, error) {
	doc := map[string]any{"error": "no", "type": "/problems/" + kind, "title": "No", "status": status, "detail": "it is so", "field": "inputs"}
	if state != "" {
		doc["job_status"] = state
	}
	text, _ := json.Marshal(doc)
	return answer(status, http.Header{"Retry-After": {"1"}}, string(text))
}

// outputs is the answer of a job that has succeeded.
func outputs(text string, data string) func() (*http.Response, error) {
	return answer(200, http.Header{lengthHeader: {strconv.Itoa(len(text))}}, text+data)
}

func TestOverHTTP(t *testing.T) {
	t.Parallel()
	type steps = []func() (*http.Response, error)
	const y = `{"model_name":"m","model_version":"3","outputs":[{"name":"y","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}`
	const nan = "\x00\x00\xc0\x7f\x00\x00\x80\x3f" // which JSON has no number for
	good := outputs(y, nan)
	down := func() (*http.Response, error) { return nil, errors.New("connection refused") }
	queued, running := refused(504, "timeout", "queued"), refused(504, "timeout", "running")
	full := refused(503, "full", "")
	for name, c := range map[string]struct {
		steps    steps
		patience time.Duration
		keys     []string
		state    job.State
		code     job.Code
		err      string
	}{
		"done at once":              {steps: steps{good}, keys: []string{"k"}, state: job.Succeeded},
		"after some looks":          {steps: steps{queued, running, good}, patience: time.Millisecond, keys: []string{"k", "k", "k"}, state: job.Succeeded},
		"when there is room":        {steps: steps{full, down, refused(429, "rate-limited", ""), queued, answer(502, nil, "<html>"), good}, keys: slices.Repeat([]string{"k"}, 6), state: job.Succeeded},
		"the model failed":          {steps: steps{refused(500, "model-failed", "failed")}, keys: []string{"k"}, state: job.Failed, code: "model-failed"},
		"an operator canceled it":   {steps: steps{refused(409, "canceled", "canceled")}, keys: []string{"k"}, state: job.Canceled, code: "canceled"},
		"a deadline of long ago":    {steps: steps{refused(504, "expired", "expired"), good}, keys: []string{"k", "k~1"}, state: job.Succeeded},
		"another job under the key": {steps: steps{refused(422, "key-reused", ""), good}, keys: []string{"k", "k~1"}, state: job.Succeeded},
		"too long out of reach":     {steps: slices.Repeat(steps{down}, 8), patience: 10 * time.Second, keys: slices.Repeat([]string{"k"}, 8), err: "connection refused"},
		"what waiting does not mend": {
			steps: steps{refused(404, "unknown-model", "")}, keys: []string{"k"}, err: "the server answered 404: No: inputs: it is so",
		},
		"no answer of an inference": {steps: steps{answer(200, nil, "<html>")}, keys: []string{"k"}, err: "is there another server than Sheaf's?"},
		"data that is not there":    {steps: steps{outputs(y, nan[:7])}, keys: []string{"k"}, err: `output "y": the server's answer has no data`},
		"data of another size":      {steps: steps{outputs(strings.Replace(y, "[1,2]", "[1,3]", 1), nan)}, keys: []string{"k"}, err: "y"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := &answering{t: t, steps: c.steps}
				jobs := backfill.OverHTTP(backfill.HTTPConfig{
					Server: "http://sheaf", Client: &http.Client{Transport: s}, Model: model.Info{Name: "m", Version: "3"}, Patience: c.patience, Outputs: []string{"y"},
					Authorize: func(r *http.Request) { r.Header.Set("Authorization", "Bearer k") },
				})
				result, err := jobs.Do(t.Context(), "k", []job.Tensor{
					{Name: "b", Datatype: job.Uint8, Shape: []int64{1, 2}, Data: []byte{1, 2}},
					{Name: "a", Datatype: job.Bytes, Shape: []int64{1}, Data: []byte("\x01\x00\x00\x00x")},
				})
				if !slices.Equal(s.keys, c.keys) {
					t.Errorf("asked %q, expected %q", s.keys, c.keys)
				}
				if c.err != "" {
					if err == nil || !strings.Contains(err.Error(), c.err) || errors.Is(err, backfill.ErrUnavailable) != (c.patience > 0) {
						t.Errorf("ended with %v", err)
					}
					return
				}
				if err != nil || result.State != c.state {
					t.Fatalf("%v, %v", result.State, err)
				}
				if c.state != job.Succeeded {
					if result.Error == nil || result.Error.Code != c.code || result.Error.Detail != "it is so" {
						t.Errorf("%v", result.Error)
					}
					return
				}
				if len(result.Outputs) != 1 || result.Version != "3" {
					t.Fatalf("%+v", result)
				}
				if o := result.Outputs[0]; o.Name != "y" || o.Datatype != job.FP32 || fmt.Sprint(o.Shape) != "[1 2]" || !bytes.Equal(o.Data, []byte(nan)) {
					t.Errorf("%+v", o)
				}
			})
		})
	}
}
