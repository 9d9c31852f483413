package httpapi_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/httpapi"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

// memQueue stands for JetStream: messages of one job each, in order, and notices to everybody who listens. It serves
// the real producer on one side and the API on the other.
type memQueue struct {
	mu         sync.Mutex
	seq        uint64
	waiting    []*message
	byKey      map[job.ID]job.Ticket
	listeners  map[int]func([]job.ID)
	removed    []job.ID
	canceled   []job.ID // that workers were told of
	load       queue.Load
	room       int // messages that PublishSheaf leaves waiting; 0: any number
	webhooks   []queue.Webhook
	webhookErr error

	// Faults and hooks, set before the requests.
	publishErr error
	locateErr  error
	lost       bool                          // notices do not arrive
	onPublish  func(t job.Ticket, j job.Job) // called in a goroutine of its own
	onLocate   func()
	published  sync.WaitGroup
}

type message struct {
	ticket job.Ticket
	job    job.Job
	state  job.State
}

func newQueue() *memQueue {
	return &memQueue{byKey: map[job.ID]job.Ticket{}, listeners: map[int]func([]job.ID){}}
}

func (q *memQueue) Publish(ctx context.Context, j *job.Job) (job.Ticket, bool, error) {
	if err := ctx.Err(); err != nil {
		return job.Ticket{}, false, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.publishErr != nil {
		return job.Ticket{}, false, q.publishErr
	}
	if t, ok := q.byKey[j.ID]; ok {
		t.Fingerprint = j.Fingerprint
		return t, true, nil
	}
	q.seq++
	t := job.Ticket{ID: j.ID, Lane: j.Lane, Seq: q.seq, Fingerprint: j.Fingerprint}
	q.byKey[j.ID] = t
	q.waiting = append(q.waiting, &message{ticket: t, job: *j, state: job.Queued})
	if q.onPublish != nil {
		copied := *j
		q.published.Go(func() { q.onPublish(t, copied) })
	}
	return t, false, nil
}

// PublishSheaf publishes while there is room.
func (q *memQueue) PublishSheaf(ctx context.Context, jobs []*job.Job) (tickets []job.Ticket, err error) {
	for _, j := range jobs {
		q.mu.Lock()
		full := q.room > 0 && len(q.waiting) >= q.room
		q.mu.Unlock()
		if full {
			return tickets, queue.ErrFull
		}
		t, _, err := q.Publish(ctx, j)
		if err != nil {
			return tickets, err
		}
		tickets = append(tickets, t)
	}
	return tickets, nil
}

func (q *memQueue) find(t job.Ticket) int {
	return slices.IndexFunc(q.waiting, func(m *message) bool { return m.ticket.ID == t.ID && m.ticket.Seq == t.Seq })
}

func (q *memQueue) Locate(_ context.Context, t job.Ticket) (job.Location, error) {
	if q.onLocate != nil {
		q.onLocate()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.locateErr != nil {
		return job.Location{}, q.locateErr
	}
	i := q.find(t)
	if i < 0 {
		return job.Location{}, job.ErrNotFound
	}
	j := &q.waiting[i].job
	loc := job.Location{State: job.Running, Tenant: j.Tenant, Model: j.Model, CreatedAt: j.CreatedAt, Deadline: j.Deadline, Fingerprint: j.Fingerprint, Webhook: j.Webhook}
	if q.waiting[i].state == job.Running {
		return loc, nil
	}
	loc.State, loc.Ahead = job.Queued, i
	return loc, nil
}

func (q *memQueue) Load(context.Context, job.Lane, string, string) (queue.Load, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.load, nil
}

func (q *memQueue) NotifyCanceled(ids []job.ID) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.canceled = append(q.canceled, ids...)
	return nil
}

func (q *memQueue) QueueWebhooks(_ context.Context, list []queue.Webhook) []error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.webhookErr != nil {
		return []error{q.webhookErr}
	}
	q.webhooks = append(q.webhooks, list...)
	return nil
}

func (q *memQueue) Remove(_ context.Context, t job.Ticket) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := q.find(t)
	if i < 0 {
		return false, nil
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	q.removed = append(q.removed, t.ID)
	return true, nil
}

