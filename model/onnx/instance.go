package onnx

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// Instance runs a model. It owns the memory of the inputs and outputs, so one goroutine at a time may use it; several
// instances of a model run at the same time and share its weights.
type Instance struct {
	model *Model

	mu     sync.Mutex // held through a run, so that Close waits for it
	closed bool

	inBuffers  []buffer
	outBuffers []buffer
	frames     []*frame // of a static model, by rows
	last       *frame   // of any other, and of large batches

	options    *ort.RunOptions
	terminate  func()
	terminated chan struct{}

	// Scratch space of a run.
	inputs  []ort.Value
	outputs []ort.Value
	results []job.Tensor
}

func newInstance(m *Model) (*Instance, error) {
	options, err := ort.NewRunOptions()
	if err != nil {
		return nil, err
	}
	in := &Instance{
		model: m, options: options, terminated: make(chan struct{}, 1),
		inBuffers: make([]buffer, len(m.plan.inputs)), outBuffers: make([]buffer, len(m.plan.outputs)),
		inputs: make([]ort.Value, len(m.plan.inputs)), outputs: make([]ort.Value, len(m.plan.outputs)),
		results: make([]job.Tensor, 0, len(m.plan.outputs)),
	}
	in.terminate = func() {
		_ = options.Terminate() // fails only for options that are freed, and Close waits for the run
		in.terminated <- struct{}{}
	}
	for i := range in.inBuffers {
		in.inBuffers[i].grow(0)
	}
	for i := range in.outBuffers {
		in.outBuffers[i].grow(0)
	}
	return in, nil
}

// Run computes a batch and returns the outputs that it asks for, in its order. The tensors, their shapes and their data
// belong to the instance: they are valid until its next Run or Close and must not be changed.
//
// Every output of the model is computed, asked for or not. If ctx ends, the run stops before the next node of the graph,
// not inside one, and the error wraps the cause of ctx. An error that wraps model.ErrResources is worth another attempt;
// one that wraps model.ErrRows says that the outputs do not follow the batch axis; a *job.Error is a fault of the input.
// Any other is the runtime's verdict on this batch.
func (in *Instance) Run(ctx context.Context, b *model.Batch) ([]job.Tensor, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return nil, errClosed
	}
	results, err := in.run(ctx, b)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", in.model.info.Key(), err)
	}
	return results, nil
}

func (in *Instance) run(ctx context.Context, b *model.Batch) ([]job.Tensor, error) {
	if err := in.check(b); err != nil {
		return nil, err
	}
	f, err := in.frame(b)
	if err != nil {
		return nil, err
	}
	copy(in.outputs, f.outputs)
	defer in.freeValues(f)
	if err := in.fill(f, b); err != nil {
		return nil, err
	}
	if err := in.compute(ctx); err != nil {
		return nil, err
	}
	return in.collect(f, b)
}

// check verifies what would otherwise be read or written out of bounds. Whether a job's values make sense was checked
// against the signature long before.
func (in *Instance) check(b *model.Batch) error {
	p := in.model.plan
	if len(b.Inputs) != len(p.inputs) || b.Rows < 1 {
		return fmt.Errorf("expected %d inputs and at least 1 row, got %d inputs and %d rows", len(p.inputs), len(b.Inputs), b.Rows)
	}
	for i := range p.inputs {
		want, got := p.inputs[i].spec.Shape, b.Inputs[i].Shape
		ok := len(want) == len(got) && (!p.batchable || got[0] == int64(b.Rows))
		for k := 0; ok && k < len(want); k++ {
			ok = got[k] == want[k] || want[k] < 0 && got[k] >= 0
		}
		if !ok {
			return fmt.Errorf("input %q: expected shape %s with %d rows, got %s", p.inputs[i].spec.Name,
				model.FormatShape(want), b.Rows, model.FormatShape(got))
		}
	}
	for _, k := range b.Outputs {
		if k < 0 || k >= len(p.outputs) {
			return fmt.Errorf("expected an output from 0 to %d, got %d", len(p.outputs)-1, k)
		}
	}
	return nil
}

