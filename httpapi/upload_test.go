package httpapi_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/batch"
)

func TestFormsThatAreNone(t *testing.T) {
	r := newIdleBatchRig(t, nil, nil)
	const file = "file=a.jsonl"
	for _, tc := range []struct {
		name        string
		parts       []string
		status      int
		code, field string
	}{
		{"nothing", nil, 422, "invalid", "purpose"},
		{"no purpose", []string{file, oneRow}, 422, "invalid", "purpose"},
		{"another purpose", []string{"purpose", "fine-tune", file, oneRow}, 422, "invalid", "purpose"},
		{"another purpose after the file", []string{file, oneRow, "purpose", "batches"}, 422, "invalid", "purpose"},
		{"long purpose", []string{"purpose", strings.Repeat("batch", 1000), file, oneRow}, 422, "invalid", "purpose"},
		{"purpose twice", []string{"purpose", "batch", file, oneRow, "purpose", "batch"}, 422, "invalid", "purpose"},
		{"no file", []string{"purpose", "batch"}, 422, "invalid", "file"},
		{"file twice", []string{"purpose", "batch", file, oneRow, file, oneRow}, 422, "invalid", "file"},
		{"expiry", []string{"purpose", "batch", "expires_after[seconds]", "60", file, oneRow}, 422, "invalid", "expires_after"},
		{"unknown part", []string{"purpose", "batch", "color", "red", file, oneRow}, 422, "invalid", "color"},
		{"unknown part after the file", []string{"purpose", "batch", file, oneRow, "color", "red"}, 422, "invalid", "color"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body, media := form(t, tc.parts...)
			a := r.do(t, "POST", "/v1/files", body, "Content-Type", media)
			a.problem(t, tc.status, tc.code)
			if a.str("field") != tc.field {
				t.Errorf("the field is %q, expected %q", a.str("field"), tc.field)
			}
		})
	}
	body, media := form(t, "purpose", "batch", file, oneRow)
	for name, tc := range map[string]struct {
		body, media string
		status      int
		code        string
	}{
		"no form":       {oneRow, "application/json", 415, "unsupported-media-type"},
		"no boundary":   {body, "multipart/form-data", 415, "unsupported-media-type"},
		"not that form": {oneRow, media, 422, "invalid"},
		"cut off":       {body[:len(body)-20], media, 400, "malformed"},
	} {
		a := r.do(t, "POST", "/v1/files", tc.body, "Content-Type", tc.media)
		if a.status != tc.status || a.str("type") != "/problems/"+tc.code {
			t.Errorf("%s: status %d, %s", name, a.status, a.body)
		}
	}
	r.do(t, "POST", "/v1/files", body, "Content-Type", media, "Content-Encoding", "gzip").problem(t, 415, "unsupported-media-type")
	if a := r.do(t, "GET", "/v1/files", ""); !strings.Contains(a.body, `"data":[]`) {
		t.Errorf("of what was refused there is %s", a.body)
	}
	// The purpose may come last.
	body, media = form(t, file, oneRow, "purpose", "batch")
	if a := r.do(t, "POST", "/v1/files", body, "Content-Type", media); a.status != 200 || a.str("filename") != "a.jsonl" {
		t.Errorf("status %d: %s", a.status, a.body)
	}
}

// The handler without the contract's, through which net/http does not see that a body is too large.
func bare(t *testing.T, r *batchRig) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(r.api.Handler())
	t.Cleanup(server.Close)
	return server
}

