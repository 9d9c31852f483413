package grpcapi_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/inferencepb"
	"github.com/sheafml/sheaf/queue"
)

func TestModelInfer(t *testing.T) {
	r := newRig(t, nil)
	jobs := r.seen(t, digitsResult)
	q := digits(2)
	binary.LittleEndian.PutUint32(q.RawInputContents[0], math.Float32bits(1.5))
	a, err := r.infer(t, q)
	if err != nil {
		t.Fatal(err)
	}
	j := <-jobs
	id := a.GetParameters()["sheaf_job_id"].GetStringParam()
	if ticket, err := job.ParseTicket(id); err != nil || ticket.ID != j.ID {
		t.Errorf("the job is %s, the answer says %q", j.ID, id)
	}
	want := &inferencepb.ModelInferResponse{
		ModelName: "digits", ModelVersion: "2", Id: "mine", Parameters: parameters{"sheaf_job_id": text(id)},
		Outputs:           []*inferencepb.ModelInferResponse_InferOutputTensor{{Name: "probabilities", Datatype: "FP32", Shape: []int64{2, 2}}},
		RawOutputContents: [][]byte{raw32(0.25, 0.75, 0.25, 0.75)},
	}
	if d := cmp.Diff(want, a, protocmp.Transform()); d != "" {
		t.Error(d)
	}
	if j.Tenant != job.DefaultTenant || j.Lane != job.Interactive || !j.Deadline.IsZero() || j.Idempotent || j.RequestID != "mine" {
		t.Errorf("the job is %+v", j)
	}
	if !bytes.Equal(j.Inputs[0].Data, q.GetRawInputContents()[0]) {
		t.Errorf("the job's input is %v", j.Inputs[0].Data)
	}
}

