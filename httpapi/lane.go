package httpapi

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"time"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/httpapi/fastlane"
	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

// The path of a submit, which the fast lane knows too.
const (
	submitPrefix = "/v1/models/"
	submitSuffix = "/jobs"
	submitPath   = submitPrefix + "{model}" + submitSuffix
)

// maxLaneBody bounds the bodies that the fast lane reads: it holds a buffer as large, and gains nothing for large ones.
const maxLaneBody = 64 << 10

// FastLane puts a lane before a listener without TLS, which answers plain submits itself, as Server's handler would, and
// leaves the rest to Server: its Serve takes the lane for a listener. A lane has a
// method Shutdown, which waits for what is in hand there. Where pages of other origins are let in all is left
// to it.
func (a *API) FastLane(l net.Listener) (net.Listener, error) {
	if len(a.cfg.CORSOrigins) > 0 {
		return l, nil
	}
	server := a.Server()
	return fastlane.New(l, fastlane.Config{
		Prefix: submitPrefix, Suffix: submitSuffix, MaxBodyBytes: int(min(a.cfg.MaxBodyBytes, maxLaneBody)),
		HeaderTimeout: server.ReadHeaderTimeout, IdleTimeout: server.IdleTimeout, WriteTimeout: server.WriteTimeout,
		Header: a.fixed.lines(),
		Panicked: func(v any) {
			a.log.Error("the fast lane panicked", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
		},
	}, &laneHandler{a})
}

// laneHandler answers what API.submit would answer 202. Nothing is done before it is sure of that.
type laneHandler struct{ *API }

// laneState is kept from one request of a connection to the next.
type laneState struct {
	sub    submission
	w      response
	page   page         // behind w
	r      http.Request // what there would be if net/http had read it
	url    url.URL
	body   []byte
	model  string
	bearer string
	caller *auth.Principal
	ctx    context.Context //nolint:containedctx // of the caller
}

// Serve implements fastlane.Handler.
func (h *laneHandler) Serve(r *fastlane.Request, out *fastlane.Answer) bool {
	start := time.Now()
	st, _ := r.State.(*laneState)
	if st == nil {
		st = &laneState{ctx: context.Background()}
		st.r = http.Request{Method: http.MethodPost, URL: &st.url}
		r.State = st
	}
	if !h.read(r, st) {
		return false
	}
	h.answer(st, out, start)
	if st.page.status != 0 {
		st.page.send(out)
	}
	st.sub.Request, st.page = producer.Request{}, page{} // a connection that waits holds none of what it sent
	return true
}

// answer is API.submit, with what API.wrap puts around it.
func (h *laneHandler) answer(st *laneState, out *fastlane.Answer, start time.Time) {
	defer h.finish(&st.w, &st.r, submitPath, start)
	v, _, err := h.jobs.Submit(st.ctx, &st.sub.Submission, 0)
	st.w.about(st.sub.Ticket)
	if err != nil {
		tellQuota(st.w.Header(), &st.sub.Quota)
		h.fail(&st.w, &st.r, submitPath, explain(err, &st.sub))
		return
	}
	out.Begin(http.StatusAccepted)
	out.Set("Vary", "Prefer")
	tellQuota(out, &st.sub.Quota)
	setLocation(out, st.w.ticket)
	h.foresee(st.ctx, out, v)
	out.Set("Content-Type", job.ContentTypeJSON)
	out.Set("Cache-Control", "no-store")
	st.body = appendJob(st.body[:0], v)
	out.End(time.Now(), st.body)
	st.w.status = http.StatusAccepted
	h.deps.Reach.Reach(failpoint.Answered)
}

// read makes a submission of a request as API.read does. It is false for one that is refused: API.read says why.
func (h *laneHandler) read(r *fastlane.Request, st *laneState) bool {
	if !h.admit(r, st) {
		return false
	}
	if string(r.Name) != st.model {
		st.model = string(r.Name)
		st.url.Path = submitPrefix + st.model + submitSuffix
	}
	info, err := h.jobs.ModelFor(st.ctx, st.model, "")
	if err != nil {
		return false
	}
	st.sub = submission{Submission: gateway.Submission{Info: info}}
	q := &st.sub.Request
	q.Model, q.Tenant = st.model, st.caller.Owner()
	if r.TraceParent != nil {
		q.TraceParent = traceParent(string(r.TraceParent))
	}
	return h.decode(&st.sub, r.Body, "", h.ownForm()) == nil
}

// admit finds out who calls.
func (h *laneHandler) admit(r *fastlane.Request, st *laneState) bool {
	st.page = page{}
	st.w = response{ResponseWriter: &st.page}
	if h.deps.Auth == nil {
		return true
	}
	if st.bearer == "" || !bytes.Equal(r.Authorization, []byte(st.bearer)) {
		st.bearer = string(r.Authorization)
	}
	bearer, err := auth.Bearer([]string{st.bearer})
	if err != nil {
		return false
	}
	p, err := h.deps.Auth.Authenticate(context.Background(), bearer)
	if err != nil || p == nil || !p.Has(auth.Submit) {
		return false
	}
	if p != st.caller {
		st.caller, st.ctx = p, auth.NewContext(context.Background(), p)
	}
	st.w.caller = p
	return true
}

// page is a ResponseWriter in memory, for answers that are seldom given.
type page struct {
	header http.Header
	status int
	body   []byte
}

// Header implements http.ResponseWriter.
func (p *page) Header() http.Header {
	if p.header == nil {
		p.header = http.Header{"Vary": {"Prefer"}}
	}
	return p.header
}

// WriteHeader implements http.ResponseWriter.
func (p *page) WriteHeader(status int) { p.status = status }

// Write implements http.ResponseWriter.
func (p *page) Write(b []byte) (int, error) {
	p.body = append(p.body, b...)
	return len(b), nil
}

// send answers with what was written.
func (p *page) send(out *fastlane.Answer) {
	out.Begin(p.status)
	p.header.Del("Content-Length")
	for name, values := range p.header {
		for _, value := range values {
			out.Set(name, value)
		}
	}
	out.End(time.Now(), p.body)
}
