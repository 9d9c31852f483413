package httpapi_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/queue"
)

// twice sends a request once through the fast lane and once to net/http alone, and compares the answers. It says
// whether the lane has answered by itself.
func (r *rig) twice(t *testing.T, path, body string, header ...string) (a reply, byLane bool) {
	t.Helper()
	before := r.ordinary.Load()
	a = r.do(t, "POST", path, body, header...)
	byLane = r.ordinary.Load() == before
	plain := httptest.NewServer(r.handler)
	defer plain.Close()
	req, err := http.NewRequestWithContext(t.Context(), "POST", plain.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := plain.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Client().CloseIdleConnections()
	b := read(t, resp)
	if a.status != b.status || blank(a.body) != blank(b.body) {
		t.Errorf("%s %v: the lane: %d %s, net/http: %d %s", path, header, a.status, a.body, b.status, b.body)
	}
	if got, want := slices.Sorted(maps.Keys(a.header)), slices.Sorted(maps.Keys(b.header)); !slices.Equal(got, want) {
		t.Errorf("%s %v: the lane: %v, net/http: %v", path, header, got, want)
	}
	for name := range b.header {
		got, want := blank(strings.Join(a.header[name], "|")), blank(strings.Join(b.header[name], "|"))
		if got != want && name != "Date" && name != "Retry-After" && name != "Content-Length" {
			t.Errorf("%s %v: %s is %q from the lane, and %q from net/http", path, header, name, got, want)
		}
	}
	return a, byLane
}

var varying = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\.[ib]\d+-\d+)?|\d{4}-\d\d-\d\dT[0-9:.]*Z|r=\d+|t=\d+`)

// blank takes out what differs from job to job.
func blank(s string) string { return varying.ReplaceAllString(s, "*") }

func TestTheFastLaneAnswersAsNetHTTPDoes(t *testing.T) {
	r := newRig(t, nil)
	tensors := `{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}`
	for _, c := range []struct {
		path, body string
		header     []string
		lane       bool
		status     int
	}{
		{"/v1/models/digits/jobs", oneRow, nil, true, 202},
		{"/v1/models/digits/jobs", oneRow, []string{"Content-Type", "application/json", "User-Agent", "x", "Accept", "*/*"}, true, 202},
		{"/v1/models/digits/jobs", `{"input":[[1,2,3,4],[5,6,7,8]]}`, nil, true, 202},
		{"/v1/models/digits/jobs", tensors, nil, true, 202},
		{"/v1/models/hasty/jobs", oneRow, nil, true, 202},
		{"/v1/models/digits/jobs", `{"input":[1,2,3,4],"lane":"bulk"}`, []string{"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, true, 202},
		{"/v1/models/digits/jobs", `{"input":[1,2,3,4],"id":"mine"}`, nil, true, 202},
		// What net/http has to say more about.
		{"/v1/models/digits/jobs", oneRow, []string{"Prefer", "respond-async"}, false, 202},
		{"/v1/models/digits/jobs?lane=bulk", oneRow, nil, false, 202},
		{"/v1/models/digits/versions/1/jobs", oneRow, nil, false, 202},
		{"/v1/models/nobody/jobs", oneRow, nil, false, 404},
		{"/v1/models/digits/jobs", `{"input":[1,2,3]}`, nil, false, 422},
		{"/v1/models/digits/jobs", `{"input":`, nil, false, 400},
		{"/v1/models/digits/jobs", `{"inputs":[{"name":"y","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}]}`, nil, true, 422},
		{"/v1/models/digits/jobs", `{"input":[1,2,3,4],"x":1}`, nil, false, 422},
		{"/v1/models/digits/jobs", `{"input":[1,2,3,4],"webhook":"http://x"}`, nil, true, 422},
		{"/v1/models/digits/jobs", oneRow, []string{"Content-Type", "text/plain"}, false, 415},
		{"/v1/models/digits/jobs", oneRow, []string{"Sheaf-Deadline", "yesterday"}, false, 400},
	} {
		r.listen(t)
		r.server.Client().CloseIdleConnections() // a new connection begins in the lane
		a, lane := r.twice(t, c.path, c.body, c.header...)
		if a.status != c.status || lane != c.lane {
			t.Errorf("%s %s: %d, by the lane: %v; expected %d and %v\n%s", c.path, c.body, a.status, lane, c.status, c.lane, a.body)
		}
	}
}

// A job that is not taken is refused with the same words.
func TestTheFastLaneRefusesAsNetHTTPDoes(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
		code   string
	}{
		"the tenant has too many": {queue.ErrTenantFull, 429, "tenant-full"},
		"the queue is full":       {queue.ErrFull, 503, "full"},
		"NATS is away":            {queue.ErrUnavailable, 503, "unavailable"},
		"too large for NATS":      {queue.ErrTooLarge, 413, "too-large"},
		"a defect":                {errors.New("as told"), 500, "internal"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.queue.publishErr = c.err
			a, lane := r.twice(t, "/v1/models/digits/jobs", oneRow)
			if a.problem(t, c.status, c.code); !lane {
				t.Error("the lane has not answered")
			}
			if n := r.counted(t, "sheaf_gateway_submits_total"); n != 2 {
				t.Errorf("%v submits were counted", n)
			}
		})
	}
}

