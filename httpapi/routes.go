package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
)

// handler answers one route. An error that it returns is answered as a problem; it must not have written then.
type handler func(w *response, r *http.Request) error

// route is one method of one path.
type route struct {
	method, path string
	scope        auth.Scope // that a caller needs; anybody: none
	handle       handler
	about        string // for the index
}

func (a *API) table() []route {
	list := []route{
		{"GET", "/{$}", anybody, a.index, "this list"},
		{"POST", submitPath, auth.Submit, a.submit, "submit a job"},
		{"POST", "/v1/models/{model}/versions/{version}/jobs", auth.Submit, a.submit, "submit a job for one version of a model"},
		{"GET", "/v1/jobs/{id}", auth.Read, a.getJob, "the state or the result of a job; ?wait=20s waits for the result"},
		{"DELETE", "/v1/jobs/{id}", auth.Submit, a.cancelJob, "cancel a job"},
		{"POST", "/v1/jobs/{id}/webhook", auth.Submit, a.redeliver, "send the outcome of a finished job to its webhook once more"},
		{"GET", "/v1/webhooks/secret", auth.Submit, a.webhookSecret, "what your webhooks are signed with"},
		{"POST", "/v1/models/{model}/predict", auth.Submit, a.predict, `submit and wait: {"input": …} gives {"prediction": …}`},
		{"POST", "/v1/models/{model}/versions/{version}/predict", auth.Submit, a.predict, "the same with one version of a model"},
		{"GET", "/v1/models", auth.Read, a.listModels, "the models that workers have announced"},
		{"GET", "/v1/models/{model}", auth.Read, a.getModel, "what a model takes and gives"},
		{"GET", "/v1/models/{model}/versions/{version}", auth.Read, a.getModel, "what one version of a model takes and gives"},
		{"GET", "/problems/{problem}", anybody, a.getProblem, "what an error means"},
		{"GET", "/healthz", anybody, a.health, "200 while the process lives"},
		{"GET", "/readyz", anybody, a.readyz, "200 when everything behind the API answers"},
		{"GET", "/openapi.json", anybody, a.getOpenAPI, "these routes as an OpenAPI document"},
		{"GET", "/docs", anybody, a.getDocs, "the same as a page to read"},
		{"GET", "/docs/{asset}", anybody, a.getDocsAsset, "what that page is made of"},
	}
	list = append(list, a.streamRoutes()...)
	list = append(list, a.batchRoutes()...)
	list = append(list, a.oipRoutes()...)
	list = append(list, a.adminRoutes()...)
	if a.deps.Gatherer != nil {
		metrics := promhttp.HandlerFor(a.deps.Gatherer, promhttp.HandlerOpts{})
		list = append(list, route{"GET", "/metrics", auth.Admin, func(w *response, r *http.Request) error {
			metrics.ServeHTTP(w, r)
			return nil
		}, "metrics for Prometheus"})
	}
	return list
}

// routes makes the handler of every route. The mux knows paths only: a method that a path does not take is a problem too,
// and a path that is a special case of another's pattern need not take the same methods.
func (a *API) routes(table []route) http.Handler {
	mux := http.NewServeMux()
	paths := make(map[string]map[string]http.Handler)
	for _, rt := range table {
		methods := paths[rt.path]
		if methods == nil {
			methods = make(map[string]http.Handler)
			paths[rt.path] = methods
		}
		h := a.wrap(rt.path, rt.scope, rt.handle)
		methods[rt.method] = h
		if rt.method == http.MethodGet {
			methods[http.MethodHead] = h
		}
	}
	for path, methods := range paths {
		allow := strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
		other := a.wrap(path, anybody, func(w *response, _ *http.Request) error {
			w.Header().Set("Allow", allow)
			return &gateway.Problem{Code: codeMethodNotAllowed, Detail: "expected " + allow}
		})
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			h, ok := methods[r.Method]
			if !ok {
				h = other
			}
			h.ServeHTTP(w, r)
		})
	}
	mux.Handle("/", a.wrap("none", anybody, func(*response, *http.Request) error {
		return &gateway.Problem{Code: codeNotFound, Detail: "nothing is served under this path; GET / lists the routes"}
	}))
	return a.fixed.on(a.crossOrigin(mux))
}

