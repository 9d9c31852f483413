package httpapi_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// event is one of a stream, or a comment.
type event struct {
	name, id, comment string
	retry             string
	data              map[string]any
}

func (e *event) String() string {
	if e.comment != "" {
		return e.comment
	}
	return fmt.Sprintf("%s %s %v", e.name, e.id, e.data["status"])
}

// readEvents reads a stream as the HTML standard says, as far as that goes here.
func readEvents(t testing.TB, text string) (events []event) {
	t.Helper()
	for part := range strings.SplitSeq(strings.TrimSuffix(text, "\n\n"), "\n\n") {
		var e event
		for line := range strings.SplitSeq(part, "\n") {
			field, value, _ := strings.Cut(line, ":")
			value = strings.TrimPrefix(value, " ")
			switch field {
			case "":
				e.comment = ":" + value
			case "event":
				e.name = value
			case "id":
				e.id = value
			case "retry":
				e.retry = value
			case "data":
				if err := json.Unmarshal([]byte(value), &e.data); err != nil {
					t.Fatalf("%v in %q", err, line)
				}
			default:
				t.Fatalf("a line that is no field: %q", line)
			}
		}
		events = append(events, e)
	}
	return events
}

// listener follows a stream inside a bubble.
type listener struct {
	t    *testing.T
	w    *recorder
	over chan struct{}
	seen int
}

// recorder is an httptest.ResponseRecorder whose body may be read while it is written.
type recorder struct {
	*httptest.ResponseRecorder
	mu sync.Mutex
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ResponseRecorder.Write(b)
}

func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Body.String()
}

func (r *rig) listenTo(t *testing.T, ctx context.Context, method, path, body string, header ...string) *listener { //nolint:revive // t first, as helpers have it
	t.Helper()
	req := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	l := &listener{t: t, w: &recorder{ResponseRecorder: httptest.NewRecorder()}, over: make(chan struct{})}
	go func() {
		defer close(l.over)
		r.handler.ServeHTTP(l.w, req)
	}()
	return l
}

// news returns what came since the last call, once nothing more comes by itself.
func (l *listener) news() []event {
	l.t.Helper()
	synctest.Wait()
	text := l.w.text()[l.seen:]
	l.seen += len(text)
	if text == "" {
		return nil
	}
	return readEvents(l.t, text)
}

// expect verifies what came since the last call: "status" of a job, or "end", or ":" for a comment.
func (l *listener) expect(when string, want ...string) {
	l.t.Helper()
	events := l.news()
	var got []string
	for i := range events {
		switch e := &events[i]; {
		case e.retry != "":
		case e.comment != "":
			got = append(got, e.comment)
		case e.name == "end":
			got = append(got, "end")
		default:
			got = append(got, fmt.Sprint(e.data["status"]))
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		l.t.Errorf("%s: %v, expected %v", when, got, want)
	}
}

func (l *listener) ended() bool {
	synctest.Wait()
	select {
	case <-l.over:
		return true
	default:
		return false
	}
}

func TestEventsOfAJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		ahead, ticket := r.submit(t), r.submit(t)
		l := r.listenTo(t, t.Context(), "GET", "/v1/jobs/"+ticket.String()+"/events", "")
		first := l.news()
		h := l.w.Header()
		if h.Get("Content-Type") != "text/event-stream" || h.Get("Cache-Control") != "no-store" || h.Get("X-Accel-Buffering") != "no" {
			t.Errorf("headers %v", h)
		}
		if len(first) != 2 || first[0].retry == "" || first[1].name != "job" || first[1].id != "1" ||
			first[1].data["status"] != "queued" || first[1].data["id"] != ticket.String() || first[1].data["position"] != 1.0 {
			t.Fatalf("the first events are %+v", first)
		}
		r.settle(t, ahead, job.Result{State: job.Succeeded})
		<-time.After(2 * time.Second)
		if moved := l.news(); len(moved) != 1 || moved[0].data["position"] != 0.0 {
			t.Errorf("after the job before it is done: %+v", moved)
		}
		r.queue.setState(ticket, job.Running)
		<-time.After(2 * time.Second)
		l.expect("after it was delivered", "running")
		<-time.After(15 * time.Second)
		l.expect("after 15 s", ":")
		start := time.Now()
		r.settle(t, ticket, job.Result{State: job.Succeeded, Outputs: []job.Tensor{fp32("probabilities", []int64{1, 2}, 1, 2)}})
		last := l.news()
		if time.Since(start) != 0 || len(last) != 2 || last[0].data["status"] != "succeeded" || last[0].data["outputs"] == nil ||
			last[0].id != "4" || last[1].name != "end" || last[1].id != "end" || !l.ended() {
			t.Errorf("at the end, after %s: %+v", time.Since(start), last)
		}
	})
}

func TestEventsOfManyJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *config, _ *deps) { c.PollInterval = time.Hour })
		var tickets []job.Ticket
		var ids []string
		for range 300 {
			ticket := r.submit(t)
			tickets, ids = append(tickets, ticket), append(ids, ticket.String())
		}
		ids = append(ids, "nonsense", job.DerivedID("a", "b").String(), ids[0])
		list, _ := json.Marshal(ids)
		l := r.listenTo(t, t.Context(), "POST", "/v1/jobs/events", `{"ids":`+string(list)+`}`)
		ends, queued, unknown := map[any]string{}, 0, 0
		for _, e := range l.news() {
			switch {
			case e.data["status"] == "queued":
				queued++
			case codeIn(e.data) == "unknown-job":
				unknown++
			}
		}
		if queued != 300 || unknown != 2 {
			t.Fatalf("%d queued, %d unknown", queued, unknown)
		}
		m := r.call(t, "GET", "/metrics", "").body
		if !strings.Contains(m, "sheaf_gateway_waiters 301") {
			t.Error("the jobs do not count as waiters")
		}
		for i, ticket := range tickets {
			state := job.Succeeded
			if i%3 == 0 {
				state = job.Canceled
			}
			r.settle(t, ticket, job.Result{State: state})
		}
		all := l.news()
		for _, e := range all[:len(all)-1] {
			if _, twice := ends[e.data["id"]]; twice {
				t.Errorf("a second end of %v", e.data["id"])
			}
			ends[e.data["id"]] = fmt.Sprint(e.data["status"])
		}
		for i, ticket := range tickets {
			want := "succeeded"
			if i%3 == 0 {
				want = "canceled"
			}
			if ends[ticket.String()] != want {
				t.Errorf("job %d is %q, expected %q", i, ends[ticket.String()], want)
			}
		}
		if all[len(all)-1].name != "end" || !l.ended() {
			t.Errorf("the last event is %v", all[len(all)-1])
		}
		if m := r.call(t, "GET", "/metrics", "").body; !strings.Contains(m, "sheaf_gateway_waiters 0") {
			t.Error("the places of the waiters are not given back")
		}
	})
}

// What has ended is told at once, and a client that knows the end is sent away for good.
func TestEventsOfWhatHasEnded(t *testing.T) {
	r := newRig(t, nil)
	ticket := r.submit(t)
	r.settle(t, ticket, job.Result{State: job.Failed, Error: job.Errorf(job.CodeInference, "", "no")})
	path := "/v1/jobs/events?id=" + ticket.String() + "&id=nonsense"
	a := r.call(t, "GET", path, "")
	events := readEvents(t, a.body)
	if len(events) != 4 || codeIn(events[1].data) != "unknown-job" || events[1].data["id"] != "nonsense" ||
		events[2].data["status"] != "failed" || events[3].name != "end" {
		t.Errorf("the events are %v", events)
	}
	if a := r.call(t, "GET", path, "", "Last-Event-ID", "end"); a.status != http.StatusNoContent {
		t.Errorf("status %d, expected 204", a.status)
	}
	if a := r.call(t, "GET", path, "", "Last-Event-ID", "2"); len(readEvents(t, a.body)) != 4 {
		t.Errorf("a client that comes back is told %s", a.body)
	}
	if a := r.call(t, "HEAD", "/v1/jobs/"+r.submit(t).String()+"/events", ""); a.status != 200 {
		t.Errorf("HEAD: %d", a.status)
	}
}

