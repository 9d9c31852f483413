package job_test

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/inferencepb"
	"github.com/sheafml/sheaf/job/proto/sheafpb"
)

// fuzzLimits are small, so that they are met.
func fuzzLimits() job.Limits {
	return job.Limits{MaxBytes: 1 << 16, MaxRows: 64, MaxRank: 4, MaxElements: 1 << 12, MaxTensors: 4, MaxJobs: 8}
}

// checkJob fails unless what a decoder returned is consistent.
func checkJob(t *testing.T, j *job.Job, lim job.Limits) {
	t.Helper()
	if len(j.Inputs) > lim.MaxTensors || len(j.Outputs) > lim.MaxTensors {
		t.Fatalf("%d inputs and %d outputs are over the limit", len(j.Inputs), len(j.Outputs))
	}
	names := map[string]bool{}
	for i := range j.Inputs {
		if err := j.Inputs[i].Check("input", lim); err != nil {
			t.Fatal(err)
		}
		if names[j.Inputs[i].Name] {
			t.Fatalf("two inputs are named %q", j.Inputs[i].Name)
		}
		names[j.Inputs[i].Name] = true
	}
	for i, p := range j.Parameters {
		switch p.Value.(type) {
		case bool, int64, float64, string:
		default:
			t.Fatalf("parameter %q is a %T", p.Name, p.Value)
		}
		if i > 0 && j.Parameters[i-1].Name >= p.Name {
			t.Fatal("the parameters are not sorted")
		}
	}
}

func FuzzDecodeMessage(f *testing.F) {
	full := sampleJob(f)
	full.Inputs = full.Inputs[:4]
	typed := full
	types := []string{job.ContentTypeSheaf, job.ContentTypeProtobuf, job.ContentTypeJSON, "text/plain"}
	f.Add(byte(0), sheafEnvelope(full, job.Job{ID: job.ID{1}}).Body, "", "")
	f.Add(byte(0), brokenJob(job.ID{1}, wireTensor("x", 11, []int64{1, 1 << 40}, nil)), "", "")
	f.Add(byte(0), append(sheafEnvelope(full).Body, 0xb9, 0x83, 0xa1, 0xf7, 0x30, 0, 0, 0, 0, 0, 0, 0, 0), "", "") // a field number out of range
	f.Add(byte(0), brokenJob(job.ID{1}, text(10, "\x0a\x01p\x21\x00\x00\x00\x00\x00\x00\xf8\x7f")), "", "")
	f.Add(byte(1), marshal(f, toRequest(f, &full, true)), uuidA, "1749988800000")
	f.Add(byte(1), marshal(f, toRequest(f, &typed, false)), "", "2025-06-15T12:00:00Z")
	f.Add(byte(2), []byte(requestX), uuidA, "")
	f.Add(byte(3), []byte("x"), uuidA, "")
	f.Fuzz(func(t *testing.T, kind byte, body []byte, id, deadline string) {
		lim, ct := fuzzLimits(), types[int(kind)%len(types)]
		env := envelope(body, job.HeaderContentType, ct, job.HeaderID, id, job.HeaderDeadline, deadline)
		got, err := job.DecodeMessage(env, lim)
		if err == nil && len(got) == 0 {
			t.Fatal("neither a job nor an error")
		}
		whole, seen := err == nil, map[job.ID]bool{}
		for i := range got {
			j := &got[i].Job
			if j.ID.IsZero() || seen[j.ID] || j.Tenant != env.Tenant || j.Model != env.Model || j.Lane != env.Lane {
				t.Fatalf("job %d is %+v", i, j)
			}
			seen[j.ID] = true
			if got[i].Err != nil {
				whole = false
				continue
			}
			checkJob(t, j, lim)
			if err == nil && !job.ContainsJob(env, j.ID, i) {
				t.Fatalf("job %d cannot be found", i)
			}
			if p, _ := job.PeekJob(env, j.ID, i); err == nil && (!p.CreatedAt.Equal(j.CreatedAt) || !p.Deadline.Equal(j.Deadline) || p.Fingerprint != j.Fingerprint || p.Webhook != j.Webhook) {
				t.Fatalf("job %d: PeekJob says %+v; DecodeMessage %v, %v, %x, %q", i, p, j.CreatedAt, j.Deadline, j.Fingerprint, j.Webhook)
			}
			if back, err := job.DecodeMessage(sheafEnvelope(*j), lim); err != nil || diff(got[i:i+1], back) != "" {
				t.Fatalf("written and read again: %v\n%s", err, diff(got[i:i+1], back))
			}
		}
		if ct != job.ContentTypeSheaf {
			return
		}
		var m sheafpb.Sheaf
		if fault := proto.Unmarshal(body, &m); fault != nil && whole {
			t.Fatalf("the generated code refuses what was accepted: %v", fault)
		}
		if !whole {
			return
		}
		for i := range got {
			compareSheafJob(t, m.Jobs[i], &got[i].Job, env)
		}
	})
}

