package batch_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sheafml/sheaf/backfill"
	"github.com/sheafml/sheaf/batch"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
	"github.com/sheafml/sheaf/worker"
)

// patience bounds every wait for a condition; no test waits for it to pass.
const patience = 60 * time.Second

const (
	tenant   = "acme"
	endpoint = "/v1/models/sum/predict"
)

// rig is a NATS server, a result store and a worker, which outlive the processes that a test starts and kills.
type rig struct {
	t      *testing.T
	url    string
	store  *resultstore.Memory
	models *model.Catalog
	cfg    batch.Config
	gate   *gate
}

// gate lets rows through to the model: as many as were granted, or all.
type gate struct {
	mu      sync.Mutex
	changed chan struct{}
	open    bool
	granted int
}

func newGate() *gate { return &gate{changed: make(chan struct{}), open: true} }

func (g *gate) set(open bool, granted int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open, g.granted = open, granted
	close(g.changed)
	g.changed = make(chan struct{})
}

// trickle lets some more rows through, and no heap of them at once.
func (g *gate) trickle(rows int) {
	g.mu.Lock()
	granted := g.granted
	g.mu.Unlock()
	g.set(false, min(granted+rows, 20))
}

func (g *gate) pass(ctx context.Context, rows int) error {
	for {
		g.mu.Lock()
		ok, changed := g.open || g.granted >= rows, g.changed
		if ok && !g.open {
			g.granted -= rows
		}
		g.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// summer is a model: the sum of each row of three, and the row doubled. It refuses rows that begin with 666.
type summer struct{ gate *gate }

func (s *summer) Run(ctx context.Context, b *model.Batch) ([]job.Tensor, error) {
	if err := s.gate.pass(ctx, b.Rows); err != nil {
		return nil, err
	}
	var sums, twice []byte
	for _, part := range b.Inputs[0].Parts {
		for ; len(part) > 0; part = part[12:] {
			sum := float32(0)
			for i := range 3 {
				x := math.Float32frombits(binary.LittleEndian.Uint32(part[4*i:]))
				if i == 0 && x == 666 {
					return nil, errors.New("the number of the beast")
				}
				sum += x
				twice = binary.LittleEndian.AppendUint32(twice, math.Float32bits(2*x))
			}
			sums = binary.LittleEndian.AppendUint32(sums, math.Float32bits(sum))
		}
	}
	all := []job.Tensor{
		{Name: "twice", Datatype: job.FP32, Shape: []int64{int64(b.Rows), 3}, Data: twice},
		{Name: "sum", Datatype: job.FP32, Shape: []int64{int64(b.Rows)}, Data: sums},
	}
	if b.Outputs == nil {
		return all, nil
	}
	var wanted []job.Tensor
	for _, i := range b.Outputs {
		wanted = append(wanted, all[i])
	}
	return wanted, nil
}

func (s *summer) Close() error { return nil }

func sum() model.Info {
	return model.Info{
		Name: "sum", Version: "3", Platform: model.PlatformONNX, MaxRows: 10, Prediction: "sum",
		Signature: model.Signature{
			Inputs: []model.TensorSpec{{Name: "x", Datatype: job.FP32, Shape: []int64{-1, 3}}},
			Outputs: []model.TensorSpec{
				{Name: "twice", Datatype: job.FP32, Shape: []int64{-1, 3}},
				{Name: "sum", Datatype: job.FP32, Shape: []int64{-1}},
			},
			Batchable: true,
		},
	}
}

// newRig starts a server in the process, and a worker. change adjusts the settings of services.
func newRig(t *testing.T, change func(*batch.Config)) *rig {
	t.Helper()
	return newRigAt(t, testserver.NATS(t), change)
}

func newRigAt(t *testing.T, url string, change func(*batch.Config)) *rig {
	t.Helper()
	store, err := resultstore.NewMemory(resultstore.DefaultMemoryConfig())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	r := &rig{t: t, url: url, store: store, models: model.NewCatalog(), cfg: batch.DefaultConfig(), gate: newGate()}
	r.cfg.StoreBytes = 256 << 20 // many servers run on one disk
	r.models.Put(sum())
	r.cfg.CommitEvery, r.cfg.Lease, r.cfg.Flight = 20*time.Millisecond, 4*time.Second, 4
	r.cfg.MaxStarts = 1000 // on a machine that is busy leases lapse
	if change != nil {
		change(&r.cfg)
	}
	q := r.connect()
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg := worker.DefaultConfig()
	cfg.DrainTimeout = time.Second
	pool, err := worker.New(cfg, worker.Deps{Queue: q, Results: store}, worker.Model{
		Info: sum(), NewInstance: func() (worker.Instance, error) { return &summer{r.gate}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = pool.Run(ctx) // a test may end with jobs in flight
	}()
	t.Cleanup(func() { cancel(); r.gate.set(true, 0); <-done })
	return r
}

func (r *rig) connect() *queue.Queue {
	r.t.Helper()
	cfg := queue.DefaultConfig()
	cfg.URL = r.url
	cfg.Bulk.AckWait = 2 * time.Second // what a server that is killed had sent to the worker comes again so soon
	q, err := queue.Connect(r.t.Context(), cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = q.Close() })
	return q
}

// process is what sheaf serve is to batches.
type process struct {
	*batch.Service
	q    *queue.Queue
	kill func() // it cuts the process off, as kill -9 does
	stop func() // it ends it in order
}

// start starts a process; change adjusts what it stands on.
func (r *rig) start(change func(*batch.Config, *batch.Deps)) *process {
	r.t.Helper()
	q := r.connect()
	p, err := producer.New(q, r.models, producer.DefaultConfig())
	if err != nil {
		r.t.Fatal(err)
	}
	jobs, err := gateway.New(gateway.DefaultConfig(), gateway.Deps{Submitter: p, Forecaster: p, Models: r.models, Results: r.store, Queue: q})
	if err != nil {
		r.t.Fatal(err)
	}
	cfg := r.cfg
	deps := batch.Deps{
		Queue: q, Models: r.models, Logger: slog.New(slog.NewTextHandler(testLog{r.t}, nil)),
		Jobs: func(cfg backfill.GatewayConfig) backfill.Jobs { return backfill.ThroughGateway(jobs, r.store, cfg) },
	}
	if change != nil {
		change(&cfg, &deps)
	}
	s, err := batch.New(cfg, deps)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			r.t.Error(err)
		}
	}()
	stop := sync.OnceFunc(func() {
		cancel()
		<-done
		jobs.Close()
		_ = p.Close()
		_ = q.Close()
	})
	r.t.Cleanup(stop)
	return &process{Service: s, q: q, stop: stop, kill: sync.OnceFunc(func() {
		cancel()
		_ = q.Close()
	})}
}

// startKilled starts a process that is killed the n-th time that it comes to a point; dead is closed then.
func (r *rig) startKilled(at failpoint.Point, n int) (p *process, dead chan struct{}) {
	r.t.Helper()
	dead = make(chan struct{})
	var mu sync.Mutex
	mu.Lock() // the process may come to the point before it is known here
	defer mu.Unlock()
	p = r.start(func(_ *batch.Config, d *batch.Deps) {
		d.Reach = func(point failpoint.Point) {
			mu.Lock()
			defer mu.Unlock()
			if point != at {
				return
			}
			if n--; n == 0 {
				p.kill()
				close(dead)
			}
		}
	})
	return p, dead
}

// testLog is what is logged, told if the test fails.
type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	if l.t.Context().Err() == nil {
		l.t.Log(strings.TrimSpace(string(b)))
	}
	return len(b), nil
}

