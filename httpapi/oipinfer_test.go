package httpapi_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheafml/sheaf/job"
)

// wineResult is the outcome of a job for wine.red: what was asked for, in that order.
func wineResult(j job.Job) job.Result {
	all := []job.Tensor{fp32("scores", []int64{1, 2}, 1, 0.5), int64s("label", []int64{1}, 7)}
	if len(j.Outputs) == 0 {
		return job.Result{State: job.Succeeded, Outputs: all}
	}
	var outputs []job.Tensor
	for _, name := range j.Outputs {
		outputs = append(outputs, all[slices.IndexFunc(all, func(t job.Tensor) bool { return t.Name == name })])
	}
	return job.Result{State: job.Succeeded, Outputs: outputs}
}

// wine makes a request for wine.red with members before its inputs.
func wine(members string) string {
	return `{` + members + `"inputs":[{"name":"name","shape":[1],"datatype":"BYTES","data":["é"]},{"name":"age","shape":[1],"datatype":"INT8","data":[-7]}]}`
}

// seen makes the queue run every job at once, and returns where the jobs are seen.
func (r *rig) seen(t testing.TB, answer func(j job.Job) job.Result) <-chan job.Job {
	t.Helper()
	jobs := make(chan job.Job, 1)
	r.work(t, func(j job.Job) job.Result {
		jobs <- j
		return answer(j)
	})
	return jobs
}

func TestInfer(t *testing.T) {
	const scores = `{"name":"scores","shape":[1,2],"datatype":"FP32","data":[1,0.5]}`
	const label = `{"name":"label","shape":[1],"datatype":"INT64","data":[7]}`
	for _, c := range []struct{ name, members, before, outputs string }{
		{"all outputs in the model's order", ``, ``, scores + "," + label},
		{"the other order", `"outputs":[{"name":"label"},{"name":"scores"}],`, ``, label + "," + scores},
		{"one output", `"outputs":[{"name":"label","parameters":{"binary_data":false}}],`, ``, label},
		{"id", `"id":"a \"b\" é/..",`, `"id":"a \"b\" é/..",`, scores + "," + label},
		{"id that is a UUID", `"id":"0198f3c2-0000-7000-8000-000000000001",`, `"id":"0198f3c2-0000-7000-8000-000000000001",`, scores + "," + label},
		{"members that nobody knows", `"model_name":"wine.red","what":{"is":[1]},`, ``, scores + "," + label},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			jobs := r.seen(t, wineResult)
			for _, path := range []string{"/v2/models/wine.red/infer", "/v2/models/wine.red/versions/1/infer"} {
				for _, media := range []string{"", "application/json", "application/octet-stream"} { // the last by aiohttp's default
					a := r.do(t, "POST", path, wine(c.members), "Content-Type", media)
					if a.status != 200 || a.header.Get("Content-Type") != "application/json" || a.header.Get("Inference-Header-Content-Length") != "" {
						t.Fatalf("status %d, header %v: %s", a.status, a.header, a.body)
					}
					j := <-jobs
					parameters, _ := a.doc["parameters"].(map[string]any)
					id, _ := parameters["sheaf_job_id"].(string)
					want := `{"model_name":"wine.red","model_version":"2",` + c.before + `"parameters":{"sheaf_job_id":"` + id + `"},"outputs":[` + c.outputs + `]}`
					if d := cmp.Diff(want, a.body); d != "" {
						t.Error(d)
					}
					if ticket, err := job.ParseTicket(id); err != nil || ticket.ID != j.ID || a.header.Get("Location") != "/v1/jobs/"+id {
						t.Errorf("the job is %s, the answer names %q and is at %q", j.ID, id, a.header.Get("Location"))
					}
					if j.Lane != job.Interactive || j.Tenant != job.DefaultTenant || len(j.Parameters) != 0 || (j.Version != "") != strings.Contains(path, "versions") {
						t.Errorf("the job is %+v", j)
					}
					if j.Inputs[0].Name != "age" || string(j.Inputs[0].Data) != "\xf9" || string(j.Inputs[1].Data) != "\x02\x00\x00\x00é" {
						t.Errorf("the job has the inputs %+v", j.Inputs)
					}
				}
			}
		})
	}
}

