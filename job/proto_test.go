package job_test

import (
	"math"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/inferencepb"
	"github.com/sheafml/sheaf/job/proto/sheafpb"
)

// These conversions go by way of the generated code, so that the codecs that are written by hand are compared with it.

func toTensors(list []job.Tensor) []*sheafpb.Tensor {
	var out []*sheafpb.Tensor
	for _, t := range list {
		out = append(out, &sheafpb.Tensor{Name: t.Name, Datatype: sheafpb.Datatype(t.Datatype), Shape: t.Shape, Data: t.Data})
	}
	return out
}

func fromTensors(list []*sheafpb.Tensor) []job.Tensor {
	var out []job.Tensor
	for _, t := range list {
		out = append(out, job.Tensor{Name: t.Name, Datatype: job.Datatype(t.Datatype), Shape: t.Shape, Data: t.Data})
	}
	return out
}

func toSheafJob(j *job.Job) *sheafpb.Job {
	m := &sheafpb.Job{
		Id: j.ID[:], Version: j.Version, RequestId: j.RequestID, Reply: j.Reply, Traceparent: j.TraceParent,
		Inputs: toTensors(j.Inputs), Outputs: j.Outputs, Idempotent: j.Idempotent, Webhook: j.Webhook, Fingerprint: j.Fingerprint,
	}
	if !j.CreatedAt.IsZero() {
		m.CreatedUnixMs = j.CreatedAt.UnixMilli()
	}
	if !j.Deadline.IsZero() {
		m.DeadlineUnixMs = j.Deadline.UnixMilli()
	}
	for _, p := range j.Parameters {
		q := &sheafpb.Parameter{Name: p.Name}
		switch v := p.Value.(type) {
		case bool:
			q.Value = &sheafpb.Parameter_BoolValue{BoolValue: v}
		case int64:
			q.Value = &sheafpb.Parameter_Int64Value{Int64Value: v}
		case float64:
			q.Value = &sheafpb.Parameter_DoubleValue{DoubleValue: v}
		case string:
			q.Value = &sheafpb.Parameter_StringValue{StringValue: v}
		}
		m.Parameters = append(m.Parameters, q)
	}
	return m
}

func toRecord(r *job.Result) *sheafpb.Record {
	m := &sheafpb.Record{
		State: sheafpb.State(r.State), Tenant: r.Tenant, Model: r.Model, Version: r.Version, RequestId: r.RequestID,
		Outputs: toTensors(r.Outputs), Attempts: uint32(r.Attempts),
		CreatedUnixMs: r.CreatedAt.UnixMilli(), FinishedUnixMs: r.FinishedAt.UnixMilli(),
		QueueUs: uint64(r.Timings.Queue.Microseconds()), BatchWaitUs: uint64(r.Timings.BatchWait.Microseconds()),
		InferUs: uint64(r.Timings.Infer.Microseconds()), BatchRows: uint32(r.Timings.BatchRows), Token: r.Token, Webhook: r.Webhook, Fingerprint: r.Fingerprint,
	}
	if r.Error != nil {
		m.Error = &sheafpb.Error{Code: string(r.Error.Code), Field: r.Error.Field, Detail: r.Error.Detail}
	}
	return m
}

