package grpcapi_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/inferencepb"
	"github.com/sheafml/sheaf/job/proto/sheafpb"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

func TestSubmitGetCancel(t *testing.T) {
	r := newRig(t, nil)
	deadline := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	s, err := call[sheafpb.JobStatus](t, r, submitMethod, &sheafpb.SubmitRequest{
		Request: digits(1), Lane: sheafpb.Lane_LANE_BULK, Deadline: timestamppb.New(deadline),
	})
	if err != nil {
		t.Fatal(err)
	}
	m := r.queue.last(t)
	if s.GetId() != m.ticket.String() || s.GetState() != sheafpb.JobState_JOB_STATE_QUEUED || s.GetModel() != "digits" || s.GetDuplicate() ||
		!s.GetDeadline().AsTime().Equal(deadline) || s.GetRetryAfter().AsDuration() < time.Second {
		t.Errorf("the submit is answered %v", s)
	}
	if m.job.Lane != job.Bulk || !m.job.Deadline.Equal(deadline) || m.job.Tenant != job.DefaultTenant || m.job.RequestID != "mine" {
		t.Errorf("the job is %+v", m.job)
	}
	s, err = call[sheafpb.JobStatus](t, r, getMethod, &sheafpb.GetRequest{Id: s.GetId()})
	if err != nil || s.GetState() != sheafpb.JobState_JOB_STATE_QUEUED || s.Position == nil || s.GetPosition() != 0 || s.GetCreatedAt() == nil {
		t.Errorf("then it is %v %v", s, err)
	}
	r.queue.setState(m.ticket, job.Running)
	if s, err = call[sheafpb.JobStatus](t, r, getMethod, &sheafpb.GetRequest{Id: s.GetId()}); err != nil || s.GetState() != sheafpb.JobState_JOB_STATE_RUNNING || s.Position != nil {
		t.Errorf("then it is %v %v", s, err)
	}
	for range 2 { // the second finds it canceled
		s, err = call[sheafpb.JobStatus](t, r, cancelMethod, &sheafpb.CancelRequest{Id: s.GetId()})
		if err != nil || s.GetState() != sheafpb.JobState_JOB_STATE_CANCELED || s.GetError().GetCode() != "canceled" || s.GetError().GetStatus() != int32(codes.Aborted) {
			t.Errorf("the cancel is answered %v %v", s, err)
		}
	}
}

