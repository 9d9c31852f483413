package model_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// two takes an image and a scale for each row, and gives two outputs.
func two() *model.Signature {
	return &model.Signature{
		Inputs: []model.TensorSpec{
			{Name: "x", Datatype: job.FP32, Shape: []int64{-1, 2}},
			{Name: "scale", Datatype: job.Int8, Shape: []int64{-1}},
		},
		Outputs: []model.TensorSpec{
			{Name: "label", Datatype: job.Int64, Shape: []int64{-1}},
			{Name: "probabilities", Datatype: job.FP32, Shape: []int64{-1, 10}},
		},
		Batchable: true,
	}
}

// fixed takes one matrix and cannot be batched.
func fixed() *model.Signature {
	return &model.Signature{
		Inputs:  []model.TensorSpec{{Name: "x", Datatype: job.FP32, Shape: []int64{2, -1}}},
		Outputs: []model.TensorSpec{{Name: "y", Datatype: job.FP32, Shape: []int64{}}},
	}
}

func tensor(name string, datatype job.Datatype, shape ...int64) job.Tensor {
	return job.Tensor{Name: name, Datatype: datatype, Shape: shape, Data: make([]byte, max(0, job.Elements(shape))*datatype.Size())}
}

func x(rows int64) job.Tensor     { return tensor("x", job.FP32, rows, 2) }
func scale(rows int64) job.Tensor { return tensor("scale", job.Int8, rows) }

func TestCheckAccepts(t *testing.T) {
	tests := []struct {
		name      string
		signature *model.Signature
		inputs    []job.Tensor
		outputs   []string
		rows      int
	}{
		{"in order", two(), []job.Tensor{x(3), scale(3)}, nil, 3},
		{"in another order", two(), []job.Tensor{scale(1), x(1)}, nil, 1},
		{"as many rows as allowed", two(), []job.Tensor{x(5), scale(5)}, nil, 5},
		{"some outputs", two(), []job.Tensor{x(1), scale(1)}, []string{"probabilities"}, 1},
		{"every output in another order", two(), []job.Tensor{x(1), scale(1)}, []string{"probabilities", "label"}, 1},
		{"not batchable", fixed(), []job.Tensor{tensor("x", job.FP32, 2, 7)}, []string{"y"}, 1},
		{"a dimension that varies may be zero", fixed(), []job.Tensor{tensor("x", job.FP32, 2, 0)}, nil, 1},
	}
	limits := job.DefaultLimits()
	limits.MaxRows = 5
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := &job.Job{Inputs: tt.inputs, Outputs: tt.outputs}
			rows, err := tt.signature.Check(j, limits)
			if err != nil || rows != tt.rows {
				t.Fatalf("got %d rows, %v, want %d", rows, err, tt.rows)
			}
			for i, spec := range tt.signature.Inputs {
				if j.Inputs[i].Name != spec.Name {
					t.Errorf("input %d is %q after the check, want %q", i, j.Inputs[i].Name, spec.Name)
				}
			}
		})
	}
}

