package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/model/onnx"
)

const (
	// randomSamples is how many different jobs there are for a model without rows of its own.
	randomSamples = 64
	// randomTolerance is what a heavy model's results may differ by across batch sizes.
	randomTolerance = 1e-4
	randomSeed      = 5
)

// randomWorkload makes jobs of random values after the signature of a model, of so many rows each, and runs each alone to
// know what it gives.
func randomWorkload(ctx context.Context, library, directory string, rows int) (*workload, error) {
	versions, err := model.Scan(filepath.Dir(directory))
	if err != nil {
		return nil, err
	}
	rt, err := onnx.Open(onnx.Config{Library: library})
	if err != nil {
		return nil, err
	}
	defer rt.Close() //nolint:errcheck // it was only needed here
	for _, v := range model.Latest(versions) {
		if v.Name == filepath.Base(directory) {
			return makeWorkload(ctx, rt, v, rows)
		}
	}
	return nil, fmt.Errorf("there is no model %s in %s", filepath.Base(directory), filepath.Dir(directory))
}

func makeWorkload(ctx context.Context, rt *onnx.Runtime, v model.Version, rows int) (*workload, error) {
	m, err := rt.Load(ctx, v)
	if err != nil {
		return nil, err
	}
	info := m.Info()
	if !info.Signature.Batchable && rows != 1 {
		return nil, fmt.Errorf("model %s has no batch axis: expected -rows 1", v.Name)
	}
	output := &info.Signature.Outputs[info.PredictionIndex()]
	if output.Datatype != job.FP32 {
		return nil, fmt.Errorf("output %s is %s: this program compares FP32 only", output.Name, output.Datatype)
	}
	instance, err := m.NewInstance()
	if err != nil {
		return nil, err
	}
	w := &workload{model: v.Name, output: output.Name, tolerance: randomTolerance}
	rnd := rand.New(rand.NewPCG(randomSeed, 0)) //nolint:gosec // it has to be reproducible, not secret
	for range randomSamples {
		s := sample{}
		batch := &model.Batch{Rows: rows}
		for i := range info.Signature.Inputs {
			t, err := randomTensor(rnd, &info.Signature.Inputs[i], info.Signature.Batchable, rows)
			if err != nil {
				return nil, err
			}
			s.inputs = append(s.inputs, t)
			batch.Inputs = append(batch.Inputs, model.BatchInput{Shape: t.Shape, Parts: [][]byte{t.Data}})
		}
		outputs, err := instance.Run(ctx, batch)
		if err != nil {
			return nil, err
		}
		s.expected = append([]byte(nil), outputs[info.PredictionIndex()].Data...)
		if s.body, err = requestBody(s.inputs); err != nil {
			return nil, err
		}
		w.samples = append(w.samples, s)
	}
	return w, nil
}

// randomTensor makes values from 0 to 1. Free dimensions other than the batch axis are 1.
func randomTensor(rnd *rand.Rand, spec *model.TensorSpec, batchable bool, rows int) (job.Tensor, error) {
	if spec.Datatype != job.FP32 {
		return job.Tensor{}, fmt.Errorf("input %s is %s: this program makes FP32 only", spec.Name, spec.Datatype)
	}
	shape := append([]int64(nil), spec.Shape...)
	n := int64(1)
	for i, d := range shape {
		switch {
		case i == 0 && batchable:
			shape[i] = int64(rows)
		case d < 0:
			shape[i] = 1
		}
		n *= shape[i]
	}
	data := make([]byte, 0, 4*n)
	for range n {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(rnd.Float32()))
	}
	return job.Tensor{Name: spec.Name, Datatype: spec.Datatype, Shape: shape, Data: data}, nil
}
