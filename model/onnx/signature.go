package onnx

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// signature returns what the model takes and gives, or every reason why it cannot be served.
func (g *graph) signature() (model.Signature, error) {
	var errs []error
	if len(g.inputs) == 0 {
		errs = append(errs, errors.New("the model has no inputs: expected at least one"))
	}
	if len(g.outputs) == 0 {
		errs = append(errs, errors.New("the model has no outputs: expected at least one"))
	}
	sig := model.Signature{Batchable: true}
	for i := range g.inputs {
		spec, err := g.inputs[i].spec("input")
		errs = append(errs, err, g.checkInput(&spec))
		sig.Inputs = append(sig.Inputs, spec)
	}
	for i := range g.outputs {
		spec, err := g.outputs[i].spec("output")
		errs = append(errs, err, g.checkOutput(&spec, g.outputs[i].shape))
		sig.Outputs = append(sig.Outputs, spec)
	}
	for _, specs := range [][]model.TensorSpec{sig.Inputs, sig.Outputs} {
		for _, spec := range specs {
			if len(spec.Shape) == 0 || spec.Shape[0] >= 0 {
				sig.Batchable = false
			}
		}
	}
	return sig, errors.Join(errs...)
}

// spec returns the tensor that v is, or why it is none that can be served.
func (v *value) spec(role string) (model.TensorSpec, error) {
	refuse := func(format string, args ...any) (model.TensorSpec, error) {
		return model.TensorSpec{Name: v.name}, fmt.Errorf("%s %q %s", role, v.name, fmt.Sprintf(format, args...))
	}
	switch v.kind {
	case kindTensor:
	case kindSequenceOfMaps:
		return refuse("is a sequence of maps, expected a tensor: re-export with skl2onnx options={'zipmap': False}, " +
			"for example to_onnx(model, X, options={'zipmap': False})")
	case kindSequence:
		return refuse("is a sequence, expected a tensor: re-export the model with one tensor in its place (in PyTorch, torch.stack or torch.cat the list)")
	case kindMap:
		return refuse("is a map, expected a tensor: re-export with skl2onnx options={'zipmap': False}")
	case kindOptional:
		return refuse("is optional, expected a tensor: re-export the model without the optional value")
	case kindSparse:
		return refuse("is a sparse tensor, expected a dense one: re-export the model with a dense tensor in its place")
	case kindUnknown, kindOpaque:
		return refuse("has no type, expected a tensor: export the model again, or run onnx.shape_inference.infer_shapes on it")
	}
	datatype, ok := datatypeOf(v.elem)
	if !ok {
		return refuse("has the datatype %s, which the Open Inference Protocol lacks: expected BOOL, INT8 to INT64, UINT8 to UINT64, FP16, BF16, FP32, FP64 or a string: "+
			"re-export with a Cast to one of them", elemName(v.elem))
	}
	if !v.hasShape {
		return refuse("has no shape: export the model again with its shape, or run onnx.shape_inference.infer_shapes on it; dimensions may vary, but their number must be known")
	}
	shape := make([]int64, len(v.shape))
	for i, d := range v.shape {
		shape[i] = d.size
	}
	return model.TensorSpec{Name: v.name, Datatype: datatype, Shape: shape}, nil
}

// checkInput refuses what the binding cannot make.
func (g *graph) checkInput(spec *model.TensorSpec) error {
	if len(spec.Shape) == 0 && noScalars(spec.Datatype) {
		return fmt.Errorf("input %q is a scalar of %s, which cannot be passed to ONNX Runtime from Go: re-export it with shape [1]", spec.Name, spec.Datatype)
	}
	return nil
}

// checkOutput refuses what the binding can neither allocate before a run nor copy after it.
func (g *graph) checkOutput(spec *model.TensorSpec, dims []dim) error {
	switch {
	case len(spec.Shape) == 0 && g.isInput(spec.Name):
		return fmt.Errorf("output %q is an input passed through, and a scalar, which cannot be read from Go: re-export the model without this output", spec.Name)
	case g.isInput(spec.Name):
		return nil
	case spec.Datatype != job.FP16 && spec.Datatype != job.BF16:
		return nil
	case len(spec.Shape) == 0:
		return fmt.Errorf("output %q is a scalar of %s, which cannot be read from Go: re-export it as FP32 or with shape [1]", spec.Name, spec.Datatype)
	}
	if _, ok := g.measures(spec, dims); !ok {
		return fmt.Errorf("output %q is %s and of shape %s, where the dimensions that vary are not named after those of an input: such a tensor cannot be read from Go: "+
			"re-export it as FP32 (keep_io_types=True in the float16 converter), or name its dimensions", spec.Name, spec.Datatype, model.FormatShape(spec.Shape))
	}
	return nil
}

func (g *graph) isInput(name string) bool {
	return slices.ContainsFunc(g.inputs, func(v value) bool { return v.name == name })
}

// noScalars reports whether the binding has no scalars of the datatype.
func noScalars(d job.Datatype) bool { return d == job.FP16 || d == job.BF16 || d == job.Bytes }

// measure says where a dimension of an output is known from before the run.
type measure struct {
	size      int64 // if it is fixed; else -1, and it is dimension axis of input
	input     int
	inputAxis int
}

// measures returns how to work out the shape of an output from the shapes of the inputs, and whether that is possible:
// each of its dimensions is fixed, or bears the name of an input's dimension, or is the first, which is the batch axis.
// It is used only where it must be, since names are only promises.
func (g *graph) measures(spec *model.TensorSpec, dims []dim) ([]measure, bool) {
	list := make([]measure, len(spec.Shape))
	for i, size := range spec.Shape {
		list[i] = measure{size: size}
		if size >= 0 {
			continue
		}
		input, axis, ok := g.dimension(dims[i].symbol)
		if !ok && i == 0 && len(g.inputs) > 0 && len(g.inputs[0].shape) > 0 {
			input, axis, ok = 0, 0, true
		}
		if !ok {
			return nil, false
		}
		list[i].input, list[i].inputAxis = input, axis
	}
	return list, true
}

// dimension finds the input whose dimension bears the symbol.
func (g *graph) dimension(symbol string) (input, axis int, ok bool) {
	if symbol == "" {
		return 0, 0, false
	}
	for i := range g.inputs {
		for k, d := range g.inputs[i].shape {
			if d.size < 0 && d.symbol == symbol {
				return i, k, true
			}
		}
	}
	return 0, 0, false
}
