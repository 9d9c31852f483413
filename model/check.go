package model

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strconv"

	"github.com/sheafml/sheaf/job"
)

// Check verifies that j's inputs and requested outputs fit the signature, each tensor by itself and all together, and
// returns how many rows the job has (1 if the model is not batchable). The error is a *job.Error that names the field.
//
// The inputs may come in any order; Check puts j.Inputs into the order of the signature. If it fails, they are left as
// they were.
func (s *Signature) Check(j *job.Job, lim job.Limits) (rows int, err error) {
	if len(j.Inputs) > lim.MaxTensors {
		return 0, job.Invalidf("inputs", "expected at most %d inputs, got %d", lim.MaxTensors, len(j.Inputs))
	}
	ordered, err := s.matchInputs(j.Inputs)
	if err != nil {
		return 0, err
	}
	rows, first := 1, -1
	for i := range j.Inputs {
		t := &j.Inputs[i]
		spec := &s.Inputs[i]
		if !ordered {
			spec = &s.Inputs[s.InputIndex(t.Name)]
		}
		if err := spec.check(t, i, lim); err != nil {
			return 0, err
		}
		if t.Datatype == job.Bytes {
			if k := elementWithNUL(t.Data); k >= 0 {
				return 0, job.Invalidf(field(i)+".data", "element %d has a NUL byte, which the text of a model cannot have", k)
			}
		}
		if !s.Batchable {
			continue
		}
		if first < 0 {
			rows, first = t.Rows(), i
		} else if t.Rows() != rows {
			return 0, job.Invalidf(field(i)+".shape", "expected %d rows, as many as input %q has, got %d", rows, j.Inputs[first].Name, t.Rows())
		}
	}
	switch {
	case rows == 0:
		return 0, job.Invalidf(field(0)+".shape", "expected at least 1 row, got 0")
	case s.Batchable && rows > lim.MaxRows:
		return 0, job.Invalidf(field(0)+".shape", "expected at most %d rows in one job, got %d", lim.MaxRows, rows)
	}
	if len(j.Outputs) > lim.MaxTensors {
		return 0, job.Invalidf("outputs", "expected at most %d outputs, got %d", lim.MaxTensors, len(j.Outputs))
	}
	if err := s.checkOutputs(j.Outputs); err != nil {
		return 0, err
	}
	if !ordered {
		s.reorder(j.Inputs)
	}
	return rows, nil
}

// elementWithNUL returns the first element of BYTES data, which has been checked, that has a NUL byte; -1 if none has.
func elementWithNUL(data []byte) int {
	for k := 0; len(data) >= 4; k++ {
		end := 4 + int(binary.LittleEndian.Uint32(data))
		if bytes.IndexByte(data[4:end], 0) >= 0 {
			return k
		}
		data = data[end:]
	}
	return -1
}

// matchInputs verifies that inputs has each input of the signature once and nothing else, and reports whether they are
// in its order already.
func (s *Signature) matchInputs(inputs []job.Tensor) (ordered bool, err error) {
	ordered = true
	for i := range inputs {
		name := inputs[i].Name
		if i < len(s.Inputs) && s.Inputs[i].Name == name {
			continue // a name is unique in the signature, so a duplicate cannot stand in its right place twice
		}
		ordered = false
		if s.InputIndex(name) < 0 {
			return false, job.Invalidf(field(i)+".name", "expected one of %s, got %s", names(s.Inputs), quoteName(name))
		}
	}
	if ordered && len(inputs) == len(s.Inputs) {
		return true, nil
	}
	for i := range inputs {
		for k := range i {
			if inputs[k].Name == inputs[i].Name {
				return false, job.Invalidf(field(i)+".name", "input %q is given twice, first as %s", inputs[i].Name, field(k))
			}
		}
	}
	for i := range s.Inputs {
		if !contains(inputs, s.Inputs[i].Name) {
			return false, job.Invalidf("inputs", "expected the inputs %s, input %q is missing", names(s.Inputs), s.Inputs[i].Name)
		}
	}
	return ordered, nil
}

