package httpapi

import (
	"strings"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

func malformed(field, detail string) *gateway.Problem {
	return &gateway.Problem{Code: job.CodeMalformed, Field: field, Detail: detail}
}

// writeProblem answers with p. instance names the request, or the job, that it is about.
func (a *API) writeProblem(w *response, p *gateway.Problem, instance string) {
	t := typeOf(p.Code)
	o := object{b: append(make([]byte, 0, 512), '{')}
	h := w.Header()
	h.Set("Content-Type", job.ContentTypeProblem)
	if w.oip {
		h.Set("Content-Type", job.ContentTypeJSON)
		o.string("error", p.Text())
	}
	if w.openAI {
		o.key("error")
		in := object{b: append(o.b, '{')}
		in.string("message", p.Text())
		in.string("type", t.uri())
		in.string("code", string(t.code))
		in.text("param", p.Field)
		o.b = in.end()
	}
	b := endProblem(&o, p, instance)
	switch {
	case p.Busy:
		a.refuse(h, p.After)
	case p.Polls:
		a.retryAfter(h, p.After)
	}
	send(w, t.status, b)
}

// appendProblem appends the problem+json document of p.
func appendProblem(b []byte, p *gateway.Problem) []byte {
	return endProblem(&object{b: append(b, '{')}, p, "")
}

// endProblem writes the members of p's problem+json document and ends the object. An empty instance is left out.
func endProblem(o *object, p *gateway.Problem, instance string) []byte {
	t := typeOf(p.Code)
	o.string("type", t.uri())
	o.string("title", t.title)
	o.int("status", t.status)
	o.text("detail", p.Detail)
	o.text("instance", instance)
	o.text("field", p.Field)
	if p.Count != nil {
		o.int("count", *p.Count)
	}
	if len(p.Expected) > 0 {
		o.key("expected")
		o.b = appendSpecs(o.b, p.Expected)
	}
	if p.Ticket != "" {
		o.string("id", p.Ticket)
		if p.State != job.Unknown {
			o.string("job_status", p.State.String())
		}
	}
	return o.end()
}

// appendSpecs appends tensors' metadata as the Open Inference Protocol writes it.
func appendSpecs(b []byte, specs []model.TensorSpec) []byte {
	b = append(b, '[')
	for i := range specs {
		if i > 0 {
			b = append(b, ',')
		}
		o := object{b: append(b, '{')}
		o.string("name", specs[i].Name)
		o.string("datatype", specs[i].Datatype.String())
		o.key("shape")
		o.b = append(o.b, model.FormatShape(specs[i].Shape)...)
		b = o.end()
	}
	return append(b, ']')
}

// maxExpected bounds the tensors that a problem lists.
const maxExpected = 16

// explain adds what the model takes, or gives, to a problem that is about just that, and names the field as the client
// wrote it.
func explain(err error, s *submission) error {
	p := gateway.ProblemOf(err)
	if p.Code != job.CodeInvalid {
		return err
	}
	if s.short {
		if _, below, ok := strings.Cut(p.Field, "inputs[0]"); ok {
			p.Field = "input" + strings.TrimSuffix(strings.TrimSuffix(below, ".shape"), ".data")
		}
	}
	specs := s.Info.Signature.Inputs
	switch {
	case strings.HasPrefix(p.Field, "outputs"):
		specs = s.Info.Signature.Outputs
	case !strings.HasPrefix(p.Field, "input"):
		return p
	}
	if len(specs) <= maxExpected {
		p.Expected = specs
	}
	return p
}
