package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/resultstore"
)

func TestSubmit(t *testing.T) {
	r := newRig(t, nil)
	a := r.do(t, "POST", "/v1/models/digits/jobs", oneRow)
	ticket := r.queue.last(t).ticket.String()
	if a.status != 202 || a.header.Get("Location") != "/v1/jobs/"+ticket || a.header.Get("Retry-After") != "1" || a.header.Get("Vary") != "Prefer" {
		t.Fatalf("status %d, header %v", a.status, a.header)
	}
	created, err := time.Parse(time.RFC3339, a.str("created_at"))
	if err != nil || time.Since(created) > time.Minute {
		t.Errorf("created_at %q", a.str("created_at"))
	}
	delete(a.doc, "created_at")
	want := map[string]any{"id": ticket, "status": "queued", "model": "digits"}
	if d := cmp.Diff(want, a.doc); d != "" {
		t.Error(d)
	}
}

func TestSubmitPassesOnWhatWasAsked(t *testing.T) {
	r := newRig(t, nil)
	deadline := time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond)
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	a := r.call(t, "POST", "/v1/models/wine.red/jobs", `{
		"id": "mine", "lane": "bulk", "parameters": {"b": true, "a": 7}, "outputs": [{"name": "label"}], "inputs": [
			{"name": "name", "shape": [2], "datatype": "BYTES", "data": ["é", ""]},
			{"name": "age", "shape": [2], "datatype": "INT8", "data": [-128, 127]}]}`,
		"Sheaf-Deadline", deadline.Format(time.RFC3339Nano), "traceparent", trace)
	if a.status != 202 {
		t.Fatal(a.body)
	}
	j := r.queue.last(t).job
	want := job.Job{
		ID: j.ID, CreatedAt: j.CreatedAt, Lane: job.Bulk, Tenant: "default", Model: "wine.red", RequestID: "mine", Outputs: []string{"label"},
		Deadline: deadline, TraceParent: trace, Parameters: []job.Parameter{{Name: "a", Value: int64(7)}, {Name: "b", Value: true}},
		Inputs: []job.Tensor{
			{Name: "age", Datatype: job.Int8, Shape: []int64{2}, Data: []byte{0x80, 0x7f}},
			{Name: "name", Datatype: job.Bytes, Shape: []int64{2}, Data: []byte("\x02\x00\x00\x00é\x00\x00\x00\x00")},
		},
	}
	if d := cmp.Diff(want, j); d != "" {
		t.Error(d)
	}
}

func TestSubmitForms(t *testing.T) {
	for _, c := range []struct {
		name, path, body string
		header           []string
		shape            []int64
		version          string
		lane             job.Lane
	}{
		{"one row", "digits/jobs", oneRow, nil, []int64{1, 4}, "", job.Interactive},
		{"rows", "digits/jobs", `{"input":[[1,2,3,4],[1,2,3,4]]}`, nil, []int64{2, 4}, "", job.Interactive},
		{"nested data", "digits/jobs", input("x", "[2,4]", "FP32", "[[1,2,3,4],[5,6,7,8]]"), nil, []int64{2, 4}, "", job.Interactive},
		{"a version by path", "digits/versions/1/jobs", oneRow, nil, []int64{1, 4}, "1", job.Interactive},
		{"a version by member", "digits/jobs", `{"input":[1,2,3,4],"model_version":"1"}`, nil, []int64{1, 4}, "1", job.Interactive},
		{"lane by query", "digits/jobs?lane=bulk", oneRow, nil, []int64{1, 4}, "", job.Bulk},
		{"lane twice alike", "digits/jobs?lane=bulk", `{"lane":"bulk","input":[1,2,3,4]}`, nil, []int64{1, 4}, "", job.Bulk},
		{"not batched", "grid/jobs", `{"input":[[1,2],[3,4]]}`, nil, []int64{2, 2}, "", job.Interactive},
		{"a broken trace context", "digits/jobs", oneRow, []string{"traceparent", "zz"}, []int64{1, 4}, "", job.Interactive},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			a := r.call(t, "POST", "/v1/models/"+c.path, c.body, c.header...)
			if a.status != 202 {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
			m := r.queue.last(t)
			if d := cmp.Diff(c.shape, m.job.Inputs[0].Shape); d != "" || m.job.Version != c.version || m.job.Lane != c.lane || m.job.TraceParent != "" {
				t.Errorf("%s version %q, lane %s, trace %q", d, m.job.Version, m.job.Lane, m.job.TraceParent)
			}
			if a.str("model_version") != c.version {
				t.Errorf("model_version %q, expected %q", a.str("model_version"), c.version)
			}
		})
	}
}