// compareSheafJob fails unless the generated code has read the same.
func compareSheafJob(t *testing.T, want *sheafpb.Job, j *job.Job, env *job.Envelope) {
	t.Helper()
	got := toSheafJob(j)
	if want.CreatedUnixMs == 0 && j.CreatedAt.Equal(env.Published) {
		got.CreatedUnixMs = 0
	}
	if got.Traceparent == "" {
		want.Traceparent = "" // a broken one is dropped
	}
	if d := diff(fromTensors(want.Inputs), j.Inputs); d != "" {
		t.Fatalf("inputs (-want +got):\n%s", d)
	}
	want.Inputs, got.Inputs = nil, nil
	if len(want.Parameters) != len(got.Parameters) {
		t.Fatalf("got %d parameters, want %d", len(got.Parameters), len(want.Parameters))
	}
	for _, p := range want.Parameters {
		p.ProtoReflect().SetUnknown(nil)
		found := false
		for _, q := range got.Parameters {
			found = found || proto.Equal(p, q)
		}
		if !found {
			t.Fatalf("parameter %v is not among %v", p, got.Parameters)
		}
	}
	want.Parameters, got.Parameters = nil, nil
	want.ProtoReflect().SetUnknown(nil)
	if !proto.Equal(want, got) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func FuzzDecodeRequestProtobuf(f *testing.F) {
	j := sampleJob(f)
	raw := j
	raw.Inputs = j.Inputs[:4]
	f.Add(marshal(f, toRequest(f, &raw, true)))
	for i := range j.Inputs {
		one := job.Job{Inputs: j.Inputs[i : i+1]}
		if dt := j.Inputs[i].Datatype; dt != job.FP16 && dt != job.BF16 {
			f.Add(marshal(f, toRequest(f, &one, false)))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var j job.Job
		err := job.DecodeRequestProtobuf(body, &j, fuzzLimits())
		if err != nil {
			return
		}
		checkJob(t, &j, fuzzLimits())
		var m inferencepb.ModelInferRequest
		if err := proto.Unmarshal(body, &m); err != nil {
			t.Fatalf("the generated code refuses what was accepted: %v", err)
		}
		if m.ModelName != j.Model || m.ModelVersion != j.Version || m.Id != j.RequestID || len(m.Parameters) != len(j.Parameters) {
			t.Fatalf("got %+v, want %v", j, &m)
		}
		for _, p := range j.Parameters {
			if want := parameterValue(m.Parameters[p.Name]); diff(want, p.Value) != "" {
				t.Fatalf("parameter %q is %v, want %v", p.Name, p.Value, want)
			}
		}
		for i, o := range m.Outputs {
			if j.Outputs[i] != o.Name {
				t.Fatalf("output %d is %q, want %q", i, j.Outputs[i], o.Name)
			}
		}
		for i, in := range m.Inputs {
			got := j.Inputs[i]
			if in.Name != got.Name || in.Datatype != got.Datatype.String() || diff(in.Shape, got.Shape) != "" {
				t.Fatalf("input %d is %+v, want %v", i, got, in)
			}
			want := fromContents(t, got.Datatype, in.Contents)
			if len(m.RawInputContents) > 0 {
				want = m.RawInputContents[i]
			}
			if !bytes.Equal(want, got.Data) {
				t.Fatalf("input %d holds %x, want %x", i, got.Data, want)
			}
		}
	})
}

func parameterValue(p *inferencepb.InferParameter) any {
	switch v := p.ParameterChoice.(type) {
	case *inferencepb.InferParameter_BoolParam:
		return v.BoolParam
	case *inferencepb.InferParameter_Int64Param:
		return v.Int64Param
	case *inferencepb.InferParameter_DoubleParam:
		return v.DoubleParam
	case *inferencepb.InferParameter_StringParam:
		return v.StringParam
	case *inferencepb.InferParameter_Uint64Param:
		return int64(v.Uint64Param)
	}
	return nil
}

// fromContents is the inverse of toContents, by encoding/binary.
func fromContents(t *testing.T, dt job.Datatype, c *inferencepb.InferTensorContents) []byte {
	t.Helper()
	var b []byte
	for _, v := range c.GetBoolContents() {
		b = append(b, le(t, v)...)
	}
	for _, v := range c.GetIntContents() {
		b = append(b, le(t, v)[:dt.Size()]...)
	}
	for _, v := range c.GetUintContents() {
		b = append(b, le(t, v)[:dt.Size()]...)
	}
	for _, v := range c.GetBytesContents() {
		b = job.AppendBytesElement(b, v)
	}
	b = append(b, le(t, c.GetInt64Contents(), c.GetUint64Contents())...)
	for _, v := range c.GetFp32Contents() {
		b = append(b, le(t, v)...)
	}
	return append(b, le(t, c.GetFp64Contents())...)
}

func FuzzDecodeRecord(f *testing.F) {
	for _, r := range []job.Result{sampleResult(f), failedResult(f), benchResultValue()} {
		f.Add(job.AppendRecord(nil, &r))
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		r, err := job.DecodeRecord(job.ID{1}, record)
		if err != nil {
			return
		}
		for i := range r.Outputs {
			job.AppendNestedJSON(nil, &r.Outputs[i])
		}
		var m sheafpb.Record
		if err := proto.Unmarshal(record[1:], &m); err != nil {
			t.Fatalf("the generated code refuses what was accepted: %v", err)
		}
		if d := diff(fromTensors(m.Outputs), r.Outputs); d != "" || uint64(m.State) != uint64(r.State) || m.Token != r.Token {
			t.Fatalf("got %+v, want %v\n%s", r, &m, d)
		}
		again, err := job.DecodeRecord(r.ID, job.AppendRecord(nil, &r))
		if err != nil {
			t.Fatal(err)
		}
		// Counts are written as far as an int32 goes.
		again.Attempts, again.Timings.BatchRows = r.Attempts, r.Timings.BatchRows
		if d := diff(r, again); d != "" {
			t.Fatalf("written and read again (-want +got):\n%s", d)
		}
	})
}

func benchResultValue() job.Result { return *benchResult() }

func FuzzParseTicket(f *testing.F) {
	f.Add(uuidA)
	f.Add(uuidA + ".i4821-3")
	f.Add(uuidA + ".b18446744073709551615-1048575")
	f.Fuzz(func(t *testing.T, s string) {
		ticket, err := job.ParseTicket(s)
		if err != nil {
			return
		}
		if text := ticket.String(); text != strings.ToLower(s) {
			t.Fatalf("%q was read as %q", s, text)
		}
		if again, err := job.ParseTicket(ticket.String()); err != nil || again != ticket {
			t.Fatalf("%+v was read again as %+v, %v", ticket, again, err)
		}
	})
}
