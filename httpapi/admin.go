package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// Operator is what administrators may do with the queue; a *queue.Queue does it.
type Operator interface {
	DeadLetters(ctx context.Context, f queue.DeadFilter, fn func(*queue.DeadLetter) error) error
	DeadLetterAt(ctx context.Context, seq uint64) (*queue.DeadLetter, error)
	RequeueDead(ctx context.Context, f queue.DeadFilter, deadline time.Time, tell func(queue.DeadOutcome) error) error
	PurgeDead(ctx context.Context, f queue.DeadFilter, tell func(queue.DeadOutcome) error) error
	Lanes(ctx context.Context) ([]queue.LaneState, error)
	Pause(ctx context.Context, lane job.Lane, model string, until time.Time) error
	Resume(ctx context.Context, lane job.Lane, model string) error
}

// adminRoutes are those of administrators; none without an Operator.
func (a *API) adminRoutes() []route {
	if a.deps.Operator == nil {
		return nil
	}
	return []route{
		{"GET", "/v1/admin/dead", auth.Admin, a.admin(a.bounded(a.listDead)), "for administrators: the dead letters, by lane, model, tenant, reason, age or job"},
		{"GET", "/v1/admin/dead/{seq}", auth.Admin, a.admin(a.bounded(a.getDead)), "for administrators: one dead letter; ?data=true with its inputs"},
		{"POST", "/v1/admin/dead/requeue", auth.Admin, a.admin(a.requeueDead), "for administrators: submit dead jobs again"},
		{"POST", "/v1/admin/dead/purge", auth.Admin, a.admin(a.purgeDead), "for administrators: remove dead letters"},
		{"GET", "/v1/admin/queues", auth.Admin, a.admin(a.bounded(a.listQueues)), "for administrators: how the lanes stand"},
		{"POST", "/v1/admin/queues/{lane}/pause", auth.Admin, a.admin(a.bounded(a.pauseQueue)), "for administrators: deliver nothing of a lane, or of one model in it"},
		{"POST", "/v1/admin/queues/{lane}/resume", auth.Admin, a.admin(a.bounded(a.resumeQueue)), "for administrators: deliver again"},
	}
}

// adminTime bounds what an administrator asks for, but for the acts themselves, which take as long as there are letters.
func (a *API) adminTime(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, a.cfg.AdminTimeout)
}

// bounded gives a handler adminTime.
func (a *API) bounded(h handler) handler {
	return func(w *response, r *http.Request) error {
		ctx, cancel := a.adminTime(r.Context())
		defer cancel()
		return h(w, r.WithContext(ctx))
	}
}

// admin lets administrators through. Where callers do not say who they are, that is who is on this machine; elsewhere
// the scope of the route has decided.
func (a *API) admin(h handler) handler {
	var foreign http.CrossOriginProtection
	return func(w *response, r *http.Request) error {
		if a.deps.Auth == nil {
			if err := a.local(r, &foreign); err != nil {
				return err
			}
		}
		return h(w, r)
	}
}

// forwarding are the headers of a proxy: who comes through one may be anywhere.
var forwarding = [...]string{"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip"}

// local refuses who may not be on this machine, or may be a page in somebody's browser.
func (a *API) local(r *http.Request, foreign *http.CrossOriginProtection) error {
	refuse := func(why string) error {
		return &gateway.Problem{Code: gateway.CodeForbidden, Detail: why + "; switch authentication on (--auth) and use a key with the scope admin, or use sheaf dead and sheaf queue with --nats-url"}
	}
	if !a.cfg.AdminLocal {
		return refuse("the API does not listen on loopback alone and does not ask who is calling")
	}
	for _, name := range forwarding {
		if r.Header.Get(name) != "" {
			return refuse("the request comes through a proxy, and the API does not ask who is calling")
		}
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if !strings.EqualFold(host, "localhost") && (err != nil || !addr.IsLoopback()) {
		return refuse("the request names another host than this machine, and the API does not ask who is calling")
	}
	if foreign.Check(r) != nil {
		return refuse("the request comes from a page of another site, and the API does not ask who is calling")
	}
	return nil
}

// acted logs what an administrator did.
func (a *API) acted(r *http.Request, act string, attrs ...slog.Attr) {
	who := "somebody on this machine"
	if p := auth.FromContext(r.Context()); p != nil {
		who = p.String()
	}
	a.log.LogAttrs(r.Context(), slog.LevelInfo, "administration",
		append([]slog.Attr{slog.String("who", who), slog.String("act", act), slog.String("from", r.RemoteAddr)}, attrs...)...)
}

// readAdmin reads a small JSON body; none is an empty object. Unknown members are errors: a filter that is misspelt must
// not mean everything.
func (a *API) readAdmin(w *response, r *http.Request, into any) error {
	if err := checkContentType(r.Header, ""); err != nil {
		return err
	}
	const limit = 1 << 20
	_ = http.NewResponseController(w.ResponseWriter).SetReadDeadline(time.Now().Add(a.cfg.BodyTimeout))
	text, err := io.ReadAll(http.MaxBytesReader(w.ResponseWriter, r.Body, limit))
	text = bytes.TrimSpace(text)
	switch {
	case err == nil && len(text) == 0:
		return nil
	case err == nil && text[0] != '{': // encoding/json takes null for an empty object
		err = errors.New("this is none")
	case err == nil:
		err = decodeKnown(text, into)
	}
	if err != nil {
		return &gateway.Problem{Code: job.CodeMalformed, Detail: fmt.Sprintf("expected a JSON object with the members of the filter: %v", err)}
	}
	return nil
}

// decodeKnown decodes one JSON value that has no unknown members, and no null: encoding/json would pass that over.
func decodeKnown(text []byte, into any) error {
	if bytes.Contains(text, []byte("null")) {
		words := json.NewDecoder(bytes.NewReader(text))
		for word, err := words.Token(); err == nil; word, err = words.Token() {
			if word == nil {
				return errors.New("null is not taken: leave the member out")
			}
		}
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if !errors.Is(dec.Decode(&struct{}{}), io.EOF) {
		return errors.New("there is more behind the object")
	}
	return nil
}

// adminError turns what is not a problem yet into one that an administrator can do something about.
func adminError(err error) error {
	var e *job.Error
	if err == nil || errors.As(err, &e) || errors.Is(err, queue.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &gateway.Problem{Code: job.CodeInternal, Detail: err.Error(), Cause: err}
}