// rawOf makes raw data of a few elements of a datatype, with its extremes.
func rawOf(dt job.Datatype) []byte {
	switch dt {
	case job.Bool:
		return []byte{1, 0, 1}
	case job.Bytes:
		return job.AppendBytesElement(job.AppendBytesElement(job.AppendBytesElement(nil, []byte("é")), nil), []byte("xyz"))
	case job.FP32:
		return raw32(float32(math.Inf(1)), -0.5, 3)
	case job.FP64:
		var b []byte
		for _, v := range []float64{math.Inf(-1), 0.1, math.MaxFloat64} {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
		return b
	default:
		b := make([]byte, 3*dt.Size())
		for i := range b {
			b[i] = byte(0x80 + 37*i) // with the sign bit here and there
		}
		return b
	}
}

// Every datatype comes back as it was sent: raw as raw, typed as typed where there is such a form.
func TestModelInferDatatypes(t *testing.T) {
	r := newRig(t, nil)
	r.work(t, echo)
	for dt := job.Bool; dt.Valid(); dt++ {
		t.Run(dt.String(), func(t *testing.T) {
			q := &inferencepb.ModelInferRequest{
				ModelName:        "echo-" + dt.String(),
				Inputs:           []*inferencepb.ModelInferRequest_InferInputTensor{{Name: "t", Datatype: dt.String(), Shape: []int64{3}}},
				RawInputContents: [][]byte{rawOf(dt)},
			}
			a, err := r.infer(t, q)
			if err != nil {
				t.Fatal(err)
			}
			if out := a.GetOutputs()[0]; len(a.GetRawOutputContents()) != 1 || !bytes.Equal(a.GetRawOutputContents()[0], rawOf(dt)) || out.GetContents() != nil || out.GetDatatype() != dt.String() {
				t.Fatalf("sent %v, came back %v", rawOf(dt), a)
			}
			q.Inputs[0].Contents, q.RawInputContents = typedContents(dt, rawOf(dt)), nil
			a, err = r.infer(t, q)
			if dt == job.FP16 || dt == job.BF16 {
				problemOf(t, err).want(t, codes.InvalidArgument, "invalid")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(a.GetRawOutputContents()) != 0 || a.GetParameters()["sheaf_job_id"].GetStringParam() == "" {
				t.Errorf("the answer to typed contents is %v", a)
			}
			if d := cmp.Diff(q.GetInputs()[0].GetContents(), a.GetOutputs()[0].GetContents(), protocmp.Transform()); d != "" {
				t.Error(d)
			}
		})
	}
}

// typedContents converts raw data as a client would, written apart from the server's conversion.
func typedContents(dt job.Datatype, raw []byte) *inferencepb.InferTensorContents {
	c := &inferencepb.InferTensorContents{}
	if dt == job.Bytes {
		c.BytesContents = [][]byte{[]byte("é"), {}, []byte("xyz")}
		return c
	}
	for b := range slices.Chunk(raw, dt.Size()) {
		var u uint64
		for i := range b {
			u |= uint64(b[i]) << (8 * i)
		}
		shift := 64 - 8*dt.Size()
		signed := int64(u<<shift) >> shift
		switch dt {
		case job.Bool:
			c.BoolContents = append(c.BoolContents, u == 1)
		case job.Int8, job.Int16, job.Int32:
			c.IntContents = append(c.IntContents, int32(signed))
		case job.Int64:
			c.Int64Contents = append(c.Int64Contents, signed)
		case job.Uint64:
			c.Uint64Contents = append(c.Uint64Contents, u)
		case job.FP32, job.FP16, job.BF16: // the last two have no form of their own
			c.Fp32Contents = append(c.Fp32Contents, math.Float32frombits(uint32(u)))
		case job.FP64:
			c.Fp64Contents = append(c.Fp64Contents, math.Float64frombits(u))
		default:
			c.UintContents = append(c.UintContents, uint32(u))
		}
	}
	return c
}

// Raw and typed outputs are never mixed: an output without a typed form makes all of them raw.
func TestTypedRequestWithAHalfFloatAnswer(t *testing.T) {
	r := newRig(t, nil)
	r.work(t, func(job.Job) job.Result {
		return job.Result{State: job.Succeeded, Outputs: []job.Tensor{
			{Name: "a", Datatype: job.FP32, Shape: []int64{1}, Data: raw32(1)},
			{Name: "b", Datatype: job.FP16, Shape: []int64{1}, Data: []byte{0, 1}},
		}}
	})
	q := digits(1)
	q.RawInputContents, q.Inputs[0].Contents = nil, &inferencepb.InferTensorContents{Fp32Contents: make([]float32, 4)}
	a, err := r.infer(t, q)
	if err != nil || len(a.GetRawOutputContents()) != 2 || a.GetOutputs()[0].GetContents() != nil {
		t.Errorf("%v %v", a, err)
	}
}

func TestModelInferRefuses(t *testing.T) {
	r := newRig(t, nil)
	for _, c := range []struct {
		name        string
		change      func(q *inferencepb.ModelInferRequest)
		code        codes.Code
		problem     string
		field, says string
	}{
		{"no model", func(q *inferencepb.ModelInferRequest) { q.ModelName = "" }, codes.InvalidArgument, "invalid", "model_name", ""},
		{"unknown model", func(q *inferencepb.ModelInferRequest) { q.ModelName = "none" }, codes.NotFound, "unknown-model", "model", ""},
		{"model that cannot be a name", func(q *inferencepb.ModelInferRequest) { q.ModelName = "../x" }, codes.NotFound, "unknown-model", "model", ""},
		{"unknown version", func(q *inferencepb.ModelInferRequest) { q.ModelVersion = "9" }, codes.NotFound, "unknown-model", "model_version", ""},
		{"no inputs", func(q *inferencepb.ModelInferRequest) { q.Inputs, q.RawInputContents = nil, nil }, codes.InvalidArgument, "invalid", "inputs", ""},
		{"raw and typed", func(q *inferencepb.ModelInferRequest) {
			q.Inputs[0].Contents = &inferencepb.InferTensorContents{Fp32Contents: make([]float32, 4)}
		}, codes.InvalidArgument, "invalid", "raw_input_contents", "either"},
		{"too few raw", func(q *inferencepb.ModelInferRequest) { q.RawInputContents = nil }, codes.InvalidArgument, "invalid", "inputs[0].data", ""},
		{"too many raw", func(q *inferencepb.ModelInferRequest) { q.RawInputContents = append(q.RawInputContents, nil) }, codes.InvalidArgument, "invalid", "raw_input_contents", ""},
		{"wrong shape", func(q *inferencepb.ModelInferRequest) {
			q.Inputs[0].Shape, q.RawInputContents[0] = []int64{1, 3}, make([]byte, 12)
		}, codes.InvalidArgument, "invalid", "inputs[0].shape", ""},
		{"wrong datatype", func(q *inferencepb.ModelInferRequest) { q.Inputs[0].Datatype = "FP23" }, codes.InvalidArgument, "invalid", "inputs[0].datatype", ""},
		{"unknown output", func(q *inferencepb.ModelInferRequest) {
			q.Outputs = []*inferencepb.ModelInferRequest_InferRequestedOutputTensor{{Name: "nothing"}}
		}, codes.InvalidArgument, "invalid", "outputs[0].name", ""},
		{"a sequence", func(q *inferencepb.ModelInferRequest) { q.Parameters = parameters{"sequence_id": number(1)} }, codes.Unimplemented, "unsupported", "parameters.sequence_id", "without a sequence"},
		{"a sequence's start", func(q *inferencepb.ModelInferRequest) { q.Parameters = parameters{"sequence_start": truth(false)} }, codes.Unimplemented, "unsupported", "parameters.sequence_start", ""},
		{"priority that is text", func(q *inferencepb.ModelInferRequest) { q.Parameters = parameters{"priority": text("high")} }, codes.InvalidArgument, "malformed", "parameters.priority", ""},
		{"negative timeout", func(q *inferencepb.ModelInferRequest) { q.Parameters = parameters{"timeout": number(-1)} }, codes.InvalidArgument, "malformed", "parameters.timeout", ""},
		{"classification", func(q *inferencepb.ModelInferRequest) {
			q.Outputs = []*inferencepb.ModelInferRequest_InferRequestedOutputTensor{{Name: "probabilities", Parameters: parameters{"classification": number(3)}}}
		}, codes.Unimplemented, "unsupported", "outputs[0].parameters.classification", ""},
		{"shared memory", func(q *inferencepb.ModelInferRequest) {
			q.Inputs[0].Parameters = parameters{"shared_memory_region": text("r")}
		}, codes.Unimplemented, "unsupported", "inputs[0].parameters.shared_memory_region", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := digits(1)
			c.change(q)
			_, err := r.infer(t, q)
			p := problemOf(t, err).want(t, c.code, c.problem)
			if got := p.reason.GetMetadata()["field"]; got != c.field || !strings.Contains(p.message, c.says) {
				t.Errorf("field %q: %s", got, p.message)
			}
			if p.bad.GetFieldViolations()[0].GetField() != c.field || p.retry != nil {
				t.Errorf("details %v %v", p.bad, p.retry)
			}
			if expected := p.reason.GetMetadata()["expected"]; strings.HasPrefix(c.field, "inputs[0].shape") && expected != "x FP32 [-1,4]" {
				t.Errorf("expected is %q", expected)
			}
		})
	}
	if len(r.queue.waiting) != 0 {
		t.Error("something was published")
	}
}

// The server's own parameters are not the job's, or jobs that differ in them alone would not share a batch.
func TestModelInferParameters(t *testing.T) {
	r := newRig(t, nil)
	jobs := r.seen(t, digitsResult)
	q := digits(1)
	q.Parameters = parameters{
		"priority": {ParameterChoice: &inferencepb.InferParameter_Uint64Param{Uint64Param: 1}}, "timeout": number(60_000_000),
		"binary_data_output": truth(true), "triton_enable_empty_final_response": truth(true), "zoom": number(2), "mode": text("x"),
	}
	a, err := r.infer(t, q)
	if err != nil {
		t.Fatal(err)
	}
	if !a.GetParameters()["triton_final_response"].GetBoolParam() {
		t.Errorf("the answer has the parameters %v", a.GetParameters())
	}
	j := <-jobs
	if want := []job.Parameter{{Name: "mode", Value: "x"}, {Name: "zoom", Value: int64(2)}}; !cmp.Equal(j.Parameters, want) {
		t.Errorf("the job has the parameters %v, expected %v", j.Parameters, want)
	}
}

// The soonest of all that bounds a job is its deadline.
func TestModelInferDeadline(t *testing.T) {
	for _, c := range []struct {
		name, model, metadata string
		timeout               int64         // microseconds
		call, want            time.Duration // 0: none
	}{
		{"nothing", "digits", "", 0, 0, 0},
		{"timeout", "digits", "", 1_500_000, 0, 1500 * time.Millisecond},
		{"longer than a clock", "digits", "", math.MaxInt64, 0, math.MaxInt64 / 1000 * 1000},
		{"metadata", "digits", "2s", 0, 0, 2 * time.Second},
		{"metadata before timeout", "digits", "2s", 3_000_000, 0, 2 * time.Second},
		{"timeout before metadata", "digits", "4s", 3_000_000, 0, 3 * time.Second},
		{"the call's", "digits", "", 0, 20 * time.Second, 20 * time.Second},
		{"the call's last", "digits", "", 2_000_000, 20 * time.Second, 2 * time.Second},
		{"the model's", "hasty", "", 0, 0, 5 * time.Second},
		{"the model's first", "hasty", "", 7_000_000, 20 * time.Second, 5 * time.Second},
		{"metadata before the model's own", "hasty", "7s", 0, 0, 7 * time.Second},
		{"timeout before the model's", "hasty", "", 2_000_000, 0, 2 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			jobs := r.seen(t, digitsResult)
			q := digits(1)
			q.ModelName = c.model
			if c.timeout > 0 {
				q.Parameters = parameters{"timeout": number(c.timeout)}
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			start := time.Now()
			if c.call > 0 {
				ctx, cancel = context.WithDeadline(ctx, start.Add(c.call))
				defer cancel()
			}
			if c.metadata != "" {
				d, err := time.ParseDuration(c.metadata)
				if err != nil {
					t.Fatal(err)
				}
				ctx = metadata.AppendToOutgoingContext(ctx, "sheaf-deadline", start.Add(d).Format(time.RFC3339Nano))
			}
			if _, err := callContext[inferencepb.ModelInferResponse](ctx, r, inferMethod, q); err != nil {
				t.Fatal(err)
			}
			took := time.Since(start) + 10*time.Millisecond // gRPC sends deadlines rounded
			j := <-jobs
			if c.want == 0 {
				if !j.Deadline.IsZero() {
					t.Errorf("the job has the deadline %s", j.Deadline)
				}
				return
			}
			if got := j.Deadline.Sub(start); got < c.want-10*time.Millisecond || got > c.want+took && c.want < time.Hour {
				t.Errorf("the job's deadline is in %s, expected %s", got, c.want)
			}
		})
	}
}

func TestModelInferMetadata(t *testing.T) {
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	r := newRig(t, nil)
	jobs := r.seen(t, digitsResult)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "sheaf-lane", "bulk", "traceparent", trace, "idempotency-key", `"k"`)
	first, err := callContext[inferencepb.ModelInferResponse](ctx, r, inferMethod, digits(1))
	if err != nil {
		t.Fatal(err)
	}
	j := <-jobs
	if j.Lane != job.Bulk || j.TraceParent != trace || !j.Idempotent || j.ID != job.DerivedID(job.DefaultTenant, "k") {
		t.Errorf("the job is %+v", j)
	}
	again := digits(1)
	again.Id = "another"
	second, err := callContext[inferencepb.ModelInferResponse](ctx, r, inferMethod, again)
	if err != nil || second.GetId() != "another" || second.GetParameters()["sheaf_job_id"].GetStringParam() != first.GetParameters()["sheaf_job_id"].GetStringParam() {
		t.Errorf("the repeated call is answered %v %v, the first %v", second, err, first)
	}
	for _, c := range []struct{ key, value, problem string }{
		{"sheaf-lane", "fast", "invalid"},
		{"sheaf-deadline", "soon", "malformed"},
		{"sheaf-deadline", "1000", "invalid"},
		{"idempotency-key", strings.Repeat("k", 256), "malformed"},
		{"idempotency-key", "", ""},
		{"traceparent", "nonsense", ""},
	} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), c.key, c.value)
		_, err := callContext[inferencepb.ModelInferResponse](ctx, r, inferMethod, digits(1))
		if c.problem == "" {
			if err != nil {
				t.Errorf("%s %q: %v", c.key, c.value, err)
			}
			continue
		}
		problemOf(t, err).want(t, codes.InvalidArgument, c.problem)
	}
	ctx = metadata.AppendToOutgoingContext(t.Context(), "idempotency-key", "a", "idempotency-key", "b")
	_, err = callContext[inferencepb.ModelInferResponse](ctx, r, inferMethod, digits(1))
	problemOf(t, err).want(t, codes.InvalidArgument, "malformed")
}