func TestCheckRefuses(t *testing.T) {
	short := x(2)
	short.Data = short.Data[1:]
	tests := []struct {
		name    string
		inputs  []job.Tensor
		outputs []string
		field   string
		detail  string
	}{
		{"no inputs", nil, nil, "inputs", `expected the inputs "x", "scale", input "x" is missing`},
		{"a missing input", []job.Tensor{x(1)}, nil, "inputs", `input "scale" is missing`},
		{"an unknown input", []job.Tensor{x(1), tensor("size", job.Int8, 1)}, nil, "inputs[1].name", `expected one of "x", "scale", got "size"`},
		{"one input too many", []job.Tensor{x(1), scale(1), tensor("size", job.Int8, 1)}, nil, "inputs[2].name", `got "size"`},
		{"an input twice", []job.Tensor{x(1), scale(1), x(1)}, nil, "inputs[2].name", `input "x" is given twice, first as inputs[0]`},
		{"an input twice and one missing", []job.Tensor{x(1), x(1)}, nil, "inputs[1].name", "is given twice"},
		{"too many inputs", slices.Repeat([]job.Tensor{x(1)}, 5), nil, "inputs", "expected at most 4 inputs, got 5"},
		{"another datatype", []job.Tensor{tensor("x", job.FP64, 1, 2), scale(1)}, nil, "inputs[0].datatype", "expected FP32, got FP64"},
		{"no datatype", []job.Tensor{tensor("x", 0, 1, 2), scale(1)}, nil, "inputs[0].datatype", "expected one of"},
		{"another rank", []job.Tensor{tensor("x", job.FP32, 2), scale(1)}, nil, "inputs[0].shape", "expected [-1,2], got [2]"},
		{"another dimension", []job.Tensor{tensor("x", job.FP32, 1, 3), scale(1)}, nil, "inputs[0].shape", "expected [-1,2], got [1,3]"},
		{"out of order", []job.Tensor{scale(1), tensor("x", job.FP32, 1, 3)}, nil, "inputs[1].shape", "expected [-1,2], got [1,3]"},
		{"a negative dimension", []job.Tensor{tensor("x", job.FP32, -1, 2), scale(1)}, nil, "inputs[0].shape", "dimension 0 is -1"},
		{"a huge dimension", []job.Tensor{tensor("x", job.FP32, 1<<62, 2), scale(1)}, nil, "inputs[0].shape", "elements"},
		{"too many dimensions", []job.Tensor{tensor("x", job.FP32, make([]int64, 1000)...), scale(1)}, nil, "inputs[0].shape", "expected at most 8 dimensions, got 1000"},
		{"rows that disagree", []job.Tensor{x(2), scale(3)}, nil, "inputs[1].shape", `expected 2 rows, as many as input "x" has, got 3`},
		{"no rows", []job.Tensor{x(0), scale(0)}, nil, "inputs[0].shape", "expected at least 1 row, got 0"},
		{"too many rows", []job.Tensor{x(6), scale(6)}, nil, "inputs[0].shape", "expected at most 5 rows in one job, got 6"},
		{"too little data", []job.Tensor{short, scale(2)}, nil, "inputs[0].data", "expected 16 bytes"},
		{"an unknown output", []job.Tensor{x(1), scale(1)}, []string{"label", "score"}, "outputs[1].name", `expected one of "label", "probabilities", got "score"`},
		{"an output twice", []job.Tensor{x(1), scale(1)}, []string{"label", "label"}, "outputs[1].name", "asked for twice"},
		{"too many outputs", []job.Tensor{x(1), scale(1)}, make([]string, 5), "outputs", "expected at most 4 outputs, got 5"},
		{"a long name", []job.Tensor{tensor(strings.Repeat("n", 1000), job.FP32), scale(1)}, nil, "inputs[0].name", `nnn"…`},
	}
	limits := job.DefaultLimits()
	limits.MaxRows, limits.MaxTensors = 5, 4
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := slices.Clone(tt.inputs)
			_, err := two().Check(&job.Job{Inputs: tt.inputs, Outputs: tt.outputs}, limits)
			var invalid *job.Error
			if !errors.As(err, &invalid) {
				t.Fatalf("got %v, want a *job.Error", err)
			}
			if invalid.Code != job.CodeInvalid || invalid.Field != tt.field || !strings.Contains(invalid.Detail, tt.detail) {
				t.Errorf("got %s %q: %q, want %q: %q", invalid.Code, invalid.Field, invalid.Detail, tt.field, tt.detail)
			}
			if len(invalid.Detail) > 300 {
				t.Errorf("the error has %d bytes", len(invalid.Detail))
			}
			if diff := cmp.Diff(before, tt.inputs); diff != "" {
				t.Errorf("the inputs have changed: %s", diff)
			}
		})
	}
}

func TestCheckAllocatesLittle(t *testing.T) {
	signature, limits := two(), job.DefaultLimits()
	j := &job.Job{Inputs: []job.Tensor{x(1), scale(1)}}
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := signature.Check(j, limits); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 2 {
		t.Errorf("a check of two inputs allocates %v times", allocs)
	}
}

