package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/httpapi"
	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// cemetery is a NATS with dead letters, and an API over it.
type cemetery struct {
	nats, redis, api string
	queue            *queue.Queue
}

func newCemetery(t testing.TB, serveArgs ...string) *cemetery {
	t.Helper()
	c := &cemetery{nats: testserver.NATSProcess(t), redis: "redis://" + testserver.Redis(t)}
	cfg := queue.DefaultConfig()
	cfg.URL = c.nats
	var err error
	if c.queue, err = queue.Connect(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.queue.Close() })
	if err := c.queue.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := start(t, append([]string{"serve", "--addr", "127.0.0.1:0", "--nats-url", c.nats, "--redis-url", c.redis}, serveArgs...)...)
	c.api = p.find(`HTTP API is up.* url=(\S+)`)
	return c
}

// bury makes n dead letters of good jobs of the digits model.
func (c *cemetery) bury(t testing.TB, n int, tenant, reason string) []job.ID {
	t.Helper()
	if err := c.queue.EnsureConsumer(t.Context(), job.Bulk, "digits"); err != nil {
		t.Fatal(err)
	}
	sources, err := c.queue.Sources(t.Context(), job.Bulk, "digits")
	if err != nil {
		t.Fatal(err)
	}
	row := heldout(t, "digits")[0]
	var ids []job.ID
	for range n {
		id, err := job.NewID()
		if err != nil {
			t.Fatal(err)
		}
		j := job.Job{ID: id, Lane: job.Bulk, Tenant: tenant, Model: "digits", CreatedAt: time.Now(), Inputs: []job.Tensor{fp32("x", row.Input)}}
		if _, _, err := c.queue.Publish(t.Context(), &j); err != nil {
			t.Fatal(err)
		}
		came := 0
		// A message may be stored before its consumer knows of it: a fetch that does not wait can come too early.
		for i, until := 0, time.Now().Add(10*time.Second); came == 0 && time.Now().Before(until); i++ {
			k, err := sources[i%len(sources)].Fetch(t.Context(), 1, 10*time.Millisecond, func(d *queue.Delivery) {
				if err := c.queue.DeadLetter(t.Context(), d, []job.ID{id}, reason, "attempt 1: it died"); err != nil {
					t.Error(err)
				}
				if err := d.Ack(); err != nil {
					t.Error(err)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			came += k
		}
		if came != 1 {
			t.Fatalf("%d messages came in 10 s", came)
		}
		ids = append(ids, id)
	}
	return ids
}

// The verbs do the same over NATS and over HTTP.
func TestDeadVerbs(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"nats", "http"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			c := newCemetery(t, "--auth", "keys")
			ids := c.bury(t, 3, "acme", "exhausted: 5 tries, all of which ended the worker")
			c.bury(t, 2, "other", "inference: the model says \x1b[31mno")
			testserver.Publish(t, c.nats, "sheaf.dead.interactive.digits.other", map[string]string{
				queue.HeaderDeadSubject: "sheaf.interactive.digits.other", queue.HeaderDeadReason: "it is no JSON", "Content-Type": "application/json",
			}, []byte("{"))
			flags := []string{"--nats-url", c.nats}
			if way == "http" {
				flags = []string{"--server", c.api, "--api-key", newAPIKey(t, c.nats, c.api, "--scopes", "admin")}
			}
			verb := func(wantCode int, wantOut, wantErr string, args ...string) string {
				t.Helper()
				stdout, stderr, code := runToEnd(t, "", append(args, flags...)...)
				if code != wantCode || !regexp.MustCompile(wantOut).MatchString(stdout) || !regexp.MustCompile(wantErr).MatchString(stderr) {
					t.Errorf("sheaf %s: exit code %d, expected %d\n%s--- expected %s\n%s--- expected %s", strings.Join(args, " "), code, wantCode, stdout, wantOut, stderr, wantErr)
				}
				return stdout
			}
			verb(exitOK, `(?s)^SEQ .*\n1 .* bulk +digits +acme +1 +1 .*exhausted: 5 tries.*\n6 dead letters\n$`, `^$`, "dead", "ls")
			verb(exitOK, `\n6 dead letters, 2 shown \(--limit shows more\)\n$`, `^$`, "dead", "ls", "--limit", "2")
			verb(exitOK, `^2 dead letters, 0 shown`, `^$`, "dead", "ls", "--limit", "0", "--tenant", "other", "--lane", "bulk")
			verb(exitOK, `says  \[31mno\n`, `^$`, "dead", "ls", "5") // nothing that a terminal would act on
			verb(exitOK, `^$`, `no dead letters match`, "dead", "ls", "--older-than", "1h")
			verb(exitUsage, `^$`, `expected interactive or bulk`, "dead", "ls", "--lane", "fast")
			var list httpapi.DeadList
			if err := json.Unmarshal([]byte(verb(exitOK, ``, `^$`, "dead", "ls", "-o", "json", "--job", ids[1].String())), &list); err != nil || list.Count != 1 || list.MaxSeq != 2 || list.Letters[0].Jobs[0] != ids[1] || list.Letters[0].Code != job.CodeExhausted {
				t.Errorf("%+v, %v", list, err)
			}
			shown := verb(exitOK, `(?s)reason +exhausted: 5 tries.*history +attempt 1: it died\n.*job +`+ids[0].String()+`.*input x FP32 \[1 64\]\n.*  Sheaf-Dead-Reason: `, `^$`, "dead", "show", "1")
			if strings.Contains(shown, "[0,0,5,13") {
				t.Errorf("the input is shown unasked:\n%s", shown)
			}
			verb(exitOK, `input x FP32 \[1 64\]\n +\[0,0,`, `^$`, "dead", "show", "1", "--data")
			verb(exitOK, `unreadable `, `^$`, "dead", "show", "6")
			verb(exitFailure, `^$`, `there is no dead letter 99`, "dead", "show", "99")
			verb(exitUsage, `^$`, `"x": expected the number of a dead letter`, "dead", "show", "x")

			verb(exitUsage, `^$`, `say which dead letters: numbers, a filter such as --model, or --all`, "dead", "purge", "--yes")
			verb(exitUsage, `^$`, `choose one of --all and a filter`, "dead", "purge", "--all", "--model", "digits", "--yes")
			verb(exitUsage, `^$`, `6 dead letters match; add --yes to purge them for good`, "dead", "purge", "--all")
			verb(exitUsage, `^$`, `3 dead letters match; add --yes to requeue them\n`, "dead", "requeue", "--tenant", "acme")
			verb(exitFailure, `^$`, `there is no such dead letter`, "dead", "requeue", "99", "--yes")
			verb(exitOK, `^purged 0 dead letters\n$`, `no dead letters match`, "dead", "purge", "--model", "tumor", "--yes")

			out := verb(exitOK, `(?s)^([0-9a-f-]{36} → \S+\n){3}requeued 3 dead letters, new jobs: 3\n$`, `^$`, "dead", "requeue", "--tenant", "acme", "--reason", "5 TRIES", "--yes")
			fresh := make(map[string]string)
			for _, m := range regexp.MustCompile(`(?m)^(\S+) → (\S+)$`).FindAllStringSubmatch(out, -1) {
				fresh[m[1]] = m[2]
			}
			verb(exitFailure, `requeued 0 dead letters, skipped: 1\n$`, `skipped: dead letter 6: the dead letter cannot be requeued`, "dead", "requeue", "6", "--yes")
			verb(exitOK, `^purged 2 dead letters\n$`, `^$`, "dead", "purge", "--code", "inference", "--newer-than", "1h", "--yes")
			verb(exitOK, `(?m)^\{"seq":6,"status":"purged"\}\n\{"done":\{"done":1\}\}\n$`, `^$`, "dead", "purge", "--all", "--yes", "-o", "json")
			verb(exitOK, `^$`, `no dead letters match`, "dead", "ls")

			// The new jobs are done like any others.
			s := &stack{nats: c.nats, redis: c.redis}
			s.addWorker(t)
			acme := newAPIKey(t, c.nats, c.api, "--tenant", "acme")
			for _, id := range ids {
				code, body := request(t, http.MethodGet, c.api+"/v1/jobs/"+fresh[id.String()]+"?wait=30s", nil, bearer(acme))
				if code != http.StatusOK || decodeJob(t, body).Status != "succeeded" {
					t.Errorf("the job that was %s: %d %s", id, code, body)
				}
			}
		})
	}
}