// A client that leaves, or whose call's deadline passes, is not computed for.
func TestModelInferClientLeaves(t *testing.T) {
	for _, c := range []struct {
		name string
		ctx  func(context.Context) (context.Context, context.CancelFunc)
		code codes.Code
	}{
		{"cancel", func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithCancel(ctx) }, codes.Canceled},
		{"deadline", func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 300*time.Millisecond)
		}, codes.DeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			ctx, cancel := c.ctx(t.Context())
			defer cancel()
			published := make(chan job.Ticket, 1)
			r.queue.onPublish = func(ticket job.Ticket, _ job.Job) { published <- ticket }
			done := make(chan error, 1)
			go func() {
				_, err := callContext[inferencepb.ModelInferResponse](ctx, r, inferMethod, digits(1))
				done <- err
			}()
			ticket := <-published
			if c.code == codes.Canceled {
				cancel()
			}
			if p := problemOf(t, <-done); p.code != c.code {
				t.Fatalf("%+v", p)
			}
			v, err := r.gateway.Find(t.Context(), "", ticket, patience)
			if err != nil || v.State != job.Canceled && v.State != job.Expired || c.code == codes.Canceled && v.State != job.Canceled {
				t.Errorf("the job is %+v %v", v, err)
			}
		})
	}
}

