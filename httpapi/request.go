package httpapi

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// submission is a request that has been read.
type submission struct {
	gateway.Submission
	short  bool // the input came as {"input": …}
	single bool // and was one row without its batch axis
	// While it is being read; here, since what escapes to the reader of a body would be allocated for each.
	body   job.Job
	others model.Members
}

// form is how a route's bodies are written: what reads one into a job, with m for members that are not the protocol's,
// and the media type that is taken beside JSON, if any. Nothing of the job may alias the body.
type form struct {
	media string
	read  func(body []byte, j *job.Job, m *model.Members) error
}

// ownForm is the form of the bodies under /v1.
func (a *API) ownForm() form {
	return form{read: func(body []byte, j *job.Job, m *model.Members) error {
		return job.DecodeShortRequestJSON(body, j, a.cfg.Limits, m.Short(), m.Take)
	}}
}

// read makes a submission of a request, without submitting it.
func (a *API) read(w *response, r *http.Request, f form) (*submission, error) {
	name, version := r.PathValue("model"), r.PathValue("version")
	info, err := a.jobs.ModelFor(r.Context(), name, version)
	if err != nil {
		return nil, err
	}
	query, err := queryOf(r)
	if err != nil {
		return nil, err
	}
	s := &submission{Submission: gateway.Submission{Info: info}}
	q := &s.Request
	q.Model, q.Version, q.Tenant = name, version, a.tenant(r)
	q.TraceParent = traceParent(r.Header.Get(job.HeaderTraceParent))
	if q.Deadline, err = parseDeadline(r.Header.Get(job.HeaderDeadline)); err != nil {
		return nil, err
	}
	if q.IdempotencyKey, err = parseKey(r.Header.Values(headerKey)); err != nil {
		return nil, err
	}
	body, release, err := a.body(w, r, f.media)
	if err != nil {
		return nil, err
	}
	defer release()
	return s, a.decode(s, body, query.Get("lane"), f)
}

// decode reads a body into s. Nothing of s aliases it afterwards.
func (a *API) decode(s *submission, body []byte, lane string, f form) error {
	q := &s.Request
	j, m := &s.body, &s.others
	defer func() { s.body, s.others = job.Job{}, model.Members{} }() // what they have is of the body
	*j, *m = job.Job{Model: q.Model, Version: q.Version}, model.Members{Lane: lane}
	m.Expect(&s.Info.Signature)
	err := f.read(body, j, m)
	q.RequestID = j.RequestID
	if err != nil {
		return explain(err, s)
	}
	if j.Version != q.Version {
		if s.Info, err = a.jobs.Model(q.Model, j.Version); err != nil {
			return err
		}
		q.Version = j.Version
		if m.Given() { // the input was read as the other version takes it
			*j, *m = job.Job{Model: q.Model, Version: q.Version}, model.Members{Lane: lane}
			if err := f.read(body, j, m); err != nil {
				return explain(err, s)
			}
		}
	}
	if s.short, s.single, err = m.Inputs(j, &s.Info.Signature, a.cfg.Limits); err != nil {
		return explain(err, s)
	}
	if m.Lane != "" {
		if q.Lane, err = job.ParseLane(m.Lane); err != nil {
			return job.Invalidf("lane", `expected "interactive" or "bulk"`)
		}
	}
	q.Inputs, q.Outputs, q.Parameters = j.Inputs, j.Outputs, j.Parameters
	q.Webhook = m.Webhook
	return nil
}

// body reads the body of a request. release must be called when nothing points into it any more.
func (a *API) body(w *response, r *http.Request, also string) (body []byte, release func(), err error) {
	if err := checkContentType(r.Header, also); err != nil {
		return nil, nil, err
	}
	if r.ContentLength > a.cfg.MaxBodyBytes {
		return nil, nil, a.tooLarge()
	}
	// Where the writer below cannot set deadlines, as in tests, there is no slow client either.
	rc := http.NewResponseController(w.ResponseWriter)
	_ = rc.SetReadDeadline(time.Now().Add(a.cfg.BodyTimeout))
	buf, _ := a.bodies.Get().(*[]byte)
	release = func() {
		if cap(*buf) <= maxPooled {
			a.bodies.Put(buf)
		}
	}
	*buf, err = readAll((*buf)[:0], http.MaxBytesReader(w.ResponseWriter, r.Body, a.cfg.MaxBodyBytes), r.ContentLength)
	if err != nil {
		release()
		return nil, nil, a.bodyError(r, err, len(*buf))
	}
	_ = rc.SetReadDeadline(time.Now().Add(a.longestCall() + slack))
	return *buf, release, nil
}

// maxPooled bounds the buffers that are kept for other requests, in bytes.
const maxPooled = 1 << 20

// readAll appends what r has to b. The length that the client announces is believed up to 64 KiB.
func readAll(b []byte, r io.Reader, announced int64) ([]byte, error) {
	const most = 64 << 10
	if want := int(min(max(announced+1, 512), most)); cap(b) < want {
		b = make([]byte, 0, want)
	}
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}

// bodyError says why a body could not be read.
func (a *API) bodyError(r *http.Request, err error, got int) error {
	var large *http.MaxBytesError
	var slow net.Error
	switch {
	case errors.As(err, &large):
		return a.tooLarge()
	case errors.As(err, &slow) && slow.Timeout():
		return &gateway.Problem{Code: gateway.CodeSlowBody, Detail: fmt.Sprintf("expected the whole body within %s", a.cfg.BodyTimeout)}
	case r.ContentLength > 0:
		return &gateway.Problem{Code: job.CodeMalformed, Cause: err, Detail: fmt.Sprintf("the body is truncated: expected %d bytes as Content-Length says, got %d", r.ContentLength, got)}
	}
	return &gateway.Problem{Code: job.CodeMalformed, Cause: err, Detail: "the body is truncated, or is not in the coding that its headers say"}
}

func (a *API) tooLarge() error {
	return &gateway.Problem{Code: job.CodeTooLarge, Detail: fmt.Sprintf("expected a body of at most %d bytes", a.cfg.MaxBodyBytes)}
}

// checkContentType refuses a body that is neither JSON in UTF-8 nor of the other media type, if there is one. No type at
// all is taken for JSON.
func checkContentType(h http.Header, also string) error {
	if coding := h.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return &gateway.Problem{Code: gateway.CodeMediaType, Field: "Content-Encoding", Detail: "expected a body that is not compressed"}
	}
	s := h.Get("Content-Type")
	if s == "" {
		return nil
	}
	media, params, err := mime.ParseMediaType(s)
	charset := params["charset"]
	if err == nil && also != "" && media == also {
		return nil
	}
	if err != nil || media != job.ContentTypeJSON && !strings.HasSuffix(media, "+json") || charset != "" && !strings.EqualFold(charset, "utf-8") {
		expected := "expected application/json in UTF-8"
		if also != "" {
			expected += ", or " + also
		}
		return &gateway.Problem{Code: gateway.CodeMediaType, Field: "Content-Type", Detail: expected}
	}
	return nil
}

// queryOf reads the query of a request.
func queryOf(r *http.Request) (url.Values, error) {
	if r.URL.RawQuery == "" {
		return nil, nil //nolint:nilnil // no query is no error
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, malformed("query", "expected name=value pairs, percent-encoded and joined by &")
	}
	return q, nil
}

// traceParent returns a W3C trace context, "" if it is none: the standard says to go on without.
func traceParent(s string) string {
	if len(s) < 55 || len(s) > 128 || s[2] != '-' || s[35] != '-' || s[52] != '-' || strings.Trim(s, "0123456789abcdef-") != "" {
		return ""
	}
	return s
}
