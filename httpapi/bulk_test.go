package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/queue"
)

const bulkPath = "/v1/models/digits/bulk"

// bulkLine is a line of the answer to a bulk request.
type bulkLine struct {
	Index     *int           `json:"index"`
	ID        string         `json:"id"`
	Status    string         `json:"status"`
	RequestID string         `json:"request_id"`
	Error     map[string]any `json:"error"`
	Done      *bool          `json:"done"`
	Accepted  int            `json:"accepted"`
	Refused   int            `json:"refused"`
}

func (l bulkLine) code() string {
	s, _ := l.Error["type"].(string)
	return strings.TrimPrefix(s, "/problems/")
}

// bulkAnswer is the whole of such an answer.
type bulkAnswer struct {
	lines map[int]bulkLine
	end   *bulkLine
}

func readBulk(t testing.TB, body io.Reader) bulkAnswer {
	t.Helper()
	a := bulkAnswer{lines: map[int]bulkLine{}}
	in := bufio.NewScanner(body)
	for in.Scan() {
		var l bulkLine
		dec := json.NewDecoder(bytes.NewReader(in.Bytes()))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&l); err != nil {
			t.Fatalf("%v in %s", err, in.Bytes())
		}
		switch {
		case a.end != nil:
			t.Fatalf("a line after the last one: %s", in.Bytes())
		case l.Done != nil:
			a.end = &l
		case l.Index == nil:
			t.Fatalf("a line without an index: %s", in.Bytes())
		default:
			if _, twice := a.lines[*l.Index]; twice {
				t.Fatalf("a second line of index %d: %s", *l.Index, in.Bytes())
			}
			a.lines[*l.Index] = l
		}
	}
	return a
}

// bulk sends a whole body straight to the handler.
func (r *rig) bulk(t testing.TB, path, body string, header ...string) bulkAnswer {
	t.Helper()
	req := httptest.NewRequestWithContext(context.Background(), "POST", path, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/x-ndjson")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("status %d, %s: %s", w.Code, w.Header().Get("Content-Type"), w.Body)
	}
	return readBulk(t, w.Body)
}

// all returns what waits, by job ID.
func (q *memQueue) all() map[job.ID]job.Job {
	q.mu.Lock()
	defer q.mu.Unlock()
	jobs := map[job.ID]job.Job{}
	for _, m := range q.waiting {
		jobs[m.ticket.ID] = m.job
	}
	return jobs
}

// firstValue is the first number of a job's FP32 input.
func firstValue(j *job.Job) float32 {
	return math.Float32frombits(binary.LittleEndian.Uint32(j.Inputs[0].Data))
}