func TestIdempotencyKey(t *testing.T) {
	r := newRig(t, nil)
	first := r.call(t, "POST", "/v1/models/digits/jobs", oneRow, "Idempotency-Key", "k-1")
	again := r.call(t, "POST", "/v1/models/digits/jobs", oneRow, "Idempotency-Key", `"k-1"`)
	other := r.call(t, "POST", "/v1/models/digits/jobs", oneRow, "Idempotency-Key", "k-2")
	if again.status != 202 || again.str("id") != first.str("id") || other.str("id") == first.str("id") {
		t.Fatalf("ids %s, %s, %s: expected the first two alike and the third another", first.body, again.body, other.body)
	}
	m := r.queue.waiting[0]
	r.settle(t, m.ticket, digitsResult(m.job))
	again = r.call(t, "POST", "/v1/models/digits/jobs", oneRow, "Idempotency-Key", "k-1")
	if again.status != 202 || again.str("id") != first.str("id") || again.str("status") != "succeeded" {
		t.Errorf("expected the same 202 and id, and the state: %d %s", again.status, again.body)
	}
}

func TestSubmitRefused(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		code   string
		again  bool
	}{
		{producer.ErrTenantFull, 429, "tenant-full", true},
		{producer.ErrFull, 503, "full", true},
		{fmt.Errorf("publish: %w", producer.ErrUnavailable), 503, "unavailable", true},
		{context.DeadlineExceeded, 503, "unavailable", true},
		{producer.ErrTooLarge, 413, "too-large", false},
		{errors.New("secret detail"), 500, "internal", false},
	} {
		t.Run(c.code, func(t *testing.T) {
			r := newRig(t, nil)
			r.queue.publishErr = c.err
			for _, route := range []string{"jobs", "predict"} {
				a := r.call(t, "POST", "/v1/models/digits/"+route, oneRow)
				a.problem(t, c.status, c.code)
				after := a.header.Get("Retry-After")
				if c.again && after != "1" && after != "2" || !c.again && after != "" || strings.Contains(a.body, "secret") {
					t.Errorf("Retry-After %q, expected a second or two where another try may help: %s", after, a.body)
				}
			}
		})
	}
}

func TestGetJob(t *testing.T) {
	r := newRig(t, nil)
	first, second := r.submit(t), r.submit(t)

	a := r.do(t, "GET", "/v1/jobs/"+second.String(), "")
	if a.status != 200 || a.header.Get("Retry-After") != "1" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("status %d, header %v", a.status, a.header)
	}
	if _, err := time.Parse(time.RFC3339, a.str("created_at")); err != nil {
		t.Error(err)
	}
	delete(a.doc, "created_at")
	if d := cmp.Diff(map[string]any{"id": second.String(), "status": "queued", "model": "digits", "position": 1.0}, a.doc); d != "" {
		t.Error(d)
	}
	if a = r.do(t, "GET", "/v1/jobs/"+first.String(), ""); a.doc["position"] != 0.0 {
		t.Errorf("expected the next job at position 0: %s", a.body)
	}
	r.queue.setState(first, job.Running)
	if a = r.do(t, "GET", "/v1/jobs/"+first.String(), ""); a.str("status") != "running" || a.doc["position"] != nil {
		t.Errorf("expected a running job without a position: %s", a.body)
	}

	created, finished := time.UnixMilli(1_700_000_000_123), time.UnixMilli(1_700_000_001_456)
	r.settle(t, first, job.Result{
		State: job.Succeeded, Attempts: 2, CreatedAt: created, FinishedAt: finished,
		Outputs: []job.Tensor{fp32("probabilities", []int64{1, 2}, 0.25, 0.75)},
		Timings: job.Timings{Queue: 1500 * time.Microsecond, BatchWait: 20 * time.Microsecond, Infer: 3 * time.Millisecond, BatchRows: 64},
	})
	want := `{"id":"` + first.String() + `","status":"succeeded","model":"digits","model_version":"2",` +
		`"created_at":"2023-11-14T22:13:20.123Z","finished_at":"2023-11-14T22:13:21.456Z","attempts":2,` +
		`"outputs":[{"name":"probabilities","shape":[1,2],"datatype":"FP32","data":[0.25,0.75]}],` +
		`"timings":{"queue_ms":1.5,"batch_wait_ms":0.02,"infer_ms":3,"batch_rows":64}}`
	a = r.do(t, "GET", "/v1/jobs/"+first.String(), "")
	if d := cmp.Diff(want, a.body); d != "" || a.header.Get("Retry-After") != "" {
		t.Errorf("%s Retry-After %q", d, a.header.Get("Retry-After"))
	}
	if a = r.do(t, "GET", "/v1/jobs/"+first.ID.String(), ""); a.str("id") != first.ID.String() || a.str("status") != "succeeded" {
		t.Errorf("expected a finished job under its bare ID: %s", a.body)
	}

	r.settle(t, second, job.Result{State: job.Failed, Attempts: 1, Error: job.Errorf(job.CodeInference, "", "node 3 failed")})
	a = r.do(t, "GET", "/v1/jobs/"+second.String(), "")
	wantErr := map[string]any{"type": "/problems/inference", "title": "The model failed at this input", "status": 422.0, "detail": "node 3 failed"}
	if d := cmp.Diff(wantErr, a.doc["error"]); d != "" || a.status != 200 || a.str("status") != "failed" || a.doc["outputs"] != nil || a.doc["timings"] != nil {
		t.Errorf("%s %s", d, a.body)
	}
}