// The server's own parameters are not the job's, or jobs that differ in them alone would not share a batch.
func TestInferParameters(t *testing.T) {
	for _, c := range []struct {
		parameters string
		left       []job.Parameter
	}{
		{`{"priority":1,"timeout":60000000,"binary_data_output":false}`, nil},
		{`{"priority":0,"timeout":0}`, nil},
		{`{"zoom":2,"priority":7,"mode":"x","fast":true,"half":0.5}`, []job.Parameter{
			{Name: "fast", Value: true}, {Name: "half", Value: 0.5}, {Name: "mode", Value: "x"}, {Name: "zoom", Value: int64(2)},
		}},
		{`null`, nil},
	} {
		r := newRig(t, nil)
		jobs := r.seen(t, wineResult)
		if a := r.do(t, "POST", "/v2/models/wine.red/infer", wine(`"parameters":`+c.parameters+`,`)); a.status != 200 {
			t.Fatalf("status %d: %s", a.status, a.body)
		}
		j := <-jobs
		if len(j.Parameters) != len(c.left) || len(c.left) > 0 && !cmp.Equal(j.Parameters, c.left) || j.Lane != job.Interactive {
			t.Errorf("%s: the job has the parameters %v, expected %v", c.parameters, j.Parameters, c.left)
		}
	}
}

// The shorter of the request's timeout and whatever else bounds the job is its deadline.
func TestInferTimeout(t *testing.T) {
	for _, c := range []struct {
		name, model, timeout, header string
		want                         time.Duration // from now; 0: none
	}{
		{"timeout alone", "grid", "1500000", "", 1500 * time.Millisecond},
		{"no timeout", "grid", "0", "", 0},
		{"longer than a clock", "grid", "9223372036854775807", "", 1<<63 - 1 - 807},
		{"shorter than the header", "grid", "2000000", "2000-01-01T00:00:03Z", 2 * time.Second},
		{"longer than the header", "grid", "4000000", "2000-01-01T00:00:03Z", 3 * time.Second},
		{"none, and a header", "grid", "0", "2000-01-01T00:00:03Z", 3 * time.Second},
		{"shorter than the model's deadline", "hasty", "2000000", "", 2 * time.Second},
		{"longer than the model's deadline", "hasty", "60000000", "", 5 * time.Second},
		{"the header is later than the model's", "hasty", "60000000", "2000-01-01T00:00:30Z", 30 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // its clock begins at 2000-01-01
				r := newRig(t, nil)
				jobs := r.seen(t, func(job.Job) job.Result {
					return job.Result{State: job.Succeeded, Outputs: []job.Tensor{int64s("sum", nil, 10)}}
				})
				body := input("g", "[2,2]", "INT64", "[1,2,3,4]")
				if c.model == "hasty" {
					body = input("x", "[1,4]", "FP32", "[1,2,3,4]")
				}
				now := time.Now()
				a := r.call(t, "POST", "/v2/models/"+c.model+"/infer", `{"parameters":{"timeout":`+c.timeout+`},`+body[1:], "Sheaf-Deadline", c.header)
				if a.status != 200 {
					t.Fatalf("status %d: %s", a.status, a.body)
				}
				j := <-jobs
				if c.want == 0 && !j.Deadline.IsZero() || c.want > 0 && j.Deadline.Round(0).Sub(now.Round(0)) != c.want {
					t.Errorf("the deadline is %s, expected %s from %s", j.Deadline, c.want, now)
				}
			})
		})
	}
}

func TestInferEndsAtItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		start := time.Now()
		a := r.call(t, "POST", "/v2/models/digits/infer", `{"parameters":{"timeout":2000000},`+input("x", "[1,4]", "FP32", "[1,2,3,4]")[1:])
		a.oipError(t, 504, "expired")
		if took := time.Since(start); took != 2*time.Second || a.str("job_status") != "expired" {
			t.Errorf("it took %s: %s", took, a.body)
		}
	})
}

