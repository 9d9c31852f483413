package httpapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/httpapi"
	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// graveyard is a rig over a real queue with dead letters: n of the model digits, each of a job that can be requeued.
func graveyard(t testing.TB, n int, change func(*config, *deps)) (*rig, *queue.Queue) {
	t.Helper()
	cfg := queue.DefaultConfig()
	cfg.URL = testserver.NATS(t)
	q, err := queue.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n > 0 {
		buryAll(t, q, n)
	}
	who := newCallers(t)
	r := newRig(t, func(c *config, d *deps) {
		d.Operator, d.Auth = q, who.methods
		if change != nil {
			change(c, d)
		}
	})
	r.admin = who.key(t, auth.Key{Scopes: []auth.Scope{auth.Admin}})
	return r, q
}

func buryAll(t testing.TB, q *queue.Queue, n int) {
	t.Helper()
	if err := q.EnsureConsumer(t.Context(), job.Interactive, "digits"); err != nil {
		t.Fatal(err)
	}
	sources, err := q.Sources(t.Context(), job.Interactive, "digits")
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		id, err := job.NewID()
		if err != nil {
			t.Fatal(err)
		}
		j := job.Job{ID: id, Tenant: job.DefaultTenant, Model: "digits", CreatedAt: time.Now(), Inputs: []job.Tensor{fp32("x", []int64{1, 4}, 1, 2, 3, 4)}}
		if _, _, err := q.Publish(t.Context(), &j); err != nil {
			t.Fatal(err)
		}
	}
	buried := 0
	// A message may be stored before its consumer knows of it: a fetch that does not wait can come too early.
	for i, until := 0, time.Now().Add(10*time.Second); buried < n && time.Now().Before(until); i++ {
		_, err := sources[i%len(sources)].Fetch(t.Context(), n-buried, 10*time.Millisecond, func(d *queue.Delivery) {
			jobs, err := job.DecodeMessage(&d.Envelope, job.DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			if err := q.DeadLetter(t.Context(), d, []job.ID{jobs[0].Job.ID}, "exhausted: no"); err != nil {
				t.Fatal(err)
			}
			if err := d.Ack(); err != nil {
				t.Fatal(err)
			}
			buried++
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if buried != n {
		t.Fatalf("%d of %d are buried", buried, n)
	}
}

// asAdmin sends a request with the token, and reads the answer a line at a time.
func asAdmin(t testing.TB, r *rig, method, path, body string) (status int, lines []string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.listen(t)+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.admin)
	resp, err := r.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.Split(strings.TrimSpace(string(raw)), "\n")
}

func into[T any](t testing.TB, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

func TestWhoIsAnAdministrator(t *testing.T) {
	const path = "/v1/admin/queues"
	t.Run("with authentication", func(t *testing.T) {
		r, _ := graveyard(t, 0, func(c *config, _ *deps) { c.AdminLocal = true })
		r.do(t, "GET", path, "").problem(t, 401, "unauthorized") // though it is this machine
		if a := r.do(t, "GET", path, "", "Authorization", "bearer  "+r.admin, "X-Forwarded-For", "1.2.3.4"); a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	t.Run("without it, on loopback", func(t *testing.T) {
		r, _ := graveyard(t, 0, func(c *config, d *deps) { d.Auth, c.AdminLocal = nil, true })
		if a := r.do(t, "GET", path, ""); a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
		r.do(t, "GET", path, "", "X-Forwarded-For", "1.2.3.4").problem(t, 403, "forbidden")
		r.do(t, "POST", path+"/bulk/pause", "", "Sec-Fetch-Site", "cross-site").problem(t, 403, "forbidden")
		r.do(t, "POST", path+"/bulk/pause", "", "Origin", "https://example.com").problem(t, 403, "forbidden")
		r.call(t, "GET", path, "").problem(t, 403, "forbidden") // whose Host is example.com
	})
	t.Run("without it, on every address", func(t *testing.T) {
		r, _ := graveyard(t, 0, func(_ *config, d *deps) { d.Auth = nil })
		r.do(t, "GET", path, "").problem(t, 403, "forbidden")
	})
	t.Run("without an operator", func(t *testing.T) {
		newRig(t, nil).do(t, "GET", path, "").problem(t, 404, "not-found")
	})
}

func TestDeadLettersOverHTTP(t *testing.T) {
	var log bytes.Buffer
	r, q := graveyard(t, 5, func(_ *config, d *deps) { d.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	status, lines := asAdmin(t, r, "GET", "/v1/admin/dead?model=digits&limit=2", "")
	page := into[httpapi.DeadList](t, lines[0])
	if status != 200 || page.Count != 5 || page.MaxSeq != 5 || len(page.Letters) != 2 || page.Letters[0].Seq != 1 || page.Cursor == "" {
		t.Fatalf("%d %+v", status, page)
	}
	var seqs []uint64
	for cursor := ""; ; {
		_, lines := asAdmin(t, r, "GET", "/v1/admin/dead?limit=2&cursor="+cursor, "")
		page := into[httpapi.DeadList](t, lines[0])
		for _, l := range page.Letters {
			seqs = append(seqs, l.Seq)
		}
		if cursor = page.Cursor; cursor == "" {
			break
		}
	}
	if fmt.Sprint(seqs) != "[1 2 3 4 5]" {
		t.Errorf("the pages have %v", seqs)
	}
	_, lines = asAdmin(t, r, "GET", "/v1/admin/dead/3?data=true", "")
	if l := into[httpapi.DeadLetter](t, lines[0]); l.Seq != 3 || len(l.Contents) != 1 || string(l.Contents[0].Inputs[0].Data) != "[1,2,3,4]" || len(l.Headers) == 0 {
		t.Errorf("one letter: %s", lines[0])
	}

	// Something comes after the count.
	buryAll(t, q, 1)
	for _, c := range []struct {
		body         string
		status       int
		code, detail string
	}{
		{`{"model":"digits","max_seq":5}`, 409, "count-changed", "5 dead letters match now"},
		{`{"model":"digits","max_seq":5,"confirm":4}`, 409, "count-changed", `"confirm" says 4`},
		{`{"modell":"digits","confirm":5}`, 400, "malformed", "modell"},
		{`{"lane":"fast","confirm":5}`, 422, "invalid", "expected interactive or bulk"},
		{`{"older_than":"soon","job":"x","confirm":5}`, 422, "invalid", "older_than"},
		{`[]`, 400, "malformed", "JSON object"},
		{`{"confirm":0} {}`, 400, "malformed", "more behind"},
	} {
		for _, verb := range []string{"requeue", "purge"} {
			status, lines := asAdmin(t, r, "POST", "/v1/admin/dead/"+verb, c.body)
			if status != c.status || !strings.Contains(lines[0], "/problems/"+c.code) || !strings.Contains(into[map[string]any](t, lines[0])["detail"].(string), c.detail) {
				t.Errorf("%s %s: %d %s", verb, c.body, status, lines[0])
			}
			if c.status == 409 && into[map[string]any](t, lines[0])["count"] != 5.0 {
				t.Errorf("%s: no count: %s", c.body, lines[0])
			}
		}
	}
	status, lines = asAdmin(t, r, "POST", "/v1/admin/dead/requeue", `{"seqs":[1,2],"confirm":2,"deadline":"1h"}`)
	if done := into[httpapi.DeadEvent](t, lines[len(lines)-1]).Done; status != 200 || len(lines) != 3 || done == nil || done.Done != 2 || done.Jobs != 2 {
		t.Errorf("requeue: %d %q", status, lines)
	}
	status, lines = asAdmin(t, r, "POST", "/v1/admin/dead/purge", `{"model":"digits","max_seq":5,"confirm":3}`)
	if done := into[httpapi.DeadEvent](t, lines[len(lines)-1]).Done; status != 200 || len(lines) != 4 || done == nil || done.Done != 3 {
		t.Errorf("purge: %d %q", status, lines)
	}
	_, lines = asAdmin(t, r, "GET", "/v1/admin/dead", "")
	if page := into[httpapi.DeadList](t, lines[0]); page.Count != 1 || page.Letters[0].Seq != 6 {
		t.Errorf("left: %s", lines[0])
	}
	if status, lines = asAdmin(t, r, "GET", "/v1/admin/dead/3", ""); status != 404 || !strings.Contains(lines[0], "unknown-dead-letter") {
		t.Errorf("%d %s", status, lines[0])
	}
	for _, path := range []string{"?limit=x", "?limit=2000", "?cursor=x", "?lanes=bulk", "?seqs=0", "/x"} {
		if status, lines := asAdmin(t, r, "GET", "/v1/admin/dead"+path, ""); status != 400 && status != 422 {
			t.Errorf("%s: %d %s", path, status, lines[0])
		}
	}
	for _, body := range []string{`null`, ` null`, `[]`, `{"seqs":[0],"confirm":1}`, `{"seqs":[null],"confirm":1}`, `{"confirm":1}{}`, `{"lame":"bulk"}`, `{"model":null,"confirm":1}`} {
		if status, lines := asAdmin(t, r, "POST", "/v1/admin/dead/purge", body); status != 400 && status != 422 {
			t.Errorf("%s: %d %s", body, status, lines[0])
		}
	}
	for _, want := range []string{"act=requeued", "act=purged", `who="key `, "matched=3", "max_seq:5"} {
		if want = strings.ReplaceAll(want, "max_seq:5", "MaxSeq:5"); !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, log.String())
		}
	}
}

func TestQueuesOverHTTP(t *testing.T) {
	r, q := graveyard(t, 0, nil)
	if err := q.EnsureConsumer(t.Context(), job.Bulk, "digits"); err != nil {
		t.Fatal(err)
	}
	status, lines := asAdmin(t, r, "POST", "/v1/admin/queues/bulk/pause", `{"until":"1h"}`)
	if l := into[httpapi.Lane](t, lines[0]); status != 200 || !l.Paused || l.PausedUntil == nil || len(l.Models) != 1 || !l.Models[0].Paused {
		t.Errorf("%d %s", status, lines[0])
	}
	_, lines = asAdmin(t, r, "POST", "/v1/admin/queues/bulk/resume", `{"model":"digits"}`)
	if l := into[httpapi.Lane](t, lines[0]); !l.Paused || l.Models[0].Paused {
		t.Errorf("%s", lines[0])
	}
	_, lines = asAdmin(t, r, "POST", "/v1/admin/queues/bulk/resume", "")
	if l := into[httpapi.Lane](t, lines[0]); l.Paused {
		t.Errorf("%s", lines[0])
	}
	status, lines = asAdmin(t, r, "GET", "/v1/admin/queues", "")
	if all := into[struct{ Lanes []httpapi.Lane }](t, lines[0]).Lanes; status != 200 || len(all) != 2 || all[0].Lane != "interactive" || all[0].MaxMessages < 1 {
		t.Errorf("%d %s", status, lines[0])
	}
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"fast/pause", "", 404},
		{"bulk/pause", `{"until":"2001-01-01T00:00:00Z"}`, 422},
		{"bulk/pause", `{"model":"a b"}`, 422},
		{"bulk/resume", `{"until":"1h"}`, 422},
		{"bulk/pause", `{"for":"1h"}`, 400},
	} {
		if status, lines := asAdmin(t, r, "POST", "/v1/admin/queues/"+c.path, c.body); status != c.status {
			t.Errorf("%s %s: %d %s", c.path, c.body, status, lines[0])
		}
	}
}
