package grpcapi_test

import (
	"context"
	"errors"
	"io"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/grpcapi"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/inferencepb"
	"github.com/sheafml/sheaf/job/proto/sheafpb"
)

// open begins a stream.
func (r *rig) open(ctx context.Context, t testing.TB, method string) grpc.ClientStream {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	t.Cleanup(cancel)
	s, err := r.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func send(t testing.TB, s grpc.ClientStream, m proto.Message) {
	t.Helper()
	if err := s.SendMsg(m); err != nil {
		t.Fatal(err)
	}
}

// ask sends the one message of a client that does not stream.
func ask(t testing.TB, s grpc.ClientStream, m proto.Message) {
	t.Helper()
	send(t, s, m)
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
}

const (
	streamMethod = "/inference.GRPCInferenceService/ModelStreamInfer"
	bulkMethod   = "/sheaf.v1.Jobs/BulkSubmit"
	watchMethod  = "/sheaf.v1.Jobs/Watch"
)

// One answer a request, in their order whatever takes how long, errors in their place.
func TestModelStreamInfer(t *testing.T) {
	r := newRig(t, nil)
	last := make(chan struct{})
	r.work(t, func(j job.Job) job.Result {
		switch j.RequestID {
		case "0":
			<-last
		case "4":
			close(last)
		}
		return digitsResult(j)
	})
	s := r.open(metadata.AppendToOutgoingContext(t.Context(), "idempotency-key", "k"), t, streamMethod)
	for i := range 5 {
		q := digits(i + 1)
		q.Id = strconv.Itoa(i)
		if i == 2 {
			q.ModelName = "none"
		}
		if i == 3 {
			q.RawInputContents, q.Inputs[0].Contents = nil, &inferencepb.InferTensorContents{Fp32Contents: make([]float32, 16)}
		}
		send(t, s, q)
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		var a inferencepb.ModelStreamInferResponse
		if err := s.RecvMsg(&a); err != nil {
			t.Fatal(err)
		}
		m := a.GetInferResponse()
		if m.GetId() != strconv.Itoa(i) || (a.GetErrorMessage() != "") != (i == 2) {
			t.Errorf("answer %d: %v", i, &a)
		}
		if i == 2 {
			if m.GetModelName() != "none" {
				t.Errorf("the error is about %q", m.GetModelName())
			}
			continue
		}
		if n := m.GetOutputs()[0].GetShape()[0]; n != int64(i+1) || (len(m.GetRawOutputContents()) == 0) != (i == 3) {
			t.Errorf("answer %d: %v", i, &a)
		}
		ticket, err := job.ParseTicket(m.GetParameters()["sheaf_job_id"].GetStringParam())
		if err != nil || ticket.ID != job.DerivedID(job.DefaultTenant, "k/"+strconv.Itoa(i)) {
			t.Errorf("the key of request %d is another: %v", i, err)
		}
	}
	if err := s.RecvMsg(new(inferencepb.ModelStreamInferResponse)); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v", err)
	}
}

// A panic in a stream costs one answer, not the process.
func TestModelStreamInferPanics(t *testing.T) {
	w := &wrapped{ask: func(context.Context, *gateway.Submission) (*gateway.Job, error) { panic("at the disco") }}
	r := newRig(t, func(s *settings) { s.wrap = w.around })
	s := r.open(t.Context(), t, streamMethod)
	for range 2 {
		send(t, s, digits(1))
		var a inferencepb.ModelStreamInferResponse
		if err := s.RecvMsg(&a); err != nil || a.GetErrorMessage() != "the server failed at this request; its log says why" {
			t.Errorf("%v %v", &a, err)
		}
	}
	_ = s.CloseSend()
	_ = s.RecvMsg(new(inferencepb.ModelStreamInferResponse))
}