// A job that takes longer than the server lets a call wait goes on, and the client is told where.
func TestModelInferTakesLonger(t *testing.T) {
	r := newRig(t, func(s *settings) { s.api.InferTimeout = 20 * time.Millisecond })
	_, err := r.infer(t, digits(1))
	p := problemOf(t, err).want(t, codes.DeadlineExceeded, "timeout")
	id := p.reason.GetMetadata()["job_id"]
	if p.reason.GetMetadata()["job_status"] != "queued" || id != r.queue.last(t).ticket.String() || p.retry.GetRetryDelay().AsDuration() < time.Second {
		t.Errorf("%+v", p)
	}
}

func TestModelInferJobFails(t *testing.T) {
	for _, c := range []struct {
		state job.State
		code  job.Code
		want  codes.Code
	}{
		{job.Failed, job.CodeInference, codes.InvalidArgument},
		{job.Failed, job.CodeExhausted, codes.Internal},
		{job.Failed, "of-tomorrow", codes.Internal},
		{job.Canceled, job.CodeCanceled, codes.Aborted},
		{job.Expired, job.CodeExpired, codes.DeadlineExceeded},
	} {
		r := newRig(t, nil)
		r.work(t, func(job.Job) job.Result {
			return job.Result{State: c.state, Error: job.Errorf(c.code, "", "why %s", strings.Repeat("x", 5000))}
		})
		_, err := r.infer(t, digits(1))
		p := problemOf(t, err).want(t, c.want, string(c.code))
		if p.reason.GetMetadata()["job_id"] == "" || p.reason.GetMetadata()["job_status"] != c.state.String() || !strings.HasPrefix(p.message, "why") || len(p.message) > 2000 {
			t.Errorf("%+v", p)
		}
	}
}