// Under a key that was used before another request must not get that one's answer: not while the job waits, not when it
// is finished, not by waiting for it.
func TestIdempotencyKeyOfAnotherRequest(t *testing.T) {
	const path = "/v1/models/digits/jobs"
	var r *rig
	var first reply
	check := func(t *testing.T) {
		t.Helper()
		for name, other := range map[string][2]string{
			"input":      {path, `{"input":[1,2,3,5]}`},
			"shape":      {path, `{"input":[[1,2,3,4]],"outputs":[]}`},
			"outputs":    {path, `{"input":[1,2,3,4],"outputs":[{"name":"probabilities"}]}`},
			"parameters": {path, `{"input":[1,2,3,4],"parameters":{"a":1}}`},
			"version":    {"/v1/models/digits/versions/1/jobs", oneRow},
			"model":      {"/v1/models/wine.red/jobs", `{"inputs":[{"name":"age","shape":[1],"datatype":"INT8","data":[1]},{"name":"name","shape":[1],"datatype":"BYTES","data":["x"]}]}`},
		} {
			same := name == "shape" // a row with its batch axis is the same request
			a := r.call(t, "POST", other[0], other[1], "Idempotency-Key", "k-1")
			waited := r.call(t, "POST", other[0], other[1], "Idempotency-Key", "k-1", "Prefer", "wait=1")
			for _, a := range []reply{a, waited} {
				if same {
					if !strings.HasPrefix(first.str("id"), a.str("id")) || a.status >= 300 {
						t.Errorf("%s: %d %s", name, a.status, a.body)
					}
				} else if a.status != 422 || a.str("type") != "/problems/key-reused" {
					t.Errorf("%s: %d %s", name, a.status, a.body)
				}
			}
		}
		// The same in other words: white space, another lane, another id.
		again := r.call(t, "POST", path, ` { "input" : [ 1.0 , 2,3,4e0 ] , "id":"again" } `, "Idempotency-Key", "k-1")
		if again.status != 202 || !strings.HasPrefix(first.str("id"), again.str("id")) {
			t.Errorf("the same request again: %d %s", again.status, again.body)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		r = newRig(t, nil)
		first = r.call(t, "POST", path, oneRow, "Idempotency-Key", "k-1")
		check(t)
		m := r.queue.waiting[0]
		r.settle(t, m.ticket, digitsResult(m.job))
		check(t)
		r.call(t, "POST", "/v1/models/digits/predict", `{"input":[1,2,3,5]}`, "Idempotency-Key", "k-1").problem(t, 422, "key-reused")
		r.queue.publishErr = producer.ErrFull // what is finished needs no room, and is told apart all the same
		check(t)
	})
}