func marshal(tb testing.TB, m proto.Message) []byte {
	tb.Helper()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func unmarshal(tb testing.TB, b []byte, m proto.Message) {
	tb.Helper()
	if err := proto.Unmarshal(b, m); err != nil {
		tb.Fatal(err)
	}
}

func TestSheafAgreesWithGeneratedCode(t *testing.T) {
	full := sampleJob(t)
	least := job.Job{ID: job.ID{1}, Lane: full.Lane, Tenant: full.Tenant, Model: full.Model, CreatedAt: full.CreatedAt}
	want := &sheafpb.Sheaf{Jobs: []*sheafpb.Job{toSheafJob(&full), toSheafJob(&least)}}
	var got sheafpb.Sheaf
	unmarshal(t, sheafEnvelope(full, least).Body, &got)
	if !proto.Equal(want, &got) {
		t.Errorf("the generated code reads %v, want %v", &got, want)
	}
	back := decodeSheaf(t, envelope(marshal(t, want), job.HeaderContentType, job.ContentTypeSheaf))
	if d := diff([]job.Decoded{{Job: full}, {Job: least}}, back); d != "" {
		t.Errorf("what the generated code wrote (-want +got):\n%s", d)
	}
}

func TestRecordAgreesWithGeneratedCode(t *testing.T) {
	for _, r := range []job.Result{sampleResult(t), failedResult(t)} {
		want := toRecord(&r)
		var got sheafpb.Record
		unmarshal(t, job.AppendRecord(nil, &r)[1:], &got)
		if !proto.Equal(want, &got) {
			t.Errorf("the generated code reads %v, want %v", &got, want)
		}
		back, err := job.DecodeRecord(r.ID, append([]byte{1}, marshal(t, want)...))
		if err != nil {
			t.Fatal(err)
		}
		if d := diff(r, back); d != "" {
			t.Errorf("what the generated code wrote (-want +got):\n%s", d)
		}
	}
}

func TestResponseAgreesWithGeneratedCode(t *testing.T) {
	r := sampleResult(t)
	want := &inferencepb.ModelInferResponse{ModelName: r.Model, ModelVersion: r.Version, Id: r.RequestID}
	for _, o := range r.Outputs {
		want.Outputs = append(want.Outputs, &inferencepb.ModelInferResponse_InferOutputTensor{Name: o.Name, Datatype: o.Datatype.String(), Shape: o.Shape})
		want.RawOutputContents = append(want.RawOutputContents, o.Data)
	}
	var got inferencepb.ModelInferResponse
	unmarshal(t, job.AppendResponseProtobuf(nil, &r), &got)
	if !proto.Equal(want, &got) {
		t.Errorf("got %v, want %v", &got, want)
	}
}

func boolParam(v bool) *inferencepb.InferParameter {
	return &inferencepb.InferParameter{ParameterChoice: &inferencepb.InferParameter_BoolParam{BoolParam: v}}
}

func uintParam(v uint64) *inferencepb.InferParameter {
	return &inferencepb.InferParameter{ParameterChoice: &inferencepb.InferParameter_Uint64Param{Uint64Param: v}}
}

// toRequest is the request of a job; with raw contents, or with typed ones where the datatype has them.
func toRequest(tb testing.TB, j *job.Job, raw bool) *inferencepb.ModelInferRequest {
	tb.Helper()
	m := &inferencepb.ModelInferRequest{ModelName: j.Model, ModelVersion: j.Version, Id: j.RequestID, Parameters: map[string]*inferencepb.InferParameter{}}
	for _, p := range j.Parameters {
		q := new(inferencepb.InferParameter)
		switch v := p.Value.(type) {
		case bool:
			q = boolParam(v)
		case int64:
			q.ParameterChoice = &inferencepb.InferParameter_Int64Param{Int64Param: v}
		case float64:
			q.ParameterChoice = &inferencepb.InferParameter_DoubleParam{DoubleParam: v}
		case string:
			q.ParameterChoice = &inferencepb.InferParameter_StringParam{StringParam: v}
		}
		m.Parameters[p.Name] = q
	}
	for _, name := range j.Outputs {
		m.Outputs = append(m.Outputs, &inferencepb.ModelInferRequest_InferRequestedOutputTensor{
			Name: name, Parameters: map[string]*inferencepb.InferParameter{"binary_data": boolParam(true)},
		})
	}
	for _, t := range j.Inputs {
		in := &inferencepb.ModelInferRequest_InferInputTensor{
			Name: t.Name, Datatype: t.Datatype.String(), Shape: t.Shape,
			Parameters: map[string]*inferencepb.InferParameter{"ignored": uintParam(1)},
		}
		if raw {
			m.RawInputContents = append(m.RawInputContents, t.Data)
		} else {
			in.Contents = toContents(tb, &t)
		}
		m.Inputs = append(m.Inputs, in)
	}
	return m
}

// toContents converts raw data with encoding/binary.
func toContents(tb testing.TB, t *job.Tensor) *inferencepb.InferTensorContents {
	tb.Helper()
	c := new(inferencepb.InferTensorContents)
	for rest := t.Data; len(rest) > 0; {
		size := t.Datatype.Size()
		if t.Datatype == job.Bytes {
			n := int(rest[0]) | int(rest[1])<<8 | int(rest[2])<<16 | int(rest[3])<<24
			c.BytesContents = append(c.BytesContents, rest[4:4+n])
			rest = rest[4+n:]
			continue
		}
		var v uint64
		for i := range size {
			v |= uint64(rest[i]) << (8 * i)
		}
		rest = rest[size:]
		switch t.Datatype {
		case job.Bool:
			c.BoolContents = append(c.BoolContents, v != 0)
		case job.Int8:
			c.IntContents = append(c.IntContents, int32(int8(v)))
		case job.Int16:
			c.IntContents = append(c.IntContents, int32(int16(v)))
		case job.Int32:
			c.IntContents = append(c.IntContents, int32(v))
		case job.Int64:
			c.Int64Contents = append(c.Int64Contents, int64(v))
		case job.Uint8, job.Uint16, job.Uint32:
			c.UintContents = append(c.UintContents, uint32(v))
		case job.Uint64:
			c.Uint64Contents = append(c.Uint64Contents, v)
		case job.FP32:
			c.Fp32Contents = append(c.Fp32Contents, math.Float32frombits(uint32(v)))
		case job.FP64:
			c.Fp64Contents = append(c.Fp64Contents, math.Float64frombits(v))
		default:
			tb.Fatalf("%s has no typed contents", t.Datatype)
		}
	}
	return c
}