// A file that is too large is refused whether its length is said or not, and the client gets to know it while it still sends.
func TestFilesThatAreTooLarge(t *testing.T) {
	const most = 100_000
	for _, by := range []string{"the service", "the API"} {
		r := newIdleBatchRig(t, func(c *batch.Config) {
			if by == "the service" {
				c.MaxFileBytes = most
			}
		}, func(c *config, _ *deps) {
			if by == "the API" {
				c.Streams.MaxFileBytes = most
			}
		})
		server := bare(t, r)
		for _, size := range []int{most - 1000, most + 70_000, 8 << 20} {
			line := strings.Repeat("x", size)
			body, media := form(t, "purpose", "batch", "file=a", line)
			for kind, post := range map[string]struct{ path, body, media string }{
				"form": {"/v1/files", body, media}, "lines": {"/v1/batches?model=digits", line, "application/x-ndjson"},
			} {
				for _, said := range []bool{true, false} {
					var from io.Reader = strings.NewReader(post.body)
					if !said {
						from = io.MultiReader(from)
					}
					req, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+post.path, from)
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("Content-Type", post.media)
					resp, err := server.Client().Do(req)
					if err != nil {
						t.Fatal(err)
					}
					a := read(t, resp)
					if size < most && a.status != 200 || size > most && (a.status != 413 || a.str("type") != "/problems/too-large") {
						t.Errorf("%s, %s of %d bytes, said: %v: status %d, %s", by, kind, size, said, a.status, a.body)
					}
				}
			}
		}
		if a := r.do(t, "GET", "/v1/files", ""); strings.Count(a.body, `"object":"file"`) != 4 {
			t.Errorf("%s: the files are %s", by, a.body)
		}
	}
}

// What can be refused before it has come is refused, and the client gets to know it although it still sends.
func TestRefusedBeforeItHasCome(t *testing.T) {
	server := bare(t, newIdleBatchRig(t, nil, nil))
	for path, want := range map[string]int{"/v1/batches?model=nobody": 404, "/v1/batches?model=digits&max_rate=x": 400, "/v1/files": 415} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", server.URL+path, strings.NewReader(strings.Repeat("x", 32<<20)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-ndjson")
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if a := read(t, resp); a.status != want {
			t.Errorf("%s: status %d, %s", path, a.status, a.body)
		}
	}
}

// A client that sends nothing for too long is told so, and one that goes on sending has all the time it needs.
func TestSlowUploads(t *testing.T) {
	const limit = time.Second // which a busy machine keeps
	r := newIdleBatchRig(t, nil, func(c *config, _ *deps) { c.BodyTimeout = limit })
	server := httptest.NewUnstartedServer(r.api.Handler())
	server.Config.ReadTimeout, server.Config.WriteTimeout = limit, limit
	server.Start()
	t.Cleanup(server.Close)
	body, media := form(t, "purpose", "batch", "file=a", strings.Repeat(oneRow+"\n", 1000))
	for path, what := range map[string]struct{ body, media string }{
		"/v1/files": {body, media}, "/v1/batches?model=digits&plain=true": {strings.Repeat(oneRow+"\n", 1000), "application/x-ndjson"},
	} {
		for _, stall := range []bool{false, true} {
			conn := dial(t, server)
			_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", path, what.media, len(what.body))
			rest := what.body
			for start := time.Now(); time.Since(start) < 2*limit; {
				if _, err := io.WriteString(conn, rest[:1]); err != nil {
					t.Fatal(err)
				}
				rest = rest[1:]
				<-time.After(limit / 20)
			}
			want := http.StatusRequestTimeout
			if !stall {
				want = http.StatusOK
				_, _ = io.WriteString(conn, rest)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatalf("%s, stalled: %v: %v", path, stall, err)
			}
			if a := read(t, resp); a.status != want {
				t.Errorf("%s, stalled: %v: status %d, %s", path, stall, a.status, a.body)
			}
		}
	}
	if a := r.do(t, "GET", "/v1/files", ""); strings.Count(a.body, `"object":"file"`) != 2 {
		t.Errorf("the files are %s", a.body)
	}
}

func dial(t *testing.T, server *httptest.Server) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// passing is a service that tells of the beginning of what is put, before it reads on.
type passing struct {
	noBatches
	begun chan string
	ended chan error
}

func (p *passing) PutFile(_ context.Context, _, _, _ string, r io.Reader) (batch.File, error) {
	first := make([]byte, 5)
	_, err := io.ReadFull(r, first)
	p.begun <- string(first)
	if err == nil {
		_, err = io.Copy(io.Discard, r)
	}
	p.ended <- err
	return batch.File{ID: "file-1", Object: "file", Purpose: "batch"}, err
}

