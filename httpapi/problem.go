package httpapi

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/resultstore"
)

// problem is an error as the client sees it: RFC 9457's problem details.
type problem struct {
	code     job.Code
	field    string // path of what is wrong, such as "inputs[0].shape"
	detail   string
	expected []model.TensorSpec // what the model takes, where that is what the request misses
	ticket   string             // the job that it is about
	state    job.State          // of that job
	busy     bool               // worth another try: Retry-After is set, to after or later
	polls    bool               // worth a poll of the job: Retry-After is set, to after
	after    time.Duration
	count    *int  // how many match, where that is not what the client says
	cause    error // for the log, never for the client
}

// text says in one line what is wrong, and where.
func (p *problem) text() string {
	if p.field != "" {
		return p.field + ": " + p.detail
	}
	return p.detail
}

// Error implements error.
func (p *problem) Error() string {
	s := p.text()
	if p.cause != nil {
		s += ": " + p.cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (p *problem) Unwrap() error { return p.cause }

func malformed(field, detail string) *problem {
	return &problem{code: job.CodeMalformed, field: field, detail: detail}
}

// errClientGone says that nobody is there any more to read an answer.
var errClientGone = errors.New("the client has gone")

// problemOf says what a client is told of an error.
func problemOf(err error) *problem {
	var p *problem
	var e *job.Error
	var r *producer.Refusal
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &r):
		p := *problemOf(r.Err)
		p.after = r.RetryAfter
		return &p
	case errors.Is(err, producer.ErrBusy):
		return &problem{code: codeBusy, busy: true, detail: "this server has as many submits in hand as it may; try again later"}
	case errors.Is(err, producer.ErrTooLate):
		return &problem{code: codeOverloaded, busy: true, detail: "so many jobs wait that this one would not be done before its deadline; it was not accepted. Try again later, or with a later deadline"}
	case errors.As(err, &e):
		return &problem{code: e.Code, field: e.Field, detail: e.Detail}
	case errors.Is(err, producer.ErrTenantFull):
		return &problem{code: codeTenantFull, busy: true, detail: "too many jobs of this tenant wait for this model; try again later"}
	case errors.Is(err, producer.ErrTooLarge):
		return &problem{code: job.CodeTooLarge, detail: "the job is larger than the queue takes in one message; split it into several jobs"}
	case errors.Is(err, producer.ErrFull):
		return &problem{code: codeFull, busy: true, detail: "the queue is full; try again later"}
	case errors.Is(err, producer.ErrUnavailable):
		return &problem{code: codeUnavailable, busy: true, detail: "the queue is out of reach; try again later"}
	case errors.Is(err, resultstore.ErrUnavailable):
		return &problem{code: codeUnavailable, busy: true, detail: "the result store is out of reach; try again later"}
	case errors.Is(err, context.DeadlineExceeded):
		return &problem{code: codeUnavailable, busy: true, detail: "a service behind the API did not answer in time; try again later"}
	}
	return &problem{code: job.CodeInternal, detail: "the server failed at this request; its log says why"}
}

// writeProblem answers with p. instance names the request, or the job, that it is about.
func (a *API) writeProblem(w *response, p *problem, instance string) {
	t := typeOf(p.code)
	o := object{b: append(make([]byte, 0, 512), '{')}
	h := w.Header()
	h.Set("Content-Type", job.ContentTypeProblem)
	if w.oip {
		h.Set("Content-Type", job.ContentTypeJSON)
		o.string("error", p.text())
	}
	b := endProblem(&o, p, instance)
	switch {
	case p.busy:
		a.refuse(h, p.after)
	case p.polls:
		a.retryAfter(h, p.after)
	}
	send(w, t.status, b)
}

// appendProblem appends the problem+json document of p.
func appendProblem(b []byte, p *problem) []byte { return endProblem(&object{b: append(b, '{')}, p, "") }

// endProblem writes the members of p's problem+json document and ends the object. An empty instance is left out.
func endProblem(o *object, p *problem, instance string) []byte {
	t := typeOf(p.code)
	o.string("type", t.uri())
	o.string("title", t.title)
	o.int("status", t.status)
	o.text("detail", p.detail)
	o.text("instance", instance)
	o.text("field", p.field)
	if p.count != nil {
		o.int("count", *p.count)
	}
	if len(p.expected) > 0 {
		o.key("expected")
		o.b = appendSpecs(o.b, p.expected)
	}
	if p.ticket != "" {
		o.string("id", p.ticket)
		if p.state != job.Unknown {
			o.string("job_status", p.state.String())
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
	p := problemOf(err)
	if p.code != job.CodeInvalid {
		return err
	}
	if s.short {
		if _, below, ok := strings.Cut(p.field, "inputs[0]"); ok {
			p.field = "input" + strings.TrimSuffix(strings.TrimSuffix(below, ".shape"), ".data")
		}
	}
	specs := s.info.Signature.Inputs
	switch {
	case strings.HasPrefix(p.field, "outputs"):
		specs = s.info.Signature.Outputs
	case !strings.HasPrefix(p.field, "input"):
		return p
	}
	if len(specs) <= maxExpected {
		p.expected = specs
	}
	return p
}