func TestBulkSubmitMessageTooLarge(t *testing.T) {
	r := newRig(t, func(s *settings) { s.api.MaxMessageBytes = 1000 })
	s := r.open(t.Context(), t, bulkMethod)
	send(t, s, &sheafpb.SubmitRequest{Request: digits(1000)})
	if err := s.RecvMsg(new(sheafpb.BulkReply)); problemOf(t, err).code != codes.ResourceExhausted {
		t.Errorf("%v", err)
	}
}

func TestWatch(t *testing.T) {
	r := newRig(t, nil)
	submit := func() job.Ticket {
		s, err := call[sheafpb.JobStatus](t, r, submitMethod, &sheafpb.SubmitRequest{Request: digits(1)})
		if err != nil {
			t.Fatal(err)
		}
		ticket, err := job.ParseTicket(s.GetId())
		if err != nil {
			t.Fatal(err)
		}
		return ticket
	}
	first, second := submit(), submit()
	s := r.open(t.Context(), t, watchMethod)
	ask(t, s, &sheafpb.WatchRequest{Ids: []string{first.String(), second.String(), "nonsense"}, TypedContents: true})
	next := func() *sheafpb.JobStatus {
		v := new(sheafpb.JobStatus)
		if err := s.RecvMsg(v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	states := map[string]sheafpb.JobState{}
	for range 3 {
		v := next()
		states[v.GetId()] = v.GetState()
		if v.GetId() == "nonsense" && v.GetError().GetCode() != "unknown-job" {
			t.Errorf("%v", v)
		}
	}
	if states[first.String()] != sheafpb.JobState_JOB_STATE_QUEUED || states[second.String()] != sheafpb.JobState_JOB_STATE_QUEUED {
		t.Errorf("at first the jobs are %v", states)
	}
	r.queue.setState(first, job.Running)
	if v := next(); v.GetId() != first.String() || v.GetState() != sheafpb.JobState_JOB_STATE_RUNNING {
		t.Errorf("then %v", v)
	}
	r.settle(t, first, digitsResult(r.queue.last(t).job))
	v := next()
	if v.GetState() != sheafpb.JobState_JOB_STATE_SUCCEEDED || len(v.GetResponse().GetOutputs()[0].GetContents().GetFp32Contents()) != 2 {
		t.Errorf("then %v", v)
	}
	if _, err := call[sheafpb.JobStatus](t, r, cancelMethod, &sheafpb.CancelRequest{Id: second.String()}); err != nil {
		t.Fatal(err)
	}
	if v := next(); v.GetId() != second.String() || v.GetState() != sheafpb.JobState_JOB_STATE_CANCELED || v.GetError().GetCode() != "canceled" {
		t.Errorf("then %v", v)
	}
	if err := s.RecvMsg(v); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v", err)
	}
}

func TestWatchRefuses(t *testing.T) {
	r := newRig(t, nil)
	for _, ids := range [][]string{nil, make([]string, 101)} {
		s := r.open(t.Context(), t, watchMethod)
		ask(t, s, &sheafpb.WatchRequest{Ids: ids})
		problemOf(t, s.RecvMsg(new(sheafpb.JobStatus))).want(t, codes.InvalidArgument, "invalid")
	}
}

// Each job of a watch counts as one that is waited for.
func TestWatchWithoutASeat(t *testing.T) {
	r := newRig(t, func(s *settings) { s.jobs.MaxWaiters = 1 })
	ids := make([]string, 2)
	for i := range ids {
		s, err := call[sheafpb.JobStatus](t, r, submitMethod, &sheafpb.SubmitRequest{Request: digits(1)})
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = s.GetId()
	}
	s := r.open(t.Context(), t, watchMethod)
	ask(t, s, &sheafpb.WatchRequest{Ids: ids})
	if p := problemOf(t, s.RecvMsg(new(sheafpb.JobStatus))).want(t, codes.Unavailable, "too-many-waiters"); p.retry == nil {
		t.Errorf("%+v", p)
	}
	ids[1] = ids[0] // the same job twice is one
	s = r.open(t.Context(), t, watchMethod)
	ask(t, s, &sheafpb.WatchRequest{Ids: ids})
	if err := s.RecvMsg(new(sheafpb.JobStatus)); err != nil {
		t.Error(err)
	}
}

// On the way down streams are told so, calls in hand are answered, and nobody is held.
func TestShutdown(t *testing.T) {
	r := newRig(t, nil)
	published := make(chan job.Ticket, 3)
	r.queue.onPublish = func(ticket job.Ticket, _ job.Job) { published <- ticket }
	inferred := make(chan error, 1)
	go func() {
		_, err := callContext[inferencepb.ModelInferResponse](t.Context(), r, inferMethod, digits(1))
		inferred <- err
	}()
	ticket := <-published
	bulk, stream, watch := r.open(t.Context(), t, bulkMethod), r.open(t.Context(), t, streamMethod), r.open(t.Context(), t, watchMethod)
	send(t, bulk, &sheafpb.SubmitRequest{Request: digits(1)})
	if err := bulk.RecvMsg(new(sheafpb.BulkReply)); err != nil {
		t.Fatal(err)
	}
	<-published
	send(t, stream, digits(1))
	inStream := <-published
	ask(t, watch, &sheafpb.WatchRequest{Ids: []string{ticket.String()}})
	if err := watch.RecvMsg(new(sheafpb.JobStatus)); err != nil {
		t.Fatal(err)
	}
	down := make(chan error, 1)
	go func() { down <- r.api.Shutdown(t.Context()) }()
	for _, s := range []grpc.ClientStream{bulk, watch} {
		p := problemOf(t, s.RecvMsg(new(sheafpb.JobStatus))).want(t, codes.Unavailable, "unavailable")
		if p.retry == nil {
			t.Errorf("%+v", p)
		}
	}
	for _, ticket := range []job.Ticket{ticket, inStream} {
		r.settle(t, ticket, job.Result{State: job.Succeeded, Outputs: []job.Tensor{{Name: "y", Datatype: job.FP32, Shape: []int64{1}, Data: raw32(1)}}})
	}
	if err := <-inferred; err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	var a inferencepb.ModelStreamInferResponse
	if err := stream.RecvMsg(&a); err != nil || a.GetErrorMessage() != "" {
		t.Errorf("the request in hand: %v %v", &a, err)
	}
	problemOf(t, stream.RecvMsg(&a)).want(t, codes.Unavailable, "unavailable")
	if err := <-down; err != nil {
		t.Error(err)
	}
}

// Calls that outlast the drain time are cut off.
func TestShutdownOverdue(t *testing.T) {
	r := newRig(t, nil)
	published := make(chan job.Ticket, 1)
	r.queue.onPublish = func(ticket job.Ticket, _ job.Job) { published <- ticket }
	inferred := make(chan error, 1)
	go func() {
		_, err := callContext[inferencepb.ModelInferResponse](t.Context(), r, inferMethod, digits(1))
		inferred <- err
	}()
	<-published
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := r.api.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("shutdown: %v", err)
	}
	if p := problemOf(t, <-inferred); p.code != codes.Unavailable && p.code != codes.Canceled {
		t.Errorf("%+v", p)
	}
}

func TestConfigValidate(t *testing.T) {
	_, err := grpcapi.New(grpcapi.Config{RetryAfter: time.Second}, grpcapi.Deps{})
	if err == nil {
		t.Fatal("an empty configuration is taken")
	}
	for _, name := range []string{"InferTimeout", "RetryAfterMax", "MaxMessageBytes", "MaxInHand", "MaxConcurrentStreams", "KeepaliveTime", "MaxConnectionAge", "HealthInterval", "MaxRows", "Jobs"} {
		if !contains(err.Error(), name) {
			t.Errorf("%s is not named: %v", name, err)
		}
	}
}
