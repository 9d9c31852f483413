package job

import "bytes"

// DecodeRequestJSON reads a REST inference request of the Open Inference Protocol into j: version, request ID,
// parameters, inputs and outputs. A top-level member that the protocol does not know is offered to extra, if that is
// not nil, as its raw JSON. The error is an *Error.
//
// Members may come in any order, unknown ones inside inputs and outputs are ignored. `model_name` and `model_version`
// are known too: where j names a model or a version already, they must be the same. A request without inputs is not
// refused here, since only a model's signature says which inputs it needs.
func DecodeRequestJSON(body []byte, j *Job, lim Limits, extra func(name string, value []byte) error) error {
	if len(body) > lim.MaxBytes {
		return errTooLarge(len(body), lim)
	}
	r := requestReader{j: j, lim: lim, extra: extra}
	return asError(r.read(body))
}

// ShortInput is the member "input" of a request: an array of a known datatype, which [DecodeShortRequestJSON] reads where
// it stands. What cannot be read so it offers to extra.
type ShortInput struct {
	Datatype Datatype
	Given    bool // it was there, and this is what it says
	Shape    []int64
	Data     []byte
}

// DecodeShortRequestJSON is DecodeRequestJSON for a request that may have an "input" of a datatype.
func DecodeShortRequestJSON(body []byte, j *Job, lim Limits, short *ShortInput, extra func(name string, value []byte) error) error {
	if len(body) > lim.MaxBytes {
		return errTooLarge(len(body), lim)
	}
	r := requestReader{j: j, lim: lim, extra: extra, short: short}
	return asError(r.read(body))
}

// requestReader reads the members of one request.
type requestReader struct {
	*scanner
	j      *Job
	lim    Limits
	extra  func(name string, value []byte) error
	binary *binaryPart // nil: the request has none
	short  *ShortInput // nil: it is no known member
	seen   memberSet
}

// read reads the whole of the JSON.
func (r *requestReader) read(body []byte) (err *Error) {
	if r.scanner, err = newScanner(body); err != nil {
		return err
	}
	if err := r.object(r.member); err != nil {
		return err
	}
	if err := r.end(); err != nil {
		return err
	}
	return checkNames(r.j)
}

// memberSet is a set of members by their place in a list of names.
type memberSet uint

// once notes a member. It returns the error of one that is there twice.
func (s *memberSet) once(place int, name string) *Error {
	if *s&(1<<place) != 0 {
		return Errorf(CodeMalformed, name, "the member is given twice")
	}
	*s |= 1 << place
	return nil
}

// has reports whether a member was there.
func (s *memberSet) has(place int) bool { return *s&(1<<place) != 0 }

// Places of the known members of a request.
const (
	memberID = iota
	memberModelName
	memberModelVersion
	memberParameters
	memberInputs
	memberOutputs
)

func (r *requestReader) member(name []byte) *Error {
	switch string(name) {
	case "id":
		return r.known(memberID, "id", func() *Error { return r.identifier(&r.j.RequestID) })
	case "model_name":
		return r.known(memberModelName, "model_name", func() *Error {
			var model string
			if err := r.identifier(&model); err != nil {
				return err
			}
			return strip(wantModel(r.j, model))
		})
	case "model_version":
		return r.known(memberModelVersion, "model_version", func() *Error {
			var version string
			if err := r.identifier(&version); err != nil {
				return err
			}
			return wantVersion(r.j, version, "")
		})
	case "parameters":
		return r.known(memberParameters, "parameters", r.parameters)
	case "inputs":
		return r.known(memberInputs, "inputs", func() *Error {
			r.j.Inputs = []Tensor{} // given, if only as an empty list
			return r.array(r.input)
		})
	case "outputs":
		return r.known(memberOutputs, "outputs", func() *Error {
			if r.word("null") {
				return nil
			}
			return r.array(r.output)
		})
	default:
		if r.short != nil && !r.short.Given && string(name) == "input" && r.readShort() {
			return nil
		}
		return r.unknown(string(name))
	}
}

