package httpapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
)

// A client that sends nothing for too long is told so.
func TestBulkSlowBody(t *testing.T) {
	r := newRig(t, func(c *config, _ *deps) { c.BodyTimeout = 50 * time.Millisecond })
	c := r.openBulk(t, http.DefaultClient, r.listen(t))
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	_, _ = io.WriteString(c.send, oneRow+"\n"+`{"input":`)
	c.line(t)
	if l := c.line(t); l.Done == nil || *l.Done || l.Accepted != 1 || l.code() != "request-timeout" {
		t.Errorf("the last line is %+v", l)
	}
}

// A connection that is cut takes no job with it that its client was told of, and lets go of its place.
func TestBulkCutOff(t *testing.T) {
	r := newRig(t, func(c *config, _ *deps) { c.Streams.MaxBulkRequests = 1 })
	c := r.openBulk(t, http.DefaultClient, r.listen(t))
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	told := map[string]bool{}
	for range 10 {
		_, _ = io.WriteString(c.send, strings.Repeat(oneRow+"\n", 50))
		for range 50 {
			told[c.line(t).ID] = true
		}
	}
	_, _ = io.WriteString(c.send, oneRow+"\n"+`{"input":[1,2,3,4]}`) // the last may be half a line
	_ = c.resp.Body.Close()
	_ = c.send.CloseWithError(io.ErrUnexpectedEOF)
	for {
		if a := r.do(t, "POST", bulkPath, oneRow, "Content-Type", "application/x-ndjson"); a.status == 200 {
			break
		}
	}
	jobs := r.queue.all()
	for id := range told {
		ticket, err := job.ParseTicket(id)
		if _, ok := jobs[ticket.ID]; err != nil || !ok {
			t.Errorf("job %s was acknowledged and is not there", id)
		}
	}
	if n := len(jobs) - len(told); n > 2 {
		t.Errorf("%d jobs more than were told of; the half line is none", n)
	}
}

// small makes connections hold little of what is not read.
func small(c net.Conn, s http.ConnState) {
	if tcp, ok := c.(*net.TCPConn); ok && s == http.StateNew {
		_ = tcp.SetWriteBuffer(64 << 10)
	}
}

// dialSmall connects to a server whose ConnState is small.
func dialSmall(t *testing.T, server *httptest.Server) *net.TCPConn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	tcp := conn.(*net.TCPConn)
	_ = tcp.SetReadBuffer(64 << 10)
	return tcp
}

// A client that never reads is cut off, after what it may leave unread.
func TestBulkSlowReader(t *testing.T) {
	r := newRig(t, func(c *config, _ *deps) { c.BodyTimeout, c.Streams.BulkMaxJobs = 200*time.Millisecond, 1<<30 })
	server := httptest.NewUnstartedServer(r.api.Handler())
	server.Config.ConnState = small
	server.Start()
	t.Cleanup(server.Close)
	conn := dialSmall(t, server)
	_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n", bulkPath, int64(1)<<40)
	block := []byte(strings.Repeat(`{"input":[]}`+"\n", 5000)) // refusals are long
	sent := 0
	for {
		n, err := conn.Write(block)
		sent += n
		if err != nil {
			break
		}
	}
	if sent > 16<<20 {
		t.Errorf("%d bytes were taken of a client that does not read", sent)
	}
}

// A client that asks whether its body is wanted is asked for it before anything else is said.
func TestBulkExpectContinue(t *testing.T) {
	r := newRig(t, nil)
	r.listen(t)
	conn := dialSmall(t, r.server)
	in := bufio.NewReader(conn)
	_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n", bulkPath, len(oneRow))
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("first %q, %v", line, err)
	}
	_, _ = in.ReadString('\n')
	_, _ = io.WriteString(conn, oneRow)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if a := readBulk(t, resp.Body); a.end == nil || !*a.end.Done || a.end.Accepted != 1 {
		t.Errorf("the last line is %+v", a.end)
	}
}
