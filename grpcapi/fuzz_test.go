package grpcapi_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/grpcapi"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/inferencepb"
	"github.com/sheafml/sheaf/job/proto/sheafpb"
	"github.com/sheafml/sheaf/model"
)

// instant answers every job at once with its inputs as outputs, after the checks of the real producer's signature.
type instant struct {
	grpcapi.Jobs
	models *model.Catalog
}

func (i *instant) Refused(error) {}

func (i *instant) Ask(_ context.Context, s *gateway.Submission, _ time.Duration) (*gateway.Job, error) {
	return i.answer(s)
}

func (i *instant) Submit(_ context.Context, s *gateway.Submission, _ time.Duration) (*gateway.Job, bool, error) {
	v, err := i.answer(s)
	return v, true, err
}

func (i *instant) answer(s *gateway.Submission) (*gateway.Job, error) {
	r := &s.Request
	j := job.Job{Model: r.Model, Version: r.Version, Inputs: r.Inputs, Outputs: r.Outputs, Parameters: r.Parameters}
	if _, err := s.Info.Signature.Check(&j, job.DefaultLimits()); err != nil {
		return nil, err
	}
	return &gateway.Job{State: job.Succeeded, Ticket: job.Ticket{Seq: 1}, Result: &job.Result{
		State: job.Succeeded, Model: r.Model, Version: r.Version, RequestID: r.RequestID, Outputs: r.Inputs,
		CreatedAt: time.Unix(1, 0), FinishedAt: time.Unix(2, 0), Timings: job.Timings{BatchRows: 1},
	}}, nil
}

func (i *instant) ModelFor(_ context.Context, name, version string) (model.Info, error) {
	info, ok := i.models.Get(name, version)
	if !ok {
		return info, job.Errorf(job.CodeUnknownModel, "model", "no")
	}
	return info, nil
}

// offline returns an API that nobody connects to.
func offline(tb testing.TB) *grpcapi.API {
	tb.Helper()
	api, err := grpcapi.NewWith(grpcapi.DefaultConfig(), grpcapi.Deps{}, &instant{models: catalog()})
	if err != nil {
		tb.Fatal(err)
	}
	return api
}

func wire(tb testing.TB, m proto.Message) []byte {
	tb.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// seeds are requests of every form.
func seeds(tb testing.TB) []*inferencepb.ModelInferRequest {
	tb.Helper()
	list := []*inferencepb.ModelInferRequest{digits(1), digits(3), {}}
	for dt := job.Bool; dt.Valid(); dt++ {
		in := &inferencepb.ModelInferRequest_InferInputTensor{Name: "t", Datatype: dt.String(), Shape: []int64{3}}
		list = append(list, &inferencepb.ModelInferRequest{
			ModelName: "echo-" + dt.String(), Inputs: []*inferencepb.ModelInferRequest_InferInputTensor{in}, RawInputContents: [][]byte{rawOf(dt)},
		})
		typed := proto.CloneOf(in)
		typed.Contents = typedContents(dt, rawOf(dt))
		list = append(list, &inferencepb.ModelInferRequest{ModelName: "echo-" + dt.String(), Inputs: []*inferencepb.ModelInferRequest_InferInputTensor{typed}})
	}
	q := digits(1)
	q.Parameters = parameters{"timeout": number(1), "priority": number(2), "x": text("y"), "triton_enable_empty_final_response": truth(true)}
	q.Outputs = []*inferencepb.ModelInferRequest_InferRequestedOutputTensor{{Name: "probabilities", Parameters: parameters{"binary_data": truth(true)}}}
	return append(list, q)
}

// FuzzModelInfer: whatever comes, the answer is a ModelInferResponse that any client can read, with what the request
// had, or an error that is the client's.
func FuzzModelInfer(f *testing.F) {
	for _, q := range seeds(f) {
		f.Add(wire(f, q))
	}
	api := offline(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		answer, code := api.InferBytes(context.Background(), body)
		switch code {
		case codes.InvalidArgument, codes.NotFound, codes.Unimplemented:
			return
		case codes.OK:
		default:
			t.Fatalf("the answer is %s", code)
		}
		q, a := new(inferencepb.ModelInferRequest), new(inferencepb.ModelInferResponse)
		if err := proto.Unmarshal(body, q); err != nil {
			t.Fatalf("a request that generated code refuses is answered: %v", err)
		}
		if err := proto.Unmarshal(answer, a); err != nil {
			t.Fatalf("the answer cannot be read: %v", err)
		}
		if a.GetId() != q.GetId() || a.GetModelName() != q.GetModelName() || len(a.GetOutputs()) != len(q.GetInputs()) {
			t.Fatalf("%v is answered %v", q, a)
		}
		raw := len(a.GetRawOutputContents()) > 0
		for i, out := range a.GetOutputs() {
			if raw && out.GetContents() != nil {
				t.Fatalf("raw and typed: %v", a)
			}
			if raw && len(q.GetRawInputContents()) > 0 && !bytes.Equal(a.GetRawOutputContents()[i], q.GetRawInputContents()[i]) {
				t.Fatalf("%v came back as %v", q.GetRawInputContents()[i], a.GetRawOutputContents()[i])
			}
		}
	})
}

// FuzzSubmit: the request read by hand is what generated code reads of it.
func FuzzSubmit(f *testing.F) {
	for _, q := range seeds(f) {
		f.Add(wire(f, &sheafpb.SubmitRequest{Request: q}))
	}
	f.Add(wire(f, &sheafpb.SubmitRequest{
		Request: digits(1), Lane: sheafpb.Lane_LANE_BULK, Deadline: timestamppb.New(time.Unix(4e9, 0)), IdempotencyKey: "k",
		Webhook: "https://example.com", Wait: durationpb.New(time.Second),
	}))
	api := offline(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, code := api.SubmitBytes(context.Background(), body); code != codes.OK && code != codes.InvalidArgument && code != codes.NotFound && code != codes.Unimplemented {
			t.Fatalf("the answer is %s", code)
		}
		d, err := grpcapi.DecodeSubmit(body)
		if err != nil {
			return // it may be stricter: a deadline in the past, a key that is none
		}
		q := new(sheafpb.SubmitRequest)
		if err := proto.Unmarshal(body, q); err != nil {
			if len(d.Request) > 0 {
				return // the request inside is not read yet
			}
			t.Fatalf("generated code refuses it: %v", err)
		}
		inner := new(inferencepb.ModelInferRequest)
		if err := proto.Unmarshal(d.Request, inner); err != nil || !proto.Equal(inner, q.GetRequest()) && q.GetRequest() != nil {
			t.Fatalf("the request is %v, expected %v: %v", inner, q.GetRequest(), err)
		}
		if key := q.GetIdempotencyKey(); d.Key != key && `"`+d.Key+`"` != key || d.Webhook != q.GetWebhook() || d.Wait != int64(q.GetWait().AsDuration()) && len(body) > 0 {
			t.Fatalf("%+v, expected %v", d, q)
		}
		if lane, err := grpcapi.LaneOf(d.Lane); (lane == job.Interactive) != (q.GetLane() == sheafpb.Lane_LANE_INTERACTIVE) && err == nil {
			t.Fatalf("lane %d is %s, expected %s", d.Lane, lane, q.GetLane())
		}
	})
}
