package httpapi_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/job"
)

func TestPredict(t *testing.T) {
	wine := func(job.Job) job.Result {
		return job.Result{State: job.Succeeded, Outputs: []job.Tensor{fp32("scores", []int64{1, 2}, 1, 0), int64s("label", []int64{1}, 7)}}
	}
	for _, c := range []struct {
		name, path, body string
		answer           func(job.Job) job.Result
		want             string
	}{
		{"one row", "digits/predict", oneRow, digitsResult, `[0.25,0.75]`},
		{"rows", "digits/predict", `{"input":[[1,2,3,4],[1,2,3,4]]}`, digitsResult, `[[0.25,0.75],[0.25,0.75]]`},
		{"one row with its axis", "digits/predict", `{"input":[[1,2,3,4]]}`, digitsResult, `[[0.25,0.75]]`},
		{"the protocol's inputs", "digits/versions/2/predict", input("x", "[1,4]", "FP32", "[1,2,3,4]"), digitsResult, `[[0.25,0.75]]`},
		{"the output that the model names", "wine.red/predict", `{"inputs":[{"name":"age","shape":[1],"datatype":"INT8","data":[7]},{"name":"name","shape":[1],"datatype":"BYTES","data":["a"]}]}`, wine, `[7]`},
		{"a scalar", "grid/predict", `{"input":[[1,2],[3,4]]}`, func(job.Job) job.Result {
			return job.Result{State: job.Succeeded, Outputs: []job.Tensor{int64s("sum", nil, 10)}}
		}, `10`},
		{"one string", "text/predict", `{"input":"héé"}`, func(j job.Job) job.Result {
			return job.Result{State: job.Succeeded, Outputs: []job.Tensor{{Name: "s", Datatype: job.Bytes, Shape: []int64{1}, Data: j.Inputs[0].Data}}}
		}, `"héé"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.work(t, c.answer)
			a := r.do(t, "POST", "/v1/models/"+c.path, c.body, "Content-Type", "application/json")
			if a.status != 200 || !strings.HasPrefix(a.body, `{"prediction":`+c.want+`,"id":"`) {
				t.Fatalf("status %d, expected the prediction %s: %s", a.status, c.want, a.body)
			}
			name, _, _ := strings.Cut(c.path, "/")
			if a.str("model") != name || a.str("model_version") != "2" || a.header.Get("Location") != "/v1/jobs/"+a.str("id") {
				t.Errorf("header %v, %s", a.header, a.body)
			}
		})
	}
}

func TestPredictTakesAnOutput(t *testing.T) {
	r := newRig(t, nil)
	r.work(t, func(j job.Job) job.Result {
		if len(j.Outputs) != 1 || j.Outputs[0] != "scores" {
			t.Errorf("outputs %v", j.Outputs)
		}
		return job.Result{State: job.Succeeded, Outputs: []job.Tensor{fp32("scores", []int64{1, 2}, 1, 0)}}
	})
	a := r.call(t, "POST", "/v1/models/wine.red/predict", `{"outputs":[{"name":"scores"}],"inputs":[{"name":"age","shape":[1],"datatype":"INT8","data":[7]},{"name":"name","shape":[1],"datatype":"BYTES","data":["a"]}]}`)
	if !strings.HasPrefix(a.body, `{"prediction":[[1,0]],`) {
		t.Error(a.body)
	}
}