// Each problem of the gateway has its code, and who may come back is told when.
func TestStatusCodes(t *testing.T) {
	for _, c := range []struct {
		code job.Code
		want codes.Code
		busy bool
	}{
		{job.CodeMalformed, codes.InvalidArgument, false},
		{job.CodeInvalid, codes.InvalidArgument, false},
		{job.CodeTooLarge, codes.InvalidArgument, false},
		{job.CodeInference, codes.InvalidArgument, false},
		{job.CodeUnknownModel, codes.NotFound, false},
		{gateway.CodeUnknownJob, codes.NotFound, false},
		{job.CodeExpired, codes.DeadlineExceeded, false},
		{gateway.CodeTimeout, codes.DeadlineExceeded, false},
		{job.CodeCanceled, codes.Aborted, false},
		{gateway.CodeFinished, codes.FailedPrecondition, false},
		{gateway.CodeKeyReused, codes.AlreadyExists, false},
		{gateway.CodeTenantFull, codes.ResourceExhausted, true},
		{gateway.CodeRateLimited, codes.ResourceExhausted, true},
		{gateway.CodeFull, codes.Unavailable, true},
		{gateway.CodeBusy, codes.Unavailable, true},
		{gateway.CodeOverloaded, codes.Unavailable, true},
		{gateway.CodeUnavailable, codes.Unavailable, true},
		{gateway.CodeTooManyWaiters, codes.Unavailable, true},
		{gateway.CodeUnsupported, codes.Unimplemented, false},
		{gateway.CodeUnauthorized, codes.Unauthenticated, false},
		{gateway.CodeForbidden, codes.PermissionDenied, false},
		{job.CodeExhausted, codes.Internal, false},
		{job.CodeInternal, codes.Internal, false},
		{"of-tomorrow", codes.Internal, false},
	} {
		t.Run(string(c.code), func(t *testing.T) {
			after := 7 * time.Second
			w := &wrapped{ask: func(context.Context, *gateway.Submission) (*gateway.Job, error) {
				return nil, &gateway.Problem{Code: c.code, Field: "here", Detail: "because", Busy: c.busy, After: after, Cause: errors.New("secret")}
			}}
			r := newRig(t, func(s *settings) { s.wrap = w.around })
			_, err := r.infer(t, digits(1))
			p := problemOf(t, err).want(t, c.want, string(c.code))
			if p.message != "here: because" || p.reason.GetReason() != strings.ToUpper(strings.ReplaceAll(string(c.code), "-", "_")) {
				t.Errorf("%+v", p)
			}
			if d := p.retry.GetRetryDelay().AsDuration(); c.busy != (p.retry != nil) || c.busy && (d < after || d > after+after/2) {
				t.Errorf("retry after %s", d)
			}
		})
	}
}

