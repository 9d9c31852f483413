package job

import (
	"math"
	"unicode/utf8"
)

// Field numbers of inference.ModelInferRequest and its parts; see proto/inference/grpc_predict_v2.proto.
const (
	inferModelName    = 1
	inferModelVersion = 2
	inferID           = 3
	inferParameters   = 4
	inferInputs       = 5
	inferOutputs      = 6
	inferRaw          = 7

	inputName       = 1
	inputDatatype   = 2
	inputShape      = 3
	inputParameters = 4
	inputContents   = 5

	outputName       = 1
	outputParameters = 2

	mapKey   = 1
	mapValue = 2

	choiceBool   = 1
	choiceInt64  = 2
	choiceString = 3
	choiceDouble = 4
	choiceUint64 = 5
)

// DecodeRequestProtobuf reads an inference.ModelInferRequest into j. Raw contents alias body. The error is an *Error.
//
// Tensors come in raw_input_contents, one element for each input, or in the typed contents of each input, never both.
// The model and the version, where j names them already, must be the same in the request.
func DecodeRequestProtobuf(body []byte, j *Job, lim Limits) error {
	r := inferReader{j: j, lim: lim}
	return asError(r.read(body))
}

func errProtobuf(field, message string) *Error {
	return Errorf(CodeMalformed, field, "not a valid %s message", message)
}

// inferReader reads one ModelInferRequest.
type inferReader struct {
	j        *Job
	lim      Limits
	model    string
	version  string
	shapes   []int64
	raw      [][]byte
	contents int // inputs that have typed contents
	names    interner
	tensor   func(input bool, p Parameter) error // of DecodeRequestGRPC
}

func (r *inferReader) read(body []byte) *Error {
	if len(body) > r.lim.MaxBytes {
		return errTooLarge(len(body), r.lim)
	}
	f := fieldReader{rest: body}
	for f.next() {
		if err := r.field(&f); err != nil {
			return err
		}
	}
	if f.bad {
		return errProtobuf("", "inference.ModelInferRequest")
	}
	return r.finish()
}

func (r *inferReader) field(f *fieldReader) *Error {
	switch f.tag {
	case inferModelName<<3 | wireBytes:
		return setText(&r.model, "model_name", f.bytes)
	case inferModelVersion<<3 | wireBytes:
		return setText(&r.version, "model_version", f.bytes)
	case inferID<<3 | wireBytes:
		return setText(&r.j.RequestID, "id", f.bytes)
	case inferParameters<<3 | wireBytes:
		return r.parameter(&r.j.Parameters, f.bytes)
	case inferInputs<<3 | wireBytes:
		i := len(r.j.Inputs)
		if i >= r.lim.MaxTensors {
			return Invalidf("inputs", "expected at most %d inputs", r.lim.MaxTensors)
		}
		if err := r.input(f.bytes); err != nil {
			return under(at("inputs", i), err)
		}
	case inferOutputs<<3 | wireBytes:
		i := len(r.j.Outputs)
		if i >= r.lim.MaxTensors {
			return Invalidf("outputs", "expected at most %d outputs", r.lim.MaxTensors)
		}
		if err := r.output(f.bytes); err != nil {
			return under(at("outputs", i), err)
		}
	case inferRaw<<3 | wireBytes:
		if len(r.raw) >= r.lim.MaxTensors {
			return Invalidf("raw_input_contents", "expected at most %d elements", r.lim.MaxTensors)
		}
		r.raw = append(r.raw, f.bytes)
	}
	return nil
}

// finish verifies what can be verified only when the whole request has been read.
func (r *inferReader) finish() *Error {
	if err := wantModel(r.j, r.model); err != nil {
		return err
	}
	if err := wantVersion(r.j, r.version, "model_version"); err != nil {
		return err
	}
	if len(r.raw) > 0 {
		if r.contents > 0 {
			return Invalidf("raw_input_contents", "expected either raw_input_contents or contents, found both")
		}
		if len(r.raw) != len(r.j.Inputs) {
			return Invalidf("raw_input_contents", "expected one element for each of the %d inputs, got %d", len(r.j.Inputs), len(r.raw))
		}
		for i := range r.raw {
			r.j.Inputs[i].Data = r.raw[i]
		}
	}
	for i := range r.j.Inputs {
		if err := checkTensor(&r.j.Inputs[i], "inputs", i, r.lim); err != nil {
			return err
		}
	}
	if err := checkNames(r.j); err != nil {
		return err
	}
	r.j.Parameters = lastOfEach(r.j.Parameters)
	return under("parameters", sortParameters(r.j.Parameters))
}