func TestPredictOfAJobThatFails(t *testing.T) {
	for _, c := range []struct {
		state  job.State
		code   job.Code
		status int
		typ    string
	}{
		{job.Failed, job.CodeInference, 422, "inference"},
		{job.Failed, job.CodeInvalid, 422, "invalid"},
		{job.Failed, job.CodeExhausted, 500, "exhausted"},
		{job.Failed, job.CodeInternal, 500, "internal"},
		{job.Failed, "of-a-newer-worker", 500, "internal"},
		{job.Expired, job.CodeExpired, 504, "expired"},
		{job.Canceled, job.CodeCanceled, 409, "canceled"},
	} {
		t.Run(string(c.code), func(t *testing.T) {
			r := newRig(t, nil)
			r.work(t, func(job.Job) job.Result {
				return job.Result{State: c.state, Error: job.Errorf(c.code, "inputs[0].data", "what happened")}
			})
			a := r.call(t, "POST", "/v1/models/digits/predict", oneRow)
			a.problem(t, c.status, c.typ)
			if a.str("detail") != "what happened" || a.str("job_status") != c.state.String() || a.header.Get("Location") != "/v1/jobs/"+a.str("id") {
				t.Errorf("header %v, %s", a.header, a.body)
			}
		})
	}
	t.Run("for no reason", func(t *testing.T) {
		r := newRig(t, nil)
		r.work(t, func(job.Job) job.Result { return job.Result{State: job.Failed} })
		r.call(t, "POST", "/v1/models/digits/predict", oneRow).problem(t, 500, "internal")
	})
	t.Run("without outputs", func(t *testing.T) {
		r := newRig(t, nil)
		r.work(t, func(job.Job) job.Result { return job.Result{State: job.Succeeded} })
		r.call(t, "POST", "/v1/models/digits/predict", oneRow).problem(t, 500, "internal")
	})
}

func TestPredictTimesOut(t *testing.T) {
	for prefer, took := range map[string]time.Duration{"": 30 * time.Second, "wait=5": 5 * time.Second, "wait=3600": time.Minute} {
		t.Run(prefer, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				start := time.Now()
				a := r.call(t, "POST", "/v1/models/digits/predict", oneRow, "Prefer", prefer)
				a.problem(t, 504, "timeout")
				if time.Since(start) != took {
					t.Errorf("it took %s, expected %s", time.Since(start), took)
				}
				if want := "no result within " + took.String(); !strings.HasPrefix(a.str("detail"), want) {
					t.Errorf("detail %q, expected %q", a.str("detail"), want)
				}
				m := r.queue.last(t) // the job goes on
				if a.str("id") != m.ticket.String() || a.str("job_status") != "queued" || a.header.Get("Location") != "/v1/jobs/"+m.ticket.String() || a.header.Get("Retry-After") != "1" {
					t.Errorf("header %v, %s", a.header, a.body)
				}
				r.settle(t, m.ticket, digitsResult(m.job))
				if b := r.call(t, "GET", a.header.Get("Location"), ""); b.str("status") != "succeeded" {
					t.Errorf("the job cannot be polled: %s", b.body)
				}
			})
		})
	}
}

// A server that stops answers those who wait before their time; the problem does not claim that they have waited longer.
func TestPredictCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		time.AfterFunc(3*time.Second, r.jobs.Close)
		a := r.call(t, "POST", "/v1/models/digits/predict", oneRow)
		a.problem(t, 504, "timeout")
		if want := "no result within 3s"; !strings.HasPrefix(a.str("detail"), want) {
			t.Errorf("detail %q, expected %q", a.str("detail"), want)
		}
	})
}

// Nobody can ask for the job of a client that left before it was told the id, unless it has a key.
func TestPredictAbandoned(t *testing.T) {
	for _, c := range []struct {
		name, key string
		want      string
	}{{"without a key", "", "canceled"}, {"with a key", "k", "queued"}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				var header []string
				if c.key != "" {
					header = []string{"Idempotency-Key", c.key}
				}
				ctx, leave := context.WithCancel(t.Context())
				done := make(chan reply, 1)
				go func() { done <- r.callContext(t, ctx, "POST", "/v1/models/digits/predict", oneRow, header...) }()
				synctest.Wait()
				m := r.queue.last(t)
				leave()
				<-done
				if a := r.call(t, "GET", "/v1/jobs/"+m.ticket.String(), ""); a.str("status") != c.want {
					t.Errorf("expected the job to be %s: %s", c.want, a.body)
				}
			})
		})
	}
}
