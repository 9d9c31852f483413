package httpapi_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/httpapi"
)

func TestEveryAnswerHasSecurityHeaders(t *testing.T) {
	r := newRig(t, nil)
	for _, path := range []string{"/", "/healthz", "/nowhere", "/v1/jobs/7", "/v2", "/problems/full"} {
		h := r.call(t, "GET", path, "").header
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
			"Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin", "Strict-Transport-Security": "",
		} {
			if got := h.Get(name); got != want {
				t.Errorf("%s: %s is %q, expected %q", path, name, got, want)
			}
		}
	}
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
	closed := newRig(t, nil)
	if a := preflight(closed, app, "authorization"); a.status != http.StatusMethodNotAllowed || a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("without origins: %d %v", a.status, a.header)
	}
}

func TestOriginsThatNoBrowserSends(t *testing.T) {
	for _, origin := range []string{"app.example.com", "https://app.example.com/", "https://*.example.com", "ftp://x", "null", "HTTPS://APP.example.com", ""} {
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
		_ = server.Serve(l)
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

// What is nested, however deep, takes neither stack nor memory.
func TestDeepJSON(t *testing.T) {
	r := newRig(t, nil)
	const depth = 1 << 20
	for name, body := range map[string]string{
		"arrays":            `{"input":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + `}`,
		"objects":           strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth),
		"an unknown member": `{"x":` + strings.Repeat("[", depth) + `}`,
		"data":              `{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":` + strings.Repeat("[", depth) + "1" + strings.Repeat("]", depth) + `}]}`,
		"parameters":        `{"input":[1,2,3,4],"parameters":` + strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth) + `}`,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		a := r.call(t, "POST", "/v1/models/digits/jobs", body)
		runtime.ReadMemStats(&after)
		if a.status != 400 && a.status != 422 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 8*uint64(len(body)) || len(a.body) > 2000 {
			t.Errorf("%s: %d bytes were allocated, and %d are the answer", name, grown, len(a.body))
		}
	}
}

// A bomb is not unpacked: its coding is refused before a byte of it is read.
func TestCompressedBomb(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := io.CopyN(z, zeros{}, 64<<20); err != nil {
		t.Fatal(err)
	}
	_ = z.Close()
	r := newRig(t, nil)
	for _, path := range []string{"/v1/models/digits/jobs", "/v1/models/digits/predict", "/v2/models/digits/infer"} {
		for _, coding := range []string{"gzip", "deflate", "br", "gzip, gzip", "identity, gzip"} {
			a := r.call(t, "POST", path, bomb.String(), "Content-Encoding", coding)
			if a.status != http.StatusUnsupportedMediaType {
				t.Errorf("%s, %s: %d %s", path, coding, a.status, a.body)
			}
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

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
	} {
		resp := r.rawGet(t, path)
		if resp.status == http.StatusOK || resp.status >= 500 || resp.header.Get("Set-Cookie") != "" {
			t.Errorf("GET %s: %d %v %s", path, resp.status, resp.header, resp.body)
		}
		if resp.status >= 300 && resp.status < 400 && !strings.HasPrefix(resp.header.Get("Location"), "/v1/") {
			t.Errorf("GET %s leads to %q", path, resp.header.Get("Location"))
		}
	}
	if strings.Contains(log.String(), "\nSet-Cookie") || strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("the log: %s", log.String())
	}
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

// However many names strangers invent, there are no more series.
func TestInventedNamesMakeNoSeries(t *testing.T) {
	r := newRig(t, nil)
	all := func(n int) {
		for i := range n {
			name := fmt.Sprintf("m%d", i)
			r.call(t, "GET", "/v1/models/"+name, "")
			r.call(t, "POST", "/v1/models/"+name+"/jobs", oneRow, "User-Agent", name, "X-Tenant", name)
			r.call(t, "POST", "/v1/models/digits/versions/"+name+"/predict", oneRow)
			r.call(t, "GET", "/"+name, "")
			r.call(t, "M"+strings.ToUpper(name), "/v1/models", "")
			r.call(t, "GET", "/v1/jobs/"+name, "")
			r.call(t, "POST", "/v2/models/"+name+"/infer", oneRow)
			r.call(t, "GET", "/problems/"+name, "")
		}
	}
	all(3)
	before := series(t, r)
	all(500)
	if after := series(t, r); after != before {
		t.Errorf("%d series, and %d after 4,000 invented names", before, after)
	}
}

func series(t *testing.T, r *rig) (n int) {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		n += len(f.GetMetric())
	}
	return n
}