// A deadline that passes is told when it does, though no worker lives.
func TestEventsAtADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *config, _ *deps) { c.PollInterval = time.Hour })
		id := r.call(t, "POST", "/v1/models/hasty/jobs", oneRow).str("id")
		l := r.listenTo(t, t.Context(), "GET", "/v1/jobs/"+id+"/events", "")
		l.expect("at first", "queued")
		<-time.After(4999 * time.Millisecond)
		l.expect("just before the deadline")
		<-time.After(time.Millisecond)
		l.expect("at the deadline", "expired", "end")
	})
}

// A notice that is lost is made up for by the poll of all waiters.
func TestEventsWithoutANotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		ticket := r.submit(t)
		l := r.listenTo(t, t.Context(), "GET", "/v1/jobs/"+ticket.String()+"/events", "")
		l.expect("at first", "queued")
		r.queue.lost = true
		r.settle(t, ticket, job.Result{State: job.Succeeded})
		<-time.After(500 * time.Millisecond)
		l.expect("after a poll", "succeeded", "end")
	})
}

// In a large set, jobs that begin to run are told of all the same, a part of them at a time.
func TestEventsOfALargeSetCostLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		var query strings.Builder
		var tickets []job.Ticket
		for range 200 {
			tickets = append(tickets, r.submit(t))
			query.WriteString("&id=" + tickets[len(tickets)-1].String())
		}
		l := r.listenTo(t, t.Context(), "GET", "/v1/jobs/events?"+query.String()[1:], "")
		if first := l.news(); len(first) != 201 {
			t.Fatalf("%d events", len(first))
		}
		for _, ticket := range tickets {
			r.queue.setState(ticket, job.Running)
		}
		for _, want := range []int{64, 64, 64, 8, 0} {
			<-time.After(2 * time.Second)
			if n := len(l.news()); n != want {
				t.Errorf("%d events, expected %d", n, want)
			}
		}
	})
}

// A stream ends after its time, and when the server goes down: without the end, so that the client comes back.
func TestEventsEndWithoutTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *config, _ *deps) { c.Streams.EventsMaxTime = time.Minute })
		ticket := r.submit(t)
		path := "/v1/jobs/" + ticket.String() + "/events"
		l := r.listenTo(t, t.Context(), "GET", path, "")
		<-time.After(time.Minute - 1)
		l.expect("just before the end of its time", "queued", ":", ":", ":")
		if l.ended() {
			t.Fatal("the stream has ended")
		}
		<-time.After(1)
		if !l.ended() {
			t.Error("the stream goes on")
		}
		l = r.listenTo(t, t.Context(), "GET", path, "")
		l.expect("at first", "queued")
		r.jobs.Close()
		if l.expect("after Close"); !l.ended() {
			t.Error("the stream goes on after Close")
		}
		r.call(t, "GET", path, "").problem(t, 503, "unavailable")
	})
}

func TestEventsAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *config, _ *deps) { c.MaxWaiters = 3 })
		one, two := r.submit(t), r.submit(t)
		both := "/v1/jobs/events?id=" + one.String() + "&id=" + two.String()
		ctx, leave := context.WithCancel(t.Context())
		l := r.listenTo(t, ctx, "GET", both, "")
		l.expect("at first", "queued", "queued")
		r.call(t, "GET", both, "").problem(t, 503, "too-many-waiters")
		leave()
		if !l.ended() {
			t.Error("the stream outlives its client")
		}
		again := r.listenTo(t, t.Context(), "GET", both, "")
		again.expect("after the other has left", "queued", "queued")
		r.jobs.Close()
	})
	// With the queue out of reach the request is refused, since nothing can be told.
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		ticket := r.submit(t)
		r.queue.failLocate(queue.ErrUnavailable)
		r.call(t, "GET", "/v1/jobs/"+ticket.String()+"/events", "").problem(t, 503, "unavailable")
	})
	// If it fails later, the stream goes on and makes up for it.
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		ticket := r.submit(t)
		l := r.listenTo(t, t.Context(), "GET", "/v1/jobs/"+ticket.String()+"/events", "")
		l.expect("at first", "queued")
		r.queue.failLocate(queue.ErrUnavailable)
		r.queue.setState(ticket, job.Running)
		<-time.After(5 * time.Second)
		l.expect("while the queue is out of reach")
		r.queue.failLocate(nil)
		<-time.After(5 * time.Second)
		l.expect("afterwards", "running")
		r.settle(t, ticket, job.Result{State: job.Succeeded})
		l.expect("at the end", "succeeded", "end")
	})
}