// fill gathers the parts of the batch into the inputs.
func (in *Instance) fill(f *frame, b *model.Batch) (err error) {
	for i := range in.model.plan.inputs {
		p := &in.model.plan.inputs[i]
		in.inputs[i] = f.inputs[i]
		switch p.pass {
		case asStrings:
			in.inputs[i], err = newStrings(i, b.Inputs[i].Shape, b.Inputs[i].Parts)
		case asScalar:
			in.inputs[i], err = newScalar(p.spec.Datatype, b.Inputs[i].Parts)
		case inBuffer, asInput, byRuntime:
			err = gather(in.inBuffers[i].data[:f.sizes[i]], b.Inputs[i].Parts)
		}
		if err != nil {
			return fmt.Errorf("input %q: %w", p.spec.Name, err)
		}
	}
	return nil
}

// gather copies parts into dst, which they must fill exactly.
func gather(dst []byte, parts [][]byte) error {
	for _, part := range parts {
		if len(part) > len(dst) {
			return errShort
		}
		dst = dst[copy(dst, part):]
	}
	if len(dst) > 0 {
		return errShort
	}
	return nil
}

// compute runs the session, and stops the run if ctx ends.
func (in *Instance) compute(ctx context.Context) error {
	if ctx.Done() == nil {
		return in.session()
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	stop := context.AfterFunc(ctx, in.terminate)
	err := in.session()
	if stop() {
		return err
	}
	<-in.terminated
	if unset := in.options.UnsetTerminate(); unset != nil {
		return unset
	}
	if err != nil {
		return context.Cause(ctx)
	}
	return nil // it was done before it noticed
}

func (in *Instance) session() error {
	err := in.model.session.RunWithOptions(in.inputs, in.outputs, in.options)
	runtime.KeepAlive(in) // the runtime has the addresses of the buffers
	if err != nil {
		return in.model.runError(err)
	}
	return nil
}

// collect returns the outputs that the batch asks for.
func (in *Instance) collect(f *frame, b *model.Batch) ([]job.Tensor, error) {
	in.results = in.results[:0]
	if b.Outputs == nil {
		for k := range f.results {
			if err := in.take(f, k, b.Rows); err != nil {
				return nil, err
			}
		}
		return in.results, nil
	}
	for _, k := range b.Outputs {
		if err := in.take(f, k, b.Rows); err != nil {
			return nil, err
		}
	}
	return in.results, nil
}

// take appends one output to the results.
func (in *Instance) take(f *frame, k, rows int) error {
	p := in.model.plan
	t := f.results[k]
	var err error
	switch p.outputs[k].pass {
	case inBuffer, asInput: // t points to the data, and the runtime has checked the shape
	case asScalar:
		t.Data = scalarBytes(in.outputs[k])
	case asStrings:
		t.Shape, t.Data, err = stringBytes(in.outputs[k])
	case byRuntime:
		t.Shape, t.Data, err = tensorBytes(in.outputs[k])
	}
	if err != nil {
		return fmt.Errorf("output %q: %w", t.Name, err)
	}
	if p.batchable && (len(t.Shape) == 0 || t.Shape[0] != int64(rows)) {
		return fmt.Errorf("output %q has the shape %s after a run of %d rows: %w: %s", t.Name, model.FormatShape(t.Shape), rows, model.ErrRows, rowsHint)
	}
	in.results = append(in.results, t)
	return nil
}

// freeValues destroys what this run alone has made. Each value that is forgotten leaks half a kilobyte.
func (in *Instance) freeValues(f *frame) {
	for i, v := range in.inputs {
		if v != nil && f.inputs[i] == nil {
			_ = v.Destroy()
		}
		in.inputs[i] = nil
	}
	for i, v := range in.outputs {
		if v != nil && f.outputs[i] == nil {
			_ = v.Destroy()
		}
		in.outputs[i] = nil
	}
}

// Close waits for a run in flight and frees the instance's memory.
func (in *Instance) Close() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed {
		return nil
	}
	in.closed = true
	in.dropFrames()
	for i := range in.inBuffers {
		in.inBuffers[i].release()
	}
	for i := range in.outBuffers {
		in.outBuffers[i].release()
	}
	in.model.remove(in)
	return in.options.Destroy()
}
