package worker_test

import (
	"context"
	"encoding/binary"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
	"github.com/sheafml/sheaf/worker"
)

// These tests run pools against a real JetStream and a real Redis.

// patience bounds every wait for a condition; no test waits for it to pass.
const patience = 60 * time.Second

// connect opens a queue with its streams.
func connect(t testing.TB, url string, change func(*queue.Config)) *queue.Queue {
	t.Helper()
	cfg := queue.DefaultConfig()
	cfg.URL = url
	if change != nil {
		change(&cfg)
	}
	q, err := queue.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Errorf("close the queue: %v", err)
		}
	})
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	return q
}

func openRedis(t testing.TB, addr string) *resultstore.Redis {
	t.Helper()
	cfg := resultstore.DefaultConfig()
	cfg.URL = "redis://" + addr
	s, err := resultstore.OpenRedis(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func openMemory(t testing.TB) *resultstore.Memory {
	t.Helper()
	s, err := resultstore.NewMemory(resultstore.DefaultMemoryConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// running is a pool that works until stop.
type running struct {
	pool *worker.Pool
	stop func() error // ends the pool and returns what Run returned
}

func run(t testing.TB, cfg worker.Config, q *queue.Queue, results worker.Results, models ...worker.Model) running {
	t.Helper()
	pool, err := worker.New(cfg, worker.Deps{Queue: q, Results: results, Registerer: prometheus.NewRegistry()}, models...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- pool.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("the pool ended with: %v", err)
		}
	})
	eventually(t, "the pool is ready", func() bool { return pool.Ready() == nil })
	return running{pool, stop}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("did not happen: %s", what)
		}
	}
}

// doubling doubles each number of its input x [-1,1].
type doubling struct {
	before func(rows int)
	out    []byte
}

func (d *doubling) Close() error { return nil }

func (d *doubling) Run(_ context.Context, b *model.Batch) ([]job.Tensor, error) {
	if d.before != nil {
		d.before(b.Rows)
	}
	d.out = d.out[:0]
	for _, p := range b.Inputs[0].Parts {
		for i := 0; i < len(p); i += 4 {
			v := math.Float32frombits(binary.LittleEndian.Uint32(p[i:]))
			d.out = binary.LittleEndian.AppendUint32(d.out, math.Float32bits(2*v))
		}
	}
	return []job.Tensor{{Name: "y", Datatype: job.FP32, Shape: b.Inputs[0].Shape, Data: d.out}}, nil
}

func doublingModel(before func(rows int)) worker.Model {
	return worker.Model{
		Info: model.Info{
			Name: "double", Version: "1", Platform: model.PlatformONNX, MaxRows: 64,
			Signature: model.Signature{
				Batchable: true,
				Inputs:    []model.TensorSpec{{Name: "x", Datatype: job.FP32, Shape: []int64{-1, 1}}},
				Outputs:   []model.TensorSpec{{Name: "y", Datatype: job.FP32, Shape: []int64{-1, 1}}},
			},
		},
		NewInstance: func() (worker.Instance, error) { return &doubling{before: before}, nil },
	}
}

// numbers makes n jobs; the k-th of them has the rows from k*1000 on, rowsOf(k) of them.
func numbers(t testing.TB, n int, lane job.Lane, rowsOf func(k int) int) []*job.Job {
	t.Helper()
	jobs := make([]*job.Job, n)
	for k := range jobs {
		id, err := job.NewID()
		if err != nil {
			t.Fatal(err)
		}
		var data []byte
		rows := rowsOf(k)
		for i := range rows {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(k*1000+i)))
		}
		jobs[k] = &job.Job{
			ID: id, Lane: lane, Tenant: job.DefaultTenant, Model: "double", CreatedAt: time.Now(),
			Inputs: []job.Tensor{{Name: "x", Datatype: job.FP32, Shape: []int64{int64(rows), 1}, Data: data}},
		}
	}
	return jobs
}

func oneRow(int) int { return 1 }

func publish(t testing.TB, q *queue.Queue, jobs []*job.Job) {
	t.Helper()
	if _, err := q.PublishSheaf(t.Context(), jobs); err != nil {
		t.Fatal(err)
	}
}

// wantDoubled waits for the record of every job and checks that it holds twice the job's own numbers.
func wantDoubled(t testing.TB, results worker.Results, jobs []*job.Job) []job.Result {
	t.Helper()
	all := make([]job.Result, len(jobs))
	for k, j := range jobs {
		all[k] = await(t, results, j.ID)
		r := &all[k]
		if r.State != job.Succeeded {
			t.Fatalf("job %d is %s: %v", k, r.State, r.Error)
		}
		in, out := j.Inputs[0].Data, r.Outputs[0].Data
		if len(in) != len(out) {
			t.Fatalf("job %d: %d bytes in, %d out", k, len(in), len(out))
		}
		for i := 0; i < len(in); i += 4 {
			x := math.Float32frombits(binary.LittleEndian.Uint32(in[i:]))
			if y := math.Float32frombits(binary.LittleEndian.Uint32(out[i:])); y != 2*x {
				t.Fatalf("job %d: got %v for %v", k, y, x)
			}
		}
	}
	return all
}