// JetStream forgets a key sooner than the job may wait: two messages, one ID. The answer is the first one's, and whoever
// holds the other's ticket is told so.
func TestIdempotencyKeyThatTheQueueForgot(t *testing.T) {
	r := newRig(t, nil)
	first := r.call(t, "POST", "/v1/models/digits/jobs", oneRow, "Idempotency-Key", "k-1")
	clear(r.queue.byKey)
	other := r.call(t, "POST", "/v1/models/digits/jobs", `{"input":[1,2,3,5]}`, "Idempotency-Key", "k-1")
	if first.status != 202 || other.status != 202 || first.str("id") == other.str("id") {
		t.Fatalf("%s %s", first.body, other.body)
	}
	m := r.queue.waiting[0]
	r.settle(t, m.ticket, digitsResult(m.job))
	if a := r.call(t, "GET", "/v1/jobs/"+first.str("id"), ""); a.str("status") != "succeeded" {
		t.Errorf("%s", a.body)
	}
	for _, query := range []string{"", "?wait=1"} {
		r.call(t, "GET", "/v1/jobs/"+other.str("id")+query, "").problem(t, 422, "key-reused")
	}
	r.call(t, "DELETE", "/v1/jobs/"+other.str("id"), "").problem(t, 422, "key-reused")
}

func TestUnknownJob(t *testing.T) {
	r := newRig(t, nil)
	ticket := r.submit(t)
	gone := ticket
	gone.Seq = 99
	for name, id := range map[string]string{
		"no UUID": "7", "unfinished by its bare ID": ticket.ID.String(), "not in the stream": gone.String(),
		"never was": "0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11",
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/v1/jobs/" + id, "/v1/jobs/" + id + "?wait=50"} {
				r.do(t, "GET", path, "").problem(t, 404, "unknown-job")
			}
			r.do(t, "DELETE", "/v1/jobs/"+id, "").problem(t, 404, "unknown-job")
		})
	}
}

// As long as nobody has to say who they are, a job that a program published to NATS for a tenant is found too.
func TestJobOfATenant(t *testing.T) {
	r := newRig(t, nil)
	foreign := r.submit(t)
	r.settle(t, foreign, job.Result{State: job.Succeeded, Tenant: "somebody"})
	if a := r.do(t, "GET", "/v1/jobs/"+foreign.String(), ""); a.status != 200 || a.str("status") != "succeeded" {
		t.Errorf("status %d: %s", a.status, a.body)
	}
}

// The record is written and the message acknowledged between the look-up of the record and that of the message.
func TestRecordIsLookedUpAgain(t *testing.T) {
	r := newRig(t, nil)
	ticket := r.submit(t)
	r.queue.onLocate = func() {
		r.queue.onLocate = nil
		r.settle(t, ticket, job.Result{State: job.Succeeded})
	}
	if a := r.call(t, "GET", "/v1/jobs/"+ticket.String(), ""); a.str("status") != "succeeded" {
		t.Errorf("status %d: %s", a.status, a.body)
	}
}

func TestLookupFails(t *testing.T) {
	r := newRig(t, nil)
	ticket := r.submit(t)
	r.queue.failLocate(fmt.Errorf("locate: %w", producer.ErrUnavailable))
	r.call(t, "GET", "/v1/jobs/"+ticket.String(), "").problem(t, 503, "unavailable")
	r.queue.failLocate(nil)

	broken := r.submit(t)
	if _, err := r.store.Finish(t.Context(), []resultstore.Entry{{ID: broken.ID, Record: []byte{99}}}); err != nil {
		t.Fatal(err)
	}
	r.call(t, "GET", "/v1/jobs/"+broken.String(), "").problem(t, 500, "internal")
}

func TestPrefer(t *testing.T) {
	for _, c := range []struct {
		name     string
		prefer   []string
		finished bool // the job finishes after 3 s
		status   int
		applied  string
		took     time.Duration
	}{
		{"none", nil, true, 202, "", 0},
		{"respond-async", []string{"respond-async"}, true, 202, "respond-async", 0},
		{"wait, done in time", []string{"wait=5"}, true, 200, "wait=5", 3 * time.Second},
		{"wait, not done in time", []string{"wait=2"}, true, 202, "wait=2", 2 * time.Second},
		{"both, done in time", []string{"respond-async, wait=10"}, true, 200, "wait=10", 3 * time.Second},
		{"both, not done", []string{"respond-async", "wait=1"}, false, 202, "respond-async, wait=1", time.Second},
		{"capped", []string{"wait=100000"}, false, 202, "wait=60", time.Minute},
		{"beyond any number", []string{"wait=99999999999999999999"}, false, 202, "wait=60", time.Minute},
		{"the first counts", []string{"wait=1, wait=9"}, false, 202, "wait=1", time.Second},
		{"letter case and spaces", []string{` foo;bar="a,wait=9" , WAIT = "4" ; x=y`}, true, 200, "wait=4", 3 * time.Second},
		{"unreadable", []string{`wait=soon, wait=-1, wait, wait="`}, true, 202, "", 0},
		{"zero", []string{"wait=0"}, true, 202, "", 0},
		{"others", []string{"return=minimal, handling=lenient"}, true, 202, "", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				if c.finished {
					r.work(t, func(j job.Job) job.Result {
						<-time.After(3 * time.Second)
						return digitsResult(j)
					})
				}
				var header []string
				for _, h := range c.prefer {
					header = append(header, "Prefer", h)
				}
				start := time.Now()
				a := r.call(t, "POST", "/v1/models/digits/jobs", oneRow, header...)
				if took := time.Since(start); took != c.took {
					t.Errorf("it took %s, expected %s", took, c.took)
				}
				if a.status != c.status || a.header.Get("Preference-Applied") != c.applied || a.header.Get("Vary") != "Prefer" || a.header.Get("Location") == "" {
					t.Errorf("status %d, header %v, expected %d and Preference-Applied %q", a.status, a.header, c.status, c.applied)
				}
				want := "queued"
				if c.status == 200 {
					want = "succeeded"
				}
				if a.str("status") != want || a.str("model") != "digits" {
					t.Errorf("expected the job to be %s: %s", want, a.body)
				}
			})
		})
	}
}