func TestBulk(t *testing.T) {
	r := newRig(t, func(c *config, _ *deps) { c.MaxBodyBytes = 2000 })
	long := strings.Repeat("0", 3000)
	body := strings.Join([]string{
		`{"input":[0,0,0,0]}`,
		`{"input":[1,0,0,0],"id":"mine"}`,
		"", "  \r",
		`{"input":[[2,0,0,0],[2,1,1,1]]}` + "\r",
		`{"input":[3,`,
		`{"input":[4,0,0]}`,
		`{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[5,0,0,0]}],"outputs":[{"name":"probabilities"}]}`,
		`{"input":[6,0,0,0],"pad":"` + long + `"}`,
		`{"input":[7,0,0,0],"id":"seven","model_version":"9"}`,
		`{"input":[8,0,0,0],"lane":"interactive"}`,
		`{"input":[9,0,0,0]}`, // and no end of line
	}, "\n")
	a := r.bulk(t, bulkPath, body)
	jobs := r.queue.all()
	for i, want := range []string{"", "", "", "malformed", "invalid", "", "too-large", "unknown-model", "", ""} {
		l, ok := a.lines[i]
		if !ok {
			t.Errorf("no answer to line %d", i)
			continue
		}
		if l.code() != want || (want == "") != (l.Status == "queued") {
			t.Errorf("line %d: %+v, expected %q", i, l, want)
			continue
		}
		if want != "" {
			continue
		}
		ticket, err := job.ParseTicket(l.ID)
		if err != nil {
			t.Fatal(err)
		}
		j, ok := jobs[ticket.ID]
		lane := job.Bulk
		if i == 8 {
			lane = job.Interactive
		}
		if !ok || j.Lane != lane || firstValue(&j) != float32(i) {
			t.Errorf("line %d: the job is %+v", i, j)
		}
	}
	if a.lines[1].RequestID != "mine" || a.lines[7].RequestID != "seven" || a.lines[0].RequestID != "" {
		t.Errorf("request ids: %+v", a.lines)
	}
	if e := a.lines[4]; e.Error["field"] != "input" || e.Error["expected"] == nil {
		t.Errorf("the refusal does not say what the model takes: %v", e.Error)
	}
	if a.end == nil || !*a.end.Done || a.end.Accepted != 6 || a.end.Refused != 4 || a.end.Error != nil || len(a.lines) != 10 {
		t.Errorf("the last line is %+v, after %d others", a.end, len(a.lines))
	}
	m := r.call(t, "GET", "/metrics", "").body
	for _, want := range []string{
		`sheaf_gateway_submits_total{outcome="accepted"} 6`, `sheaf_gateway_submits_total{outcome="refused"} 2`,
		`sheaf_gateway_submits_total{outcome="too_large"} 1`, `sheaf_gateway_submits_total{outcome="unknown_model"} 1`,
	} {
		if !strings.Contains(m, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

func TestBulkHeaders(t *testing.T) {
	r := newRig(t, nil)
	ndjson := []string{"Content-Type", "application/x-ndjson"}
	r.call(t, "POST", "/v1/models/nobody/bulk", "{}", ndjson...).problem(t, 404, "unknown-model")
	r.call(t, "POST", "/v1/models/digits/versions/7/bulk", "{}", ndjson...).problem(t, 404, "unknown-model")
	r.call(t, "POST", bulkPath, "{}", "Content-Type", "application/json").problem(t, 415, "unsupported-media-type")
	r.call(t, "POST", bulkPath, "{}", append(ndjson, "Content-Encoding", "gzip")...).problem(t, 415, "unsupported-media-type")
	r.call(t, "POST", bulkPath+"?lane=fast", "{}", ndjson...).problem(t, 422, "invalid")
	r.call(t, "POST", bulkPath, "{}", append(ndjson, "Sheaf-Deadline", "soon")...).problem(t, 400, "malformed")
	r.call(t, "POST", bulkPath, "{}", append(ndjson, "Idempotency-Key", "")...).problem(t, 400, "malformed")
	r.call(t, "GET", bulkPath, "").problem(t, 405, "method-not-allowed")

	deadline := time.Now().Add(time.Hour).Truncate(time.Second)
	a := r.bulk(t, "/v1/models/digits/versions/1/bulk?lane=interactive", oneRow, "Sheaf-Deadline", deadline.Format(time.RFC3339))
	if j := r.queue.last(t).job; a.end == nil || j.Lane != job.Interactive || j.Version != "1" || !j.Deadline.Equal(deadline) {
		t.Errorf("the job is %+v", j)
	}
	if a := r.bulk(t, bulkPath+"?lane=interactive", `{"input":[1,2,3,4],"lane":"bulk"}`); a.lines[0].code() != "invalid" {
		t.Errorf("a line of another lane than the query's: %+v", a.lines[0])
	}
	if a := r.bulk(t, bulkPath, "\n\n"); a.end == nil || !*a.end.Done || a.end.Accepted != 0 {
		t.Errorf("an empty body: %+v", a.end)
	}
}

// A bulk request that is repeated under its key makes no job twice.
func TestBulkIdempotency(t *testing.T) {
	r := newRig(t, nil)
	body := strings.Repeat(oneRow+"\n", 10)
	first := r.bulk(t, bulkPath, body, "Idempotency-Key", "k")
	again := r.bulk(t, bulkPath, body, "Idempotency-Key", "k")
	if n := len(r.queue.all()); n != 10 {
		t.Errorf("%d jobs wait, expected 10", n)
	}
	for i := range 10 {
		id := job.DerivedID(job.DefaultTenant, fmt.Sprintf("k/%d", i)).String()
		if !strings.HasPrefix(first.lines[i].ID, id+".") || first.lines[i].ID != again.lines[i].ID {
			t.Errorf("line %d: %s, then %s, expected job %s", i, first.lines[i].ID, again.lines[i].ID, id)
		}
	}
	other := r.bulk(t, bulkPath, oneRow+"\n"+`{"input":[1,2,3,5]}`, "Idempotency-Key", "k")
	if other.lines[0].ID != first.lines[0].ID || other.lines[1].code() != "key-reused" {
		t.Errorf("another line under the same key: %+v", other.lines)
	}
	m := r.call(t, "GET", "/metrics", "").body
	for _, want := range []string{`outcome="accepted"} 10`, `outcome="duplicate"} 11`, `outcome="refused"} 1`} {
		if !strings.Contains(m, "sheaf_gateway_submits_total{"+want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

// bulkConn is a bulk request whose lines are sent one by one.
type bulkConn struct {
	send   *io.PipeWriter
	answer *bufio.Reader
	resp   *http.Response
}

func (r *rig) openBulk(t *testing.T, client *http.Client, url string) *bulkConn {
	t.Helper()
	body, send := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url+bulkPath, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = send.Close(), resp.Body.Close() })
	return &bulkConn{send, bufio.NewReader(resp.Body), resp}
}

func (c *bulkConn) line(t *testing.T) bulkLine {
	t.Helper()
	text, err := c.answer.ReadBytes('\n')
	if err != nil {
		t.Fatalf("%v after %q", err, text)
	}
	var l bulkLine
	if err := json.Unmarshal(text, &l); err != nil {
		t.Fatal(err)
	}
	return l
}

// Over HTTP/1.1 and HTTP/2 a client has its ticket before it sends the next line.
func TestBulkIsFullDuplex(t *testing.T) {
	r := newRig(t, nil)
	two := httptest.NewUnstartedServer(r.api.Handler())
	two.EnableHTTP2 = true
	two.StartTLS()
	t.Cleanup(two.Close)
	r.listen(t)
	for proto, server := range map[string]*httptest.Server{"HTTP/1.1": r.server, "HTTP/2.0": two} {
		t.Run(proto, func(t *testing.T) {
			c := r.openBulk(t, server.Client(), server.URL)
			if c.resp.Proto != proto {
				t.Fatalf("%s, expected %s", c.resp.Proto, proto)
			}
			for i := range 20 {
				if _, err := io.WriteString(c.send, oneRow+"\n"); err != nil {
					t.Fatal(err)
				}
				if l := c.line(t); *l.Index != i || l.Status != "queued" {
					t.Fatalf("line %d: %+v", i, l)
				}
			}
			_ = c.send.Close()
			if l := c.line(t); l.Done == nil || !*l.Done || l.Accepted != 20 {
				t.Errorf("the last line is %+v", l)
			}
		})
	}
}

func TestBulkLimits(t *testing.T) {
	r := newRig(t, func(c *config, _ *deps) { c.Streams.BulkMaxJobs, c.Streams.MaxBulkRequests = 100, 1 })
	a := r.bulk(t, bulkPath, strings.Repeat(oneRow+"\n", 1000))
	if len(a.lines) != 100 || a.end == nil || *a.end.Done || a.end.Accepted != 100 || a.end.code() != "too-large" {
		t.Errorf("%d lines and then %+v", len(a.lines), a.end)
	}
	if a := r.bulk(t, bulkPath, strings.Repeat(oneRow+"\n\n", 100)); !*a.end.Done || a.end.Accepted != 100 {
		t.Errorf("as many as allowed: %+v", a.end)
	}
	c := r.openBulk(t, http.DefaultClient, r.listen(t))
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	refused := r.do(t, "POST", bulkPath, oneRow, "Content-Type", "application/x-ndjson")
	refused.problem(t, 503, "busy")
	if refused.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	_ = c.send.Close()
	c.line(t)
	// The place is given back a moment after the last line.
	after := r.do(t, "POST", bulkPath, oneRow, "Content-Type", "application/x-ndjson")
	for after.status == http.StatusServiceUnavailable {
		after = r.do(t, "POST", bulkPath, oneRow, "Content-Type", "application/x-ndjson")
	}
	if after.status != http.StatusOK || !strings.Contains(after.body, `"accepted":1`) {
		t.Errorf("after the other: %d %s", after.status, after.body)
	}
}

// endless is a body without end that counts what is read of it.
type endless struct {
	read atomic.Int64
	n    int
}

func (e *endless) Read(p []byte) (int, error) {
	const text = oneRow + "\n"
	for i := range p {
		p[i] = text[e.n]
		e.n = (e.n + 1) % len(text)
	}
	e.read.Add(int64(len(p)))
	return len(p), nil
}

// A client that goes on sending, and reads only when the server is done with it, gets the whole answer all the same.
func TestBulkLastLineReachesWhoSends(t *testing.T) {
	const most = 1500
	r := newRig(t, func(c *config, _ *deps) { c.Streams.BulkMaxJobs = most })
	server := httptest.NewUnstartedServer(r.api.Handler())
	server.Config.ConnState = small
	server.Start()
	t.Cleanup(server.Close)
	conn := dialSmall(t, server)
	_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n", bulkPath)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(httputil.NewChunkedWriter(conn), new(endless))
	}()
	for !strings.Contains(r.call(t, "GET", "/metrics", "").body, `sheaf_http_requests_total{method="POST",route="/v1/models/{model}/bulk",status="2xx"} 1`) {
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("after %d bytes: %v", len(body), err)
	}
	if a := readBulk(t, bytes.NewReader(body)); a.end == nil || *a.end.Done || a.end.Accepted != most || a.end.code() != "too-large" {
		t.Errorf("the answer ends with %+v", a.end)
	}
	<-sent // the connection is closed
}

// A queue without room stops the reading of the body, and each line is answered when patience is over.
func TestBulkBackPressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *config, _ *deps) { c.Streams.BulkPatience, c.Streams.BulkMaxJobs = 20*time.Second, 1<<40 })
		r.queue.room = 100
		body := new(endless)
		req := httptest.NewRequestWithContext(t.Context(), "POST", bulkPath, body)
		req.Header.Set("Content-Type", "application/x-ndjson")
		w := httptest.NewRecorder()
		over := make(chan struct{})
		start := time.Now()
		go func() {
			defer close(over)
			r.handler.ServeHTTP(w, req)
		}()
		select {
		case <-over:
			t.Fatal("the request ended")
		case <-time.After(15 * time.Second):
		}
		const most = 256 << 10
		stood := body.read.Load()
		if stood > most {
			t.Errorf("%d bytes were read for 100 jobs", stood)
		}
		r.queue.mu.Lock()
		r.queue.waiting = r.queue.waiting[50:]
		r.queue.mu.Unlock()
		select {
		case <-over:
			t.Fatal("the request ended although jobs were accepted after 15 s")
		case <-time.After(15 * time.Second):
		}
		<-over
		// The last that was taken was so after a pause of at most a second.
		if took := time.Since(start); took < 35*time.Second || took > 37*time.Second {
			t.Errorf("it ended after %s", took)
		}
		a := readBulk(t, w.Body)
		if a.end == nil || *a.end.Done || a.end.Accepted != 150 || a.end.code() != "full" {
			t.Fatalf("the last line is %+v", a.end)
		}
		if len(a.lines) != 150+a.end.Refused || a.end.Refused < 256 {
			t.Errorf("%d lines, %d refused", len(a.lines), a.end.Refused)
		}
		for i := range len(a.lines) {
			if l := a.lines[i]; l.Status != "queued" && l.code() != "full" {
				t.Errorf("line %d: %+v", i, l)
			}
		}
		if body.read.Load() > 2*most {
			t.Errorf("%d bytes were read", body.read.Load())
		}
	})
}