// readShort reads the array of a short input. It consumes nothing if there is anything wrong with it.
func (r *requestReader) readShort() bool {
	if !r.short.Datatype.Valid() {
		return false
	}
	start := r.pos
	atMost := min(bytes.Count(r.src[start:], []byte{','})+1, (len(r.src)-start)/2+1, r.lim.MaxElements)
	a := newArrayScan(r.scanner, r.short.Datatype, atMost, r.lim)
	if a.value(0) == nil {
		if shape := a.shape(); checkShape(shape, r.lim) {
			r.short.Given, r.short.Shape, r.short.Data = true, shape, a.data
			return true
		}
	}
	r.pos = start
	return false
}

func checkShape(shape []int64, lim Limits) bool {
	_, err := CheckShape("", shape, lim)
	return err == nil
}

// known reads a member that may be there once.
func (r *requestReader) known(place int, name string, read func() *Error) *Error {
	if err := r.seen.once(place, name); err != nil {
		return err
	}
	return under(name, read())
}

// strip takes the field off an error that gets another.
func strip(err *Error) *Error {
	if err != nil {
		err.Field = ""
	}
	return err
}

// unknown offers a member to whoever knows it.
func (r *requestReader) unknown(name string) *Error {
	value, err := r.raw()
	if err != nil || r.extra == nil {
		return err
	}
	return toError(r.extra(name, value))
}

// identifier reads a string or null.
func (r *requestReader) identifier(dst *string) *Error {
	if r.word("null") {
		return nil
	}
	s, err := r.text()
	if err != nil {
		return err
	}
	if !ValidText(s, maxText) {
		return Invalidf("", "expected text without control characters, at most %d bytes", maxText)
	}
	*dst = s
	return nil
}

// name reads the name of an input or output.
func (r *requestReader) name(dst *string) *Error {
	s, err := r.text()
	if err != nil {
		return err
	}
	if s == "" || len(s) > maxText {
		return Invalidf("", "expected a name of 1 to %d bytes", maxText)
	}
	*dst = s
	return nil
}

// parameters reads the request's parameters.
func (r *requestReader) parameters() *Error {
	if r.word("null") {
		return nil
	}
	err := r.object(func(name []byte) *Error {
		if len(r.j.Parameters) >= maxParameters {
			return Invalidf("", "expected at most %d parameters", maxParameters)
		}
		key, ok := text(name)
		if !ok || key == "" {
			return Invalidf("", "expected names without control characters, of 1 to %d bytes", maxText)
		}
		value, err := r.parameter()
		if err != nil {
			return under("."+excerpt(name), err)
		}
		r.j.Parameters = append(r.j.Parameters, Parameter{Name: key, Value: value})
		return nil
	})
	if err != nil {
		return err
	}
	return sortParameters(r.j.Parameters)
}

// parameter reads the value of a parameter: a boolean, an int64, a float64 or a string.
func (r *requestReader) parameter() (any, *Error) {
	switch c := r.peek(); {
	case c == '"':
		s, err := r.text()
		return s, err
	case c == '-' || c >= '0' && c <= '9':
		n, err := r.number()
		if err != nil {
			return nil, err
		}
		if n.integer {
			if v, ok := n.int(64); ok {
				return v, nil
			}
			return nil, Invalidf("", "%s does not fit a 64-bit integer", excerpt(n.token))
		}
		if v, ok := n.float64(); ok {
			return v, nil
		}
		return nil, Invalidf("", "%s does not fit FP64", excerpt(n.token))
	case r.word("true"):
		return true, nil
	case r.word("false"):
		return false, nil
	}
	return nil, r.mismatch("a boolean, a number or a string")
}

// output reads one requested output.
func (r *requestReader) output(i int) *Error {
	if i >= r.lim.MaxTensors {
		return Invalidf("", "expected at most %d outputs", r.lim.MaxTensors)
	}
	var name string
	var seen memberSet
	err := r.object(func(member []byte) *Error {
		switch {
		case string(member) == "parameters" && r.binary != nil:
			return under(".parameters", r.outputParameters(i))
		case string(member) != "name":
			return r.skip(0)
		}
		if err := seen.once(0, ".name"); err != nil {
			return err
		}
		return under(".name", r.name(&name))
	})
	if err != nil {
		return err
	}
	if !seen.has(0) {
		return Invalidf(".name", "an output needs a name")
	}
	r.j.Outputs = append(r.j.Outputs, name)
	return nil
}