// reorder puts inputs that matchInputs has accepted into the order of the signature.
func (s *Signature) reorder(inputs []job.Tensor) {
	for i := range s.Inputs {
		for k := i; k < len(inputs); k++ {
			if inputs[k].Name == s.Inputs[i].Name {
				inputs[i], inputs[k] = inputs[k], inputs[i]
				break
			}
		}
	}
}

// check verifies one input. The comparisons with the signature come first, because they say more than a length that
// disagrees; nothing is allocated before the shape is known to be within the limits.
func (s *TensorSpec) check(t *job.Tensor, i int, lim job.Limits) error {
	if t.Datatype != s.Datatype && t.Datatype.Valid() {
		return job.Invalidf(field(i)+".datatype", "expected %s, got %s", s.Datatype, t.Datatype)
	}
	if !s.fits(t.Shape) {
		if _, err := job.CheckShape(field(i), t.Shape, lim); err != nil {
			return err
		}
		return job.Invalidf(field(i)+".shape", "expected %s, got %s", FormatShape(s.Shape), FormatShape(t.Shape))
	}
	return t.Check(field(i), lim)
}

// fits reports whether shape has the rank and the fixed dimensions of the spec.
func (s *TensorSpec) fits(shape []int64) bool {
	if len(shape) != len(s.Shape) {
		return false
	}
	for i, want := range s.Shape {
		if want >= 0 && shape[i] != want {
			return false
		}
	}
	return true
}

// Fit completes the shape of an array whose sender did not name one: the shorthand {"input": …}. An array of the
// model's rank is taken as it is; one level of nesting less is a single row, and full has the batch axis put before it.
// The error is a *job.Error for the field "input".
func (s *TensorSpec) Fit(shape []int64, batchable bool) (full []int64, single bool, err error) {
	switch {
	case len(shape) == len(s.Shape):
		full = shape
	case len(shape)+1 == len(s.Shape) && (batchable || s.Shape[0] == 1 || s.Shape[0] < 0):
		full, single = append([]int64{1}, shape...), true
	default:
		if len(s.Shape) > 0 && (batchable || s.Shape[0] < 0) {
			return nil, false, job.Invalidf("input", "expected an array of shape %s, or one row of shape %s, got %s",
				FormatShape(s.Shape), FormatShape(s.Shape[1:]), FormatShape(shape))
		}
		return nil, false, job.Invalidf("input", "expected an array of shape %s, got %s", FormatShape(s.Shape), FormatShape(shape))
	}
	if !s.fits(full) {
		want := s.Shape
		if single {
			want = want[1:]
		}
		return nil, false, job.Invalidf("input", "expected an array of shape %s, got %s", FormatShape(want), FormatShape(shape))
	}
	return full, single, nil
}

// checkOutputs verifies that the wanted outputs exist and that none is asked for twice.
func (s *Signature) checkOutputs(wanted []string) error {
	for i, name := range wanted {
		path := "outputs[" + strconv.Itoa(i) + "].name"
		if s.OutputIndex(name) < 0 {
			return job.Invalidf(path, "expected one of %s, got %s", names(s.Outputs), quoteName(name))
		}
		if slices.Contains(wanted[:i], name) {
			return job.Invalidf(path, "output %q is asked for twice", name)
		}
	}
	return nil
}

func contains(inputs []job.Tensor, name string) bool {
	for i := range inputs {
		if inputs[i].Name == name {
			return true
		}
	}
	return false
}

// field is the path of an input in an error.
func field(i int) string { return "inputs[" + strconv.Itoa(i) + "]" }

// quoteName quotes a name that came from outside, cut where it is long.
func quoteName(name string) string {
	const limit = 64
	if len(name) > limit {
		return strconv.Quote(name[:limit]) + "…"
	}
	return strconv.Quote(name)
}
