package grpcapi_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/inferencepb"
	"github.com/sheafml/sheaf/job/proto/sheafpb"
)

// reply reads one answer of a BulkSubmit.
func reply(t testing.TB, s grpc.ClientStream) *sheafpb.BulkReply {
	t.Helper()
	a := new(sheafpb.BulkReply)
	if err := s.RecvMsg(a); err != nil {
		t.Fatal(err)
	}
	return a
}

// numbered is a request with a number for its id.
func numbered(i int) *sheafpb.SubmitRequest {
	q := &sheafpb.SubmitRequest{Request: digits(1)}
	q.Request.Id = strconv.Itoa(i)
	return q
}

// Each request is answered once, under its index.
func TestBulkSubmit(t *testing.T) {
	r := newRig(t, nil)
	jobs := r.seen(t, digitsResult)
	s := r.open(t.Context(), t, bulkMethod)
	const n = 50
	go func() {
		for i := range n {
			q := numbered(i)
			q.IdempotencyKey = "k" + strconv.Itoa(i/2) // each twice
			if i == 7 {
				q.Request.ModelName = "none"
			}
			if err := s.SendMsg(q); err != nil {
				t.Error(err)
			}
		}
		_ = s.CloseSend()
	}()
	seen := map[uint64]bool{}
	for range n {
		a := reply(t, s)
		i, err := strconv.Atoi(a.GetRequestId())
		if err != nil || a.GetIndex() != uint64(i) || seen[a.GetIndex()] {
			t.Fatalf("answer %v %v", a, err)
		}
		seen[a.GetIndex()] = true
		if i == 7 {
			if e := a.GetError(); e.GetCode() != "unknown-model" || e.GetStatus() != int32(codes.NotFound) || a.GetId() != "" {
				t.Errorf("the refusal is %v", a)
			}
			continue
		}
		ticket, err := job.ParseTicket(a.GetId())
		if err != nil || a.GetError() != nil || ticket.Lane != job.Bulk || ticket.ID != job.DerivedID(job.DefaultTenant, "k"+strconv.Itoa(i/2)) {
			t.Errorf("answer %d: %v %v", i, a, err)
		}
	}
	if err := s.RecvMsg(new(sheafpb.BulkReply)); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v", err)
	}
	if len(jobs) > n/2+1 {
		t.Errorf("%d jobs were published, of %d keys", len(jobs), n/2)
	}
}

// generous counts what is asked of it, and allows it.
type generous struct{ asked atomic.Int64 }

func (l *generous) Allow(*auth.Principal, int) (auth.Quota, bool) {
	l.asked.Add(1)
	return auth.Quota{}, true
}

// A queue that is full is waited for, without counting against the caller's rate; meanwhile no more is read than a few
// batches. Then what has gathered travels together.
func TestBulkSubmitBackPressure(t *testing.T) {
	limiter := &generous{}
	r := newRig(t, func(s *settings) { s.gate.Limiter = limiter })
	r.queue.setRoom(3)
	s := r.open(t.Context(), t, bulkMethod)
	const n = 10_000
	var sent atomic.Int64
	go func() {
		for i := range n {
			q := numbered(i)
			q.Request.Inputs[0].Shape[0], q.Request.RawInputContents[0] = 64, make([]byte, 64*16)
			if s.SendMsg(q) != nil {
				return
			}
			sent.Add(1)
		}
		_ = s.CloseSend()
	}()
	for range 3 {
		if a := reply(t, s); a.GetError() != nil {
			t.Errorf("%v", a)
		}
	}
	for r.queue.refusals() < 5 {
		<-time.After(time.Millisecond)
	}
	if got := sent.Load(); got > n/2 {
		t.Errorf("%d requests were taken, where there is room for 3", got)
	}
	r.queue.setRoom(-1)
	for range n - 3 {
		if a := reply(t, s); a.GetError() != nil {
			t.Fatalf("%v", a)
		}
	}
	if err := s.RecvMsg(new(sheafpb.BulkReply)); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v", err)
	}
	if got := limiter.asked.Load(); got != n {
		t.Errorf("%d jobs were counted for the rate limit, of %d", got, n)
	}
	if most := slices.Max(r.queue.sheaves); most < 32 {
		t.Errorf("at most %d jobs went together", most)
	}
}

