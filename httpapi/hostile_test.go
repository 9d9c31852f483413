package httpapi_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/auth"
)

// posts lists the paths of all routes that take a POST.
func (r *rig) posts(t *testing.T) []string {
	t.Helper()
	var index struct {
		Routes []struct{ Method, Path string }
	}
	if err := json.Unmarshal([]byte(r.call(t, "GET", "/", "").body), &index); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("{model}", "digits", "{version}", "2", "{lane}", "bulk", "{id}", r.submit(t).String())
	var paths []string
	for _, rt := range index.Routes {
		if rt.Method == http.MethodPost {
			paths = append(paths, fill.Replace(rt.Path))
		}
	}
	if len(paths) < 15 {
		t.Fatalf("%d routes take a POST: %s", len(paths), paths)
	}
	return paths
}

// bodiless are the routes that read no body.
func bodiless(path string) bool {
	return strings.HasSuffix(path, "/webhook") || strings.HasSuffix(path, "load") || strings.HasSuffix(path, "/repository/index")
}

// withoutAuth is a rig with all routes, whose caller may do everything.
func withoutAuth(t *testing.T) *rig {
	t.Helper()
	return newRig(t, func(c *config, d *deps) { d.Operator, c.AdminLocal = nobody{}, true })
}

// meter counts what is read of a body.
type meter struct {
	from io.Reader
	n    int
}

func (m *meter) Read(b []byte) (int, error) {
	n, err := m.from.Read(b)
	m.n += n
	return n, err
}

