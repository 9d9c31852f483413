package httpapi_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/httpapi"
)

func TestEveryAnswerHasSecurityHeaders(t *testing.T) {
	r := newRig(t, func(c *config, _ *deps) { c.CORSOrigins = []string{"*"} })
	check := func(what string, h http.Header, transport string) {
		t.Helper()
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
			"Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin", "Strict-Transport-Security": transport,
		} {
			if got := h.Values(name); strings.Join(got, "|") != want {
				t.Errorf("%s: %s is %q, expected %q", what, name, got, want)
			}
		}
	}
	for path, status := range map[string]int{
		"/": 200, "/healthz": 200, "/metrics": 200, "/nowhere": 404, "/v1/jobs/7": 404, "/v2": 200, "/problems/full": 200,
	} {
		a := r.call(t, "GET", path, "")
		if a.status != status {
			t.Errorf("%s: status %d, expected %d", path, a.status, status)
		}
		check(path, a.header, "")
	}
	cleaned := r.rawGet(t, "/v1//models") // the answer is net/http's own
	if cleaned.status != http.StatusTemporaryRedirect {
		t.Errorf("a path to be cleaned: status %d", cleaned.status)
	}
	check("a path to be cleaned", cleaned.header, "")
	check("a method that is not taken", r.call(t, "PATCH", "/healthz", "").header, "")
	check("a preflight", r.call(t, "OPTIONS", "/v1/models", "", "Origin", "https://a.example.com", "Access-Control-Request-Method", "GET").header, "")
	server := r.secure(t)
	resp, err := server.Client().Get(server.URL + "/healthz") //nolint:noctx // one request to a server of this test
	if err != nil {
		t.Fatal(err)
	}
	check("under TLS", read(t, resp).header, "max-age=31536000")
}

func TestCrossOrigin(t *testing.T) {
	const app, other = "https://app.example.com", "https://evil.example.com"
	r := newRig(t, func(c *config, _ *deps) { c.CORSOrigins = []string{app} })
	preflight := func(r *rig, origin, headers string) reply {
		return r.call(t, "OPTIONS", "/v1/models/digits/predict", "", "Origin", origin,
			"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", headers)
	}
	a := preflight(r, app, "authorization,content-type,idempotency-key,prefer,sheaf-deadline")
	if a.status != http.StatusNoContent || a.header.Get("Access-Control-Allow-Origin") != app || a.header.Get("Access-Control-Allow-Headers") == "" ||
		a.header.Get("Access-Control-Max-Age") != "600" || a.header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("preflight: %d %v", a.status, a.header)
	}
	if a := preflight(r, other, "authorization"); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("preflight of another origin: %v", a.header)
	}
	if a := preflight(r, app, "x-forwarded-for"); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("preflight with another header: %v", a.header)
	}
	a = r.call(t, "POST", "/v1/models/digits/jobs", oneRow, "Origin", app)
	if a.status != http.StatusAccepted || a.header.Get("Access-Control-Allow-Origin") != app || !strings.Contains(a.header.Get("Access-Control-Expose-Headers"), "Location") {
		t.Errorf("request: %d %v", a.status, a.header)
	}
	vary := strings.Join(a.header.Values("Vary"), ", ")
	if !strings.Contains(vary, "Origin") || !strings.Contains(vary, "Prefer") {
		t.Errorf("Vary is %q, expected Origin and Prefer", vary)
	}
	if a := r.call(t, "GET", "/v1/models", "", "Origin", other); a.status != http.StatusOK || a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("request of another origin: %d %v", a.status, a.header)
	}
	anybody := newRig(t, func(c *config, _ *deps) { c.CORSOrigins = []string{"*"} })
	if a := preflight(anybody, other, "authorization"); a.header.Get("Access-Control-Allow-Origin") != "*" || a.header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("preflight where all origins are welcome: %v", a.header)
	}
	asked, _ := guarded(t, func(c *config, _ *deps) { c.CORSOrigins = []string{app} })
	if a := preflight(asked, app, "authorization"); a.status != http.StatusNoContent || a.header.Get("Access-Control-Allow-Origin") != app {
		t.Errorf("a preflight cannot show a key: %d %v", a.status, a.header)
	}
	if a := asked.call(t, "POST", "/v1/models/digits/predict", oneRow, "Origin", app); a.status != http.StatusUnauthorized || a.header.Get("Access-Control-Allow-Origin") != app {
		t.Errorf("the page is not told that it needs a key: %d %v", a.status, a.header)
	}
	closed := newRig(t, nil)
	if a := preflight(closed, app, "authorization"); a.status != http.StatusMethodNotAllowed || a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("without origins: %d %v", a.status, a.header)
	}
}

func TestOriginsThatNoBrowserSends(t *testing.T) {
	for _, origin := range []string{"app.example.com", "https://app.example.com/", "https://*.example.com", "ftp://x", "null", "HTTPS://APP.example.com", "https://app.example.com:443", "http://app.example.com:80", "https://a@app.example.com", ""} {
		cfg := httpapi.DefaultConfig()
		cfg.CORSOrigins = []string{origin}
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "CORSOrigins") {
			t.Errorf("%q: %v", origin, err)
		}
	}
}

// rawAsk sends bytes to a real server of the API, and returns what comes back until the server closes or answers.
func (r *rig) rawAsk(t *testing.T, request string) (status int, rest string) {
	t.Helper()
	conn := r.dial(t)
	go func() { _, _ = io.WriteString(conn, request) }()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// dial connects to the API as cmd serves it.
func (r *rig) dial(t *testing.T) net.Conn {
	t.Helper()
	server := r.api.Server()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(r.behindLane(t, l))
	}()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(); _ = server.Close(); <-done })
	return conn
}

