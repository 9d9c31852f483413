package model

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/sheafml/sheaf/job"
)

// Members are those of a request in Sheaf's own JSON that the Open Inference Protocol does not know. Give Take to
// job.DecodeRequestJSON.
type Members struct {
	// Lane is "interactive", "bulk" or "" for none; one that is set before must be the body's too.
	Lane string
	// Webhook is "" if the body has none.
	Webhook string

	short    job.ShortInput
	expected bool   // short may be used
	input    []byte // raw JSON, if short does not have it
	laned    bool   // the body has a lane
}

// Expect says what a short input is of, so that it need not be scanned twice.
func (m *Members) Expect(sig *Signature) {
	if len(sig.Inputs) == 1 {
		m.short, m.expected = job.ShortInput{Datatype: sig.Inputs[0].Datatype}, true
	}
}

// Short is for job.DecodeShortRequestJSON, which reads the input where it stands; nil if Expect has not said of what it is.
func (m *Members) Short() *job.ShortInput {
	if !m.expected {
		return nil
	}
	return &m.short
}

// Given reports whether there is an input.
func (m *Members) Given() bool { return m.input != nil || m.short.Given }

// Take is offered each such member. The error is a *job.Error.
func (m *Members) Take(name string, value []byte) error {
	switch name {
	case "input":
		if m.Given() {
			return job.Errorf(job.CodeMalformed, name, "the member is given twice")
		}
		m.input = value
		return nil
	case "lane":
		var lane string
		if m.laned || json.Unmarshal(value, &lane) != nil || lane == "" || m.Lane != "" && m.Lane != lane {
			return job.Invalidf(name, `expected "interactive" or "bulk", once`)
		}
		m.Lane, m.laned = lane, true
		return nil
	case "webhook":
		var url string
		if m.Webhook != "" || json.Unmarshal(value, &url) != nil || url == "" {
			return job.Invalidf(name, "expected a URL, once")
		}
		m.Webhook = url
		return nil
	}
	return job.Invalidf(Excerpt(name), `not a member of a request: expected "input" or "inputs", and if need be "outputs", "parameters", "id", "lane", "webhook"`)
}

// Inputs sees to it that j has the inputs of a request that was read: from {"inputs": …}, or from {"input": …}, which
// short says, and single that it was one row without its batch axis. Nothing of j aliases the body afterwards that did
// not before. The error is a *job.Error.
func (m *Members) Inputs(j *job.Job, sig *Signature, lim job.Limits) (short, single bool, err error) {
	switch {
	case m.Given() && j.Inputs != nil:
		return false, false, job.Invalidf("input", `expected either "input" or "inputs", got both`)
	case m.Given():
		j.Inputs, single, err = m.shorthand(sig, lim)
		return true, single, err
	case len(j.Inputs) == 0:
		return false, false, job.Invalidf("inputs", `expected "inputs", a list of tensors, or for a model with one input "input", an array`)
	}
	return false, false, nil
}

// shorthand makes the one input tensor of {"input": …}.
func (m *Members) shorthand(sig *Signature, lim job.Limits) (inputs []job.Tensor, single bool, err error) {
	if m.input != nil || len(sig.Inputs) != 1 {
		return sig.Shorthand(m.input, lim)
	}
	return sig.only(m.short.Shape, m.short.Data)
}

// Shorthand makes the one input tensor of {"input": …} from raw JSON. single says that it is one row without its batch
// axis. The error is a *job.Error.
func (s *Signature) Shorthand(raw []byte, lim job.Limits) (inputs []job.Tensor, single bool, err error) {
	if len(s.Inputs) != 1 {
		return nil, false, job.Invalidf("input", `the model has %d inputs: expected "inputs" with each of them by name`, len(s.Inputs))
	}
	shape, data, err := job.ScanArray("input", raw, s.Inputs[0].Datatype, lim)
	if err != nil {
		return nil, false, err
	}
	return s.only(shape, data)
}

// only is the tensor of the one input.
func (s *Signature) only(shape []int64, data []byte) (inputs []job.Tensor, single bool, err error) {
	spec := &s.Inputs[0]
	shape, single, err = spec.Fit(shape, s.Batchable)
	if err != nil {
		return nil, false, err
	}
	return []job.Tensor{{Name: spec.Name, Datatype: spec.Datatype, Shape: shape, Data: data}}, single, nil
}

// Excerpt makes a name that a client sent fit for an error.
func Excerpt(name string) string {
	const limit = 64
	if len(name) > limit {
		name = strings.ToValidUTF8(name[:limit], "") + "…"
	}
	return strings.Trim(strconv.Quote(name), `"`)
}