// await waits for the record of a job.
func await(t testing.TB, results worker.Results, id job.ID) job.Result {
	t.Helper()
	var r job.Result
	eventually(t, "job "+id.String()+" has a record", func() bool {
		records, err := results.Get(t.Context(), id)
		if err != nil || records[0] == nil {
			return false
		}
		if r, err = job.DecodeRecord(id, records[0]); err != nil {
			t.Fatal(err)
		}
		return true
	})
	return r
}

// wantEmpty waits until the queue has nothing left for the model: all is acknowledged.
func wantEmpty(t testing.TB, q *queue.Queue) {
	t.Helper()
	eventually(t, "every message is acknowledged", func() bool {
		lanes, err := q.Lanes(t.Context()) // Backlog may know only what was a moment ago
		for _, lane := range lanes {
			for _, m := range lane.Models {
				if m.Model == "double" && (m.Waiting > 0 || m.Running > 0) {
					return false
				}
			}
		}
		return err == nil
	})
}

func TestFromQueueToResult(t *testing.T) {
	q := connect(t, testserver.NATS(t), nil)
	results := openRedis(t, testserver.Redis(t))
	var mu sync.Mutex
	told := make(map[job.ID]bool)
	stop, err := q.OnDone(func(ids []job.ID) {
		mu.Lock()
		defer mu.Unlock()
		for _, id := range ids {
			told[id] = true
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stop()

	m := doublingModel(nil)
	m.MaxRows, m.Instances = 16, 2
	p := run(t, worker.DefaultConfig(), q, results, m)
	mixed := func(k int) int { return 1 + k%40 } // some larger than a batch
	now, later := numbers(t, 300, job.Interactive, mixed), numbers(t, 300, job.Bulk, mixed)
	publish(t, q, later)
	publish(t, q, now)
	wantDoubled(t, results, slices.Concat(now, later))
	wantEmpty(t, q)
	eventually(t, "every job is told of", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(told) == len(now)+len(later)
	})
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	if p.pool.Ready() == nil {
		t.Error("ready although it has stopped")
	}
}

func TestModelsAreAnnounced(t *testing.T) {
	q := connect(t, testserver.NATS(t), nil)
	run(t, worker.DefaultConfig(), q, openMemory(t), doublingModel(nil))
	var got model.Info
	err := q.WatchAnnouncements(t.Context(), func(key string, value []byte) {
		if key == "double/1" {
			got, _ = model.ParseInfo(value)
		}
	})
	if err != nil || got.Name != "double" || got.MaxRows != 64 || !got.Signature.Batchable {
		t.Errorf("announced %+v, error %v", got, err)
	}
}

func TestLongRunIsNotDeliveredTwice(t *testing.T) {
	q := connect(t, testserver.NATS(t), func(c *queue.Config) {
		c.Interactive.AckWait = 400 * time.Millisecond
	})
	results := openMemory(t)
	var runs atomic.Int32
	m := doublingModel(func(int) {
		runs.Add(1)
		<-time.After(2 * time.Second) // five leases long
	})
	m.MaxRows = 4
	run(t, worker.DefaultConfig(), q, results, m)
	running := numbers(t, 4, job.Interactive, oneRow)
	publish(t, q, running)
	eventually(t, "the first batch runs", func() bool { return runs.Load() == 1 })
	buffered := numbers(t, 4, job.Interactive, oneRow)
	publish(t, q, buffered)
	for _, r := range wantDoubled(t, results, slices.Concat(running, buffered)) {
		if r.Attempts != 1 {
			t.Errorf("a job was delivered %d times although its worker was alive", r.Attempts)
		}
	}
	if n := runs.Load(); n != 2 {
		t.Errorf("the model ran %d times for two batches", n)
	}
}

func TestPoolsShareTheWork(t *testing.T) {
	url := testserver.NATS(t)
	results := openMemory(t)
	var runs [2]atomic.Int64
	for i := range runs {
		m := doublingModel(func(rows int) {
			runs[i].Add(int64(rows))
			<-time.After(2 * time.Millisecond)
		})
		m.MaxRows = 8
		run(t, worker.DefaultConfig(), connect(t, url, nil), results, m)
	}
	q := connect(t, url, func(c *queue.Config) { c.Publish.MaxJobs = 8 })
	jobs := numbers(t, 4000, job.Interactive, oneRow)
	publish(t, q, jobs)
	wantDoubled(t, results, jobs)
	wantEmpty(t, q)
	a, b := runs[0].Load(), runs[1].Load()
	if a+b != int64(len(jobs)) {
		t.Errorf("%d rows were computed for %d jobs", a+b, len(jobs))
	}
	if min(a, b) < int64(len(jobs))/5 {
		t.Errorf("the pools computed %d and %d rows, want both to have a fair share", a, b)
	}
}

func TestNextPoolGoesOnAfterAShutdown(t *testing.T) {
	url := testserver.NATS(t)
	results := openMemory(t)
	jobs := numbers(t, 2000, job.Bulk, oneRow)
	publish(t, connect(t, url, nil), jobs)
	slow := doublingModel(func(int) { <-time.After(time.Millisecond) })
	first := run(t, worker.DefaultConfig(), connect(t, url, nil), results, slow)
	await(t, results, jobs[0].ID)
	if err := first.stop(); err != nil {
		t.Error(err)
	}
	q := connect(t, url, nil)
	run(t, worker.DefaultConfig(), q, results, doublingModel(nil))
	wantDoubled(t, results, jobs)
	wantEmpty(t, q)
}

func TestNothingIsLostWhenRedisRestarts(t *testing.T) {
	q := connect(t, testserver.NATS(t), nil)
	server := testserver.StartRedis(t, testserver.RedisOptions{})
	results := openRedis(t, server.Addr)
	m := doublingModel(func(int) { <-time.After(time.Millisecond) })
	p := run(t, worker.DefaultConfig(), q, results, m)
	before := numbers(t, 10, job.Interactive, oneRow)
	publish(t, q, before)
	wantDoubled(t, results, before)
	server.Kill()
	jobs := numbers(t, 1000, job.Interactive, oneRow)
	publish(t, q, jobs)
	eventually(t, "the pool is not ready", func() bool { return p.pool.Ready() != nil })
	eventually(t, "what has no record is seen to be unacknowledged", func() bool {
		waiting, running, err := q.Backlog(t.Context(), job.Interactive, "double")
		return err == nil && waiting+running > 0
	})
	server.Start()
	wantDoubled(t, results, jobs)
	wantEmpty(t, q)
}

func TestNothingIsLostWhenNATSRestarts(t *testing.T) {
	server := testserver.StartNATS(t, "")
	short := func(c *queue.Config) { c.Interactive.AckWait = time.Second }
	q := connect(t, server.URL(), short)
	results := openMemory(t)
	run(t, worker.DefaultConfig(), q, results, doublingModel(func(int) { <-time.After(5 * time.Millisecond) }))
	jobs := numbers(t, 2000, job.Interactive, oneRow)
	publish(t, q, jobs)
	await(t, results, jobs[0].ID)
	server.Stop()
	server.Start()
	wantDoubled(t, results, jobs)
	wantEmpty(t, q)
	after := numbers(t, 10, job.Interactive, oneRow)
	publish(t, connect(t, server.URL(), short), after)
	wantDoubled(t, results, after)
}

func TestStrangersMessages(t *testing.T) {
	url := testserver.NATS(t)
	q := connect(t, url, nil)
	results := openMemory(t)
	run(t, worker.DefaultConfig(), q, results, doublingModel(nil))
	id, err := job.NewID()
	if err != nil {
		t.Fatal(err)
	}
	good, err := job.NewID()
	if err != nil {
		t.Fatal(err)
	}
	const subject = "sheaf.interactive.double.somebody"
	asJSON := map[string]string{job.HeaderContentType: job.ContentTypeJSON}
	testserver.Publish(t, url, subject, nil, nil)
	testserver.Publish(t, url, subject, asJSON, []byte("garbage"))
	testserver.Publish(t, url, subject, map[string]string{job.HeaderContentType: job.ContentTypeSheaf}, []byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f})
	asJSON[job.HeaderID] = id.String()
	testserver.Publish(t, url, subject, asJSON, []byte(`{"inputs":[{"name":"x","shape":[1,1],"datatype":"INT64","data":[4]}]}`))
	asJSON[job.HeaderID] = good.String()
	testserver.Publish(t, url, subject, asJSON, []byte(`{"inputs":[{"name":"x","shape":[2,1],"datatype":"FP32","data":[4,5]}]}`))
	if r := await(t, results, id); r.State != job.Failed || r.Error.Code != job.CodeInvalid || r.Tenant != "somebody" {
		t.Errorf("got %s with error %v for tenant %s, want failed and invalid", r.State, r.Error, r.Tenant)
	}
	if r := await(t, results, good); r.State != job.Succeeded {
		t.Errorf("got %s with error %v, want succeeded", r.State, r.Error)
	}
	wantEmpty(t, q)
}