// Nobody answers: the request ends when that of /predict would, and the job goes on.
func TestInferTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		start := time.Now()
		a := r.call(t, "POST", "/v2/models/digits/infer", input("x", "[1,4]", "FP32", "[1,2,3,4]"))
		a.oipError(t, 504, "timeout")
		if took := time.Since(start); took != 30*time.Second {
			t.Errorf("it took %s", took)
		}
		m := r.queue.last(t)
		if a.header.Get("Location") != "/v1/jobs/"+m.ticket.String() || a.str("instance") != "/v1/jobs/"+m.ticket.String() {
			t.Errorf("header %v: %s", a.header, a.body)
		}
		r.settle(t, m.ticket, digitsResult(m.job))
	})
}

func TestInferOfAJobThatFails(t *testing.T) {
	for _, c := range []struct {
		state  job.State
		code   job.Code
		status int
	}{
		{job.Failed, job.CodeInference, 422},
		{job.Failed, job.CodeExhausted, 500},
		{job.Expired, job.CodeExpired, 504},
		{job.Canceled, job.CodeCanceled, 409},
	} {
		r := newRig(t, nil)
		r.work(t, func(job.Job) job.Result {
			return job.Result{State: c.state, Error: job.Errorf(c.code, "inputs[0].data", "what happened")}
		})
		a := r.do(t, "POST", "/v2/models/digits/infer", input("x", "[1,4]", "FP32", "[1,2,3,4]"))
		a.oipError(t, c.status, string(c.code))
		if a.str("error") != "inputs[0].data: what happened" || a.str("job_status") != c.state.String() {
			t.Error(a.body)
		}
	}
}

func TestInferBadInput(t *testing.T) {
	const x = `"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]`
	for _, c := range []struct {
		name, path, body string
		status           int
		code, field      string
	}{
		{"unknown model", "nobody/infer", `{` + x + `}`, 404, "unknown-model", "model"},
		{"unknown version", "digits/versions/9/infer", `{` + x + `}`, 404, "unknown-model", "model_version"},
		{"unknown version in the body", "digits/infer", `{"model_version":"9",` + x + `}`, 404, "unknown-model", "model_version"},
		{"another version in the body", "digits/versions/1/infer", `{"model_version":"2",` + x + `}`, 422, "invalid", "model_version"},
		{"no inputs", "digits/infer", `{}`, 422, "invalid", "inputs"},
		{"empty inputs", "digits/infer", `{"inputs":[]}`, 422, "invalid", "inputs"},
		{"the short form of /v1", "digits/infer", oneRow, 422, "invalid", "inputs"},
		{"no body", "digits/infer", ``, 400, "malformed", ""},
		{"not JSON", "digits/infer", `{` + x, 400, "malformed", ""},
		{"text behind it", "digits/infer", `{` + x + `}x`, 400, "malformed", ""},
		{"unknown output", "digits/infer", `{"outputs":[{"name":"y"}],` + x + `}`, 422, "invalid", "outputs[0].name"},
		{"unknown input", "digits/infer", input("y", "[1,4]", "FP32", "[1,2,3,4]"), 422, "invalid", "inputs[0].name"},
		{"datatype", "digits/infer", input("x", "[1,4]", "FP64", "[1,2,3,4]"), 422, "invalid", "inputs[0].datatype"},
		{"no such datatype", "digits/infer", input("x", "[1,4]", "FP8", "[1,2,3,4]"), 422, "invalid", "inputs[0].datatype"},
		{"shape", "digits/infer", input("x", "[1,5]", "FP32", "[1,2,3,4,5]"), 422, "invalid", "inputs[0].shape"},
		{"no data", "digits/infer", `{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32"}]}`, 422, "invalid", "inputs[0].data"},
		{"timeout below 0", "digits/infer", `{"parameters":{"timeout":-1},` + x + `}`, 400, "malformed", "parameters.timeout"},
		{"timeout with a fraction", "digits/infer", `{"parameters":{"timeout":1.5},` + x + `}`, 400, "malformed", "parameters.timeout"},
		{"priority of another kind", "digits/infer", `{"parameters":{"priority":"high"},` + x + `}`, 400, "malformed", "parameters.priority"},
		{"priority below 0", "digits/infer", `{"parameters":{"priority":-1},` + x + `}`, 400, "malformed", "parameters.priority"},
		{"binary_data_output", "digits/infer", `{"parameters":{"binary_data_output":1},` + x + `}`, 400, "malformed", "parameters.binary_data_output"},
		{"a sequence", "digits/infer", `{"parameters":{"sequence_id":7,"sequence_start":true,"sequence_end":false},` + x + `}`, 400, "unsupported", "parameters.sequence_end"},
		{"a sequence by name", "digits/infer", `{"parameters":{"sequence_id":"s"},` + x + `}`, 400, "unsupported", "parameters.sequence_id"},
		{"binary_data", "digits/infer", `{"outputs":[{"name":"probabilities","parameters":{"binary_data":"yes"}}],` + x + `}`, 400, "malformed", "outputs[0].parameters.binary_data"},
		{"classification", "digits/infer", `{"outputs":[{"name":"probabilities","parameters":{"classification":3}}],` + x + `}`, 400, "unsupported", "outputs[0].parameters.classification"},
		{"shared memory", "digits/infer", `{"outputs":[{"name":"probabilities","parameters":{"shared_memory_region":"r"}}],` + x + `}`, 400, "unsupported", "outputs[0].parameters.shared_memory_region"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			a := r.do(t, "POST", "/v2/models/"+c.path, c.body)
			a.oipError(t, c.status, c.code)
			if c.field != "" && a.str("field") != c.field {
				t.Errorf("field %q, expected %q: %s", a.str("field"), c.field, a.body)
			}
			if len(r.queue.waiting) != 0 {
				t.Error("a job was published")
			}
		})
	}
}