func (q *memQueue) NotifyDone(ids []job.ID) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lost {
		return nil
	}
	for _, fn := range q.listeners {
		fn(ids)
	}
	return nil
}

func (q *memQueue) OnDone(fn func([]job.ID)) (func(), error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.listeners)
	q.listeners[n] = fn
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		delete(q.listeners, n)
	}, nil
}

// failLocate makes look-ups fail, nil makes them work.
func (q *memQueue) failLocate(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.locateErr = err
}

// last returns the newest message.
func (q *memQueue) last(t *testing.T) message {
	t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		t.Fatal("nothing was published")
	}
	return *q.waiting[len(q.waiting)-1]
}

func (q *memQueue) setState(t job.Ticket, s job.State) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := q.find(t); i >= 0 {
		q.waiting[i].state = s
	}
}

// config holds the settings of both the API and the gateway that it stands on.
type config struct {
	httpConfig
	jobsConfig
}

// deps is what both stand on.
type deps struct {
	jobsDeps
	Auth     httpapi.Authenticator
	Operator httpapi.Operator
	Batches  httpapi.Batches
	Gatherer prometheus.Gatherer
}

type (
	httpConfig = httpapi.Config
	jobsConfig = gateway.Config
	jobsDeps   = gateway.Deps
)

func defaultConfig() config { return config{httpapi.DefaultConfig(), gateway.DefaultConfig()} }

// newAPI makes an API on a gateway.
func newAPI(cfg config, d deps) (*httpapi.API, *gateway.Gateway, error) {
	jobs, err := gateway.New(cfg.jobsConfig, d.jobsDeps)
	if err != nil {
		return nil, nil, err
	}
	api, err := httpapi.New(cfg.httpConfig, httpapi.Deps{
		Jobs: jobs, Auth: d.Auth, Operator: d.Operator, Batches: d.Batches, Logger: d.Logger, Registerer: d.Registerer, Gatherer: d.Gatherer, Reach: d.Reach,
	})
	if err != nil {
		jobs.Close()
		return nil, nil, err
	}
	return api, jobs, nil
}

// rig is an API on a real producer and a real result store, with memQueue between.
type rig struct {
	api      *httpapi.API
	handler  http.Handler // of the API, held to its contract
	contract *contract
	jobs     *gateway.Gateway
	queue    *memQueue
	store    *resultstore.Memory
	models   *model.Catalog
	reg      *prometheus.Registry
	server   *httptest.Server
	ordinary atomic.Int64 // requests that the server left to net/http
	deps     deps
	admin    string // API key of an administrator
}

// newRig makes a rig; change adjusts its settings.
func newRig(t testing.TB, change func(*config, *deps)) *rig {
	t.Helper()
	store, err := resultstore.NewMemory(resultstore.DefaultMemoryConfig())
	if err != nil {
		t.Fatal(err)
	}
	return newRigOn(t, newQueue(), store, change)
}

func newRigOn(t testing.TB, q *memQueue, store *resultstore.Memory, change func(*config, *deps)) *rig {
	t.Helper()
	r := &rig{queue: q, store: store, models: catalog(), reg: prometheus.NewRegistry()}
	p, err := producer.New(q, r.models, producer.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	cfg := defaultConfig()
	r.deps = deps{Gatherer: r.reg, jobsDeps: gateway.Deps{
		Submitter: p, Forecaster: p, Models: r.models, Results: store, Queue: q, Registerer: r.reg,
	}}
	if change != nil {
		change(&cfg, &r.deps)
	}
	r.api, r.jobs, err = newAPI(cfg, r.deps)
	if err != nil {
		t.Fatal(err)
	}
	r.contract = contractOf(t, r.api.Handler(), &r.deps)
	r.handler = r.contract.wrap(t, r.api.Handler())
	t.Cleanup(func() {
		if r.server != nil {
			r.server.Client().CloseIdleConnections()
			r.server.Close()
		}
		r.jobs.Close()
		_ = p.Close()
		q.published.Wait()
	})
	return r
}

// listen serves the rig on a real connection and returns its URL.
func (r *rig) listen(t testing.TB) string {
	t.Helper()
	if r.server == nil {
		r.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			r.ordinary.Add(1)
			r.handler.ServeHTTP(w, req)
		}))
		r.server.Listener = r.behindLane(t, r.server.Listener)
		r.server.Start()
	}
	return r.server.URL
}

