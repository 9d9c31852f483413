package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sheafml/sheaf/job"
)

// TensorSpec is one input or output as the ONNX file declares it. As JSON it is what the Open Inference Protocol calls
// a tensor's metadata: {"name":"x","datatype":"FP32","shape":[-1,64]}.
type TensorSpec struct {
	Name     string
	Datatype job.Datatype
	// Shape has -1 for a dimension that varies. It includes the batch axis of a batchable model.
	Shape []int64
}

// Signature is what a model takes and gives.
type Signature struct {
	Inputs  []TensorSpec `json:"inputs"`
	Outputs []TensorSpec `json:"outputs"`
	// Batchable says that the first dimension of every input and output varies: rows of several jobs may be run together.
	Batchable bool `json:"batchable"`
}

// tensorJSON is the JSON form of a TensorSpec.
type tensorJSON struct {
	Name     string  `json:"name"`
	Datatype string  `json:"datatype"`
	Shape    []int64 `json:"shape"`
}

// MarshalJSON implements json.Marshaler.
func (s TensorSpec) MarshalJSON() ([]byte, error) {
	shape := s.Shape
	if shape == nil {
		shape = []int64{}
	}
	return json.Marshal(tensorJSON{Name: s.Name, Datatype: s.Datatype.String(), Shape: shape})
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *TensorSpec) UnmarshalJSON(b []byte) error {
	var t tensorJSON
	if err := json.Unmarshal(b, &t); err != nil {
		return fmt.Errorf("read a tensor's metadata: %w", err)
	}
	datatype, err := job.ParseDatatype(t.Datatype)
	if err != nil {
		return fmt.Errorf("tensor %q: datatype %q: %w", t.Name, t.Datatype, err)
	}
	*s = TensorSpec{Name: t.Name, Datatype: datatype, Shape: t.Shape}
	return nil
}

// String describes the tensor in a few words: "x FP32 [-1,64]".
func (s TensorSpec) String() string {
	return s.Name + " " + s.Datatype.String() + " " + FormatShape(s.Shape)
}

// InputIndex returns the place of the named input, -1 if the model has none of this name.
func (s *Signature) InputIndex(name string) int { return indexOf(s.Inputs, name) }

// OutputIndex returns the place of the named output, -1 if the model has none of this name.
func (s *Signature) OutputIndex(name string) int { return indexOf(s.Outputs, name) }

// OutputIndices returns the places of the named outputs for Batch.Outputs: nil, which is all of them, for no names.
// The error is a *job.Error.
func (s *Signature) OutputIndices(wanted []string) ([]int, error) {
	if len(wanted) == 0 {
		return nil, nil
	}
	if err := s.checkOutputs(wanted); err != nil {
		return nil, err
	}
	indices := make([]int, len(wanted))
	for i, name := range wanted {
		indices[i] = s.OutputIndex(name)
	}
	return indices, nil
}

// FormatShape writes a shape as errors and JSON show it: "[-1,64]".
func FormatShape(shape []int64) string {
	b := append(make([]byte, 0, 32), '[')
	for i, d := range shape {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, d, 10)
	}
	return string(append(b, ']'))
}

// validate names every fault of a signature that came from outside.
func (s *Signature) validate() error {
	var errs []error
	if len(s.Inputs) == 0 || len(s.Outputs) == 0 {
		errs = append(errs, errors.New("a model needs at least one input and one output"))
	}
	for _, specs := range [][]TensorSpec{s.Inputs, s.Outputs} {
		for i := range specs {
			spec := &specs[i]
			if spec.Name == "" || indexOf(specs[:i], spec.Name) >= 0 {
				errs = append(errs, fmt.Errorf("tensor name %q is empty or used twice", spec.Name))
			}
			if !spec.Datatype.Valid() {
				errs = append(errs, fmt.Errorf("tensor %q has no datatype", spec.Name))
			}
			if slices.ContainsFunc(spec.Shape, func(d int64) bool { return d < -1 }) {
				errs = append(errs, fmt.Errorf("tensor %q: %s has a dimension below -1", spec.Name, FormatShape(spec.Shape)))
			}
			if s.Batchable && (len(spec.Shape) == 0 || spec.Shape[0] != -1) {
				errs = append(errs, fmt.Errorf("tensor %q: the first dimension of a batchable model must be -1, the shape is %s",
					spec.Name, FormatShape(spec.Shape)))
			}
		}
	}
	return errors.Join(errs...)
}

func indexOf(specs []TensorSpec, name string) int {
	for i := range specs {
		if specs[i].Name == name {
			return i
		}
	}
	return -1
}

// names lists the names of specs for an error.
func names(specs []TensorSpec) string {
	list := make([]string, len(specs))
	for i := range specs {
		list[i] = strconv.Quote(specs[i].Name)
	}
	return strings.Join(list, ", ")
}