func TestQueueVerbs(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, 1)
	run := func(args ...string) string {
		t.Helper()
		stdout, stderr, code := runToEnd(t, "", args...)
		if code != exitOK {
			t.Fatalf("sheaf %s: exit code %d: %s%s", strings.Join(args, " "), code, stdout, stderr)
		}
		return stdout
	}
	row := heldout(t, "digits")[0]
	for i, flags := range [][]string{{"--nats-url", s.nats}, {"--server", s.apis[0]}} {
		verb := func(args ...string) string { t.Helper(); return run(append(args, flags...)...) }
		if out := verb("queue", "pause", "bulk"); out != "paused: lane bulk\n" {
			t.Errorf("pause: %s", out)
		}
		code, body := post(t, s.apis[0]+"/v1/models/digits/jobs?lane=bulk", map[string]any{"input": row.Input})
		if code != http.StatusAccepted {
			t.Fatalf("%d %s", code, body)
		}
		id := decodeJob(t, body).ID
		if out := verb("queue", "ls"); !regexp.MustCompile(`(?m)^bulk +\(all\) +1 +0 +\d+ +paused\nbulk +digits +1 +0 +\d+ +\d+s +paused$`).MatchString(out) {
			t.Errorf("ls:\n%s", out)
		}
		var listed struct {
			Lanes []httpapi.Lane `json:"lanes"`
		}
		if err := json.Unmarshal([]byte(verb("queue", "ls", "-o", "json")), &listed); err != nil || len(listed.Lanes) != 2 || !listed.Lanes[1].Paused || listed.Lanes[1].PausedUntil != nil || listed.Lanes[0].Paused {
			t.Errorf("%+v, %v", listed, err)
		}
		// The other lane goes on.
		if code, body := post(t, s.apis[0]+"/v1/models/digits/predict", map[string]any{"input": row.Input}); code != http.StatusOK {
			t.Errorf("%d %s", code, body)
		}
		if out := verb("queue", "resume", "bulk"); out != "resumed: lane bulk\n" {
			t.Errorf("resume: %s", out)
		}
		if code, body := get(t, s.apis[0]+"/v1/jobs/"+id+"?wait=30s"); code != http.StatusOK || decodeJob(t, body).Status != "succeeded" {
			t.Errorf("%d: %d %s", i, code, body)
		}
		if out := verb("queue", "pause", "interactive", "--model", "digits", "--for", "1h"); !strings.HasPrefix(out, "paused: model digits in lane interactive, until 2") {
			t.Errorf("pause: %s", out)
		}
		if out := verb("queue", "ls"); !regexp.MustCompile(`(?m)^interactive +\(all\) .*active\ninteractive +digits .*paused until 2`).MatchString(out) {
			t.Errorf("ls:\n%s", out)
		}
		verb("queue", "resume", "interactive", "--model", "digits")
		stdout, stderr, code := runToEnd(t, "", append([]string{"queue", "pause", "bulk", "--model", "digit"}, flags...)...)
		if code != exitOK || stdout != "paused: model digit in lane bulk\n" || !strings.HasPrefix(stderr, "no worker has served model digit in lane bulk yet") {
			t.Errorf("pause of a model that is not there: exit code %d\n%s%s", code, stdout, stderr)
		}
		verb("queue", "resume", "bulk", "--model", "digit")
	}
	for _, c := range []struct{ args, want string }{
		{"queue pause fast", "expected a lane, interactive or bulk"},
		{"queue pause bulk --until yesterday", "expected a time to come"},
		{"queue pause bulk --for 1h --until 2030-01-01T00:00:00Z", "choose one of --for and --until"},
		{"queue resume bulk --model a/b", "not a valid name of a model"},
		{"queue ls --server http://127.0.0.1:1 --nats-url " + s.nats, "choose one of --server and --nats-url"},
	} {
		_, stderr, code := runToEnd(t, "", strings.Fields(c.args)...)
		if code != exitUsage || !strings.Contains(stderr, c.want) {
			t.Errorf("sheaf %s: exit code %d: %s", c.args, code, stderr)
		}
	}
}