// behindLane puts the fast lane before a listener, as cmd does.
func (r *rig) behindLane(t testing.TB, l net.Listener) net.Listener {
	t.Helper()
	lane, err := r.api.FastLane(l)
	if err != nil {
		t.Fatal(err)
	}
	return lane
}

func catalog() *model.Catalog {
	c := model.NewCatalog()
	digits := model.Info{
		Name: "digits", Version: "1", Platform: model.PlatformONNX, MaxRows: 64, Description: "handwritten digits",
		Signature: model.Signature{
			Inputs:    []model.TensorSpec{{Name: "x", Datatype: job.FP32, Shape: []int64{-1, 4}}},
			Outputs:   []model.TensorSpec{{Name: "probabilities", Datatype: job.FP32, Shape: []int64{-1, 2}}},
			Batchable: true,
		},
	}
	c.Put(digits)
	digits.Version, digits.Deadline, digits.ResultTTL = "2", 5*time.Minute, time.Hour
	c.Put(digits)
	digits.Name, digits.Version, digits.Deadline = "hasty", "1", 5*time.Second
	c.Put(digits)
	c.Put(model.Info{
		Name: "wine.red", Version: "1", Platform: model.PlatformONNX, MaxRows: 64, Prediction: "label",
		Signature: model.Signature{
			Inputs: []model.TensorSpec{
				{Name: "age", Datatype: job.Int8, Shape: []int64{-1}},
				{Name: "name", Datatype: job.Bytes, Shape: []int64{-1}},
			},
			Outputs: []model.TensorSpec{
				{Name: "scores", Datatype: job.FP32, Shape: []int64{-1, 2}},
				{Name: "label", Datatype: job.Int64, Shape: []int64{-1}},
			},
			Batchable: true,
		},
	})
	c.Put(model.Info{
		Name: "text", Version: "1", Platform: model.PlatformONNX, MaxRows: 64,
		Signature: model.Signature{
			Inputs:    []model.TensorSpec{{Name: "s", Datatype: job.Bytes, Shape: []int64{-1}}},
			Outputs:   []model.TensorSpec{{Name: "s", Datatype: job.Bytes, Shape: []int64{-1}}},
			Batchable: true,
		},
	})
	c.Put(model.Info{
		Name: "grid", Version: "1", Platform: model.PlatformONNX, MaxRows: 1,
		Signature: model.Signature{
			Inputs:  []model.TensorSpec{{Name: "g", Datatype: job.Int64, Shape: []int64{2, 2}}},
			Outputs: []model.TensorSpec{{Name: "sum", Datatype: job.Int64, Shape: []int64{}}},
		},
	})
	return c
}

// fp32 makes a tensor.
func fp32(name string, shape []int64, values ...float32) job.Tensor {
	var data []byte
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return job.Tensor{Name: name, Datatype: job.FP32, Shape: shape, Data: data}
}

func int64s(name string, shape []int64, values ...int64) job.Tensor {
	var data []byte
	for _, v := range values {
		data = binary.LittleEndian.AppendUint64(data, uint64(v))
	}
	return job.Tensor{Name: name, Datatype: job.Int64, Shape: shape, Data: data}
}

// settle does what a worker does at the end of a job: record, notice, ack.
func (r *rig) settle(t testing.TB, ticket job.Ticket, res job.Result) bool {
	t.Helper()
	res.ID, res.Fingerprint = ticket.ID, ticket.Fingerprint
	if res.Tenant == "" {
		res.Tenant = job.DefaultTenant
	}
	if res.Model == "" {
		res.Model, res.Version = "digits", "2"
	}
	outcomes, err := r.store.Finish(context.Background(), []resultstore.Entry{{ID: ticket.ID, Record: job.AppendRecord(nil, &res)}})
	if err != nil {
		t.Error(err)
		return false
	}
	_ = r.queue.NotifyDone([]job.ID{ticket.ID})
	r.queue.mu.Lock()
	defer r.queue.mu.Unlock()
	if i := r.queue.find(ticket); i >= 0 {
		r.queue.waiting = slices.Delete(r.queue.waiting, i, i+1)
	}
	return outcomes[0].Won
}

