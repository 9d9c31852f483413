package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

// hazardModels is the model repository of the tests that do harm. generate.py beside the models says what each does.
const hazardModels = "testdata/models"

// hazard is a stack that the test takes apart, and that it can look into from outside: at the broker through
// nats-server's own monitoring, at the records as they stand in Redis.
type hazard struct {
	stack

	t       testing.TB // the test that it was made for
	monitor string     // base URL of nats-server's monitoring
	store   *resultstore.Redis
}

// newHazard starts the servers, and no sheaf process.
func newHazard(t testing.TB) *hazard {
	t.Helper()
	dir := t.TempDir()
	server := testserver.StartNATS(t, fmt.Sprintf("http: \"127.0.0.1:-1\"\nports_file_dir: %q\n", dir))
	h := &hazard{t: t, stack: stack{nats: server.URL(), redis: "redis://" + testserver.Redis(t)}}
	eventually(t, func() (err error) {
		h.monitor, err = monitoringURL(dir)
		return err
	})
	cfg := resultstore.DefaultConfig()
	cfg.URL = h.redis
	store, err := resultstore.OpenRedis(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	h.store = store
	return h
}

// monitoringURL reads the file in which nats-server names its ports.
func monitoringURL(dir string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.ports"))
	if err != nil || len(files) != 1 {
		return "", fmt.Errorf("%d files of ports, expected one: %w", len(files), err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		return "", err
	}
	var ports struct {
		Monitoring []string `json:"monitoring"`
	}
	if err := json.Unmarshal(text, &ports); err != nil {
		return "", err
	}
	if len(ports.Monitoring) == 0 {
		return "", errors.New("nats-server names no port of its monitoring")
	}
	return ports.Monitoring[0], nil
}

// dead reports whether the process has ended.
func (p *process) dead() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// awaitDeath waits until the process has ended by itself.
func (p *process) awaitDeath() {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatalf("the process does not die:\n%s", p.text())
	}
}

// pool is a worker process.
type pool struct {
	*process
	opsURL string // "" until asked
}

// hazardAckWait is the lease of the tests that do harm: what a dead worker held comes again soon.
const hazardAckWait = time.Second

// workerArgs are the arguments of a worker over hazardModels; what args say goes before.
func (h *hazard) workerArgs(args ...string) []string {
	return append([]string{
		"worker", "--models", hazardModels, "--nats-url", h.nats, "--redis-url", h.redis,
		"--interactive-ack-wait", hazardAckWait.String(), "--bulk-ack-wait", hazardAckWait.String(),
	}, args...)
}

// worker starts a worker and waits until it works.
func (h *hazard) worker(t testing.TB, env []string, args ...string) *pool {
	t.Helper()
	w := &pool{process: launch(t, env, h.workerArgs(args...)...)}
	w.find(`worker is (ready)`)
	return w
}

// ops is the base URL of the worker's own server.
func (w *pool) ops() string {
	if w.opsURL == "" {
		w.opsURL = w.find(`worker is up.* ops=(\S+)`)
	}
	return w.opsURL
}

// computed is how many rows the worker has run.
func (w *pool) computed(t testing.TB) int {
	t.Helper()
	return int(metric(t, w.ops(), "sheaf_worker_rows_total", ""))
}

// api starts a shim, and waits until it knows the models.
func (h *hazard) api(t testing.TB, env []string, args ...string) (p *process, url string) {
	t.Helper()
	p = launch(t, env, append([]string{"serve", "--addr", "127.0.0.1:0", "--nats-url", h.nats, "--redis-url", h.redis}, args...)...)
	url = p.find(`HTTP API is up.* url=(\S+)`)
	eventually(t, func() error {
		if code, body := get(t, url+"/v1/models/slow"); code != http.StatusOK {
			return fmt.Errorf("the models are not announced: %d %s", code, body)
		}
		return nil
	})
	return p, url
}

// announceModels has the models announced, and leaves no worker behind.
func (h *hazard) announceModels(t testing.TB) {
	t.Helper()
	// In order, so that the server has no fetch of it left that would take the first message along.
	if code := h.worker(t, nil).stop(syscall.SIGTERM); code != exitOK {
		t.Fatalf("a worker without work ends with %d", code)
	}
}

// producer is a program's own way to submit, which knows the models.
func (h *hazard) producer(t testing.TB) *producer.Producer {
	t.Helper()
	cfg := producer.DefaultConfig()
	cfg.Queue.URL = h.nats
	p, err := producer.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	eventually(t, func() error {
		for _, name := range []string{"poison", "slow"} {
			if _, ok := p.Models().Get(name, ""); !ok {
				return fmt.Errorf("model %s is not announced", name)
			}
		}
		return nil
	})
	return p
}

// sheaf submits the requests in as few messages as the queue allows: up to 64 jobs are one.
func sheaf(t testing.TB, p *producer.Producer, requests ...producer.Request) []job.Ticket {
	t.Helper()
	tickets := make([]job.Ticket, len(requests))
	err := p.SubmitAll(t.Context(), func(yield func(producer.Request) bool) {
		for _, r := range requests {
			if !yield(r) {
				return
			}
		}
	}, func(i int, s producer.Submission, err error) {
		if err != nil {
			t.Errorf("job %d was refused: %v", i, err)
		}
		tickets[i] = s.Ticket
	})
	if err != nil {
		t.Fatal(err)
	}
	return tickets
}

// single submits one request in a message of its own.
func single(t testing.TB, p *producer.Producer, r producer.Request) job.Ticket {
	t.Helper()
	s, err := p.Submit(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return s.Ticket
}

// tripleOf is a job of the model poison, whose answer is three times the row.
func tripleOf(row [4]int64) producer.Request {
	var data []byte
	for _, v := range row {
		data = binary.LittleEndian.AppendUint64(data, uint64(v))
	}
	return producer.Request{Model: "poison", Inputs: []job.Tensor{{Name: "x", Datatype: job.Int64, Shape: []int64{1, 4}, Data: data}}}
}

// outcome is what became of a job, in words.
func outcome(r *job.Result) string {
	if r.Error == nil {
		return r.State.String()
	}
	return fmt.Sprintf("%s with %s: %s", r.State, r.Error.Code, r.Error.Detail)
}

// isTriple reports what is wrong with the answer to tripleOf.
func isTriple(r *job.Result, row [4]int64) error {
	if r.State != job.Succeeded || len(r.Outputs) != 1 || len(r.Outputs[0].Data) != 32 {
		return fmt.Errorf("%s, expected a row of four numbers", outcome(r))
	}
	for i, v := range row {
		if got := int64(binary.LittleEndian.Uint64(r.Outputs[0].Data[8*i:])); got != 3*v {
			return fmt.Errorf("number %d is %d, expected %d", i, got, 3*v)
		}
	}
	return nil
}

// slowJob is a job of the model slow: so many thousand rounds of work, and the answer is 2 value + 1.
func slowJob(thousands, value float64) producer.Request {
	return producer.Request{Model: "slow", Inputs: []job.Tensor{fp32("x", []float64{thousands, value})}}
}

// isSlowAnswer reports what is wrong with the answer to slowJob.
func isSlowAnswer(r *job.Result, value float64) error {
	if r.State != job.Succeeded || len(r.Outputs) != 1 {
		return fmt.Errorf("%s, expected an answer", outcome(r))
	}
	if got := floats(r.Outputs[0].Data); len(got) != 1 || got[0] != 2*value+1 {
		return fmt.Errorf("the answer is %v, expected %v", got, 2*value+1)
	}
	return nil
}

// raw returns the record of each job as it stands in Redis, nil for one without.
func (h *hazard) raw(t testing.TB, ids ...job.ID) [][]byte {
	t.Helper()
	records, err := h.store.Get(t.Context(), ids...)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// record waits for the job's record.
func (h *hazard) record(t testing.TB, id job.ID) *job.Result {
	t.Helper()
	var r job.Result
	eventually(t, func() error {
		raw := h.raw(t, id)[0]
		if raw == nil {
			return fmt.Errorf("job %s has no record", id)
		}
		var err error
		r, err = job.DecodeRecord(id, raw)
		return err
	})
	return &r
}

// idsOf are the jobs of the tickets.
func idsOf(tickets []job.Ticket) []job.ID {
	ids := make([]job.ID, len(tickets))
	for i := range tickets {
		ids[i] = tickets[i].ID
	}
	return ids
}

// streamState is what the broker says of a stream.
type streamState struct {
	messages   int
	deliveries int // of its consumers in all, those that were repeated too
	pending    int // delivered and not acknowledged
}

// stream asks the broker.
func (h *hazard) stream(t testing.TB, name string) streamState {
	t.Helper()
	code, body := get(t, h.monitor+"/jsz?streams=true&consumers=true")
	if code != http.StatusOK {
		t.Fatalf("nats-server's monitoring answers %d", code)
	}
	var answer struct {
		Accounts []struct {
			Streams []struct {
				Name  string `json:"name"`
				State struct {
					Messages int `json:"messages"`
				} `json:"state"`
				Consumers []struct {
					Delivered struct {
						Consumer int `json:"consumer_seq"`
					} `json:"delivered"`
					Pending int `json:"num_ack_pending"`
				} `json:"consumer_detail"`
			} `json:"stream_detail"`
		} `json:"account_details"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	for _, account := range answer.Accounts {
		for _, s := range account.Streams {
			if s.Name != name {
				continue
			}
			state := streamState{messages: s.State.Messages}
			for _, c := range s.Consumers {
				state.deliveries += c.Delivered.Consumer
				state.pending += c.Pending
			}
			return state
		}
	}
	t.Fatalf("nats-server has no stream %s: %s", name, body)
	return streamState{}
}

// deadJobs lists the jobs of all dead letters, in the order in which they were written.
func (h *hazard) deadJobs(t testing.TB) []job.ID {
	t.Helper()
	cfg := queue.DefaultConfig()
	cfg.URL = h.nats
	q, err := queue.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	var ids []job.ID
	err = q.DeadLetters(t.Context(), queue.DeadFilter{}, func(l *queue.DeadLetter) error {
		ids = append(ids, l.Jobs...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// awaitEmpty waits until nothing is left in the lanes.
func (h *hazard) awaitEmpty(t testing.TB) {
	t.Helper()
	for _, lane := range job.Lanes() {
		eventually(t, func() error {
			if s := h.stream(t, lane.String()); s.messages != 0 || s.pending != 0 {
				return fmt.Errorf("lane %s has %d messages, %d of them delivered", lane, s.messages, s.pending)
			}
			return nil
		})
	}
}