// The real refusals of what stands behind the gateway.
func TestModelInferOutages(t *testing.T) {
	for _, c := range []struct {
		err     error
		code    codes.Code
		problem string
	}{
		{queue.ErrTenantFull, codes.ResourceExhausted, "tenant-full"},
		{queue.ErrFull, codes.Unavailable, "full"},
		{queue.ErrUnavailable, codes.Unavailable, "unavailable"},
		{queue.ErrTooLarge, codes.InvalidArgument, "too-large"},
		{errors.New("a defect"), codes.Internal, "internal"},
	} {
		r := newRig(t, nil)
		r.queue.publishErr = c.err
		_, err := r.infer(t, digits(1))
		p := problemOf(t, err).want(t, c.code, c.problem)
		if (p.code == codes.Unavailable || p.code == codes.ResourceExhausted) != (p.retry != nil) || strings.Contains(p.message, "defect") {
			t.Errorf("%+v", p)
		}
	}
}

func TestModelInferMessageSize(t *testing.T) {
	q := digits(1000)
	size := proto.Size(q)
	r := newRig(t, func(s *settings) { s.api.MaxMessageBytes = size })
	r.work(t, digitsResult)
	if _, err := r.infer(t, q); err != nil {
		t.Errorf("a message of the limit: %v", err)
	}
	q.Id += "x"
	if _, err := r.infer(t, q); problemOf(t, err).code != codes.ResourceExhausted {
		t.Errorf("a larger message: %v", err)
	}
}