// After a while without any room the stream ends as the queue would have it, and everything that was read is answered.
func TestBulkSubmitPatience(t *testing.T) {
	r := newRig(t, func(s *settings) { s.api.BulkPatience = 50 * time.Millisecond })
	r.queue.setRoom(1)
	s := r.open(t.Context(), t, bulkMethod)
	send(t, s, numbered(0))
	if a := reply(t, s); a.GetId() == "" {
		t.Fatalf("%v", a)
	}
	send(t, s, numbered(1))
	if a := reply(t, s); a.GetIndex() != 1 || a.GetError().GetCode() != "tenant-full" || a.GetError().GetRetryAfter() == nil {
		t.Errorf("%v", a)
	}
	problemOf(t, s.RecvMsg(new(sheafpb.BulkReply))).want(t, codes.ResourceExhausted, "tenant-full")
}

func TestBulkSubmitTooMany(t *testing.T) {
	r := newRig(t, func(s *settings) { s.api.MaxBulkStreams = 1 })
	first := r.open(t.Context(), t, bulkMethod)
	send(t, first, numbered(0))
	reply(t, first)
	if p := problemOf(t, r.open(t.Context(), t, bulkMethod).RecvMsg(new(sheafpb.BulkReply))).want(t, codes.Unavailable, "busy"); p.retry == nil {
		t.Errorf("%+v", p)
	}
	_ = first.CloseSend()
	if err := first.RecvMsg(new(sheafpb.BulkReply)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	again := r.open(t.Context(), t, bulkMethod)
	send(t, again, numbered(0))
	reply(t, again)
}

// A client may send thousands of requests before it reads anything; one that never reads is cut off.
func TestBulkSubmitReadsLate(t *testing.T) {
	r := newRig(t, func(s *settings) { s.api.StreamIdle = time.Second })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := r.open(ctx, t, bulkMethod)
	const n = 3000
	for i := range n {
		send(t, s, numbered(i))
	}
	for range n {
		reply(t, s)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for i := 0; s.SendMsg(numbered(i)) == nil; i++ {
		}
	}()
	for r.running(t, bulkMethod) > 0 {
		<-time.After(time.Millisecond)
	}
	cancel()
	<-gone
}

// A stream on which nothing moves is ended, but not one with something in hand.
func TestStreamIdle(t *testing.T) {
	r := newRig(t, func(s *settings) { s.api.StreamIdle = 300 * time.Millisecond })
	published := make(chan job.Ticket, 1)
	r.queue.onPublish = func(ticket job.Ticket, _ job.Job) { published <- ticket }
	busy := r.open(t.Context(), t, streamMethod)
	send(t, busy, digits(1))
	ticket := <-published
	for _, method := range []string{bulkMethod, streamMethod} {
		s := r.open(t.Context(), t, method)
		problemOf(t, s.RecvMsg(new(sheafpb.BulkReply))).want(t, codes.DeadlineExceeded, "request-timeout")
	}
	r.settle(t, ticket, job.Result{State: job.Succeeded, Outputs: []job.Tensor{{Name: "y", Datatype: job.FP32, Shape: []int64{1}, Data: raw32(1)}}})
	if err := busy.RecvMsg(new(inferencepb.ModelStreamInferResponse)); err != nil {
		t.Errorf("the stream with a request in hand ends with %v", err)
	}
	problemOf(t, busy.RecvMsg(new(inferencepb.ModelStreamInferResponse))).want(t, codes.DeadlineExceeded, "request-timeout")
}

// stingy lets a caller submit only now and then.
type stingy struct{ asked atomic.Int64 }

func (l *stingy) Allow(*auth.Principal, int) (auth.Quota, bool) {
	return auth.Quota{After: time.Millisecond}, l.asked.Add(1)%3 == 0
}

// A rate that is used up is waited for in bulk, and told of in a single submit.
func TestRateLimit(t *testing.T) {
	r := newRig(t, func(s *settings) { s.gate.Limiter = &stingy{} })
	_, err := call[sheafpb.JobStatus](t, r, submitMethod, &sheafpb.SubmitRequest{Request: digits(1)})
	if p := problemOf(t, err).want(t, codes.ResourceExhausted, "rate-limited"); p.retry == nil {
		t.Errorf("%+v", p)
	}
	s := r.open(t.Context(), t, bulkMethod)
	for range 3 {
		send(t, s, &sheafpb.SubmitRequest{Request: digits(1)})
		if a := reply(t, s); a.GetError() != nil {
			t.Errorf("%v", a)
		}
	}
	_ = s.CloseSend()
	_ = s.RecvMsg(new(sheafpb.BulkReply))
}

// running is how many calls of a method are being answered.
func (r *rig) running(t testing.TB, method string) float64 {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "sheaf_grpc_running_calls" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == method {
				return m.GetGauge().GetValue()
			}
		}
	}
	return 0
}
