package job

// Places of the known members of an input.
const (
	memberName = iota
	memberShape
	memberDatatype
	memberInputParameters
	memberData
	memberBinarySize
)

// input reads one element of `inputs`.
func (r *requestReader) input(i int) *Error {
	if i >= r.lim.MaxTensors {
		return Invalidf("", "expected at most %d inputs", r.lim.MaxTensors)
	}
	in := inputReader{requestReader: r}
	if err := r.object(in.member); err != nil {
		return err
	}
	if err := in.complete(); err != nil {
		return err
	}
	if err := in.t.Check("", r.lim); err != nil {
		return toError(err)
	}
	r.j.Inputs = append(r.j.Inputs, in.t)
	return nil
}

// inputReader reads the members of one input.
type inputReader struct {
	*requestReader
	t        Tensor
	elements int
	data     scanner // stands before the data, if that came before the shape and the datatype
	size     int     // of the data after the JSON, if it is there
	seen     memberSet
}

func (in *inputReader) member(name []byte) *Error {
	switch string(name) {
	case "name":
		return in.known(memberName, ".name", func() *Error { return in.name(&in.t.Name) })
	case "shape":
		return in.known(memberShape, ".shape", in.shape)
	case "datatype":
		return in.known(memberDatatype, ".datatype", in.datatype)
	case "parameters":
		return in.known(memberInputParameters, ".parameters", in.inputParameters)
	case "data":
		return in.known(memberData, ".data", in.readData)
	default:
		return in.skip(0)
	}
}

func (in *inputReader) known(place int, name string, read func() *Error) *Error {
	if err := in.seen.once(place, name); err != nil {
		return err
	}
	return under(name, read())
}

// shape reads the shape and verifies it against the limits, so that the data can be read at once.
func (in *inputReader) shape() *Error {
	in.t.Shape = make([]int64, 0, 4)
	err := in.array(func(i int) *Error {
		if i >= in.lim.MaxRank {
			return Invalidf("", "expected at most %d dimensions", in.lim.MaxRank)
		}
		if c := in.peek(); c != '-' && (c < '0' || c > '9') {
			return in.mismatch("an integer")
		}
		n, err := in.number()
		if err != nil {
			return err
		}
		if !n.integer {
			return Invalidf("", "expected an integer, got %s", excerpt(n.token))
		}
		d, ok := n.int(64)
		if !ok {
			return Invalidf("", "%s is too large for a dimension", excerpt(n.token))
		}
		in.t.Shape = append(in.t.Shape, d)
		return nil
	})
	if err != nil {
		return err
	}
	n, fault := CheckShape("", in.t.Shape, in.lim)
	in.elements = n
	return strip(toError(fault))
}

func (in *inputReader) datatype() *Error {
	s, err := in.text()
	if err != nil {
		return err
	}
	if in.t.Datatype, _ = ParseDatatype(s); !in.t.Datatype.Valid() {
		return errDatatype("")
	}
	return nil
}

// inputParameters looks for the one parameter that must not be ignored: it says that the data is not in the JSON.
func (in *inputReader) inputParameters() *Error {
	if in.word("null") {
		return nil
	}
	return in.object(func(name []byte) *Error {
		switch {
		case string(name) != "binary_data_size":
			return in.skip(0)
		case in.binary == nil:
			return Invalidf(".binary_data_size", "binary data after the JSON is not taken here: put the data into `data`")
		}
		return in.known(memberBinarySize, ".binary_data_size", in.binarySize)
	})
}

// readData reads the data, or notes where it stands until shape and datatype are known.
func (in *inputReader) readData() *Error {
	if in.seen.has(memberShape) && in.seen.has(memberDatatype) {
		return in.scan(in.scanner)
	}
	in.peek()
	in.data = *in.scanner
	return in.skip(0)
}

func (in *inputReader) scan(s *scanner) (err *Error) {
	in.t.Data, err = scanTensor(s, in.t.Datatype, in.t.Shape, in.elements, in.lim)
	return err
}

// complete verifies that the input has all it needs and reads the data if that is still to be done.
func (in *inputReader) complete() *Error {
	for place, field := range [...]string{memberName: ".name", memberShape: ".shape", memberDatatype: ".datatype", memberData: ".data"} {
		if field != "" && !in.seen.has(place) && (place != memberData || !in.seen.has(memberBinarySize)) {
			return Invalidf(field, "the input needs this member")
		}
	}
	if in.seen.has(memberBinarySize) {
		return under(".parameters.binary_data_size", in.takeBinary())
	}
	if in.data.src == nil {
		return nil
	}
	return under(".data", in.scan(&in.data))
}