// requests makes the lines of an input, as OpenAI has them.
func requests(n int, change func(i int, line string) string) string {
	var b strings.Builder
	for i := range n {
		line := fmt.Sprintf(`{"custom_id":"c%d","method":"POST","url":%q,"body":{"input":[%d,2,3]}}`, i, endpoint, i)
		if change != nil {
			line = change(i, line)
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

func (p *process) upload(t *testing.T, text string) string {
	t.Helper()
	f, err := p.PutFile(t.Context(), tenant, "in.jsonl", batch.PurposeBatch, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return f.ID
}

// submit uploads an input and makes a batch of it.
func (p *process) submit(t *testing.T, text string, change func(*batch.Spec)) string {
	t.Helper()
	spec := batch.Spec{Endpoint: endpoint, InputFile: p.upload(t, text), LinesPerJob: 10}
	if change != nil {
		change(&spec)
	}
	b, err := p.Create(t.Context(), tenant, spec, batch.Once{})
	if err != nil {
		t.Fatal(err)
	}
	return b.ID
}

// await waits until the batch is as ok wants it.
func (p *process) await(t *testing.T, id, what string, ok func(*batch.Batch) bool) batch.Batch {
	t.Helper()
	var b batch.Batch
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var err error
		if b, err = p.Get(t.Context(), tenant, id); err == nil && ok(&b) {
			return b
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("did not happen: %s; the batch is %+v, %v", what, b, err)
		}
	}
}

func (p *process) end(t *testing.T, id string, want batch.Status) batch.Batch {
	t.Helper()
	b := p.await(t, id, "the batch ends", func(b *batch.Batch) bool { return b.Status.Final() })
	if b.Status != want {
		t.Fatalf("the batch is %s, expected %s: %+v", b.Status, want, b.Errors)
	}
	return b
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
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

// answer is a line of an output.
type answer struct {
	ID       string  `json:"id"`
	CustomID *string `json:"custom_id"`
	Response *struct {
		Status    int    `json:"status_code"`
		RequestID string `json:"request_id"`
		Body      struct {
			Prediction any    `json:"prediction"`
			Model      string `json:"model"`
			Version    string `json:"model_version"`
			Outputs    []struct {
				Name  string  `json:"name"`
				Shape []int64 `json:"shape"`
				Data  []any   `json:"data"`
			} `json:"outputs"`
		} `json:"body"`
	} `json:"response"`
	Error *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Param   string `json:"param"`
		Line    int    `json:"line"`
	} `json:"error"`
}

func (p *process) text(t *testing.T, file string) string {
	t.Helper()
	r, f, err := p.OpenFile(t.Context(), tenant, file)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil || int64(len(b)) != f.Bytes {
		t.Fatalf("%d of %d bytes, %v", len(b), f.Bytes, err)
	}
	return string(b)
}

func parse(t *testing.T, text string) []answer {
	t.Helper()
	var list []answer
	for line := range strings.Lines(text) {
		var a answer
		if err := json.Unmarshal([]byte(line), &a); err != nil || !strings.HasSuffix(line, "\n") {
			t.Fatalf("%q: %v", line, err)
		}
		list = append(list, a)
	}
	return list
}

// outcome is what came of each line: the prediction, or the code of the error. It holds that no line is there twice.
func (p *process) outcome(t *testing.T, b *batch.Batch) []string {
	t.Helper()
	var list []string
	for _, id := range []string{b.OutputFile, b.ErrorFile} {
		if id == "" {
			continue
		}
		for _, a := range parse(t, p.text(t, id)) {
			custom := "?"
			if a.CustomID != nil {
				custom = *a.CustomID
			}
			if a.Error != nil {
				list = append(list, fmt.Sprintf("%s line %d: %s %s", custom, a.Error.Line, a.Error.Code, a.Error.Param))
				continue
			}
			list = append(list, fmt.Sprintf("%s: %v", custom, a.Response.Body.Prediction))
		}
	}
	slices.Sort(list)
	if n := len(slices.Compact(slices.Clone(list))); n != len(list) {
		t.Errorf("%d lines are there twice", len(list)-n)
	}
	return list
}
