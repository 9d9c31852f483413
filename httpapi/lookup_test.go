package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

// lookup looks jobs up and returns a document for each.
func (r *rig) lookup(t testing.TB, ids []string, more string) []map[string]any {
	t.Helper()
	list, err := json.Marshal(ids)
	if err != nil {
		t.Fatal(err)
	}
	a := r.call(t, "POST", "/v1/jobs/lookup", `{"ids":`+string(list)+more+`}`)
	if a.status != 200 || a.header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	var docs []map[string]any
	for line := range strings.Lines(a.body) {
		var doc map[string]any
		if err := json.Unmarshal([]byte(line), &doc); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		docs = append(docs, doc)
	}
	if len(docs) != len(ids) {
		t.Fatalf("%d lines for %d ids", len(docs), len(ids))
	}
	return docs
}

func codeIn(doc map[string]any) string {
	e, _ := doc["error"].(map[string]any)
	s, _ := e["type"].(string)
	return strings.TrimPrefix(s, "/problems/")
}

// Finished jobs, waiting ones, bare ids, unknown ones and nonsense come back in the order of the ids, more of them than
// are read together.
func TestLookup(t *testing.T) {
	r := newRig(t, nil)
	var ids, want []string
	for i := range 700 {
		ticket := r.submit(t)
		switch i % 7 {
		case 0, 1:
			ids, want = append(ids, ticket.String()), append(want, "queued")
		case 2:
			r.queue.setState(ticket, job.Running)
			ids, want = append(ids, ticket.String()), append(want, "running")
		case 3:
			r.settle(t, ticket, job.Result{State: job.Succeeded, Outputs: []job.Tensor{fp32("probabilities", []int64{1, 2}, 0, float32(i))}})
			ids, want = append(ids, ticket.String()), append(want, "succeeded")
		case 4:
			r.settle(t, ticket, job.Result{State: job.Failed, Error: job.Errorf(job.CodeInference, "", "no")})
			ids, want = append(ids, ticket.ID.String()), append(want, "failed") // without its place
		case 5:
			ids, want = append(ids, ticket.ID.String()), append(want, "unknown-job") // unfinished, and without its place
		case 6:
			ids, want = append(ids, fmt.Sprintf("nonsense %d", i)), append(want, "unknown-job")
		}
	}
	for _, with := range []bool{true, false} {
		more := ""
		if !with {
			more = `,"outputs":false`
		}
		for i, doc := range r.lookup(t, ids, more) {
			if doc["id"] != ids[i] || doc["status"] != want[i] && codeIn(doc) != want[i] {
				t.Fatalf("line %d is %v, expected %s of %s", i, doc, want[i], ids[i])
			}
			if want[i] != "succeeded" {
				continue
			}
			outputs, _ := doc["outputs"].([]any)
			if !with {
				if outputs != nil {
					t.Fatalf("line %d has outputs: %v", i, doc)
				}
				continue
			}
			if got := outputs[0].(map[string]any)["data"]; fmt.Sprint(got) != fmt.Sprintf("[0 %d]", i) {
				t.Fatalf("line %d has the outputs of another: %v", i, got)
			}
		}
	}
}

func TestLookupRefuses(t *testing.T) {
	r := newRig(t, func(c *config, _ *deps) { c.Streams.LookupMaxIDs, c.Streams.EventsMaxIDs = 2, 2 })
	for _, path := range []string{"/v1/jobs/lookup", "/v1/jobs/events"} {
		r.call(t, "POST", path, `{"ids":["a","b","c"]}`).problem(t, 413, "too-large")
		r.call(t, "POST", path, `{"ids":[]}`).problem(t, 422, "invalid")
		r.call(t, "POST", path, `{}`).problem(t, 422, "invalid")
		r.call(t, "POST", path, `{"ids":["a"],"output":false}`).problem(t, 400, "malformed")
		r.call(t, "POST", path, `{"ids":["a"]} x`).problem(t, 400, "malformed")
		r.call(t, "POST", path, `{"ids":[1]}`).problem(t, 400, "malformed")
		r.call(t, "POST", path, `{"ids":[null]}`).problem(t, 400, "malformed")
		r.call(t, "POST", path, `{"ids":["a",""]}`).problem(t, 422, "invalid")
		r.call(t, "POST", path, `{"ids":["a"]}`, "Content-Type", "text/plain").problem(t, 415, "unsupported-media-type")
		r.call(t, "DELETE", path, "").problem(t, 405, "method-not-allowed")
	}
	r.call(t, "POST", "/v1/jobs/events", `{"ids":["a"],"outputs":false}`).problem(t, 400, "malformed")
	r.call(t, "GET", "/v1/jobs/events", "").problem(t, 422, "invalid")
	r.call(t, "GET", "/v1/jobs/events?id=a&id=b&id=c", "").problem(t, 413, "too-large")
}

// A job that is finished, and its message gone, between the two look-ups is found all the same.
func TestLookupOfAJobThatFinishesMeanwhile(t *testing.T) {
	r := newRig(t, nil)
	ticket := r.submit(t)
	r.queue.onLocate = func() {
		r.queue.onLocate = nil
		r.settle(t, ticket, job.Result{State: job.Succeeded})
	}
	if doc := r.lookup(t, []string{ticket.String()}, "")[0]; doc["status"] != "succeeded" {
		t.Errorf("the job is %v", doc)
	}
}

// failingStore fails from the n-th look-up on.
type failingStore struct {
	gateway.Results
	left int
}

func (s *failingStore) Get(ctx context.Context, ids ...job.ID) ([][]byte, error) {
	if s.left--; s.left < 0 {
		return nil, resultstore.ErrUnavailable
	}
	return s.Results.Get(ctx, ids...)
}

// What cannot be looked up is said of each job that it holds for; no line is missing.
func TestLookupWithoutADependency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &failingStore{left: 1}
		r := newRig(t, func(_ *config, d *deps) {
			store.Results = d.Results
			d.Results = store
		})
		var ids []string
		for range 300 {
			ticket := r.submit(t)
			r.settle(t, ticket, job.Result{State: job.Succeeded})
			ids = append(ids, ticket.String())
		}
		for i, doc := range r.lookup(t, ids, "") {
			if ok := doc["status"] == "succeeded"; ok != (i < 64) || !ok && codeIn(doc) != "unavailable" {
				t.Fatalf("line %d: %v", i, doc)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		one, two := r.submit(t), r.submit(t)
		r.settle(t, one, job.Result{State: job.Succeeded})
		r.queue.failLocate(queue.ErrUnavailable)
		docs := r.lookup(t, []string{one.String(), two.String()}, "")
		if docs[0]["status"] != "succeeded" || codeIn(docs[1]) != "unavailable" {
			t.Errorf("the jobs are %v", docs)
		}
	})
}

// A look-up ends the jobs whose deadlines have passed.
func TestLookupExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		a := r.call(t, "POST", "/v1/models/hasty/jobs", oneRow)
		if a.status != http.StatusAccepted {
			t.Fatal(a.body)
		}
		<-time.After(6 * time.Second)
		if doc := r.lookup(t, []string{a.str("id")}, "")[0]; doc["status"] != "expired" {
			t.Errorf("the job is %v", doc)
		}
	})
}
