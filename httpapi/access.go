package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/gateway"
)

// Authenticator says who shows a bearer token; an *auth.Methods does. Its error is an *auth.Refusal, or
// auth.ErrUnavailable.
type Authenticator interface {
	Authenticate(ctx context.Context, bearer string) (*auth.Principal, error)
}

// anybody is the scope of routes that need none.
const anybody auth.Scope = "anybody"

// checkScopes names a route whose author forgot to say who may call it.
func checkScopes(table []route) error {
	for i := range table {
		rt := &table[i]
		if rt.scope != anybody && !slices.Contains(auth.Scopes(), rt.scope) {
			return fmt.Errorf("the route %s %s has no scope", rt.method, rt.path)
		}
	}
	return nil
}

// authorize returns the request with its caller, or says why the caller may not.
func (a *API) authorize(w *response, r *http.Request, need auth.Scope) (*http.Request, error) {
	if a.deps.Auth == nil || need == anybody {
		return r, nil
	}
	bearer, err := auth.Bearer(r.Header.Values("Authorization"))
	if err != nil || bearer == "" {
		a.metrics.outside.WithLabelValues("missing").Inc()
		w.Header().Set("WWW-Authenticate", challenge)
		detail := "expected the header Authorization: Bearer with an API key or a token"
		if err != nil {
			detail = err.Error()
		}
		return nil, &gateway.Problem{Code: gateway.CodeUnauthorized, Detail: detail}
	}
	p, err := a.deps.Auth.Authenticate(r.Context(), bearer)
	var refusal *auth.Refusal
	switch {
	case errors.As(err, &refusal):
		a.metrics.outside.WithLabelValues("invalid").Inc()
		w.Header().Set("WWW-Authenticate", challenge+`, error="invalid_token", error_description="`+quotable(refusal.Reason)+`"`)
		return nil, &gateway.Problem{Code: gateway.CodeUnauthorized, Detail: refusal.Reason}
	case errors.Is(err, auth.ErrUnavailable):
		a.metrics.outside.WithLabelValues("issuer").Inc()
		return nil, &gateway.Problem{Code: gateway.CodeUnavailable, Busy: true, Cause: err, Detail: "the token cannot be checked now: its issuer is out of reach; try again later"}
	case err != nil:
		return nil, fmt.Errorf("authenticate: %w", err)
	case p == nil:
		return nil, errors.New("authenticate: neither a caller nor an error")
	}
	w.caller = p
	if !p.Has(need) {
		a.metrics.outside.WithLabelValues("scope").Inc()
		w.Header().Set("WWW-Authenticate", challenge+`, error="insufficient_scope", scope="`+string(need)+`"`)
		return nil, &gateway.Problem{Code: gateway.CodeForbidden, Detail: fmt.Sprintf("this %s does not have the scope %s", p.Kind, need)}
	}
	return r.WithContext(auth.NewContext(r.Context(), p)), nil
}

const challenge = `Bearer realm="sheaf"`

// quotable is text as a quoted string of a header may have it.
func quotable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '?'
		}
		return r
	}, text)
}

// tellQuota tells how the caller stands with its rate limit.
func tellQuota(h fields, q *auth.Quota) {
	if q.Limited() {
		h.Set("RateLimit-Policy", q.Policy())
		h.Set("RateLimit", q.State())
	}
}