func TestHeaderFlood(t *testing.T) {
	r := newRig(t, nil)
	const begin = "GET /healthz HTTP/1.1\r\nHost: x\r\n"
	for name, headers := range map[string]string{
		"many": strings.Repeat("X-A: 1\r\n", 20_000), "one that is long": "X-A: " + strings.Repeat("a", 200_000) + "\r\n",
		"one that does not end": "X-A: " + strings.Repeat("a", 200_000),
	} {
		if status, _ := r.rawAsk(t, begin+headers+"\r\n"); status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%s: status %d, expected 431", name, status)
		}
	}
	if status, _ := r.rawAsk(t, "GET /"+strings.Repeat("a", 200_000)+" HTTP/1.1\r\nHost: x\r\n\r\n"); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a path that is long: status %d, expected 431", status)
	}
	if status, body := r.rawAsk(t, begin+"\r\n"); status != http.StatusOK {
		t.Errorf("an honest request: %d %s", status, body)
	}
}

// A client that trickles its headers, or opens a connection and says nothing, is dropped.
func TestSlowHeaders(t *testing.T) {
	r := newRig(t, func(c *config, _ *deps) {
		c.HeaderTimeout = 30 * time.Millisecond
		c.IdleTimeout = 30 * time.Millisecond
	})
	for _, begun := range []string{"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ", ""} {
		conn := r.dial(t)
		if _, err := io.WriteString(conn, begun); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(conn); err != nil || strings.HasPrefix(string(b), "HTTP/1.1 200") {
			t.Errorf("after %q: %q, %v", begun, b, err)
		}
	}
}

// A request whose end two servers could see in two places is refused, and nothing that is hidden in it is run.
func TestRequestSmuggling(t *testing.T) {
	r := newRig(t, nil)
	hidden := "DELETE /v1/jobs/" + r.submit(t).String() + " HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, headers := range map[string]string{
		"two lengths":          "Content-Length: 2\r\nContent-Length: 40\r\n",
		"a length that is odd": "Content-Length: +2\r\n",
		"an unknown coding":    "Transfer-Encoding: chunked, identity\r\n",
		"a name with a space":  "Content-Length : 2\r\n",
		"a coding twice":       "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
		"a coding in disguise": "Transfer-Encoding: \x0bchunked\r\nContent-Length: 2\r\n",
		"a name in disguise":   "Transfer-Encoding\x00: chunked\r\nContent-Length: 2\r\n",
	} {
		status, body := r.rawAsk(t, "POST /v1/models/digits/jobs HTTP/1.1\r\nHost: x\r\n"+headers+"\r\n{}"+hidden)
		if status != http.StatusBadRequest && status != http.StatusNotImplemented {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if len(r.queue.canceled) != 0 {
		t.Error("the hidden request was run")
	}
}

// Paths lead where they say, or nowhere.
func TestPathTricks(t *testing.T) {
	var log bytes.Buffer
	r := newRig(t, func(_ *config, d *deps) {
		d.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	for _, path := range []string{
		"/v1/models/../admin/queues", "/v1/models/%2e%2e/admin/queues", "/v1//models", "/v1/models/digits%2f..%2ftext", "/v1/models/..%2f..%2fetc%2fpasswd",
		"/v1/models/%00", "/v1/models/digits%00", "/v1/models/digits%0d%0aSet-Cookie:%20a=b", "/v1/models/%ff%fe", "/v1/models/d%C3%AFgits",
		"/v1/models/digits.", "/v1/models/.", "/v1/models/*", "/v1/models/%3E", "/v1/models/DIGITS", "/v1/models/digits%20", "/v1/models/" + strings.Repeat("a", 4000),
		"/v1/models/{model}", "/v1/models/$JS.API.INFO", "/v1/models/digits/versions/..%2f1", "/v1/jobs/..%2f..%2fmodels", "/problems/..%2f..%2fetc%2fpasswd",
		"/v1/models/digits;version=1", "/v1/models/digits%2fjobs",
		"/v1/models/%c0%ae%c0%ae%c0%af", "/v1/models/%ef%bc%8e%ef%bc%8e", "/v1/models/%e2%80%aedigits", "/v1/models/digits%e2%80%8b",
		"//evil.example.com/..", "///evil.example.com", "/%5c%5cevil.example.com/../v1", "/./v1/../../..//models",
	} {
		resp := r.rawGet(t, path)
		if resp.status == http.StatusOK || resp.status >= 500 || resp.header.Get("Set-Cookie") != "" {
			t.Errorf("GET %s: %d %v %s", path, resp.status, resp.header, resp.body)
		}
		if resp.status >= 300 && resp.status < 400 && !ownPath(resp.header.Get("Location")) {
			t.Errorf("GET %s leads to %q, which may be another server", path, resp.header.Get("Location"))
		}
	}
	if strings.Contains(log.String(), "\nSet-Cookie") || strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("the log: %s", log.String())
	}
}

// ownPath reports whether a browser that is sent there stays with the server.
func ownPath(location string) bool {
	return strings.HasPrefix(location, "/") && !strings.HasPrefix(location, "//") && !strings.HasPrefix(location, "/\\")
}

// rawGet sends a path as it is, which no well-behaved client does.
func (r *rig) rawGet(t *testing.T, path string) reply {
	t.Helper()
	conn := r.dial(t)
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{status: resp.StatusCode, header: resp.Header, body: string(b)}
}
