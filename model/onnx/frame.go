package onnx

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// buffer is the memory of one input or output of an instance. The runtime keeps the address for as long as a wrapper is
// around it, so the memory is pinned until release.
type buffer struct {
	data []byte
	pin  runtime.Pinner
}

// grow makes room for n bytes. Wrappers around the old memory must be gone.
func (b *buffer) grow(n int) {
	b.release()
	// A wrapper needs an address even if it has no elements.
	b.data = make([]byte, max(n, 2*cap(b.data), 64))
	b.pin.Pin(&b.data[0])
}

// release lets go of the memory. The slice stays valid for who still holds it.
func (b *buffer) release() { b.pin.Unpin() }

// frame is the set of wrappers for one shape of the inputs, over the buffers of an instance.
type frame struct {
	shapes  [][]int64   // of the inputs
	sizes   []int       // of the inputs that are in buffers, bytes
	inputs  []ort.Value // nil: made for each run
	outputs []ort.Value // nil: allocated by the runtime in each run
	results []job.Tensor
}

// maxFrames bounds how many frames an instance keeps, which is one for each number of rows below it. A frame costs about
// a kilobyte; for larger batches, making the wrappers anew costs little beside the run.
const maxFrames = 256

// frame returns the wrappers for b: those of an earlier batch of the same shape, or new ones.
func (in *Instance) frame(b *model.Batch) (*frame, error) {
	keep := in.model.plan.static && b.Rows < maxFrames
	if keep {
		if b.Rows < len(in.frames) && in.frames[b.Rows] != nil {
			return in.frames[b.Rows], nil
		}
	} else if in.last != nil && in.last.matches(b) {
		return in.last, nil
	}
	f, err := in.newFrame(b)
	if err != nil {
		return nil, err
	}
	if keep {
		if grow := b.Rows + 1 - len(in.frames); grow > 0 {
			in.frames = append(in.frames, make([]*frame, grow)...)
		}
		in.frames[b.Rows] = f
		return f, nil
	}
	if in.last != nil {
		in.last.destroy()
	}
	in.last = f
	return f, nil
}

func (f *frame) matches(b *model.Batch) bool {
	for i := range b.Inputs {
		if !slices.Equal(f.shapes[i], b.Inputs[i].Shape) {
			return false
		}
	}
	return true
}

// newFrame makes the wrappers for b. If a buffer is too small it grows, and every earlier frame goes with its old memory.
func (in *Instance) newFrame(b *model.Batch) (*frame, error) {
	p := in.model.plan
	f := &frame{
		shapes: make([][]int64, len(p.inputs)), sizes: make([]int, len(p.inputs)),
		inputs: make([]ort.Value, len(p.inputs)), outputs: make([]ort.Value, len(p.outputs)),
		results: make([]job.Tensor, len(p.outputs)),
	}
	fits := true
	for i := range p.inputs {
		f.shapes[i] = slices.Clone(b.Inputs[i].Shape)
		n := job.Elements(f.shapes[i])
		if n < 0 {
			return nil, fmt.Errorf("input %q: shape %s has too many elements", p.inputs[i].spec.Name, model.FormatShape(f.shapes[i]))
		}
		f.sizes[i] = n * p.inputs[i].spec.Datatype.Size()
		fits = fits && f.sizes[i] <= len(in.inBuffers[i].data)
	}
	outSizes := make([]int, len(p.outputs))
	for i := range p.outputs {
		out := &p.outputs[i]
		f.results[i] = job.Tensor{Name: out.spec.Name, Datatype: out.spec.Datatype}
		if out.pass != inBuffer {
			continue
		}
		shape := out.shape(b)
		n := job.Elements(shape)
		if n < 0 {
			return nil, fmt.Errorf("output %q: shape %s has too many elements", out.spec.Name, model.FormatShape(shape))
		}
		outSizes[i] = n * out.spec.Datatype.Size()
		f.results[i].Shape = shape
		fits = fits && outSizes[i] <= len(in.outBuffers[i].data)
	}
	if !fits {
		in.grow(f.sizes, outSizes)
	}
	if err := in.wrap(f, outSizes); err != nil {
		f.destroy()
		return nil, err
	}
	return f, nil
}

// grow makes every buffer at least as large as asked for.
func (in *Instance) grow(inSizes, outSizes []int) {
	in.dropFrames()
	for i, n := range inSizes {
		if n > len(in.inBuffers[i].data) {
			in.inBuffers[i].grow(n)
		}
	}
	for i, n := range outSizes {
		if n > len(in.outBuffers[i].data) {
			in.outBuffers[i].grow(n)
		}
	}
}

// wrap fills in the wrappers of a frame.
func (in *Instance) wrap(f *frame, outSizes []int) (err error) {
	p := in.model.plan
	for i := range p.inputs {
		if p.inputs[i].pass != inBuffer {
			continue
		}
		if f.inputs[i], err = wrapper(f.shapes[i], in.inBuffers[i].data, f.sizes[i], p.inputs[i].elem); err != nil {
			return fmt.Errorf("input %q: %w", p.inputs[i].spec.Name, err)
		}
	}
	for i := range p.outputs {
		out := &p.outputs[i]
		switch out.pass {
		case inBuffer:
			f.results[i].Data = in.outBuffers[i].data[:outSizes[i]:outSizes[i]]
			f.outputs[i], err = wrapper(f.results[i].Shape, in.outBuffers[i].data, outSizes[i], out.elem)
		case asScalar:
			f.results[i].Shape = []int64{}
			f.outputs[i], err = newScalar(out.spec.Datatype, nil)
		case asInput:
			f.results[i].Shape = f.shapes[out.input]
			f.results[i].Data = in.inBuffers[out.input].data[:f.sizes[out.input]:f.sizes[out.input]]
			f.outputs[i], err = wrapper(f.shapes[out.input], in.inBuffers[out.input].data, f.sizes[out.input], out.elem)
		case asStrings, byRuntime:
		}
		if err != nil {
			return fmt.Errorf("output %q: %w", out.spec.Name, err)
		}
	}
	return nil
}

// wrapper makes a tensor around the first size bytes of data. It takes one byte where there is no element, because the
// binding wants an address.
func wrapper(shape []int64, data []byte, size int, elem ort.TensorElementDataType) (ort.Value, error) {
	t, err := ort.NewCustomDataTensor(shape, data[:max(1, size)], elem)
	if err != nil {
		return nil, err // a nil *CustomDataTensor must not become a Value that is not nil
	}
	return t, nil
}

// destroy frees the wrappers. The buffers under them stay.
func (f *frame) destroy() {
	for _, values := range [][]ort.Value{f.inputs, f.outputs} {
		for _, v := range values {
			if v != nil {
				_ = v.Destroy() // it has nothing to report
			}
		}
	}
}

func (in *Instance) dropFrames() {
	for _, f := range in.frames {
		if f != nil {
			f.destroy()
		}
	}
	in.frames = nil
	if in.last != nil {
		in.last.destroy()
		in.last = nil
	}
}

var errShort = errors.New("the batch's parts do not add up to its shape")