func TestFit(t *testing.T) {
	tests := []struct {
		name      string
		spec      []int64
		batchable bool
		shape     []int64
		full      []int64
		single    bool
		detail    string
	}{
		{"full rank", []int64{-1, 64}, true, []int64{3, 64}, []int64{3, 64}, false, ""},
		{"a single row", []int64{-1, 64}, true, []int64{64}, []int64{1, 64}, true, ""},
		{"a single number", []int64{-1}, true, []int64{}, []int64{1}, true, ""},
		{"one row is what the model takes", []int64{1, 64}, false, []int64{64}, []int64{1, 64}, true, ""},
		{"not batchable", []int64{2, 3}, false, []int64{2, 3}, []int64{2, 3}, false, ""},
		{"a scalar", []int64{}, false, []int64{}, []int64{}, false, ""},
		{"a short row", []int64{-1, 64}, true, []int64{63}, nil, false, "expected an array of shape [64], got [63]"},
		{"short rows", []int64{-1, 64}, true, []int64{2, 63}, nil, false, "expected an array of shape [-1,64], got [2,63]"},
		{"too deep", []int64{-1, 64}, true, []int64{1, 2, 64}, nil, false, "expected an array of shape [-1,64], or one row of shape [64], got [1,2,64]"},
		{"a row of several", []int64{2, 3}, false, []int64{3}, nil, false, "expected an array of shape [2,3], got [3]"},
		{"an array for a scalar", []int64{}, true, []int64{1}, nil, false, "expected an array of shape [], got [1]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec := &model.TensorSpec{Name: "x", Datatype: job.FP32, Shape: tt.spec}
			full, single, err := spec.Fit(tt.shape, tt.batchable)
			if tt.detail != "" {
				var invalid *job.Error
				if !errors.As(err, &invalid) || invalid.Field != "input" || invalid.Detail != tt.detail {
					t.Fatalf("got %v, want %q", err, tt.detail)
				}
				return
			}
			if err != nil || single != tt.single || !slices.Equal(full, tt.full) {
				t.Errorf("got %v, %v, %v, want %v, %v", full, single, err, tt.full, tt.single)
			}
		})
	}
}

func TestOutputIndices(t *testing.T) {
	if got, err := two().OutputIndices(nil); err != nil || got != nil {
		t.Errorf("no names give %v, %v, want nil", got, err)
	}
	if got, err := two().OutputIndices([]string{"probabilities", "label"}); err != nil || !slices.Equal(got, []int{1, 0}) {
		t.Errorf("got %v, %v", got, err)
	}
	var invalid *job.Error
	if _, err := two().OutputIndices([]string{"score"}); !errors.As(err, &invalid) {
		t.Errorf("an unknown name gives %v", err)
	}
}

func TestSignatureAsJSON(t *testing.T) {
	text, err := json.Marshal(two())
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"inputs":[{"name":"x","datatype":"FP32","shape":[-1,2]},{"name":"scale","datatype":"INT8","shape":[-1]}],` +
		`"outputs":[{"name":"label","datatype":"INT64","shape":[-1]},{"name":"probabilities","datatype":"FP32","shape":[-1,10]}],"batchable":true}`
	if string(text) != want {
		t.Errorf("got %s, want %s", text, want)
	}
	var back model.Signature
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(two(), &back); diff != "" {
		t.Error(diff)
	}
	if err := json.Unmarshal([]byte(`{"inputs":[{"name":"x","datatype":"FP8","shape":[]}]}`), &back); err == nil || !strings.Contains(err.Error(), `"FP8"`) {
		t.Errorf("an unknown datatype gives %v", err)
	}
	scalar, err := json.Marshal(model.TensorSpec{Name: "s", Datatype: job.FP32})
	if err != nil || !strings.Contains(string(scalar), `"shape":[]`) {
		t.Errorf("a scalar is %s, %v", scalar, err)
	}
}

func BenchmarkCheck(b *testing.B) {
	signature, limits := two(), job.DefaultLimits()
	j := &job.Job{Inputs: []job.Tensor{x(1), scale(1)}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := signature.Check(j, limits); err != nil {
			b.Fatal(err)
		}
	}
}

// ONNX Runtime's strings end at the first NUL: the model would see another text than was sent.
func TestCheckRefusesANULInAString(t *testing.T) {
	sig := model.Signature{
		Inputs:    []model.TensorSpec{{Name: "t", Datatype: job.Bytes, Shape: []int64{-1}}},
		Outputs:   []model.TensorSpec{{Name: "u", Datatype: job.Bytes, Shape: []int64{-1}}},
		Batchable: true,
	}
	check := func(second string) error {
		data := job.AppendBytesElement(job.AppendBytesElement(nil, []byte("a")), []byte(second))
		_, err := sig.Check(&job.Job{Inputs: []job.Tensor{{Name: "t", Datatype: job.Bytes, Shape: []int64{2}, Data: data}}}, job.DefaultLimits())
		return err
	}
	if err := check("b"); err != nil {
		t.Error(err)
	}
	if err := check("b\x00c"); err == nil || !strings.Contains(err.Error(), "inputs[0].data: element 1 has a NUL byte") {
		t.Errorf("got %v", err)
	}
}
