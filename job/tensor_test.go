package job_test

import (
	"math"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/job"
)

func TestTensorCheck(t *testing.T) {
	for _, s := range samples(t) {
		if err := s.tensor.Check("inputs[0]", job.DefaultLimits()); err != nil {
			t.Errorf("%s: %v", s.tensor.Datatype, err)
		}
		short := s.tensor
		short.Data = short.Data[:len(short.Data)-1]
		if err := short.Check("inputs[0]", job.DefaultLimits()); err == nil {
			t.Errorf("%s: a byte too few was accepted", s.tensor.Datatype)
		}
		long := s.tensor
		long.Data = append(append([]byte(nil), long.Data...), 0)
		if err := long.Check("inputs[0]", job.DefaultLimits()); err == nil {
			t.Errorf("%s: a byte too many was accepted", s.tensor.Datatype)
		}
	}
	tests := []struct {
		name          string
		tensor        job.Tensor
		field, detail string
	}{
		{"no name", job.Tensor{}, "x.name", "a tensor needs a name"},
		{"rank", job.Tensor{Name: "x", Datatype: job.Bool, Shape: make([]int64, 9)}, "x.shape", "expected at most 8 dimensions, got 9"},
		{"negative", job.Tensor{Name: "x", Datatype: job.Bool, Shape: []int64{1, -2}}, "x.shape", "dimension 1 is -2: a dimension cannot be negative"},
		{"length", job.Tensor{Name: "x", Datatype: job.FP32, Shape: []int64{2}}, "x.data", "expected 8 bytes for 2 elements of FP32, got 0"},
		{"BOOL", job.Tensor{Name: "x", Datatype: job.Bool, Shape: []int64{2}, Data: []byte{0, 9}}, "x.data", "element 1: a BOOL is the byte 0 or 1, got 9"},
		{"BYTES too few", job.Tensor{Name: "x", Datatype: job.Bytes, Shape: []int64{2}, Data: elements("a")}, "x.data", "expected 2 elements of BYTES, got 1"},
		{"BYTES too many", job.Tensor{Name: "x", Datatype: job.Bytes, Data: elements("a", "b")}, "x.data", "expected 1 elements of BYTES, got 2"},
		{"BYTES cut in the length", job.Tensor{Name: "x", Datatype: job.Bytes, Shape: []int64{1}, Data: []byte{1, 0}}, "x.data", "element 0: a BYTES element starts with its length as 4 bytes"},
		{"BYTES with a huge length", job.Tensor{Name: "x", Datatype: job.Bytes, Shape: []int64{1}, Data: []byte{255, 255, 255, 255, 1}}, "x.data", "element 0: its length says 4294967295 bytes, 1 are left"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wantError(t, tt.tensor.Check("x", job.DefaultLimits()), job.CodeInvalid, tt.field, tt.detail)
		})
	}
	bad := job.Tensor{Name: "x", Datatype: 15}
	if err := bad.Check("x", job.DefaultLimits()); err == nil || !strings.HasPrefix(err.Error(), "x.datatype: expected one of") {
		t.Errorf("got %v", err)
	}
}

func TestCheckShape(t *testing.T) {
	lim := job.DefaultLimits()
	lim.MaxElements = 1000
	tests := []struct {
		shape []int64
		want  int // -1: refused
	}{
		{nil, 1},
		{[]int64{0}, 0},
		{[]int64{10, 100}, 1000},
		{[]int64{1001}, -1},
		{[]int64{11, 100}, -1},
		{[]int64{0, 1000}, 0},
		{[]int64{0, 1001}, -1}, // else a loop over the second dimension is not bounded
		{[]int64{1001, 0}, -1},
		{[]int64{-1}, -1},
		{[]int64{math.MaxInt64, math.MaxInt64}, -1},
		{[]int64{math.MinInt64}, -1},
	}
	for _, tt := range tests {
		n, err := job.CheckShape("x", tt.shape, lim)
		if tt.want < 0 && err == nil || tt.want >= 0 && (err != nil || n != tt.want) {
			t.Errorf("%v: got %d, %v; want %d", tt.shape, n, err, tt.want)
		}
	}
}

func TestElements(t *testing.T) {
	tests := []struct {
		shape []int64
		want  int
	}{
		{nil, 1},
		{[]int64{2, 3}, 6},
		{[]int64{2, 0}, 0},
		{[]int64{-1}, -1},
		{[]int64{1 << 16, 1 << 16}, -1},
		{[]int64{math.MaxInt32}, math.MaxInt32},
		{[]int64{0, math.MaxInt64}, -1},
	}
	for _, tt := range tests {
		if got := job.Elements(tt.shape); got != tt.want {
			t.Errorf("%v: got %d, want %d", tt.shape, got, tt.want)
		}
	}
}

func TestRows(t *testing.T) {
	if got := (&job.Tensor{Shape: []int64{7, 2}}).Rows(); got != 7 {
		t.Errorf("got %d rows, want 7", got)
	}
	if got := (&job.Tensor{}).Rows(); got != 1 {
		t.Errorf("a scalar has %d rows, want 1", got)
	}
}

func TestDatatype(t *testing.T) {
	count := 0
	for d := range job.Datatype(255) {
		if !d.Valid() {
			if _, err := job.ParseDatatype(d.String()); err == nil || d.Size() != 0 {
				t.Errorf("%s is taken for a datatype", d)
			}
			continue
		}
		count++
		if got, err := job.ParseDatatype(d.String()); err != nil || got != d {
			t.Errorf("%s was read as %s, %v", d, got, err)
		}
	}
	if count != 14 {
		t.Errorf("there are %d datatypes, want the protocol's 13 and BF16", count)
	}
}

func TestNames(t *testing.T) {
	for s, want := range map[string]bool{
		"digits": true, "a": true, "0": true, "Model-1_v2.3": true, strings.Repeat("a", 128): true,
		"": false, ".a": false, "-a": false, "_a": false, "a b": false, "a/b": false, "é": false, "a\n": false, "a*": false,
		strings.Repeat("a", 129): false,
	} {
		if got := job.ValidName(s); got != want {
			t.Errorf("ValidName(%q) is %v", s, got)
		}
	}
	for s, want := range map[string]bool{
		"": true, "é 😀": true, "12345678": true, "123456789": false, "\xff": false, "a\n": false, "a\x7f": false, "\x00": false,
	} {
		if got := job.ValidText(s, 8); got != want {
			t.Errorf("ValidText(%q, 8) is %v", s, got)
		}
	}
}

func TestStatesAndLanes(t *testing.T) {
	for s := range job.State(9) {
		terminal := s == job.Succeeded || s == job.Failed || s == job.Canceled || s == job.Expired
		if s.Terminal() != terminal {
			t.Errorf("%s: Terminal is %v", s, s.Terminal())
		}
	}
	for _, l := range job.Lanes() {
		if got, err := job.ParseLane(l.String()); err != nil || got != l {
			t.Errorf("%s was read as %s, %v", l, got, err)
		}
	}
	if _, err := job.ParseLane("Bulk"); err == nil {
		t.Error("a lane in capitals was accepted")
	}
}
