package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"

	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/model/onnx"
)

// predictor runs the model with one row at a time. It is safe for concurrent use.
type predictor struct {
	runtime   *onnx.Runtime
	model     *onnx.Model
	instances chan *onnx.Instance
}

// openPredictor loads the highest version of the model from a repository, as the worker does, with one instance for
// each CPU.
func openPredictor(ctx context.Context, library, repository string) (*predictor, error) {
	versions, err := model.Scan(repository)
	if err != nil {
		return nil, err
	}
	latest := model.Latest(versions)
	if len(latest) != 1 || latest[0].Name != modelName {
		return nil, fmt.Errorf("%s: expected the one model %s", filepath.Clean(repository), modelName)
	}
	rt, err := onnx.Open(onnx.Config{Library: library})
	if err != nil {
		return nil, err
	}
	p := &predictor{runtime: rt, instances: make(chan *onnx.Instance, runtime.GOMAXPROCS(0))}
	if p.model, err = rt.Load(ctx, latest[0]); err != nil {
		_ = rt.Close()
		return nil, err
	}
	for range cap(p.instances) {
		instance, err := p.model.NewInstance()
		if err != nil {
			_ = rt.Close()
			return nil, err
		}
		p.instances <- instance
	}
	return p, nil
}

// predict returns the raw probabilities of one row.
func (p *predictor) predict(ctx context.Context, data []byte) ([]byte, error) {
	instance := <-p.instances
	defer func() { p.instances <- instance }()
	outputs, err := instance.Run(ctx, &model.Batch{
		Rows:   1,
		Inputs: []model.BatchInput{{Shape: []int64{1, rowWidth}, Parts: [][]byte{data}}},
	})
	if err != nil {
		return nil, err
	}
	if len(outputs) != 1 || outputs[0].Name != modelOutput {
		return nil, fmt.Errorf("expected the one output %q, got %d", modelOutput, len(outputs))
	}
	return append([]byte(nil), outputs[0].Data...), nil
}

func (p *predictor) close() { _ = p.runtime.Close() }