func TestGetResult(t *testing.T) {
	r := newRig(t, nil)
	r.work(t, digitsResult)
	s, err := call[sheafpb.JobStatus](t, r, submitMethod, &sheafpb.SubmitRequest{Request: digits(2), Wait: durationpb.New(patience)})
	if err != nil {
		t.Fatal(err)
	}
	check := func(s *sheafpb.JobStatus) {
		t.Helper()
		a := s.GetResponse()
		if s.GetState() != sheafpb.JobState_JOB_STATE_SUCCEEDED || a.GetId() != "mine" || a.GetModelVersion() != "2" || s.GetAttempts() != 1 || s.GetFinishedAt() == nil ||
			s.GetTimings().GetBatchRows() != 3 || s.GetTimings().GetQueue().AsDuration() != time.Millisecond || s.GetTimings().GetInfer().AsDuration() != time.Second {
			t.Errorf("%v", s)
		}
	}
	check(s)
	if raw := s.GetResponse().GetRawOutputContents(); len(raw) != 1 || string(raw[0]) != string(raw32(0.25, 0.75, 0.25, 0.75)) {
		t.Errorf("%v", s)
	}
	typed, err := call[sheafpb.JobStatus](t, r, getMethod, &sheafpb.GetRequest{Id: s.GetId(), TypedContents: true, Wait: durationpb.New(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	check(typed)
	if c := typed.GetResponse().GetOutputs()[0].GetContents().GetFp32Contents(); len(c) != 4 || c[1] != 0.75 || len(typed.GetResponse().GetRawOutputContents()) != 0 {
		t.Errorf("%v", typed)
	}
	_, err = call[sheafpb.JobStatus](t, r, cancelMethod, &sheafpb.CancelRequest{Id: s.GetId()})
	p := problemOf(t, err).want(t, codes.FailedPrecondition, "finished")
	if p.reason.GetMetadata()["job_status"] != "succeeded" || p.reason.GetMetadata()["job_id"] != s.GetId() {
		t.Errorf("%+v", p)
	}
}

func TestSubmitKey(t *testing.T) {
	r := newRig(t, nil)
	q := &sheafpb.SubmitRequest{Request: digits(1), IdempotencyKey: "k"}
	first, err := call[sheafpb.JobStatus](t, r, submitMethod, q)
	if err != nil {
		t.Fatal(err)
	}
	second, err := call[sheafpb.JobStatus](t, r, submitMethod, q)
	if err != nil || second.GetId() != first.GetId() || first.GetDuplicate() || !second.GetDuplicate() {
		t.Errorf("%v, then %v %v", first, second, err)
	}
	q.Request = &inferencepb.ModelInferRequest{
		ModelName:        "echo-INT8",
		Inputs:           []*inferencepb.ModelInferRequest_InferInputTensor{{Name: "t", Datatype: "INT8", Shape: []int64{1}}},
		RawInputContents: [][]byte{{1}},
	}
	_, err = call[sheafpb.JobStatus](t, r, submitMethod, q)
	problemOf(t, err).want(t, codes.AlreadyExists, "key-reused")
}

// anywhere lets every webhook be called.
type anywhere struct{}

func (anywhere) Check(string, string) error                     { return nil }
func (anywhere) Secret(context.Context, string) (string, error) { return "", nil }

func TestSubmitWebhook(t *testing.T) {
	r := newRig(t, func(s *settings) { s.gate.Webhooks = anywhere{} })
	const url = "https://example.com/done"
	if _, err := call[sheafpb.JobStatus](t, r, submitMethod, &sheafpb.SubmitRequest{Request: digits(1), Webhook: url}); err != nil {
		t.Fatal(err)
	}
	if got := r.queue.last(t).job.Webhook; got != url {
		t.Errorf("the job's webhook is %q", got)
	}
}

func TestSubmitRefuses(t *testing.T) {
	r := newRig(t, nil)
	for _, c := range []struct {
		name    string
		q       *sheafpb.SubmitRequest
		code    codes.Code
		problem string
		field   string
	}{
		{"nothing", &sheafpb.SubmitRequest{}, codes.InvalidArgument, "invalid", "model_name"},
		{"lane", &sheafpb.SubmitRequest{Request: digits(1), Lane: 3}, codes.InvalidArgument, "invalid", "lane"},
		{"past deadline", &sheafpb.SubmitRequest{Request: digits(1), Deadline: timestamppb.New(time.Unix(1, 0))}, codes.InvalidArgument, "invalid", "deadline"},
		{"impossible deadline", &sheafpb.SubmitRequest{Request: digits(1), Deadline: &timestamppb.Timestamp{Nanos: -1}}, codes.InvalidArgument, "malformed", "deadline"},
		{"key", &sheafpb.SubmitRequest{Request: digits(1), IdempotencyKey: "ä"}, codes.InvalidArgument, "malformed", "idempotency_key"},
		{"negative wait", &sheafpb.SubmitRequest{Request: digits(1), Wait: durationpb.New(-1)}, codes.InvalidArgument, "malformed", "wait"},
		{"webhook", &sheafpb.SubmitRequest{Request: digits(1), Webhook: "https://example.com"}, codes.InvalidArgument, "invalid", "webhook"},
		{"model", &sheafpb.SubmitRequest{Request: &inferencepb.ModelInferRequest{ModelName: "none"}}, codes.NotFound, "unknown-model", "model"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := call[sheafpb.JobStatus](t, r, submitMethod, c.q)
			p := problemOf(t, err).want(t, c.code, c.problem)
			if got := p.reason.GetMetadata()["field"]; got != c.field {
				t.Errorf("field %q", got)
			}
		})
	}
	if len(r.queue.waiting) != 0 {
		t.Error("something was published")
	}
}

// callback is what checks webhooks: the host example.com alone may be called.
type callback struct{}

func (callback) Check(field, url string) error {
	if !strings.HasPrefix(url, "https://example.com/") {
		return job.Invalidf(field, "not there")
	}
	return nil
}

func (callback) Secret(context.Context, string) (string, error) { return "", nil }

func TestSubmitWithAWebhook(t *testing.T) {
	r := newRig(t, func(s *settings) { s.gate.Webhooks = callback{} })
	const url = "https://example.com/told"
	if _, err := call[sheafpb.JobStatus](t, r, submitMethod, &sheafpb.SubmitRequest{Request: digits(1), Webhook: url}); err != nil || r.queue.last(t).job.Webhook != url {
		t.Errorf("%v %+v", err, r.queue.last(t).job)
	}
	_, err := call[sheafpb.JobStatus](t, r, submitMethod, &sheafpb.SubmitRequest{Request: digits(1), Webhook: "https://10.0.0.1/"})
	if got := problemOf(t, err).want(t, codes.InvalidArgument, "invalid").reason.GetMetadata()["field"]; got != "webhook" {
		t.Errorf("field %q", got)
	}
	_, err = call[sheafpb.JobStatus](t, newRig(t, nil), submitMethod, &sheafpb.SubmitRequest{Request: digits(1), Webhook: url})
	problemOf(t, err).want(t, codes.InvalidArgument, "invalid")
}

func TestUnknownJob(t *testing.T) {
	r := newRig(t, nil)
	for _, id := range []string{"", "nonsense", "0198f3c2-0000-7000-8000-000000000001", "0198f3c2-0000-7000-8000-000000000001.i7-0", strings.Repeat("x", 100_000)} {
		_, err := call[sheafpb.JobStatus](t, r, getMethod, &sheafpb.GetRequest{Id: id})
		problemOf(t, err).want(t, codes.NotFound, "unknown-job")
		_, err = call[sheafpb.JobStatus](t, r, cancelMethod, &sheafpb.CancelRequest{Id: id})
		problemOf(t, err).want(t, codes.NotFound, "unknown-job")
	}
}

// A wait ends before the call does, so that the client gets the id to ask again with.
func TestSubmitWaitWithinTheCall(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	s, err := callContext[sheafpb.JobStatus](ctx, r, submitMethod, &sheafpb.SubmitRequest{Request: digits(1), Wait: durationpb.New(time.Hour)})
	if err != nil || s.GetState() != sheafpb.JobState_JOB_STATE_QUEUED || s.GetDeadline() != nil {
		t.Errorf("%v %v", s, err)
	}
}
