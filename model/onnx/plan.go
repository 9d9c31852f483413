package onnx

import (
	"slices"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// plan is how the inputs and outputs of a model are passed, worked out once when it is loaded.
type plan struct {
	batchable bool
	static    bool // only the rows of the inputs vary, so that a run is known by its number of rows
	inputs    []inputPlan
	outputs   []outputPlan
}

type inputPlan struct {
	spec model.TensorSpec
	elem ort.TensorElementDataType
	pass passing
}

type outputPlan struct {
	spec     model.TensorSpec
	elem     ort.TensorElementDataType
	pass     passing
	measures []measure // if pass is inBuffer
	input    int       // if pass is asInput
}

// passing is how a tensor is handed to or taken from the runtime.
type passing int

const (
	// inBuffer is in memory of the instance, with a wrapper around it that is kept for the next run of the same shape.
	inBuffer passing = iota
	// asScalar is a value without dimensions. The binding copies it, so an input is made for each run.
	asScalar
	// asStrings is a tensor of strings, which live in the runtime's memory and are copied one by one.
	asStrings
	// asInput is an output that is an input, which the runtime does not write anywhere: it is taken from the input.
	asInput
	// byRuntime is an output that the runtime allocates, because its shape is not known before.
	byRuntime
)

func newPlan(g *graph, sig model.Signature) *plan {
	p := &plan{batchable: sig.Batchable, static: g.static()}
	for _, spec := range sig.Inputs {
		in := inputPlan{spec: spec, elem: elementOf(spec.Datatype)}
		switch {
		case spec.Datatype == job.Bytes:
			in.pass = asStrings
		case len(spec.Shape) == 0:
			in.pass = asScalar
		}
		p.inputs = append(p.inputs, in)
	}
	for i, spec := range sig.Outputs {
		out := outputPlan{spec: spec, elem: elementOf(spec.Datatype)}
		half := spec.Datatype == job.FP16 || spec.Datatype == job.BF16
		switch {
		case spec.Datatype == job.Bytes:
			out.pass = asStrings
		case sig.InputIndex(spec.Name) >= 0:
			out.pass, out.input = asInput, sig.InputIndex(spec.Name)
		case len(spec.Shape) == 0:
			out.pass = asScalar
		case half || fixed(spec.Shape[1:]) && (sig.Batchable || spec.Shape[0] >= 0):
			out.measures, _ = g.measures(&spec, g.outputs[i].shape)
			if sig.Batchable {
				out.measures[0] = measure{size: -1} // the rows, which every input has
			}
		default:
			out.pass = byRuntime
		}
		p.outputs = append(p.outputs, out)
	}
	return p
}

func fixed(shape []int64) bool {
	return !slices.ContainsFunc(shape, func(d int64) bool { return d < 0 })
}

// shape returns the shape of an output for a batch.
func (o *outputPlan) shape(b *model.Batch) []int64 {
	shape := make([]int64, len(o.measures))
	for i, m := range o.measures {
		if shape[i] = m.size; m.size < 0 {
			shape[i] = b.Inputs[m.input].Shape[m.inputAxis]
		}
	}
	return shape
}