// On the way down nothing is waited for.
func TestBulkEndsWhileItWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.queue.room = 100
		over := make(chan bulkAnswer, 1)
		go func() { over <- r.bulk(t, bulkPath, strings.Repeat(oneRow+"\n", 1000)) }()
		<-time.After(5 * time.Second)
		start := time.Now()
		r.jobs.Close()
		a := <-over
		if took := time.Since(start); took > time.Second || a.end == nil || *a.end.Done || a.end.Accepted != 100 || a.end.code() != "unavailable" {
			t.Errorf("after %s: %+v", took, a.end)
		}
	})
}

// A caller's rate slows its bulk requests down, as a full queue does. One that allows nothing for too long ends them.
func TestBulkAtARate(t *testing.T) {
	for name, c := range map[string]struct {
		rate     auth.Rate
		lines    int
		accepted int
		least    time.Duration
		most     time.Duration
	}{
		"in step":  {auth.Rate{PerSecond: 100, Burst: 100}, 1000, 1000, 9 * time.Second, 9200 * time.Millisecond},
		"too slow": {auth.Rate{PerSecond: 0.01, Burst: 5}, 1000, 5, 0, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				limiter, err := auth.NewLimiter(c.rate)
				if err != nil {
					t.Fatal(err)
				}
				r := newRig(t, func(_ *config, d *deps) { d.Limiter = limiter })
				ctx := auth.NewContext(t.Context(), &auth.Principal{Kind: auth.KindKey, ID: "k", Tenant: "acme"})
				req := httptest.NewRequestWithContext(ctx, "POST", bulkPath, strings.NewReader(strings.Repeat(oneRow+"\n", c.lines)))
				w := httptest.NewRecorder()
				start := time.Now()
				r.handler.ServeHTTP(w, req)
				took, a := time.Since(start), readBulk(t, w.Body)
				if took < c.least || took > c.most || a.end == nil || a.end.Accepted != c.accepted || *a.end.Done != (c.accepted == c.lines) {
					t.Fatalf("after %s: %+v", took, a.end)
				}
				if !*a.end.Done && (a.end.code() != "rate-limited" || a.lines[a.end.Accepted].code() != "rate-limited" || len(a.lines) != a.end.Accepted+a.end.Refused) {
					t.Errorf("the last line is %+v", a.end)
				}
				if tenant := r.queue.last(t).job.Tenant; tenant != "acme" {
					t.Errorf("the jobs are %s's", tenant)
				}
			})
		})
	}
}

