package fastlane

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// What the lane reads net/http reads the same way, to the last byte.
func FuzzHead(f *testing.F) {
	for _, seed := range []string{
		"POST /v1/models/digits/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}POST",
		"POST /v1/models/a.b/jobs HTTP/1.1\r\nhost: [::1]:80\r\nContent-Type: application/json; charset=utf-8\r\ncontent-length:03\r\nConnection: keep-alive\r\n\r\n{ }",
		"POST /v1/models/a/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nTraceparent: 00-1\r\nUser-Agent: a\tb\r\nContent-Length: 1\r\n\r\n1",
		"POST /v1/models/../jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
		"POST /v1/models/a/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close, keep-alive\r\nExpect: 100-continue\r\n\r\n{}",
	} {
		f.Add([]byte(seed))
	}
	cfg := Config{Prefix: "/v1/models/", Suffix: "/jobs"}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := cfg.parse(b)
		if !ok {
			return
		}
		in := bytes.NewReader(b)
		buffered := bufio.NewReader(in)
		r, err := http.ReadRequest(buffered)
		if err != nil {
			t.Fatalf("net/http: %v", err)
		}
		read := len(b) - in.Len() - buffered.Buffered()
		switch {
		case r.Method != http.MethodPost || r.ProtoMajor != 1 || r.ProtoMinor != 1 || r.Close || len(r.TransferEncoding) > 0 || r.Host == "":
			t.Errorf("net/http reads %+v", r)
		case r.RequestURI != "/v1/models/"+string(h.name)+"/jobs" || r.URL.Path != r.RequestURI || r.URL.RawQuery != "" || r.URL.Host != "":
			t.Errorf("net/http reads the path %q", r.RequestURI)
		case r.ContentLength != int64(h.body) || h.body < 1:
			t.Errorf("net/http reads the length %d, not %d", r.ContentLength, h.body)
		case read != h.size:
			t.Errorf("net/http reads %d bytes of head, not %d", read, h.size)
		case len(r.Header.Values("Authorization")) > 1 || r.Header.Get("Authorization") != string(h.authorization):
			t.Errorf("net/http reads Authorization %q, not %q", r.Header["Authorization"], h.authorization)
		case len(r.Header.Values("Traceparent")) > 1 || r.Header.Get("Traceparent") != string(h.traceParent):
			t.Errorf("net/http reads traceparent %q, not %q", r.Header["Traceparent"], h.traceParent)
		}
		for _, name := range []string{"Expect", "Prefer", "Idempotency-Key", "Origin", "Content-Encoding", "Sheaf-Deadline", "Upgrade", "Trailer", "Te"} {
			if r.Header.Get(name) != "" {
				t.Errorf("net/http reads a %s", name)
			}
		}
		if media := strings.ToLower(strings.ReplaceAll(r.Header.Get("Content-Type"), " ", "")); media != "" && media != "application/json" && media != "application/json;charset=utf-8" {
			t.Errorf("net/http reads the type %q", media)
		}
		if body, err := io.ReadAll(r.Body); err == nil && !bytes.Equal(body, b[h.size:h.size+h.body]) {
			t.Errorf("net/http reads the body %q", body)
		}
	})
}