func TestCancel(t *testing.T) {
	r := newRig(t, nil)
	t.Run("queued", func(t *testing.T) {
		ticket := r.submit(t)
		for range 2 { // the second finds it canceled
			a := r.do(t, "DELETE", "/v1/jobs/"+ticket.String(), "")
			if a.status != 200 || a.str("status") != "canceled" || a.str("finished_at") == "" {
				t.Fatalf("status %d: %s", a.status, a.body)
			}
		}
		if len(r.queue.waiting) != 0 {
			t.Error("the message was not removed")
		}
		if a := r.do(t, "GET", "/v1/jobs/"+ticket.String(), ""); a.str("status") != "canceled" {
			t.Error(a.body)
		}
		if r.settle(t, ticket, job.Result{State: job.Succeeded}) {
			t.Error("a worker's record took the place of the cancel's")
		}
	})
	t.Run("running", func(t *testing.T) {
		ticket := r.submit(t)
		r.queue.setState(ticket, job.Running)
		if a := r.do(t, "DELETE", "/v1/jobs/"+ticket.String(), ""); a.status != 200 || a.str("status") != "canceled" {
			t.Errorf("status %d: %s", a.status, a.body)
		}
	})
	t.Run("finished", func(t *testing.T) {
		ticket := r.submit(t)
		r.settle(t, ticket, job.Result{State: job.Succeeded})
		a := r.do(t, "DELETE", "/v1/jobs/"+ticket.String(), "")
		a.problem(t, 409, "finished")
		if a.str("job_status") != "succeeded" || a.str("id") != ticket.String() || a.str("instance") != "/v1/jobs/"+ticket.String() {
			t.Error(a.body)
		}
	})
}

// The worker's record comes between the cancel's look-up and its write.
func TestCancelLosesTheRace(t *testing.T) {
	r := newRig(t, nil)
	ticket := r.submit(t)
	r.queue.onLocate = func() {
		r.queue.onLocate = nil
		if _, err := r.store.Finish(t.Context(), []resultstore.Entry{{ID: ticket.ID, Record: job.AppendRecord(nil, &job.Result{State: job.Failed, Tenant: "default", Model: "digits"})}}); err != nil {
			t.Error(err)
		}
	}
	a := r.call(t, "DELETE", "/v1/jobs/"+ticket.String(), "")
	a.problem(t, 409, "finished")
	if a.str("job_status") != "failed" || len(r.queue.removed) != 0 {
		t.Errorf("expected the worker's record to stand and its message to stay: %s", a.body)
	}
}

// Whoever waits for a job is told that it was canceled.
func TestCancelWakesWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *config, _ *deps) { c.PollInterval = time.Hour })
		ticket := r.submit(t)
		answers := make(chan reply, 1)
		go func() { answers <- r.call(t, "GET", "/v1/jobs/"+ticket.String()+"?wait=30s", "") }()
		synctest.Wait()
		r.call(t, "DELETE", "/v1/jobs/"+ticket.String(), "")
		synctest.Wait()
		select {
		case a := <-answers:
			if a.status != http.StatusOK || a.str("status") != "canceled" {
				t.Errorf("status %d: %s", a.status, a.body)
			}
		default:
			t.Error("the waiter was not woken")
			r.jobs.Close()
			<-answers
		}
	})
}