// A look-up and a stream of events know only the jobs of the caller's tenant.
func TestManyJobsAreATenantsOwn(t *testing.T) {
	r := newRig(t, nil)
	waiting, finished := r.submit(t), r.submit(t)
	r.settle(t, finished, job.Result{State: job.Succeeded})
	body := fmt.Sprintf(`{"ids":[%q,%q]}`, waiting, finished)
	for tenant, known := range map[string]bool{job.DefaultTenant: true, "acme": false} {
		ctx, leave := context.WithTimeout(auth.NewContext(t.Context(), &auth.Principal{Tenant: tenant}), 100*time.Millisecond)
		defer leave()
		for _, path := range []string{"/v1/jobs/lookup", "/v1/jobs/events"} {
			a := r.callContext(t, ctx, "POST", path, body)
			if n := strings.Count(a.body, "unknown-job"); known && n != 0 || !known && n != 2 || !known && strings.Contains(a.body, "succeeded") {
				t.Errorf("%s of %s: %s", path, tenant, a.body)
			}
		}
	}
}

// The queue comes back within the patience: everything is accepted, and nothing twice.
func TestBulkOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.queue.publishErr = queue.ErrUnavailable
		r.queue.locateErr = queue.ErrUnavailable
		over := make(chan bulkAnswer, 1)
		go func() { over <- r.bulk(t, bulkPath, strings.Repeat(oneRow+"\n", 1000)) }()
		<-time.After(10 * time.Second)
		r.queue.mu.Lock()
		r.queue.publishErr, r.queue.locateErr = nil, job.ErrNotFound
		r.queue.mu.Unlock()
		a := <-over
		if a.end == nil || !*a.end.Done || a.end.Accepted != 1000 || len(r.queue.all()) != 1000 {
			t.Errorf("the last line is %+v, %d jobs wait", a.end, len(r.queue.all()))
		}
	})
}