// work makes the queue run every job at once, with the result that answer gives.
func (r *rig) work(t testing.TB, answer func(j job.Job) job.Result) {
	t.Helper()
	r.queue.onPublish = func(ticket job.Ticket, j job.Job) {
		res := answer(j)
		res.Model, res.Version, res.CreatedAt, res.FinishedAt, res.Attempts = j.Model, "2", j.CreatedAt, time.Now(), 1
		r.settle(t, ticket, res)
	}
}

// digitsResult is the outcome of a job for digits: [0.25, 0.75] for each row.
func digitsResult(j job.Job) job.Result {
	rows := j.Inputs[0].Rows()
	var values []float32
	for range rows {
		values = append(values, 0.25, 0.75)
	}
	return job.Result{State: job.Succeeded, Outputs: []job.Tensor{fp32("probabilities", []int64{int64(rows), 2}, values...)}}
}

const oneRow = `{"input":[1,2,3,4]}`

// reply is an answer, read.
type reply struct {
	status int
	header http.Header
	body   string
	doc    map[string]any
}

func (a reply) str(key string) string { s, _ := a.doc[key].(string); return s }

// call sends a request straight to the handler; it works inside a synctest bubble too.
func (r *rig) call(t testing.TB, method, path, body string, header ...string) reply {
	t.Helper()
	return r.callContext(t, context.Background(), method, path, body, header...)
}

func (r *rig) callContext(t testing.TB, ctx context.Context, method, path, body string, header ...string) reply { //nolint:revive // t first, as helpers have it
	t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req := httptest.NewRequestWithContext(ctx, method, path, reader)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	return read(t, w.Result())
}

// do sends a request over a real connection.
func (r *rig) do(t testing.TB, method, path, body string, header ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.listen(t)+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := r.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	a := read(t, resp)
	r.holds(t, req, body, a)
	return a
}

// holds compares an answer with the contract: the fast lane's is not seen by r.handler.
func (r *rig) holds(t testing.TB, req *http.Request, sent string, a reply) {
	t.Helper()
	if req.Method == http.MethodHead {
		return // whose body net/http has taken off
	}
	w := httptest.NewRecorder()
	maps.Copy(w.Header(), a.header)
	got := &recording{ResponseWriter: w, status: a.status}
	got.body.WriteString(a.body)
	if err := r.contract.check(req, []byte(sent), got); err != nil {
		t.Errorf("contract: %s %s answered %d: %v\n%.600s", req.Method, req.URL, a.status, err, a.body)
	}
}

func read(t testing.TB, resp *http.Response) reply {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := reply{status: resp.StatusCode, header: resp.Header, body: string(b)}
	if media := resp.Header.Get("Content-Type"); strings.Contains(media, "json") && media != "application/x-ndjson" && len(b) > 0 && b[0] != '[' {
		if err := json.Unmarshal(b, &a.doc); err != nil {
			t.Fatalf("the answer is not JSON: %v\n%s", err, b)
		}
	}
	return a
}

// problem verifies that the answer is a problem of the type.
func (a reply) problem(t testing.TB, status int, code string) {
	t.Helper()
	if a.status != status || a.str("type") != "/problems/"+code {
		t.Fatalf("status %d, type %q, expected %d and %q\n%s", a.status, a.str("type"), status, "/problems/"+code, a.body)
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q, expected application/problem+json", got)
	}
	if a.str("title") == "" || a.str("detail") == "" || a.doc["status"] != float64(status) {
		t.Errorf("title, detail or status is missing: %s", a.body)
	}
}

// submit submits one row for digits and returns its ticket.
func (r *rig) submit(t testing.TB) job.Ticket {
	t.Helper()
	a := r.call(t, "POST", "/v1/models/digits/jobs", oneRow)
	if a.status != http.StatusAccepted {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	ticket, err := job.ParseTicket(a.str("id"))
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}
