package grpcapi_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"math"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/grpcapi"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/inferencepb"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/resultstore"
)

// rig is an API on a real gateway, a real producer and a real result store, with memQueue between, and a client of it.
type rig struct {
	api     *grpcapi.API
	gateway *gateway.Gateway
	queue   *memQueue
	store   *resultstore.Memory
	reg     *prometheus.Registry
	conn    *grpc.ClientConn
	served  chan error
}

// settings are what a test may change before the rig is built.
type settings struct {
	api  grpcapi.Config
	deps grpcapi.Deps
	jobs gateway.Config
	gate gateway.Deps
	wrap func(grpcapi.Jobs) grpcapi.Jobs // puts something in the gateway's place
	// client is the client's side of TLS; nil: plain text.
	client *tls.Config
	dial   []grpc.DialOption // more of them
}

// patience is how long a test waits for what must happen; it is not an assertion about speed.
const patience = 30 * time.Second

func newRig(t testing.TB, change func(*settings)) *rig {
	t.Helper()
	store, err := resultstore.NewMemory(resultstore.DefaultMemoryConfig())
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{queue: newQueue(), store: store, reg: prometheus.NewRegistry(), served: make(chan error, 1)}
	models := catalog()
	p, err := producer.New(r.queue, models, producer.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	s := &settings{api: grpcapi.DefaultConfig(), jobs: gateway.DefaultConfig()}
	s.api.Version = "test"
	s.deps.Registerer = r.reg
	s.gate = gateway.Deps{Submitter: p, Forecaster: p, Models: models, Results: store, Queue: r.queue}
	if change != nil {
		change(s)
	}
	if r.gateway, err = gateway.New(s.jobs, s.gate); err != nil {
		t.Fatal(err)
	}
	s.deps.Jobs = r.gateway
	if s.wrap != nil {
		r.api, err = grpcapi.NewWith(s.api, s.deps, s.wrap(r.gateway))
	} else {
		r.api, err = grpcapi.New(s.api, s.deps)
	}
	if err != nil {
		t.Fatal(err)
	}
	transport := insecure.NewCredentials()
	if s.client != nil {
		transport = credentials.NewTLS(s.client)
	}
	l := bufconn.Listen(1 << 20)
	go func() { r.served <- r.api.Serve(l) }()
	r.conn, err = grpc.NewClient("passthrough:///rig", append(s.dial,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.conn.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.api.Shutdown(ctx); err != nil {
			t.Errorf("shut down: %v", err)
		}
		if err := <-r.served; err != nil {
			t.Errorf("serve: %v", err)
		}
		r.gateway.Close()
		_ = p.Close()
		r.queue.published.Wait()
	})
	return r
}

// wrapped is the rig's gateway with methods replaced.
type wrapped struct {
	grpcapi.Jobs
	ask func(ctx context.Context, s *gateway.Submission) (*gateway.Job, error)
}

// around returns w around the gateway.
func (w *wrapped) around(j grpcapi.Jobs) grpcapi.Jobs {
	w.Jobs = j
	return w
}

func (w *wrapped) Ask(ctx context.Context, s *gateway.Submission, wait time.Duration) (*gateway.Job, error) {
	if w.ask == nil {
		return w.Jobs.Ask(ctx, s, wait)
	}
	return w.ask(ctx, s)
}

// call makes a unary call.
func call[A any, P interface {
	*A
	proto.Message
}](t testing.TB, r *rig, method string, q proto.Message) (*A, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return callContext[A, P](ctx, r, method, q)
}

func callContext[A any, P interface {
	*A
	proto.Message
}](ctx context.Context, r *rig, method string, q proto.Message) (*A, error) {
	answer := new(A)
	err := r.conn.Invoke(ctx, method, q, P(answer))
	return answer, err
}

const (
	inferMethod  = "/inference.GRPCInferenceService/ModelInfer"
	submitMethod = "/sheaf.v1.Jobs/Submit"
	getMethod    = "/sheaf.v1.Jobs/Get"
	cancelMethod = "/sheaf.v1.Jobs/Cancel"
)

// infer calls ModelInfer without a deadline.
func (r *rig) infer(t testing.TB, q *inferencepb.ModelInferRequest) (*inferencepb.ModelInferResponse, error) {
	t.Helper()
	return callContext[inferencepb.ModelInferResponse](t.Context(), r, inferMethod, q)
}

// problem is what a test reads of an error.
type problem struct {
	code    codes.Code
	message string
	reason  *errdetails.ErrorInfo
	retry   *errdetails.RetryInfo
	bad     *errdetails.BadRequest
}

func problemOf(t testing.TB, err error) problem {
	t.Helper()
	s, ok := status.FromError(err)
	if !ok || err == nil {
		t.Fatalf("not a status: %v", err)
	}
	p := problem{code: s.Code(), message: s.Message()}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			p.reason = d
		case *errdetails.RetryInfo:
			p.retry = d
		case *errdetails.BadRequest:
			p.bad = d
		}
	}
	return p
}