// On the way down a request ends in good order: what was read is accepted, and the last line says that there is more.
func TestBulkEndsWhenTheServerGoesDown(t *testing.T) {
	r := newRig(t, nil)
	c := r.openBulk(t, http.DefaultClient, r.listen(t))
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	_, _ = io.WriteString(c.send, oneRow+"\n"+oneRow+"\n"+`{"input":`)
	c.line(t)
	c.line(t)
	r.jobs.Close()
	if l := c.line(t); l.Done == nil || *l.Done || l.Accepted != 2 || l.code() != "unavailable" {
		t.Errorf("the last line is %+v", l)
	}
	if rest, err := io.ReadAll(c.answer); err != nil || len(rest) > 0 {
		t.Errorf("then %q, %v", rest, err)
	}
	r.do(t, "POST", bulkPath, oneRow, "Content-Type", "application/x-ndjson").problem(t, 503, "unavailable")
}

// A defect is logged, told in the last line, and takes nothing else with it.
func TestBulkPanic(t *testing.T) {
	r := newRig(t, func(_ *config, d *deps) { d.Submitter = panics{} })
	a := r.bulk(t, bulkPath, strings.Repeat(oneRow+"\n", 1000))
	if a.end == nil || *a.end.Done || a.end.code() != "internal" {
		t.Errorf("the last line is %+v", a.end)
	}
}