// wrap gives a handler what all of them have: who calls, an answer for errors and panics, a log line and metrics. path is the
// route's pattern, never what the client sent, so that it may be a label.
func (a *API) wrap(path string, scope auth.Scope, h handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		start := time.Now()
		w := &response{ResponseWriter: rw, oip: isOIP(r.URL.Path), openAI: isOpenAI(r.URL.Path)}
		defer a.finish(w, r, path, start)
		authorized, err := a.authorize(w, r, scope)
		if err == nil {
			err = h(w, authorized)
		}
		if err != nil {
			a.fail(w, r, path, err)
		}
	})
}

// finish is deferred: it turns a panic into an answer, and counts and logs the request.
func (a *API) finish(w *response, r *http.Request, path string, start time.Time) {
	if v := recover(); v != nil {
		if v == http.ErrAbortHandler { //nolint:errorlint // the documented sentinel of net/http
			a.observe(w, r, path, time.Since(start))
			panic(v)
		}
		a.log.LogAttrs(r.Context(), slog.LevelError, "a handler panicked",
			slog.String("route", path), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
		if w.status == 0 {
			a.writeProblem(w, gateway.ProblemOf(errPanic), "")
		}
	}
	a.observe(w, r, path, time.Since(start))
}

var errPanic = errors.New("a handler panicked")

// fail answers with the problem of err, and logs what is ours to look at.
func (a *API) fail(w *response, r *http.Request, path string, err error) {
	if errors.Is(err, gateway.ErrClientGone) || r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		w.status = statusClientGone
		return
	}
	p := gateway.ProblemOf(err)
	switch status := typeOf(p.Code).status; {
	case p.Code == job.CodeInternal:
		a.log.LogAttrs(r.Context(), slog.LevelError, "a request failed", slog.String("route", path), slog.String("error", err.Error()))
	case status == http.StatusServiceUnavailable:
		a.log.LogAttrs(r.Context(), slog.LevelDebug, "a request was turned away", slog.String("route", path), slog.String("error", err.Error()))
	}
	a.writeProblem(w, p, instance(r, p))
}

// statusClientGone is counted, never sent.
const statusClientGone = 499

// instance names what a problem is about: its job, or else the request's path.
func instance(r *http.Request, p *gateway.Problem) string {
	if p.Ticket != "" {
		return jobPath(p.Ticket)
	}
	const limit = 256
	path := r.URL.EscapedPath()
	if len(path) > limit {
		return ""
	}
	return path
}

func jobPath(ticket string) string { return "/v1/jobs/" + url.PathEscape(ticket) }

// observe counts and logs one request.
func (a *API) observe(w *response, r *http.Request, path string, took time.Duration) {
	status := w.status
	if status == 0 {
		status = http.StatusOK
	}
	a.metrics.request(path, r.Method, status, took)
	if !a.log.Enabled(r.Context(), slog.LevelDebug) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", knownMethod(r.Method)), slog.String("route", path),
		slog.Int("status", status), slog.Duration("took", took),
	}
	if w.caller != nil {
		attrs = append(attrs, slog.String("who", w.caller.String()))
	}
	if w.ticket != "" {
		attrs = append(attrs, slog.String("job", w.ticket))
	}
	a.log.LogAttrs(r.Context(), slog.LevelDebug, "request", attrs...)
}

// response is a ResponseWriter that remembers what the log and the metrics need.
type response struct {
	http.ResponseWriter
	status int             // 0: nothing written yet
	caller *auth.Principal // nil: nobody has said who it is
	ticket string          // of the job that the request was about
	oip    bool            // errors are told as the Open Inference Protocol tells them
	openAI bool            // errors are told so that OpenAI's clients show them
}

// about remembers the job that the request is about; the zero ticket is none.
func (w *response) about(t job.Ticket) {
	if !t.ID.IsZero() {
		w.ticket = t.String()
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap serves http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// send writes a whole answer. A client that is gone has no use for the error.
func send(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-store")
	}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// sendJSON is send for a JSON document.
func sendJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", job.ContentTypeJSON)
	send(w, status, body)
}
