package job

// DecodeRequestGRPC is DecodeRequestProtobuf for a server of the protocol. typed says that tensors came in typed
// contents, so that the answer's should, too. tensor is told each parameter of an input, or else of a wanted output.
func DecodeRequestGRPC(body []byte, j *Job, lim Limits, tensor func(input bool, p Parameter) error) (typed bool, err error) {
	r := inferReader{j: j, lim: lim, tensor: tensor}
	err = asError(r.read(body))
	return r.contents > 0, err
}

// tensorParameter reads one parameter of a tensor. It is no part of the job.
func (r *inferReader) tensorParameter(input bool, b []byte) *Error {
	var list [1]Parameter
	p := list[:0]
	if err := r.parameter(&p, b); err != nil {
		return under(".", err)
	}
	if r.tensor == nil {
		return nil
	}
	if err := toError(r.tensor(input, p[0])); err != nil {
		return under(".parameters."+excerpt([]byte(p[0].Name)), err)
	}
	return nil
}
