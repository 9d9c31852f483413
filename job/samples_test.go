package job_test

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sheafml/sheaf/job"
)

// le lays out values as raw tensor data.
func le(tb testing.TB, values ...any) []byte {
	tb.Helper()
	var b []byte
	for _, v := range values {
		var err error
		if b, err = binary.Append(b, binary.LittleEndian, v); err != nil {
			tb.Fatal(err)
		}
	}
	return b
}

func elements(texts ...string) []byte {
	var b []byte
	for _, s := range texts {
		b = job.AppendBytesElement(b, []byte(s))
	}
	return b
}

// sample is a tensor of two elements with the JSON of its data: the least and the largest of its datatype, or what
// comes closest.
type sample struct {
	tensor job.Tensor
	json   string
}

// samples has one tensor of every datatype.
func samples(tb testing.TB) []sample {
	tb.Helper()
	s := func(dt job.Datatype, data []byte, json string) sample {
		return sample{job.Tensor{Name: dt.String(), Datatype: dt, Shape: []int64{2, 1}, Data: data}, json}
	}
	return []sample{
		s(job.Bool, []byte{0, 1}, "[false,true]"),
		s(job.Uint8, le(tb, uint8(0), uint8(math.MaxUint8)), "[0,255]"),
		s(job.Uint16, le(tb, uint16(0), uint16(math.MaxUint16)), "[0,65535]"),
		s(job.Uint32, le(tb, uint32(0), uint32(math.MaxUint32)), "[0,4294967295]"),
		s(job.Uint64, le(tb, uint64(0), uint64(math.MaxUint64)), "[0,18446744073709551615]"),
		s(job.Int8, le(tb, int8(math.MinInt8), int8(math.MaxInt8)), "[-128,127]"),
		s(job.Int16, le(tb, int16(math.MinInt16), int16(math.MaxInt16)), "[-32768,32767]"),
		s(job.Int32, le(tb, int32(math.MinInt32), int32(math.MaxInt32)), "[-2147483648,2147483647]"),
		s(job.Int64, le(tb, int64(math.MinInt64), int64(math.MaxInt64)), "[-9223372036854775808,9223372036854775807]"),
		s(job.FP16, le(tb, uint16(0x0001), uint16(0xfbff)), "[5.9604645e-08,-65504]"),
		s(job.BF16, le(tb, uint16(0x0001), uint16(0xff7f)), "[9.1835e-41,-3.3895314e+38]"),
		s(job.FP32, le(tb, float32(math.SmallestNonzeroFloat32), float32(-math.MaxFloat32)), "[1e-45,-3.4028235e+38]"),
		s(job.FP64, le(tb, math.SmallestNonzeroFloat64, -math.MaxFloat64), "[5e-324,-1.7976931348623157e+308]"),
		s(job.Bytes, elements("", "héllo \"\\\n\u2028😀"), "[\"\",\"héllo \\\"\\\\\\n\u2028😀\"]"),
	}
}

// sampleJob uses every field of a job.
func sampleJob(tb testing.TB) job.Job {
	tb.Helper()
	j := job.Job{
		ID:   job.ID{0x01, 0x98, 0xf3, 0xc2, 0x7b, 0x1e, 0x7c, 0x33, 0x9d, 0x5f, 0x3c, 0x6b, 0x7a, 0x2f, 0x8e, 0x11},
		Lane: job.Bulk, Tenant: "acme", Model: "digits", Version: "3", RequestID: "order 66 é",
		Outputs: []string{"probabilities", "label"},
		Parameters: []job.Parameter{
			{Name: "flag", Value: true},
			{Name: "priority", Value: int64(-7)},
			{Name: "scale", Value: 0.5},
			{Name: "tag", Value: "ü"},
		},
		CreatedAt: time.UnixMilli(1_750_000_000_123).UTC(), Deadline: time.UnixMilli(1_750_000_060_000).UTC(),
		Reply: "_INBOX.abc.1", TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Idempotent: true,
		Webhook: "https://hooks.example/sheaf?key=a%20b", Fingerprint: 0xfedcba9876543210,
	}
	for _, s := range samples(tb) {
		j.Inputs = append(j.Inputs, s.tensor)
	}
	j.Inputs = append(
		j.Inputs,
		job.Tensor{Name: "scalar", Datatype: job.FP32, Data: le(tb, float32(1.5))},
		job.Tensor{Name: "empty", Datatype: job.Int64, Shape: []int64{0, 3}},
	)
	return j
}

// sampleResult uses every field of a succeeded result.
func sampleResult(tb testing.TB) job.Result {
	tb.Helper()
	j := sampleJob(tb)
	return job.Result{
		ID: j.ID, State: job.Succeeded, Tenant: j.Tenant, Model: j.Model, Version: j.Version, RequestID: j.RequestID, Webhook: j.Webhook, Fingerprint: j.Fingerprint,
		Outputs: j.Inputs, Attempts: 2, CreatedAt: j.CreatedAt, FinishedAt: j.CreatedAt.Add(1500 * time.Millisecond),
		Timings: job.Timings{Queue: 1234 * time.Microsecond, BatchWait: 56 * time.Microsecond, Infer: 7 * time.Microsecond, BatchRows: 64},
		Token:   math.MaxUint64,
	}
}

// envelope wraps a body; headers are pairs of key and value.
func envelope(body []byte, headers ...string) *job.Envelope {
	return &job.Envelope{
		Lane: job.Bulk, Tenant: "acme", Model: "digits", Published: time.UnixMilli(1_750_000_000_500).UTC(), Body: body,
		Header: func(key string) string {
			for i := 0; i < len(headers); i += 2 {
				if headers[i] == key {
					return headers[i+1]
				}
			}
			return ""
		},
	}
}

func sheafEnvelope(jobs ...job.Job) *job.Envelope {
	var body []byte
	for i := range jobs {
		body = job.AppendJob(body, &jobs[i])
	}
	return envelope(body, job.HeaderContentType, job.ContentTypeSheaf)
}

// diff compares; an empty list is no list.
func diff(want, got any) string {
	return cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateNaNs())
}

// wantError fails unless err is a *job.Error of that code, field and detail.
func wantError(t *testing.T, err error, code job.Code, field, detail string) {
	t.Helper()
	e, ok := err.(*job.Error) //nolint:errorlint // the contract is the type itself
	if !ok {
		t.Fatalf("got error %#v, want a *job.Error", err)
	}
	if d := cmp.Diff(&job.Error{Code: code, Field: field, Detail: detail}, e); d != "" {
		t.Errorf("error (-want +got):\n%s", d)
	}
}