// want verifies the code, and the problem's code if there is one.
func (p problem) want(t testing.TB, code codes.Code, problemCode string) problem {
	t.Helper()
	got := p.reason.GetMetadata()["code"]
	if p.code != code || got != problemCode {
		t.Fatalf("status %s with the problem %q, expected %s and %q: %s", p.code, got, code, problemCode, p.message)
	}
	if problemCode != "" && (p.reason.GetDomain() != "sheaf" || p.reason.GetReason() == "") {
		t.Errorf("the reason is %v", p.reason)
	}
	return p
}

func catalog() *model.Catalog {
	c := model.NewCatalog()
	digits := model.Info{
		Name: "digits", Version: "1", Platform: model.PlatformONNX, MaxRows: 64,
		Signature: model.Signature{
			Inputs:    []model.TensorSpec{{Name: "x", Datatype: job.FP32, Shape: []int64{-1, 4}}},
			Outputs:   []model.TensorSpec{{Name: "probabilities", Datatype: job.FP32, Shape: []int64{-1, 2}}},
			Batchable: true,
		},
	}
	c.Put(digits)
	digits.Version = "2"
	c.Put(digits)
	digits.Name, digits.Version, digits.Deadline = "hasty", "1", 5*time.Second
	c.Put(digits)
	c.Put(model.Info{
		Name: "wine.red", Version: "1", MaxRows: 64,
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
	for dt := job.Bool; dt.Valid(); dt++ {
		spec := []model.TensorSpec{{Name: "t", Datatype: dt, Shape: []int64{-1}}}
		c.Put(model.Info{
			Name: "echo-" + dt.String(), Version: "1", MaxRows: 1,
			Signature: model.Signature{Inputs: spec, Outputs: spec},
		})
	}
	return c
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
	_, _ = r.queue.Remove(context.Background(), ticket)
	return outcomes[0].Won
}

// work makes the queue run every job at once, with the result that answer gives.
func (r *rig) work(t testing.TB, answer func(j job.Job) job.Result) {
	t.Helper()
	r.queue.onPublish = func(ticket job.Ticket, j job.Job) {
		res := answer(j)
		res.Tenant, res.Model, res.Version, res.RequestID = j.Tenant, j.Model, "2", j.RequestID
		res.CreatedAt, res.FinishedAt, res.Attempts = j.CreatedAt, time.Now(), 1
		res.Timings = job.Timings{Queue: time.Millisecond, BatchWait: time.Microsecond, Infer: time.Second, BatchRows: 3}
		r.settle(t, ticket, res)
	}
}

// seen makes the queue run every job at once, and returns where the jobs are seen.
func (r *rig) seen(t testing.TB, answer func(j job.Job) job.Result) <-chan job.Job {
	t.Helper()
	jobs := make(chan job.Job, 1000)
	r.work(t, func(j job.Job) job.Result {
		jobs <- j
		return answer(j)
	})
	return jobs
}

// digitsResult is the outcome of a job for digits: [0.25, 0.75] for each row.
func digitsResult(j job.Job) job.Result {
	rows := j.Inputs[0].Rows()
	var values []float32
	for range rows {
		values = append(values, 0.25, 0.75)
	}
	return job.Result{State: job.Succeeded, Outputs: []job.Tensor{
		{Name: "probabilities", Datatype: job.FP32, Shape: []int64{int64(rows), 2}, Data: raw32(values...)},
	}}
}

// echo is the outcome of a job whose output is its input.
func echo(j job.Job) job.Result {
	return job.Result{State: job.Succeeded, Outputs: slices.Clone(j.Inputs)}
}

func raw32(values ...float32) []byte {
	var data []byte
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return data
}

// digits makes a request for rows of digits with raw contents.
func digits(rows int) *inferencepb.ModelInferRequest {
	return &inferencepb.ModelInferRequest{
		ModelName: "digits", Id: "mine",
		Inputs:           []*inferencepb.ModelInferRequest_InferInputTensor{{Name: "x", Datatype: "FP32", Shape: []int64{int64(rows), 4}}},
		RawInputContents: [][]byte{make([]byte, 16*rows)},
	}
}

func text(s string) *inferencepb.InferParameter {
	return &inferencepb.InferParameter{ParameterChoice: &inferencepb.InferParameter_StringParam{StringParam: s}}
}

func number(n int64) *inferencepb.InferParameter {
	return &inferencepb.InferParameter{ParameterChoice: &inferencepb.InferParameter_Int64Param{Int64Param: n}}
}

func truth(b bool) *inferencepb.InferParameter {
	return &inferencepb.InferParameter{ParameterChoice: &inferencepb.InferParameter_BoolParam{BoolParam: b}}
}

type parameters = map[string]*inferencepb.InferParameter

// statusCode is the code of an error of gRPC, Unknown of any other.
func statusCode(err error) codes.Code { return status.Code(err) }