// A file is passed on while it still comes, as many at a time as the settings say; one whose client leaves is not kept.
func TestUploadsAreStreamed(t *testing.T) {
	p := &passing{begun: make(chan string, 1), ended: make(chan error, 1)}
	r := newRig(t, func(c *config, d *deps) { d.Batches, c.Streams.MaxFileStreams = p, 1 })
	server := httptest.NewServer(r.api.Handler())
	t.Cleanup(server.Close)
	body, media := form(t, "purpose", "batch", "file=a", strings.Repeat("0123456789", 10_000))
	half := strings.Index(body, "0123456789") + 100
	for _, leaves := range []bool{false, true} {
		conn := dial(t, server)
		_, _ = fmt.Fprintf(conn, "POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", media, len(body), body[:half])
		if first := <-p.begun; first != "01234" {
			t.Fatalf("the file begins with %q", first)
		}
		a := r.do(t, "POST", "/v1/files", body, "Content-Type", media)
		a.problem(t, 503, "busy")
		if a.header.Get("Retry-After") == "" {
			t.Errorf("headers %v", a.header)
		}
		if leaves {
			_ = conn.Close()
			if err := <-p.ended; err == nil || errors.Is(err, io.EOF) {
				t.Errorf("a file whose client leaves ends with %v", err)
			}
			continue
		}
		_, _ = io.WriteString(conn, body[half:])
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if a := read(t, resp); a.status != 200 || <-p.ended != nil {
			t.Errorf("status %d: %s", a.status, a.body)
		}
	}
	// The place of the one that has left is free again.
	for {
		if a := r.do(t, "GET", "/v1/files/file-1/content", ""); a.status != 503 {
			break
		}
	}
}

// bottomless is a service whose files have no end.
type bottomless struct{ noBatches }

func (bottomless) OpenFile(context.Context, string, string) (io.ReadCloser, batch.File, error) {
	return io.NopCloser(noughts{}), batch.File{Bytes: 1 << 40}, nil
}

type noughts struct{}

func (noughts) Read(b []byte) (int, error) { return len(b), nil }

// A client that does not read is dropped.
func TestFilesThatNobodyReads(t *testing.T) {
	r := newRig(t, func(c *config, d *deps) {
		d.Batches, c.BodyTimeout, c.Streams.MaxFileStreams = bottomless{}, 50*time.Millisecond, 1
	})
	server := httptest.NewUnstartedServer(r.api.Handler())
	server.Config.ConnState = small
	server.Start()
	t.Cleanup(server.Close)
	conn := dialSmall(t, server)
	_, _ = io.WriteString(conn, "GET /v1/files/file-1/content HTTP/1.1\r\nHost: x\r\n\r\n")
	if status, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(status, "200") {
		t.Fatal(status, err)
	}
	for { // its place is another's when it is dropped
		resp, err := http.Get(server.URL + "/v1/files/file-1/content") //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
}

// A slow upload, and a stream of results in which nothing happens, outlast the server's timeouts over HTTP/2 too.
func TestBatchesOutlastTheServersTimeouts(t *testing.T) {
	const limit = 800 * time.Millisecond
	r := newIdleBatchRig(t, nil, func(c *config, _ *deps) { c.BodyTimeout = limit })
	r.begin()
	server := httptest.NewUnstartedServer(r.api.Handler())
	server.Config.ReadTimeout, server.Config.WriteTimeout = limit, limit
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	send := func(method, path string, body io.Reader) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-ndjson")
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.ProtoMajor != 2 {
			t.Fatalf("HTTP/%d", resp.ProtoMajor)
		}
		return resp
	}
	lines, to := io.Pipe()
	go func() {
		_, _ = io.WriteString(to, requestLines(1, nil, nil))
		for range 8 {
			<-time.After(limit / 4)
			_, _ = io.WriteString(to, "\n")
		}
		_, _ = io.WriteString(to, strings.ReplaceAll(requestLines(1, nil, func(int) bool { return true }), "row-0", "row-1"))
		_ = to.Close()
	}()
	a := read(t, send("POST", "/v1/batches?model=digits&lines_per_job=1&ordered=true", lines))
	if a.status != http.StatusOK {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	resp := send("GET", "/v1/batches/"+a.str("id")+"/results?follow=true", nil)
	defer resp.Body.Close()
	results := bufio.NewReader(resp.Body)
	if _, err := results.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	<-time.After(2 * limit)
	r.open()
	if rest, err := io.ReadAll(results); err != nil || len(customIDs(t, string(rest))) != 1 {
		t.Errorf("the rest is %q, %v", rest, err)
	}
}