// input reads an InferInputTensor. Fields of the error are relative.
func (r *inferReader) input(b []byte) *Error {
	t, start, typed := Tensor{}, len(r.shapes), false
	f := fieldReader{rest: b}
	for f.next() {
		switch f.tag {
		case inputName<<3 | wireBytes:
			if err := r.name(&t.Name, f.bytes); err != nil {
				return err
			}
		case inputDatatype<<3 | wireBytes:
			var err error
			if t.Datatype, err = ParseDatatype(string(f.bytes)); err != nil {
				return errDatatype(".datatype")
			}
		case inputShape<<3 | wireBytes, inputShape<<3 | wireVarint:
			if err := appendShape(&r.shapes, start, &f, r.lim.MaxRank); err != nil {
				return err
			}
		case inputParameters<<3 | wireBytes:
			if err := r.tensorParameter(true, f.bytes); err != nil {
				return err
			}
		case inputContents<<3 | wireBytes:
			typed = true
		}
	}
	if f.bad {
		return errProtobuf("", "InferInputTensor")
	}
	t.Shape = r.shapes[start:len(r.shapes):len(r.shapes)]
	if typed {
		n, err := CheckShape("", t.Shape, r.lim)
		if err != nil {
			return toError(err)
		}
		if !t.Datatype.Valid() {
			return errDatatype(".datatype")
		}
		c := contentsReader{dt: t.Datatype, limit: n}
		if err := c.input(b); err != nil {
			return under(".contents", err)
		}
		if c.count > 0 {
			r.contents++
			t.Data = c.data
		}
	}
	r.j.Inputs = append(r.j.Inputs, t)
	return nil
}

func (r *inferReader) name(dst *string, b []byte) *Error {
	s, ok := r.names.get(b)
	if !ok || len(s) > maxText {
		return errText(".name")
	}
	*dst = s
	return nil
}

// output reads an InferRequestedOutputTensor.
func (r *inferReader) output(b []byte) *Error {
	var name string
	f := fieldReader{rest: b}
	for f.next() {
		switch f.tag {
		case outputName<<3 | wireBytes:
			if err := r.name(&name, f.bytes); err != nil {
				return err
			}
		case outputParameters<<3 | wireBytes:
			if err := r.tensorParameter(false, f.bytes); err != nil {
				return err
			}
		}
	}
	if f.bad {
		return errProtobuf("", "InferRequestedOutputTensor")
	}
	r.j.Outputs = append(r.j.Outputs, name)
	return nil
}

// parameter reads one entry of a map of parameters.
func (r *inferReader) parameter(list *[]Parameter, b []byte) *Error {
	if len(*list) >= maxParameters {
		return errParameters()
	}
	var p Parameter
	f := fieldReader{rest: b}
	for f.next() {
		switch f.tag {
		case mapKey<<3 | wireBytes:
			name, ok := r.names.get(f.bytes)
			if !ok || len(name) > maxText {
				return errText("parameters")
			}
			p.Name = name
		case mapValue<<3 | wireBytes:
			if err := parameterChoice(&p.Value, f.bytes); err != nil {
				return err
			}
		}
	}
	if f.bad {
		return errProtobuf("parameters", "map entry")
	}
	*list = append(*list, p)
	return nil
}

// parameterChoice reads an InferParameter. The last field wins, as in any oneof.
func parameterChoice(value *any, b []byte) *Error {
	f := fieldReader{rest: b}
	for f.next() {
		switch f.tag {
		case choiceBool<<3 | wireVarint:
			*value = f.num != 0
		case choiceInt64<<3 | wireVarint:
			*value = int64(f.num) //nolint:gosec // two's complement is the wire form
		case choiceString<<3 | wireBytes:
			if !utf8.Valid(f.bytes) {
				return Errorf(CodeMalformed, "parameters", "a value is not valid UTF-8")
			}
			*value = string(f.bytes)
		case choiceDouble<<3 | wireFixed64:
			*value = math.Float64frombits(f.num)
		case choiceUint64<<3 | wireVarint:
			if f.num > math.MaxInt64 {
				return Invalidf("parameters", "%d does not fit a signed 64-bit integer", f.num)
			}
			*value = int64(f.num)
		}
	}
	if f.bad {
		return errProtobuf("parameters", "InferParameter")
	}
	return nil
}

// lastOfEach keeps the last of the entries of each name, as a protobuf map does.
func lastOfEach(list []Parameter) []Parameter {
	kept := list[:0]
	for i, p := range list {
		last := true
		for _, q := range list[i+1:] {
			last = last && q.Name != p.Name
		}
		if last {
			kept = append(kept, p)
		}
	}
	return kept
}
