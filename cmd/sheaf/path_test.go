package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/resultstore"
)

// A job submitted at one API process is polled at the other, the answers are those of a direct run, accuracy is as on
// the model card, and both workers share the work.
func TestTwoAPIsAndTwoWorkers(t *testing.T) {
	t.Parallel()
	s := newStack(t, 2, 2)
	rows := heldout(t, "digits")

	ids := make([]string, len(rows))
	var clients sync.WaitGroup
	for from := range 8 {
		clients.Go(func() {
			for i := from; i < len(rows); i += 8 {
				code, body := post(t, s.apis[0]+"/v1/models/digits/jobs", map[string]any{"input": rows[i].Input})
				if code != http.StatusAccepted {
					t.Errorf("row %d: submit answered %d: %s", i, code, body)
					return
				}
				ids[i] = decodeJob(t, body).ID
			}
		})
	}
	clients.Wait()

	right := 0
	for i, id := range ids {
		code, body := get(t, s.apis[1]+"/v1/jobs/"+id+"?wait=30s")
		if code != http.StatusOK {
			t.Fatalf("row %d: the other API answered %d: %s", i, code, body)
		}
		j := decodeJob(t, body)
		if j.Status != "succeeded" || len(j.Outputs) != 1 {
			t.Fatalf("row %d: %s", i, body)
		}
		if err := sameProbabilities(j.Outputs[0].Data, rows[i].Probabilities); err != nil {
			t.Errorf("row %d: %v", i, err)
		}
		if largestOf(j.Outputs[0].Data) == rows[i].Label {
			right++
		}
	}
	if share := float64(right) / float64(len(rows)); share < 0.97 {
		t.Errorf("accuracy %.3f, the model card says at least 0.97", share)
	}
	for i, ops := range s.ops {
		if n := metric(t, ops, "sheaf_worker_jobs_total", `outcome="succeeded"`); n == 0 {
			t.Errorf("worker %d had no part in the work", i)
		}
	}
}

func largestOf(values []float64) int {
	best := 0
	for i, v := range values {
		if v > values[best] {
			best = i
		}
	}
	return best
}

// The tabular model, whose two outputs have different datatypes, through the whole path.
func TestTabularModel(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, 1)
	right, rows := 0, heldout(t, "tumor")
	for i, row := range rows {
		code, body := post(t, s.apis[0]+"/v1/models/tumor/jobs", map[string]any{"input": row.Input})
		if code != http.StatusAccepted {
			t.Fatalf("submit answered %d: %s", code, body)
		}
		_, body = get(t, s.apis[0]+"/v1/jobs/"+decodeJob(t, body).ID+"?wait=30s")
		j := decodeJob(t, body)
		if j.Status != "succeeded" || len(j.Outputs) != 2 {
			t.Fatalf("row %d: %s", i, body)
		}
		if j.Outputs[0].Datatype != "INT64" || j.Outputs[1].Datatype != "FP32" {
			t.Fatalf("row %d: datatypes %s and %s, expected INT64 and FP32", i, j.Outputs[0].Datatype, j.Outputs[1].Datatype)
		}
		if err := sameProbabilities(j.Outputs[1].Data, row.Probabilities); err != nil {
			t.Fatalf("row %d: %v", i, err)
		}
		if int(j.Outputs[0].Data[0]) == row.Label {
			right++
		}
	}
	if share := float64(right) / float64(len(rows)); share < 0.9 {
		t.Errorf("accuracy %.3f on held-out rows", share)
	}
}