// A bomb is not unpacked: its coding is refused before a byte of it is read.
func TestCompressedBomb(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := io.CopyN(z, zeros{}, 64<<20); err != nil {
		t.Fatal(err)
	}
	_ = z.Close()
	r := withoutAuth(t)
	for _, path := range r.posts(t) {
		for _, coding := range []string{"gzip", "deflate", "br", "zstd", "gzip, gzip", "identity, gzip"} {
			body := &meter{from: bytes.NewReader(bomb.Bytes())}
			req := httptest.NewRequestWithContext(t.Context(), "POST", "http://127.0.0.1"+path, body)
			req.Header.Set("Content-Encoding", coding)
			w := httptest.NewRecorder()
			r.handler.ServeHTTP(w, req)
			if w.Code != http.StatusUnsupportedMediaType && !bodiless(path) || body.n != 0 {
				t.Errorf("%s, %s: %d after %d bytes: %s", path, coding, w.Code, body.n, w.Body)
			}
		}
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// What is nested, however deep, takes neither stack nor memory, whatever route it comes to.
func TestDeepJSON(t *testing.T) {
	r := withoutAuth(t)
	const depth = 1 << 20
	arrays, objects := strings.Repeat("[", depth), strings.Repeat(`{"a":`, depth)
	for name, body := range map[string]string{
		"arrays":             arrays + strings.Repeat("]", depth),
		"arrays as input":    `{"input":` + arrays + strings.Repeat("]", depth) + `}`,
		"objects":            objects + "1" + strings.Repeat("}", depth),
		"an unknown member":  `{"x":` + arrays + `}`,
		"data":               `{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":` + arrays + "1" + strings.Repeat("]", depth) + `}]}`,
		"parameters":         `{"input":[1,2,3,4],"parameters":` + objects + "1" + strings.Repeat("}", depth) + `}`,
		"ids":                `{"ids":` + arrays + strings.Repeat("]", depth) + `}`,
		"a filter's members": `{"lane":` + objects + "1" + strings.Repeat("}", depth) + `}`,
	} {
		for _, path := range r.posts(t) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			req := httptest.NewRequestWithContext(t.Context(), "POST", "http://127.0.0.1"+path, strings.NewReader(body))
			w := httptest.NewRecorder()
			r.api.Handler().ServeHTTP(w, req)
			runtime.ReadMemStats(&after)
			refused := w.Code >= 400 && w.Code < 500
			if strings.HasSuffix(path, "/bulk") { // refuses it line by line, if a line may be as long
				refused = refused || strings.Contains(w.Body.String(), `"refused":1}`)
			}
			if !refused && !bodiless(path) {
				t.Errorf("%s to %s: %d %.300s", name, path, w.Code, w.Body)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 16*uint64(len(body)) || w.Body.Len() > 3000 {
				t.Errorf("%s to %s: %d bytes were allocated, and %d are the answer", name, path, grown, w.Body.Len())
			}
		}
	}
}

// However many names strangers invent, there are no more series.
func TestInventedNamesMakeNoSeries(t *testing.T) {
	r, who := guarded(t, nil)
	key := who.key(t, auth.Key{Scopes: auth.Scopes()})
	all := func(from, to int) {
		for i := from; i < to; i++ {
			name := fmt.Sprintf("m%d", i)
			mine := append(as(key), "User-Agent", name, "X-Tenant", name, "Idempotency-Key", name, "traceparent", name, "Host", name, "Origin", name)
			r.call(t, "GET", "/v1/models/"+name, "", mine...)
			r.call(t, "POST", "/v1/models/"+name+"/jobs", oneRow, mine...)
			r.call(t, "POST", "/v1/models/digits/versions/"+name+"/predict", oneRow, mine...)
			r.call(t, "POST", "/v1/models/digits/jobs?lane="+name, oneRow, mine...)
			r.call(t, "GET", "/"+name, "", mine...)
			r.call(t, "M"+strings.ToUpper(name), "/v1/models", "", mine...)
			r.call(t, "GET", "/v1/jobs/"+name, "", mine...)
			r.call(t, "POST", "/v1/jobs/lookup", `{"ids":["`+name+`"]}`, mine...)
			r.call(t, "POST", "/v1/models/digits/bulk", `{"id":"`+name+`","input":[]}`, mine...)
			r.call(t, "POST", "/v2/models/"+name+"/infer", oneRow, mine...)
			r.call(t, "GET", "/problems/"+name, "", mine...)
			r.call(t, "POST", "/v1/admin/queues/"+name+"/pause", `{"model":"`+name+`"}`, mine...)
			r.call(t, "GET", "/v1/models", "", as("sheaf_"+name+"_"+name)...)
		}
	}
	all(0, 3)
	before := series(t, r)
	all(3, 773)
	if after := series(t, r); after != before {
		t.Errorf("%d series, and %d after 10,000 requests with invented names", before, after)
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

// Go drops the length of a request that has chunks too, and goes by the chunks, as RFC 9112 wants it. What stands behind
// the last chunk is a request of its own, with nothing of the rights of the first.
func TestLengthBesideChunks(t *testing.T) {
	r, who := guarded(t, nil)
	key := who.key(t, auth.Key{})
	ticket := r.call(t, "POST", "/v1/models/digits/jobs", oneRow, as(key)...).str("id")
	hidden := "DELETE /v1/jobs/" + ticket + " HTTP/1.1\r\nHost: x\r\n\r\n"
	conn := r.dial(t)
	_, err := fmt.Fprintf(conn, "POST /v1/models/digits/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"+
		"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n%s", key, 5+len(hidden), hidden)
	if err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(conn)
	for _, want := range []int{http.StatusBadRequest, http.StatusUnauthorized} { // an empty body, and nobody
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		if a := read(t, resp); a.status != want {
			t.Errorf("status %d, expected %d: %s", a.status, want, a.body)
		}
	}
	if len(r.queue.waiting) != 1 {
		t.Error("the hidden request was run with the rights of the first")
	}
}

// pipes is a listener without a network, whose connections hold nothing of what is not read.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// A client that asks and does not read its answer is cut off.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		server := r.api.Server()
		gone := make(chan struct{})
		server.ConnState = func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				close(gone)
			}
		}
		l := &pipes{make(chan net.Conn), make(chan struct{})}
		served := make(chan struct{})
		go func() { defer close(served); _ = server.Serve(l) }()
		near, far := net.Pipe()
		l.conns <- far
		start := time.Now()
		if _, err := io.WriteString(near, "GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		<-gone
		if took := time.Since(start); took > 3*time.Minute {
			t.Errorf("it was cut off after %s", took)
		}
		_ = near.Close()
		_ = server.Close()
		<-served
	})
}
