package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"

	"github.com/sheafml/sheaf/job"
)

// sample is one job's input and what the model gives for it.
type sample struct {
	inputs   []job.Tensor
	body     []byte // the same as the body of an HTTP request
	expected []byte // raw values of the output, float32
}

// workload is what the jobs of a run are made of.
type workload struct {
	model     string
	output    string
	tolerance float64
	samples   []sample
}

// digitsWorkload makes a workload of the held-out digits.
func digitsWorkload(file string) (*workload, error) {
	rows, err := loadRows(file)
	if err != nil {
		return nil, err
	}
	w := &workload{model: modelName, output: modelOutput, tolerance: rowTolerance}
	for i := range rows {
		s := sample{inputs: rows[i].inputs, expected: rawFloats(rows[i].expected[:])}
		if s.body, err = requestBody(s.inputs); err != nil {
			return nil, err
		}
		w.samples = append(w.samples, s)
	}
	return w, nil
}

// requestBody writes float32 inputs as the HTTP API takes them.
func requestBody(inputs []job.Tensor) ([]byte, error) {
	type tensor struct {
		Name     string    `json:"name"`
		Shape    []int64   `json:"shape"`
		Datatype string    `json:"datatype"`
		Data     []float32 `json:"data"`
	}
	var body struct {
		Inputs []tensor `json:"inputs"`
	}
	for i := range inputs {
		in := &inputs[i]
		body.Inputs = append(body.Inputs, tensor{Name: in.Name, Shape: in.Shape, Datatype: in.Datatype.String(), Data: floats(in.Data)})
	}
	return json.Marshal(body)
}

func floats(raw []byte) []float32 {
	values := make([]float32, len(raw)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return values
}

func rawFloats(values []float32) []byte {
	raw := make([]byte, 0, 4*len(values))
	for _, v := range values {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	return raw
}

// at returns the sample of the i-th job.
func (w *workload) at(i int) *sample { return &w.samples[i%len(w.samples)] }

// check compares a record with what the model gives for the i-th sample.
func (w *workload) check(i int, id job.ID, record []byte) error {
	if record == nil {
		return job.ErrNotFound
	}
	r, err := job.DecodeRecord(id, record)
	switch {
	case err != nil:
		return err
	case r.State != job.Succeeded:
		return fmt.Errorf("it is %s, not succeeded: %w", r.State, r.Error)
	}
	for j := range r.Outputs {
		if r.Outputs[j].Name == w.output {
			return compare(r.Outputs[j].Data, w.at(i).expected, w.tolerance)
		}
	}
	return fmt.Errorf("it has no output %q", w.output)
}

// compare compares raw float32 values.
func compare(got, want []byte, tolerance float64) error {
	if len(got) != len(want) {
		return fmt.Errorf("expected %d bytes of output, got %d", len(want), len(got))
	}
	for at := 0; at+4 <= len(want); at += 4 {
		g := math.Float32frombits(binary.LittleEndian.Uint32(got[at:]))
		w := math.Float32frombits(binary.LittleEndian.Uint32(want[at:]))
		// The comparison is so that NaN is wrong too.
		if diff := math.Abs(float64(g) - float64(w)); !(diff <= tolerance) {
			return fmt.Errorf("value %d: expected %g, got %g", at/4, w, g)
		}
	}
	return nil
}
