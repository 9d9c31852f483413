package httpapi

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/rs/cors"

	"github.com/sheafml/sheaf/job"
)

// Values of headers that every answer has. The slices are shared, and nobody changes them.
type fixedHeaders struct{ nosniff, policy, referrer, resource, transport []string }

func newFixedHeaders() fixedHeaders {
	return fixedHeaders{
		nosniff: []string{"nosniff"},
		// Answers are data. A browser that is made to show one as a page may load and run nothing in it.
		policy:   []string{"default-src 'none'; frame-ancestors 'none'"},
		referrer: []string{"no-referrer"},
		resource: []string{"same-origin"},
		// A year. Only under TLS: a browser passes it over otherwise.
		transport: []string{"max-age=31536000"},
	}
}

// lines are those of a connection without TLS, as they are sent.
func (f *fixedHeaders) lines() []string {
	h := make(http.Header)
	f.set(h)
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(h)) {
		lines = append(lines, name+": "+h.Get(name))
	}
	return lines
}

// set gives an answer the headers that do not depend on TLS.
func (f *fixedHeaders) set(h http.Header) {
	h["X-Content-Type-Options"] = f.nosniff
	h["Content-Security-Policy"] = f.policy
	h["Referrer-Policy"] = f.referrer
	h["Cross-Origin-Resource-Policy"] = f.resource
}

// on gives the headers to every answer, preflights and redirects to a clean path among them. A handler may set its own
// in their place.
func (f *fixedHeaders) on(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		f.set(h)
		if r.TLS != nil {
			h["Strict-Transport-Security"] = f.transport
		}
		next.ServeHTTP(w, r)
	})
}

// corsAge is how long a browser may remember what it may send.
const corsAge = 10 * time.Minute

// crossOrigin lets pages of the configured origins call the API. A browser sends no credentials of its own accord: a
// page shows its key or token in Authorization. Preflights are answered here, before anybody is asked who they are.
func (a *API) crossOrigin(h http.Handler) http.Handler {
	if len(a.cfg.CORSOrigins) == 0 {
		return h
	}
	return cors.New(cors.Options{
		AllowedOrigins: a.cfg.CORSOrigins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete},
		AllowedHeaders: []string{
			"Accept", "Authorization", "Content-Type", headerKey, headerJSONLength, "Last-Event-ID", "Prefer", job.HeaderDeadline, job.HeaderTraceParent,
		},
		ExposedHeaders: []string{
			"Location", "Retry-After", "Preference-Applied", "RateLimit", "RateLimit-Policy", "WWW-Authenticate", headerJSONLength,
		},
		MaxAge: int(corsAge / time.Second),
	}).Handler(h)
}

// checkOrigins names origins that no browser sends, and which so would let nobody in.
func checkOrigins(origins []string) error {
	for _, o := range origins {
		if o == "*" {
			continue
		}
		u, err := url.Parse(o)
		if err == nil && (u.Scheme == "http" && u.Port() == "80" || u.Scheme == "https" && u.Port() == "443") {
			return fmt.Errorf("CORSOrigins: %q: expected it without the port, which browsers leave out where it is the usual one", o)
		}
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || o != u.Scheme+"://"+u.Host || strings.Contains(o, "*") || o != strings.ToLower(o) {
			return fmt.Errorf("CORSOrigins: %q: expected an origin such as https://app.example.com, without a path, or *", o)
		}
	}
	return nil
}