// The limits, media types and headers of /predict hold here too.
func TestInferIsHeldToTheSameLimits(t *testing.T) {
	body := input("x", "[1,4]", "FP32", "[1,2,3,4]")
	r := newRig(t, func(c *config, _ *deps) { c.MaxBodyBytes = int64(len(body)) })
	const path = "/v2/models/digits/infer"
	r.do(t, "POST", path, body+" ").oipError(t, 413, "too-large")
	r.do(t, "POST", path, body, "Content-Encoding", "gzip").oipError(t, 415, "unsupported-media-type")
	r.do(t, "POST", path, body, "Content-Type", "text/plain").oipError(t, 415, "unsupported-media-type")
	r.do(t, "POST", path, body, "Sheaf-Deadline", "2001-01-01T00:00:00Z").oipError(t, 422, "invalid")
	r.do(t, "POST", "/v1/models/digits/predict", body, "Content-Type", "application/octet-stream").problem(t, 415, "unsupported-media-type")
	if len(r.queue.waiting) != 0 {
		t.Error("a job was published")
	}
	m := r.do(t, "GET", "/metrics", "").body
	for _, want := range []string{
		`sheaf_http_requests_total{method="POST",route="/v2/models/{model}/infer",status="4xx"} 4`,
		`sheaf_gateway_submits_total{outcome="too_large"} 1`, `sheaf_gateway_submits_total{outcome="refused"} 4`,
	} {
		if !strings.Contains(m, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

func TestInferWithAKeyIsOneJob(t *testing.T) {
	r := newRig(t, nil)
	r.work(t, wineResult)
	first := r.do(t, "POST", "/v2/models/wine.red/infer", wine(`"id":"1",`), "Idempotency-Key", "k")
	again := r.do(t, "POST", "/v2/models/wine.red/infer", wine(`"id":"2",`), "Idempotency-Key", "k")
	if first.status != 200 || again.status != 200 || first.header.Get("Location") != again.header.Get("Location") || again.str("id") != "2" {
		t.Errorf("expected one job and each request's own id: %s\n%s", first.body, again.body)
	}
}