// alarm is a limiter with a defect.
type alarm struct{}

func (alarm) Allow(*auth.Principal, int) (auth.Quota, bool) { panic("as told") }

func TestAPanicInTheFastLane(t *testing.T) {
	var log bytes.Buffer
	r := newRig(t, func(_ *config, d *deps) { d.Limiter, d.Logger = alarm{}, slog.New(slog.NewTextHandler(&log, nil)) })
	a, lane := r.twice(t, "/v1/models/digits/jobs", oneRow)
	if a.problem(t, 500, "internal"); !lane || strings.Count(log.String(), "a handler panicked") != 2 {
		t.Errorf("by the lane: %v, the log: %s", lane, log.String())
	}
	if a := r.do(t, "GET", "/healthz", ""); a.status != 200 {
		t.Errorf("afterwards: %d", a.status)
	}
}

// Who may not is told so by net/http, who may is served here as who it is, at its own rate.
func TestCallersInTheFastLane(t *testing.T) {
	limiter, err := auth.NewLimiter(auth.Rate{PerSecond: 0.01, Burst: 6})
	if err != nil {
		t.Fatal(err)
	}
	r, who := guarded(t, func(_ *config, d *deps) { d.Limiter = limiter })
	mine := who.key(t, auth.Key{Tenant: "me", Models: []string{"digits"}})
	reader := who.key(t, auth.Key{Tenant: "me", Scopes: []auth.Scope{auth.Read}})
	for _, c := range []struct {
		model  string
		header []string
		lane   bool
		status int
	}{
		{"digits", as(mine), true, 202},
		{"digits", nil, false, 401},
		{"digits", []string{"Authorization", "Basic eDp5"}, false, 401},
		{"digits", as(mine[:len(mine)-1] + "!"), false, 401},
		{"digits", as(reader), false, 403},
		{"text", as(mine), false, 404},
		{"digits", as(mine), true, 202},
		{"digits", as(mine), true, 202},
		{"digits", as(mine), true, 429},
	} {
		r.listen(t)
		r.server.Client().CloseIdleConnections()
		a, lane := r.twice(t, "/v1/models/"+c.model+"/jobs", oneRow, c.header...)
		if a.status != c.status || lane != c.lane {
			t.Errorf("%s %s: %d, by the lane: %v; expected %d and %v\n%s", c.model, c.header, a.status, lane, c.status, c.lane, a.body)
		}
	}
	if j := r.queue.last(t).job; j.Tenant != "me" {
		t.Errorf("the tenant is %q", j.Tenant)
	}
}

// A key that is replaced on the same connection is another caller, and one that is revoked is none.
func TestTheFastLaneAsksEachTime(t *testing.T) {
	r, who := guarded(t, nil)
	a, b := who.key(t, auth.Key{Tenant: "a"}), who.key(t, auth.Key{Tenant: "b"})
	for _, c := range []struct{ key, tenant string }{{a, "a"}, {b, "b"}, {a, "a"}} {
		if answer := r.do(t, "POST", "/v1/models/digits/jobs", oneRow, as(c.key)...); answer.status != 202 {
			t.Fatalf("%d %s", answer.status, answer.body)
		}
		if got := r.queue.last(t).job.Tenant; got != c.tenant {
			t.Errorf("the tenant is %q, expected %q", got, c.tenant)
		}
	}
	if n := r.ordinary.Load(); n != 0 {
		t.Errorf("%d requests were left to net/http", n)
	}
}