// Where the verbs go, and what they say if nobody is there.
func TestAdminVerbsOutOfReach(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sheaf.yaml")
	if err := os.WriteFile(file, []byte("nats-url: nats://127.0.0.1:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, want string }{
		{"dead ls --server http://127.0.0.1:1", "cannot reach http://127.0.0.1:1"},
		{"dead ls --nats-url nats://127.0.0.1:1", "NATS at 127.0.0.1:1 does not answer"},
		{"queue ls --config " + file, "NATS at 127.0.0.1:1 does not answer"},
		{"queue ls --config " + file + " --server http://127.0.0.1:1", "cannot reach http://127.0.0.1:1"},
	} {
		_, stderr, code := runToEnd(t, "", strings.Fields(c.args)...)
		if code != exitUnreachable || !strings.Contains(stderr, c.want) {
			t.Errorf("sheaf %s: exit code %d: %s", c.args, code, stderr)
		}
	}
	c := newCemetery(t, "--auth", "keys")
	_, stderr, code := runToEnd(t, "", "dead", "ls", "--server", c.api)
	if code != exitFailure || !strings.Contains(stderr, "401") || !strings.Contains(stderr, "--api-key") {
		t.Errorf("without a key: exit code %d: %s", code, stderr)
	}
	_, stderr, code = runToEnd(t, "", "dead", "ls", "--server", c.api, "--api-key", newAPIKey(t, c.nats, c.api))
	if code != exitFailure || !strings.Contains(stderr, "403") || !strings.Contains(stderr, "scope admin") {
		t.Errorf("with a key of another scope: exit code %d: %s", code, stderr)
	}
	open := start(t, "serve", "--addr", "0.0.0.0:0", "--insecure", "--nats-url", c.nats, "--redis-url", c.redis)
	_, port, _ := strings.Cut(strings.TrimPrefix(open.find(`HTTP API is up.* url=(\S+)`), "http://"), ":")
	if code, body := get(t, fmt.Sprintf("http://127.0.0.1:%s/v1/admin/queues", port)); code != http.StatusForbidden || !strings.Contains(string(body), "--auth") {
		t.Errorf("on every address without a token: %d %s", code, body)
	}
}
