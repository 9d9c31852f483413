package job

// DecodeRequestBinary is DecodeRequestJSON for a request that may use the protocol's extension of binary data: data
// follows the JSON, and has, in the order of the inputs, the raw data of each that says its binary_data_size. Their
// tensors alias it. Bytes that are missing or left over make the request malformed.
//
// output is told each parameter of the i-th wanted output, of which binary_data is one; its value is
// of the types of a [Parameter]. Top-level members that the protocol does not know are ignored.
func DecodeRequestBinary(body, data []byte, j *Job, lim Limits, output func(i int, name string, value any) error) error {
	if n := len(body) + len(data); n > lim.MaxBytes {
		return errTooLarge(n, lim)
	}
	part := binaryPart{rest: data, output: output}
	r := requestReader{j: j, lim: lim, binary: &part}
	if err := r.read(body); err != nil {
		return err
	}
	if n := len(part.rest); n > 0 {
		return Errorf(CodeMalformed, "", "%d bytes are left over after the JSON: expected as many as the inputs' binary_data_size say together", n)
	}
	return nil
}

// binaryPart is what follows the JSON of a request.
type binaryPart struct {
	rest   []byte // what no input has taken yet
	output func(i int, name string, value any) error
}

// binarySize reads how many bytes after the JSON are this input's.
func (in *inputReader) binarySize() *Error {
	const expected = "a whole number of bytes"
	if c := in.peek(); c != '-' && (c < '0' || c > '9') {
		return Errorf(CodeMalformed, "", "expected "+expected)
	}
	n, err := in.number()
	if err != nil {
		return err
	}
	size, ok := n.int(64)
	switch {
	case !n.integer || n.negative || !ok:
		return Errorf(CodeMalformed, "", "expected "+expected+", got %s", excerpt(n.token))
	case size > int64(in.lim.MaxBytes):
		return Errorf(CodeMalformed, "", "expected at most the %d bytes of a whole request", in.lim.MaxBytes)
	}
	in.size = int(size)
	return nil
}

// takeBinary gives the input its bytes. It is called in the order of the inputs.
func (in *inputReader) takeBinary() *Error {
	rest := in.binary.rest
	switch {
	case in.seen.has(memberData):
		return Errorf(CodeMalformed, "", "expected the data either in `data` or after the JSON, found both")
	case in.size > len(rest):
		return Errorf(CodeMalformed, "", "expected %d bytes after the JSON for this input, there are %d", in.size, len(rest))
	}
	in.t.Data, in.binary.rest = rest[:in.size:in.size], rest[in.size:]
	return nil
}

// outputParameters reads the parameters of the i-th wanted output.
func (r *requestReader) outputParameters(i int) *Error {
	if r.word("null") {
		return nil
	}
	return r.object(func(name []byte) *Error {
		key := string(name)
		value, err := r.parameter()
		if err == nil {
			err = toError(r.binary.output(i, key, value))
		}
		return under("."+excerpt([]byte(key)), err)
	})
}