// Lines of every length around the size of the pieces that a body is read in come through whole.
func TestBulkLineLengths(t *testing.T) {
	r := newRig(t, nil)
	r.models.Put(model.Info{Name: "wide", Version: "1", Platform: model.PlatformONNX, MaxRows: 64, Signature: model.Signature{
		Inputs: []model.TensorSpec{{Name: "s", Datatype: job.Bytes, Shape: []int64{-1}}}, Outputs: []model.TensorSpec{{Name: "s", Datatype: job.Bytes, Shape: []int64{-1}}}, Batchable: true,
	}})
	var body strings.Builder
	lengths := []int{1, 65_000, 70, 65_500, 65_536, 3, 200_000, 131_072, 1, 1_500_000, 10}
	for i, n := range lengths {
		fmt.Fprintf(&body, `{"input":[%q]}`+"\n", strings.Repeat(string(rune('a'+i)), n))
	}
	a := r.bulk(t, "/v1/models/wide/bulk", body.String())
	jobs := r.queue.all()
	for i, n := range lengths {
		ticket, err := job.ParseTicket(a.lines[i].ID)
		if err != nil {
			t.Fatalf("line %d: %+v", i, a.lines[i])
		}
		if data := jobs[ticket.ID].Inputs[0].Data[4:]; string(data) != strings.Repeat(string(rune('a'+i)), n) {
			t.Errorf("line %d has %d bytes, expected %d of its own", i, len(data), n)
		}
	}
}