// What is counted and logged is the same, whoever answers.
func TestTheFastLaneIsSeen(t *testing.T) {
	var log bytes.Buffer
	r := newRig(t, func(_ *config, d *deps) {
		d.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	if _, lane := r.twice(t, "/v1/models/digits/jobs", oneRow); !lane {
		t.Error("the lane has not answered")
	}
	if n := r.counted(t, "sheaf_http_requests_total"); n != 2 {
		t.Errorf("%v requests were counted", n)
	}
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	line := regexp.MustCompile(`method=POST route=/v1/models/\{model\}/jobs status=202 took=\S+ job=\S+\.i\d+-0$`)
	if len(lines) != 2 || !line.MatchString(lines[0]) || !line.MatchString(lines[1]) {
		t.Errorf("the log: %s", log.String())
	}
}

// Pages of other origins are net/http's: it knows what to tell a browser.
func TestNoFastLaneForOtherOrigins(t *testing.T) {
	r := newRig(t, func(c *config, _ *deps) { c.CORSOrigins = []string{"*"} })
	if _, lane := r.twice(t, "/v1/models/digits/jobs", oneRow); lane {
		t.Error("the lane has answered")
	}
}

// Whatever a request looks like, a server with a fast lane answers what one without it answers, and runs as many jobs.
func FuzzFastLane(f *testing.F) {
	for _, seed := range []struct{ name, headers, body string }{
		{"digits", "Content-Type: application/json\r\n", oneRow},
		{"digits", "", `{"input":[[1,2,3,4],[5,6,7,8.5]],"lane":"bulk"}`},
		{"hasty", "User-Agent: x\r\nAccept: */*\r\n", oneRow},
		{"text", "Connection: keep-alive\r\n", `{"input":["a","\u00e9"]}`},
		{"digits", "Prefer: wait=0\r\n", oneRow},
		{"digits", "Idempotency-Key: a\r\n", oneRow},
		{"digits", "Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"},
		{"digits", "Connection: close\r\n", oneRow},
		{"nobody", "", oneRow},
		{"digits/versions/1", "", oneRow},
		{"digits%2f", "", oneRow},
		{"..", "", oneRow},
		{"digits", "Content-Type: text/plain\r\n", oneRow},
		{"digits", "Host: y\r\n", oneRow},
		{"digits", "Content-Length: 5\r\n", oneRow},
		{"digits", "", `{"input":[1,2]}`},
		{"digits", "", `{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1,2,3,4]}],"model_version":"1"}`},
		{"digits", "", `{"input":[1,2,3,4],"model_version":"1"}`},
		{"grid", "", `{"input":[[1,2],[3,4]],"id":"a","outputs":[{"name":"sum"}]}`},
		{"digits", "", `{"input":[1,2,3,4],"input":[1,2,3,4]}`},
	} {
		f.Add(seed.name, seed.headers, seed.body)
	}
	soon := func(c *config, _ *deps) {
		c.HeaderTimeout, c.BodyTimeout, c.IdleTimeout = 300*time.Millisecond, 300*time.Millisecond, 300*time.Millisecond
	}
	with, without := newRig(f, soon), newRig(f, soon)
	behind, plain := with.serve(f, true), without.serve(f, false)
	f.Fuzz(func(t *testing.T, name, headers, body string) {
		request := fmt.Sprintf("POST /v1/models/%s/jobs HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s", name, headers, len(body), body)
		request += request + "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
		before, beforeThat := with.queue.stored(), without.queue.stored()
		got, want := exchange(t, behind, request), exchange(t, plain, request)
		if !slices.Equal(got, want) {
			t.Errorf("%q: with the lane %q, without it %q", request, got, want)
		}
		if a, b := with.queue.stored()-before, without.queue.stored()-beforeThat; a != b {
			t.Errorf("%q: with the lane %d jobs are stored, without it %d", request, a, b)
		}
	})
}

// stored is how many jobs were ever stored.
func (q *memQueue) stored() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.seq
}

// serve serves the rig as cmd does, with the fast lane or without it, and returns its address.
func (r *rig) serve(t testing.TB, lane bool) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if lane {
		l = r.behindLane(t, l)
	}
	server, done := r.api.Server(), make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return l.Addr().String()
}

// exchange sends bytes, and returns the answers until the server closes: status, headers and body, without what differs
// from job to job.
func exchange(t *testing.T, addr, request string) (answers []string) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() { _, _ = io.WriteString(conn, request) }()
	in := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return answers
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		for _, name := range []string{"Date", "Retry-After", "Content-Length"} {
			resp.Header.Del(name)
		}
		answers = append(answers, fmt.Sprint(resp.StatusCode, resp.Close, blank(fmt.Sprint(resp.Header)), blank(string(body))))
	}
}

// counted sums up a counter over its labels.
func (r *rig) counted(t *testing.T, name string) (n float64) {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return n
}