// A model whose name has a dot, which separates the tokens of a subject, of a key and of a consumer's name.
func TestModelWithADot(t *testing.T) {
	t.Parallel()
	onnx, err := os.ReadFile(repoPath("examples", "models", "digits", "1", "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "digits.v2-1.onnx"), onnx, 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0", "--models", dir)
	url := p.find(`HTTP API +(\S+)`)
	row := heldout(t, "digits")[0]
	code, body := post(t, url+"/v1/models/digits.v2-1/jobs", map[string]any{"input": row.Input})
	if code != http.StatusAccepted {
		t.Fatalf("submit answered %d: %s", code, body)
	}
	_, body = get(t, url+"/v1/jobs/"+decodeJob(t, body).ID+"?wait=30s")
	if j := decodeJob(t, body); j.Status != "succeeded" || j.Model != "digits.v2-1" {
		t.Errorf("%s", body)
	} else if err := sameProbabilities(j.Outputs[0].Data, row.Probabilities); err != nil {
		t.Error(err)
	}
	if code, body := get(t, url+"/v1/models/digits.v2-1"); code != http.StatusOK {
		t.Errorf("the model is answered %d: %s", code, body)
	}
}

// A model that subtracts the mean over its batch claims a batch axis and mixes its rows. Jobs must not be run together.
func TestModelThatMixesItsRows(t *testing.T) {
	t.Parallel()
	onnx, err := os.ReadFile(repoPath("model", "onnx", "testdata", "mean_of_batch.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mean.onnx"), onnx, 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0", "--models", dir)
	url := p.find(`HTTP API +(\S+)`)
	p.find("batching is off for a model.*mean")
	var clients sync.WaitGroup
	for c := range 16 {
		clients.Go(func() {
			for i := range 10 {
				x := float64(c*10 + i)
				code, body := post(t, url+"/v1/models/mean/predict", map[string]any{"input": [][]float64{{x, 0}, {x + 2, 4}}})
				if want := `{"prediction":[[-1,-2],[1,2]]`; code != http.StatusOK || !strings.HasPrefix(string(body), want) {
					t.Errorf("%d %s, expected %s", code, body, want)
				}
			}
		})
	}
	clients.Wait()
}

// flood submits n digits jobs through the producer and returns their IDs in order.
func flood(t *testing.T, s *stack, n int) []job.ID {
	t.Helper()
	cfg := producer.DefaultConfig()
	cfg.Queue.URL = s.nats
	p, err := producer.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	rows := heldout(t, "digits")
	ids := make([]job.ID, n)
	err = p.SubmitAll(t.Context(), func(yield func(producer.Request) bool) {
		for i := range n {
			if !yield(producer.Request{Model: "digits", Inputs: []job.Tensor{fp32("x", rows[i%len(rows)].Input)}}) {
				return
			}
		}
	}, func(i int, sub producer.Submission, err error) {
		if err != nil {
			t.Errorf("job %d was refused: %v", i, err)
		}
		ids[i] = sub.Ticket.ID
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// checkAll waits for every job's record and compares it with a direct run.
func checkAll(t *testing.T, s *stack, ids []job.ID) {
	t.Helper()
	cfg := resultstore.DefaultConfig()
	cfg.URL = s.redis
	store, err := resultstore.OpenRedis(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	rows := heldout(t, "digits")
	eventually(t, func() error {
		for from := 0; from < len(ids); from += 500 {
			part := ids[from:min(from+500, len(ids))]
			records, err := store.Get(t.Context(), part...)
			if err != nil {
				return err
			}
			for i, record := range records {
				if record == nil {
					return fmt.Errorf("job %d has no record", from+i)
				}
				r, err := job.DecodeRecord(part[i], record)
				if err != nil {
					t.Fatal(err)
				}
				if r.State != job.Succeeded {
					t.Fatalf("job %d: %s: %v", from+i, r.State, r.Error)
				}
				if err := sameProbabilities(floats(r.Outputs[0].Data), rows[(from+i)%len(rows)].Probabilities); err != nil {
					t.Fatalf("job %d: %v", from+i, err)
				}
			}
		}
		return nil
	})
}

// A worker is killed with -9 in the middle of 10,000 jobs: all finish, none is wrong.
func TestKilledWorker(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, 2, "--interactive-ack-wait", "2s")
	victim := s.workers[0]
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		eventually(t, func() error {
			if metric(t, s.ops[0], "sheaf_worker_jobs_total", "digits") < 500 {
				return fmt.Errorf("the victim has not begun")
			}
			return nil
		})
		victim.stop(syscall.SIGKILL)
	}()
	ids := flood(t, s, 10_000)
	<-killed
	checkAll(t, s, ids)
}

// SIGTERM drains: nothing is lost, and what was buffered does not wait for the lease (a minute here) to lapse.
func TestDrainedWorker(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, 1, "--interactive-ack-wait", "60m")
	first := flood(t, s, 3_000)
	drained := make(chan int)
	go func() { drained <- s.workers[0].stop(syscall.SIGTERM) }()
	second := flood(t, s, 3_000)
	if code := <-drained; code != exitOK {
		t.Errorf("a drained worker exits with %d", code)
	}
	s.addWorker(t, "--interactive-ack-wait", "60m")
	checkAll(t, s, first)
	checkAll(t, s, second)
}

// A process that cannot reach NATS or Redis at start says which, and exits with its own code.
func TestUnreachableDependencies(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"serve", "--nats-url", "nats://127.0.0.1:1"},
		{"worker", "--models", repoPath("examples", "models"), "--nats-url", "nats://127.0.0.1:1"},
	} {
		_, stderr, code := runToEnd(t, "", args...)
		if code != exitUnreachable || !strings.Contains(stderr, "127.0.0.1:1") {
			t.Errorf("%s without NATS exits with %d and says %q", args[0], code, stderr)
		}
	}
	s := newStack(t, 0, 0)
	_, stderr, code := runToEnd(t, "", "serve", "--nats-url", s.nats, "--redis-url", "redis://127.0.0.1:1", "--addr", "127.0.0.1:0")
	if code != exitUnreachable || !strings.Contains(stderr, "127.0.0.1:1") {
		t.Errorf("serve without Redis exits with %d and says %q", code, stderr)
	}
}

// What a worker has finished is told apart by its record: the same request under the same key is that job, at whichever
// API, and another request is refused.
func TestKeyOfAFinishedJob(t *testing.T) {
	t.Parallel()
	s := newStack(t, 2, 1)
	rows := heldout(t, "digits")
	ask := func(api string, row int) (int, []byte) {
		body, err := json.Marshal(map[string]any{"input": rows[row].Input})
		if err != nil {
			t.Fatal(err)
		}
		return request(t, http.MethodPost, api+"/v1/models/digits/predict", body, http.Header{
			"Idempotency-Key": {"order-1"}, "Content-Type": {"application/json"},
		})
	}
	for i, c := range []struct{ row, want int }{{0, http.StatusOK}, {1, http.StatusUnprocessableEntity}, {0, http.StatusOK}} {
		if code, body := ask(s.apis[i%2], c.row); code != c.want || c.want != http.StatusOK && !strings.Contains(string(body), "/problems/key-reused") {
			t.Errorf("request %d is answered %d, expected %d: %s", i, code, c.want, body)
		}
	}
}