// Over a connection events arrive when they happen, and a client that leaves is noticed.
func TestEventsOverAConnection(t *testing.T) {
	r := newRig(t, nil)
	ticket := r.submit(t)
	req, err := http.NewRequestWithContext(t.Context(), "GET", r.listen(t)+"/v1/jobs/"+ticket.String()+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := r.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	next := func() event {
		var text strings.Builder
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			text.WriteString(line)
			if line == "\n" {
				return readEvents(t, text.String())[0]
			}
		}
	}
	next()
	if e := next(); e.data["status"] != "queued" {
		t.Fatalf("the first event is %v", e)
	}
	r.settle(t, ticket, job.Result{State: job.Succeeded})
	if e := next(); e.data["status"] != "succeeded" {
		t.Errorf("the second event is %v", e)
	}
	if e := next(); e.name != "end" {
		t.Errorf("the last event is %v", e)
	}
}

// The time limits of the server are for whole requests; streams outlast them as long as both sides are alive.
func TestStreamsOutlastTheServersTimeouts(t *testing.T) {
	const limit = 100 * time.Millisecond
	r := newRig(t, func(c *config, _ *deps) { c.Streams.EventsHeartbeat = limit / 4 })
	server := httptest.NewUnstartedServer(r.handler)
	server.Config.ReadTimeout, server.Config.WriteTimeout = limit, limit
	server.Start()
	t.Cleanup(server.Close)
	req, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/v1/jobs/"+r.submit(t).String()+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	c := r.openBulk(t, server.Client(), server.URL)
	events := bufio.NewReader(resp.Body)
	for start, lines := time.Now(), 0; time.Since(start) < 4*limit; lines++ {
		if _, err := events.ReadString('\n'); err != nil {
			t.Fatalf("the events end after %s: %v", time.Since(start), err)
		}
		if _, err := io.WriteString(c.send, oneRow+"\n"); err != nil {
			t.Fatal(err)
		}
		if l := c.line(t); *l.Index != lines || l.Status != "queued" {
			t.Fatalf("line %d: %+v", lines, l)
		}
	}
	_ = c.send.Close()
	if l := c.line(t); l.Done == nil || !*l.Done {
		t.Errorf("the last line is %+v", l)
	}
}

// A client that reads neither events nor a look-up is cut off, and its places are given back.
func TestStreamsToASlowReader(t *testing.T) {
	r := newRig(t, func(c *config, _ *deps) { c.BodyTimeout = 100 * time.Millisecond })
	server := httptest.NewUnstartedServer(r.handler)
	server.Config.ConnState = small
	server.Start()
	t.Cleanup(server.Close)
	var ids []string
	for range 300 {
		ticket := r.submit(t)
		r.settle(t, ticket, job.Result{State: job.Succeeded, Outputs: []job.Tensor{fp32("probabilities", []int64{5000}, make([]float32, 5000)...)}})
		ids = append(ids, ticket.String())
	}
	ids = append(ids, r.submit(t).String())
	list, err := json.Marshal(map[string]any{"ids": ids})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/v1/jobs/events", "/v1/jobs/lookup"} {
		conn := dialSmall(t, server)
		_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", path, len(list), list)
		for want := fmt.Sprintf(`sheaf_http_requests_total{method="POST",route=%q,status="gone"} 1`, path); ; {
			if m := r.call(t, "GET", "/metrics", "").body; strings.Contains(m, want) {
				if !strings.Contains(m, "sheaf_gateway_waiters 0") {
					t.Error("the places of the waiters are not given back")
				}
				break
			}
		}
	}
}
