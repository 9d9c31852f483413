package job_test

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/inferencepb"
)

// requested is what a request can say of the sample job.
func requested(j job.Job) job.Job {
	return job.Job{Model: j.Model, Version: j.Version, RequestID: j.RequestID, Inputs: j.Inputs, Outputs: j.Outputs, Parameters: j.Parameters}
}

func decodeProto(b []byte) (job.Job, error) {
	var j job.Job
	err := job.DecodeRequestProtobuf(b, &j, job.DefaultLimits())
	return j, err
}

func TestRequestProtobufRaw(t *testing.T) {
	want := sampleJob(t)
	got, err := decodeProto(marshal(t, toRequest(t, &want, true)))
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(requested(want), got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestRequestProtobufContents(t *testing.T) {
	want := sampleJob(t)
	var typed []job.Tensor
	for _, in := range want.Inputs {
		if in.Datatype != job.FP16 && in.Datatype != job.BF16 {
			typed = append(typed, in)
		}
	}
	want.Inputs = typed
	got, err := decodeProto(marshal(t, toRequest(t, &want, false)))
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(requested(want), got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// An old encoder writes repeated numbers one by one; protobuf allows both in one message, and the message in pieces.
func TestRequestProtobufContentsUnpackedAndInPieces(t *testing.T) {
	one := func(num protowire.Number, typ protowire.Type, v uint64) []byte {
		b := protowire.AppendTag(nil, num, typ)
		switch typ {
		case protowire.Fixed32Type:
			return protowire.AppendFixed32(b, uint32(v))
		case protowire.Fixed64Type:
			return protowire.AppendFixed64(b, v)
		default:
			return protowire.AppendVarint(b, v)
		}
	}
	f32, f64 := uint64(math.Float32bits(1.5)), math.Float64bits(2.5)
	tests := []struct {
		datatype string
		field    []byte
		want     []byte
	}{
		{"BOOL", one(1, protowire.VarintType, 1), []byte{1, 1}},
		{"INT8", one(2, protowire.VarintType, 0xffff_ffff_ffff_fffe), le(t, int8(-2), int8(-2))},
		{"INT64", one(3, protowire.VarintType, 0xffff_ffff_ffff_fffe), le(t, int64(-2), int64(-2))},
		{"UINT16", one(4, protowire.VarintType, 7), le(t, uint16(7), uint16(7))},
		{"UINT64", one(5, protowire.VarintType, 7), le(t, uint64(7), uint64(7))},
		{"FP32", one(6, protowire.Fixed32Type, f32), le(t, float32(1.5), float32(1.5))},
		{"FP64", one(7, protowire.Fixed64Type, f64), le(t, 2.5, 2.5)},
		{"FP32", protowire.AppendBytes([]byte{0x32}, le(t, float32(3))), le(t, float32(3), float32(3))},
	}
	for _, tt := range tests {
		in := &inferencepb.ModelInferRequest_InferInputTensor{Name: "x", Datatype: tt.datatype, Shape: []int64{2}}
		b := marshal(t, in)
		for range 2 {
			b = protowire.AppendBytes(protowire.AppendTag(b, 5, protowire.BytesType), tt.field)
		}
		got, err := decodeProto(protowire.AppendBytes([]byte{0x2a}, b))
		if err != nil {
			t.Errorf("%s: %v", tt.datatype, err)
			continue
		}
		if d := diff(tt.want, got.Inputs[0].Data); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.datatype, d)
		}
	}
}

func TestRequestProtobufThatIsRefused(t *testing.T) {
	type (
		request  = inferencepb.ModelInferRequest
		input    = inferencepb.ModelInferRequest_InferInputTensor
		contents = inferencepb.InferTensorContents
	)
	with := func(in *input, raw ...[]byte) *request { return &request{Inputs: []*input{in}, RawInputContents: raw} }
	x := func(dt string, c *contents, shape ...int64) *input {
		return &input{Name: "x", Datatype: dt, Shape: shape, Contents: c}
	}
	four := make([]byte, 4)
	tests := []struct {
		name string
		req  *request
		err  *job.Error
	}{
		{
			"300 in UINT8", with(x("UINT8", &contents{UintContents: []uint32{1, 300}}, 2)),
			job.Invalidf("inputs[0].contents.uint_contents", "element 1: 300 does not fit UINT8"),
		},
		{
			"-129 in INT8", with(x("INT8", &contents{IntContents: []int32{-129}}, 1)),
			job.Invalidf("inputs[0].contents.int_contents", "element 0: -129 does not fit INT8"),
		},
		{
			"32768 in INT16", with(x("INT16", &contents{IntContents: []int32{32768}}, 1)),
			job.Invalidf("inputs[0].contents.int_contents", "element 0: 32768 does not fit INT16"),
		},
		{
			"FP16 typed", with(x("FP16", &contents{Fp32Contents: []float32{1}}, 1)),
			job.Invalidf("inputs[0].contents", "FP16 has no typed contents: use raw_input_contents"),
		},
		{
			"wrong field", with(x("FP32", &contents{Fp64Contents: []float64{1}}, 1)),
			job.Invalidf("inputs[0].contents", "expected the elements of FP32 in fp32_contents, found them in another field"),
		},
		{
			"too many", with(x("INT64", &contents{Int64Contents: []int64{1, 2, 3}}, 2)),
			job.Invalidf("inputs[0].contents.int64_contents", "expected 2 elements for the shape, got more"),
		},
		{
			"too few", with(x("FP32", &contents{Fp32Contents: []float32{1}}, 2)),
			job.Invalidf("inputs[0].data", "expected 8 bytes for 2 elements of FP32, got 4"),
		},
		{
			"raw and contents", with(x("FP32", &contents{Fp32Contents: []float32{1}}, 1), four),
			job.Invalidf("raw_input_contents", "expected either raw_input_contents or contents, found both"),
		},
		{
			"two raw for one input", with(x("FP32", nil, 1), four, four),
			job.Invalidf("raw_input_contents", "expected one element for each of the 1 inputs, got 2"),
		},
		{"raw too short", with(x("FP32", nil, 2), four), job.Invalidf("inputs[0].data", "expected 8 bytes for 2 elements of FP32, got 4")},
		{"no data", with(x("FP32", nil, 2)), job.Invalidf("inputs[0].data", "expected 8 bytes for 2 elements of FP32, got 0")},
		{
			"negative dimension", with(x("FP32", &contents{Fp32Contents: []float32{1}}, -1)),
			job.Invalidf("inputs[0].shape", "dimension 0 is -1: a dimension cannot be negative"),
		},
		{"rank", with(x("FP32", nil, make([]int64, 9)...)), job.Invalidf("inputs[0].shape", "expected at most 8 dimensions, the shape has more")},
		{"no name", with(&input{Datatype: "FP32", Shape: []int64{0}}), job.Invalidf("inputs[0].name", "a tensor needs a name")},
		{
			"one name twice", &request{Inputs: []*input{x("FP32", nil, 0), x("FP32", nil, 0)}},
			job.Invalidf("inputs[1].name", "the same name as inputs[0]; each input is given once"),
		},
		{
			"parameter too large", &request{Parameters: map[string]*inferencepb.InferParameter{"p": uintParam(1 << 63)}},
			job.Invalidf("parameters", "9223372036854775808 does not fit a signed 64-bit integer"),
		},
		{
			"parameter of nothing", &request{Parameters: map[string]*inferencepb.InferParameter{"p": {}}},
			job.Invalidf("parameters.p", "expected a boolean, an integer, a number or a string"),
		},
		{
			"version", &request{ModelVersion: "a/b"},
			job.Invalidf("model_version", "expected a version: 1 to 128 letters, digits, '-', '_' and '.', starting with a letter or a digit"),
		},
		{"id", &request{Id: "a\nb"}, job.Errorf(job.CodeMalformed, "id", "expected valid UTF-8 without control characters, at most 1024 bytes")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := decodeProto(marshal(t, tt.req))
			wantError(t, err, tt.err.Code, tt.err.Field, tt.err.Detail)
		})
	}
	t.Run("unknown datatype", func(t *testing.T) {
		_, err := decodeProto(marshal(t, with(x("FLOAT", nil, 0))))
		if err == nil || !strings.HasPrefix(err.Error(), "inputs[0].datatype: expected one of") {
			t.Errorf("got %v", err)
		}
	})
}

func TestRequestProtobufEmptyContentsBesideRaw(t *testing.T) {
	j := job.Job{Inputs: []job.Tensor{{Name: "x", Datatype: job.FP16, Shape: []int64{2}, Data: []byte{1, 2, 3, 4}}}}
	m := toRequest(t, &j, true)
	m.Inputs[0].Contents = new(inferencepb.InferTensorContents)
	got, err := decodeProto(marshal(t, m))
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(j, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestRequestProtobufCutOffAnywhere(t *testing.T) {
	j := sampleJob(t)
	whole := marshal(t, toRequest(t, &j, true))
	for n := range whole {
		// A prefix that ends between fields is protobuf, but then the raw contents do not match the inputs.
		if _, err := decodeProto(whole[:n]); err == nil && proto.Unmarshal(whole[:n], new(inferencepb.ModelInferRequest)) != nil {
			t.Fatalf("%d of %d bytes were accepted", n, len(whole))
		}
	}
}

func TestRequestProtobufTooLarge(t *testing.T) {
	lim := job.DefaultLimits()
	lim.MaxBytes = 3
	err := job.DecodeRequestProtobuf([]byte("four"), new(job.Job), lim)
	wantError(t, err, job.CodeTooLarge, "", "expected at most 3 bytes, got 4")
}
