package job_test

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/sheafml/sheaf/job"
)

func TestTensorJSONEveryDatatype(t *testing.T) {
	for _, s := range samples(t) {
		got := string(job.AppendTensorJSON(nil, &s.tensor))
		want := `{"name":"` + s.tensor.Name + `","shape":[2,1],"datatype":"` + s.tensor.Name + `","data":` + s.json + `}`
		if got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestNestedJSON(t *testing.T) {
	tensor := func(data []byte, shape ...int64) job.Tensor {
		return job.Tensor{Name: "y", Datatype: job.Int8, Shape: shape, Data: data}
	}
	tests := []struct {
		name   string
		tensor job.Tensor
		want   string
	}{
		{"scalar", tensor([]byte{7}), "7"},
		{"vector", tensor([]byte{7, 0xff}, 2), "[7,-1]"},
		{"matrix", tensor([]byte{1, 2, 3, 4, 5, 6}, 2, 3), "[[1,2,3],[4,5,6]]"},
		{"cube", tensor([]byte{1, 2, 3, 4}, 2, 1, 2), "[[[1,2]],[[3,4]]]"},
		{"no rows", tensor(nil, 0, 3), "[]"},
		{"no columns", tensor(nil, 2, 0), "[[],[]]"},
		{"no depth", tensor(nil, 2, 0, 3), "[[],[]]"},
		{"data too short", tensor([]byte{1}, 2), "null"},
		{"data too long", tensor([]byte{1, 2, 3}, 2), "null"},
		{"negative dimension", tensor(nil, -1), "null"},
		{"no datatype", job.Tensor{Shape: []int64{0}}, "null"},
		{"strings", job.Tensor{Datatype: job.Bytes, Shape: []int64{2, 1}, Data: elements("a", "b")}, `[["a"],["b"]]`},
		{"broken strings", job.Tensor{Datatype: job.Bytes, Shape: []int64{1}, Data: []byte{9, 0, 0, 0}}, "null"},
		{"not finite", job.Tensor{Datatype: job.FP32, Shape: []int64{3}, Data: le(t, float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)))}, "[null,null,null]"},
		{"not finite FP64", job.Tensor{Datatype: job.FP64, Shape: []int64{1}, Data: le(t, math.NaN())}, "[null]"},
		{"not finite FP16", job.Tensor{Datatype: job.FP16, Shape: []int64{3}, Data: le(t, uint16(0x7c00), uint16(0xfc00), uint16(0x7e00))}, "[null,null,null]"},
		{"negative zero", job.Tensor{Datatype: job.FP32, Data: le(t, float32(math.Copysign(0, -1)))}, "-0"},
		{"shortest FP32", job.Tensor{Datatype: job.FP32, Data: le(t, float32(0.1))}, "0.1"},
		{"large without exponent", job.Tensor{Datatype: job.FP64, Data: le(t, 1e20)}, "100000000000000000000"},
		{"larger with exponent", job.Tensor{Datatype: job.FP64, Data: le(t, 1e21)}, "1e+21"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(job.AppendNestedJSON(nil, &tt.tensor)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestTensorJSONOfBrokenTensorIsStillJSON(t *testing.T) {
	for _, tensor := range []job.Tensor{{}, {Datatype: 99, Shape: []int64{1}}, {Name: "\xff", Datatype: job.FP32, Shape: []int64{-1}}} {
		if got := job.AppendTensorJSON(nil, &tensor); !json.Valid(got) {
			t.Errorf("%+v: %s is not JSON", tensor, got)
		}
	}
}

func TestJSONStrings(t *testing.T) {
	for _, s := range []string{"", "plain", "\"\\/", "\x00\x1f\x7f\n\r\t", "é😀\u2028", "a\xffb", "\xe2\x82", "\xed\xa0\x80", "ends in \xf0\x9f\x98"} {
		tensor := job.Tensor{Datatype: job.Bytes, Data: elements(s)}
		b := job.AppendNestedJSON(nil, &tensor)
		var got string
		if err := json.Unmarshal(b, &got); err != nil {
			t.Errorf("%q: %s: %v", s, b, err)
		}
		if want := string([]rune(s)); got != want { // a conversion to runes replaces byte by byte, as is documented
			t.Errorf("%q became %q, want %q", s, got, want)
		}
	}
}

func TestResponseJSON(t *testing.T) {
	r := job.Result{Model: "digits"}
	if got, want := string(job.AppendResponseJSON([]byte("x"), &r)), `x{"model_name":"digits","outputs":[]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	r.Version, r.RequestID = "2", `my "id"`
	r.Outputs = []job.Tensor{
		{Name: "a", Datatype: job.Int8, Shape: []int64{1, 2}, Data: []byte{1, 2}},
		{Name: "b", Datatype: job.Bool, Data: []byte{1}},
	}
	want := `{"model_name":"digits","model_version":"2","id":"my \"id\"","outputs":[` +
		`{"name":"a","shape":[1,2],"datatype":"INT8","data":[1,2]},{"name":"b","shape":[],"datatype":"BOOL","data":[true]}]}`
	if got := string(job.AppendResponseJSON(nil, &r)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
