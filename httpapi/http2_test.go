package httpapi_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// secure serves the API over TLS with HTTP/2, as cmd does.
func (r *rig) secure(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	server.Config = r.api.Server()
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server
}

// frames opens a connection of HTTP/2 and begins to read it. ended is closed when the server has closed it.
func frames(t *testing.T, server *httptest.Server) (f *http2.Framer, ended <-chan struct{}) {
	t.Helper()
	d := &tls.Dialer{Config: server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()}
	d.Config.NextProtos = []string{"h2"}
	conn, err := d.DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f = http2.NewFramer(conn, conn)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := f.ReadFrame(); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return f, done
}

// fields encodes headers.
func fields(t *testing.T, path string, more ...string) []byte {
	t.Helper()
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	e.SetMaxDynamicTableSize(0) // each block stands for itself
	list := append([]string{":method", "GET", ":scheme", "https", ":authority", "x", ":path", path}, more...)
	for i := 0; i+1 < len(list); i += 2 {
		if err := e.WriteField(hpack.HeaderField{Name: list[i], Value: list[i+1]}); err != nil {
			t.Fatal(err)
		}
	}
	return block.Bytes()
}

// honest checks that others are served, over HTTP/2.
func honest(t *testing.T, server *httptest.Server) {
	t.Helper()
	resp, err := server.Client().Get(server.URL + "/healthz") //nolint:noctx // one request to a server of this test
	if err != nil {
		t.Fatal(err)
	}
	if a := read(t, resp); a.status != http.StatusOK || resp.ProtoMajor != 2 {
		t.Errorf("an honest client gets %d over HTTP/%d", a.status, resp.ProtoMajor)
	}
}

// A client that opens requests and resets them at once keeps no more handlers busy than one that does not, and no place
// of a waiter.
func TestRapidReset(t *testing.T) {
	r := newRig(t, nil)
	server := r.secure(t)
	var busy, most atomic.Int64
	inner := server.Config.Handler
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		n := busy.Add(1)
		defer busy.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		inner.ServeHTTP(w, req)
	})
	f, ended := frames(t, server)
	block := fields(t, "/v1/jobs/"+r.submit(t).String()+"?wait=30s")
	sent := 0
	for ; sent < 5000; sent++ {
		id := uint32(2*sent + 1)
		if f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndStream: true, EndHeaders: true}) != nil ||
			f.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			<-ended // the server has had enough of it
			break
		}
	}
	honest(t, server)
	until := time.After(time.Minute)
	for busy.Load() > 0 || !strings.Contains(r.call(t, "GET", "/metrics", "").body, "sheaf_gateway_waiters 0") {
		select {
		case <-until:
			t.Fatalf("%d requests that were reset go on", busy.Load())
		case <-time.After(5 * time.Millisecond):
		}
	}
	if most.Load() > 300 {
		t.Errorf("%d handlers ran at the same time for one connection, after %d requests", most.Load(), sent)
	}
}

// Headers that do not end are not collected.
func TestContinuationFlood(t *testing.T) {
	r := newRig(t, nil)
	server := r.secure(t)
	f, ended := frames(t, server)
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields(t, "/healthz"), EndStream: true}); err != nil {
		t.Fatal(err)
	}
	more := bytes.Repeat([]byte{0x00, 0x01, 'a', 0x01, '1'}, 3000) // "a: 1", literally
	sent := 0
	for ; sent < 64<<20; sent += len(more) {
		if f.WriteContinuation(1, false, more) != nil {
			<-ended
			break
		}
	}
	if sent > 16<<20 {
		t.Errorf("%d bytes of headers were taken", sent)
	}
	honest(t, server)
}

// A body that does not come ends its request, not the connection of the others.
func TestSlowBodyOverHTTP2(t *testing.T) {
	r := newRig(t, func(c *config, _ *deps) { c.BodyTimeout = 50 * time.Millisecond })
	server := r.secure(t)
	body, send := io.Pipe()
	defer send.Close()
	req, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/v1/models/digits/jobs", body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	read(t, resp).problem(t, 408, "request-timeout")
	honest(t, server)
}
