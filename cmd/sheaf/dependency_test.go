package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
)

// never is how long no request may take, whatever is out of order: a generous bound over the settings below.
const never = 20 * time.Second

// boundSettings are those of the API by which a request ends when nothing behind it answers.
var boundSettings = []string{
	"--publish-timeout", "2s", "--submit-timeout", "3s", "--lookup-timeout", "2s", "--predict-timeout", "4s", "--poll-interval", "200ms",
}

// told is what a client was told.
type told struct {
	code  int
	retry string
	body  []byte
}

// tell makes a request that has to be answered within never. Who is turned away is told when to come back.
func tell(t testing.TB, method, url, body string, header ...http.Header) told {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), never)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range header {
		req.Header = h
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: not answered within %v: %v", method, url, never, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := told{resp.StatusCode, resp.Header.Get("Retry-After"), raw}
	if a.code == http.StatusServiceUnavailable || a.code == http.StatusTooManyRequests {
		if n, err := strconv.Atoi(a.retry); err != nil || n < 1 {
			t.Errorf("%s %s: status %d with Retry-After %q", method, url, a.code, a.retry)
		}
	}
	return a
}

// works is one shim and one worker on a NATS and a Redis that a test can break, and the jobs that were accepted.
type works struct {
	nats     *testserver.NATSServer
	redis    *testserver.RedisServer
	api, ops string
	worker   *process
	rows     []heldoutRow
	next     int
	accepted map[string]heldoutRow
}

func newWorks(t testing.TB, nats *testserver.NATSServer, flags ...string) *works {
	t.Helper()
	w := &works{
		nats: nats, rows: heldout(t, "digits"), accepted: map[string]heldoutRow{},
		// What was accepted must be there again when Redis is started again.
		redis: testserver.StartRedis(t, testserver.RedisOptions{Args: []string{"--appendonly", "yes", "--appendfsync", "always"}}),
	}
	shared := append([]string{"--nats-url", nats.URL(), "--redis-url", "redis://" + w.redis.Addr}, flags...)
	w.worker = start(t, append([]string{"worker", "--models", repoPath("examples", "models")}, shared...)...)
	w.ops = w.worker.find(`worker is up.* ops=(\S+)`)
	api := start(t, slices.Concat([]string{"serve", "--addr", "127.0.0.1:0"}, boundSettings, shared)...)
	w.api = api.find(`HTTP API is up.* url=(\S+)`)
	w.awaitReady(t)
	return w
}

// awaitReady waits until everything answers and the model is announced.
func (w *works) awaitReady(t testing.TB) {
	t.Helper()
	for _, url := range []string{w.api + "/v1/models/digits", w.api + "/readyz", w.ops + "/readyz"} {
		eventually(t, func() error {
			if code, body := get(t, url); code != http.StatusOK {
				return fmt.Errorf("%s: %d %s", url, code, body)
			}
			return nil
		})
	}
}

func (w *works) row() (heldoutRow, string) {
	row := w.rows[w.next%len(w.rows)]
	w.next++
	return row, `{"input":` + strings.ReplaceAll(fmt.Sprint(row.Input), " ", ",") + `}`
}

// submit submits one job and returns what was told and, if it was accepted, its id.
func (w *works) submit(t testing.TB) (told, string) {
	t.Helper()
	row, body := w.row()
	a := tell(t, http.MethodPost, w.api+"/v1/models/digits/jobs", body)
	if a.code != http.StatusAccepted {
		return a, ""
	}
	id := decodeJob(t, a.body).ID
	w.accepted[id] = row
	return a, id
}

func (w *works) poll(t testing.TB, id string) told {
	t.Helper()
	return tell(t, http.MethodGet, w.api+"/v1/jobs/"+id, "")
}

// finish waits until everything that was accepted has succeeded, with the right outcome.
func (w *works) finish(t testing.TB) {
	t.Helper()
	for id, row := range w.accepted {
		eventually(t, func() error {
			a := tell(t, http.MethodGet, w.api+"/v1/jobs/"+id+"?wait=2s", "")
			if a.code != http.StatusOK {
				return fmt.Errorf("job %s, which was accepted: %d %s", id, a.code, a.body)
			}
			j := decodeJob(t, a.body)
			if j.Status != "succeeded" {
				return fmt.Errorf("job %s, which was accepted: %s", id, a.body)
			}
			return sameProbabilities(j.Outputs[0].Data, row.Probabilities)
		})
	}
	clear(w.accepted)
}

// hold stops the worker and submits jobs that so stay unfinished until release.
func (w *works) hold(t testing.TB) (ids []string) {
	t.Helper()
	w.signal(t, syscall.SIGSTOP)
	testserver.AwaitStopped(t, w.worker.cmd.Process.Pid)
	for range 3 {
		a, id := w.submit(t)
		if id == "" {
			t.Fatalf("a submit before the fault: %d %s", a.code, a.body)
		}
		ids = append(ids, id)
	}
	return ids
}

func (w *works) release(t testing.TB) { t.Helper(); w.signal(t, syscall.SIGCONT) }

func (w *works) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := w.worker.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// fault is one way in which a dependency fails, and what clients are told meanwhile.
type fault struct {
	name         string
	strike, heal func(w *works)
	submit       []int
	held         []int // a poll of a job that is not finished
	done         []int // a poll of one that was finished before
	predict      []int
	ready        []int
	passes       bool // by itself: what is told during it may be told after it
	// asleep keeps the worker stopped until shortly before the end. It holds messages by then, or is sent them, and without
	// NATS it computes these and writes their records, as it should.
	asleep bool
}

// dependencyFaults are those that one set of processes goes through, one after the other.
var dependencyFaults = []fault{
	{
		name:   "Redis is killed",
		strike: func(w *works) { w.redis.Kill() }, heal: func(w *works) { w.redis.Start() },
		submit: []int{202}, held: []int{503}, done: []int{503}, predict: []int{503}, ready: []int{503},
	},
	{
		name:   "Redis is stopped",
		strike: func(w *works) { w.redis.Pause() }, heal: func(w *works) { w.redis.Resume() },
		submit: []int{202}, held: []int{503}, done: []int{503}, predict: []int{503}, ready: []int{503},
	},
	{
		name:   "Redis is read-only",
		strike: func(w *works) { w.redis.Do("REPLICAOF", "127.0.0.1", "1") }, heal: func(w *works) { w.redis.Do("REPLICAOF", "NO", "ONE") },
		submit: []int{202}, held: []int{200}, done: []int{200}, predict: []int{503}, ready: []int{503},
	},
	{
		name:   "Redis is out of memory",
		strike: func(w *works) { w.redis.Do("CONFIG", "SET", "maxmemory", "1") }, heal: func(w *works) { w.redis.Do("CONFIG", "SET", "maxmemory", "0") },
		submit: []int{202}, held: []int{200}, done: []int{200}, predict: []int{503}, ready: []int{503},
	},
	{
		name:   "Redis is slow",
		strike: func(w *works) { w.redis.Do("CLIENT", "PAUSE", "8000", "ALL") }, heal: func(*works) {},
		submit: []int{202}, held: []int{503, 200}, done: []int{503, 200}, predict: []int{503, 200, 504}, ready: []int{503, 200}, passes: true,
	},
	{
		name:   "NATS is killed",
		strike: func(w *works) { w.nats.Kill() }, heal: func(w *works) { w.nats.Start() },
		submit: []int{503}, held: []int{503}, done: []int{200}, predict: []int{503}, ready: []int{503}, asleep: true,
	},
	{
		name:   "NATS is stopped",
		strike: func(w *works) { w.nats.Pause() }, heal: func(w *works) { w.nats.Resume() },
		submit: []int{503}, held: []int{503}, done: []int{200}, predict: []int{503}, ready: []int{503}, asleep: true,
	},
}

// Each dependency fails in each way. Every request is answered within its bound, with what clients can act on; the worker
// acknowledges nothing that is not recorded, and when it is over everything that was accepted is finished and right,
// with the same processes.
func TestDependencyFails(t *testing.T) {
	t.Parallel()
	w := newWorks(t, testserver.StartNATS(t, ""))
	for _, f := range dependencyFaults {
		t.Run(f.name, func(t *testing.T) { w.through(t, f) })
	}
}

// through takes the processes through one fault.
func (w *works) through(t *testing.T, f fault) {
	t.Helper()
	_, done := w.submit(t)
	w.finish(t)
	held := w.hold(t)
	before := metric(t, w.api, "sheaf_http_requests_total", "") // the API's metrics answer throughout
	f.strike(w)
	alive := []string{w.api}
	finished := 0.0
	if !f.asleep {
		w.release(t)
		alive = append(alive, w.ops)
		finished = metric(t, w.ops, "sheaf_worker_jobs_total", `outcome="succeeded"`)
	}
	expect := func(what string, a told, codes []int) {
		t.Helper()
		if !slices.Contains(codes, a.code) {
			t.Errorf("%s: %d, expected %v: %s", what, a.code, codes, a.body)
		}
	}
	// Readiness, and what a predict goes by, may be a second old.
	eventually(t, func() error {
		_, body := w.row()
		p, r := tell(t, http.MethodPost, w.api+"/v1/models/digits/predict", body), tell(t, http.MethodGet, w.api+"/readyz", "")
		if !slices.Contains(f.predict, p.code) || !slices.Contains(f.ready, r.code) {
			return fmt.Errorf("predict %d %s, expected %v; ready %d %s, expected %v", p.code, p.body, f.predict, r.code, r.body, f.ready)
		}
		return nil
	})
	for range 4 { // so often that circuits open in between
		a, _ := w.submit(t)
		expect("submit", a, f.submit)
		expect("a poll of an unfinished job", w.poll(t, held[0]), f.held)
		expect("a poll of a finished job", w.poll(t, done), f.done)
		_, body := w.row()
		expect("predict", tell(t, http.MethodPost, w.api+"/v1/models/digits/predict", body), f.predict)
		expect("/readyz", tell(t, http.MethodGet, w.api+"/readyz", ""), f.ready)
		for _, url := range alive {
			expect("/healthz", tell(t, http.MethodGet, url+"/healthz", ""), []int{http.StatusOK})
		}
	}
	expect("a poll that waits", tell(t, http.MethodGet, w.api+"/v1/jobs/"+held[1]+"?wait=1s", ""), f.held)
	expect("a cancel of a finished job", tell(t, http.MethodDelete, w.api+"/v1/jobs/"+done, ""), conflictFor(f.done))
	if f.asleep {
		w.release(t)
	} else if now := metric(t, w.ops, "sheaf_worker_jobs_total", `outcome="succeeded"`); !f.passes && now != finished {
		t.Errorf("the worker has finished %v jobs although it could not record any", now-finished)
	}
	if metric(t, w.api, "sheaf_http_requests_total", "") <= before {
		t.Error("the API's metrics do not go on")
	}
	f.heal(w)
	w.awaitReady(t)
	w.finish(t)
	// And all works as before.
	eventually(t, func() error {
		_, body := w.row()
		if a := tell(t, http.MethodPost, w.api+"/v1/models/digits/predict", body); a.code != http.StatusOK {
			return fmt.Errorf("a predict after the fault: %d %s", a.code, a.body)
		}
		return nil
	})
}

// conflictFor is what a cancel answers where a poll gives a finished job.
func conflictFor(codes []int) []int {
	codes = slices.Clone(codes)
	for i := range codes {
		if codes[i] == http.StatusOK {
			codes[i] = http.StatusConflict
		}
	}
	return codes
}

// The disk of NATS is full. nats-server leaves publishes without an answer then, and takes none again until there is room
// and it is started anew; what it has stored it goes on to deliver. Where no disk can be made, because this user may not mount one, the streams are full instead.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	const size = 16 << 20
	disk := testserver.SmallDisk(t, size)
	flags := []string{"--interactive-max-bytes", "-1", "--bulk-max-bytes", "-1"}
	var nats *testserver.NATSServer
	if disk == nil {
		t.Log("no disk of its own can be mounted: the stream is full in its place")
		flags = []string{"--interactive-max-bytes", strconv.Itoa(size / 4)}
		nats = testserver.StartNATS(t, "")
	} else {
		// The store is allowed more than the disk has, for what the streams reserve.
		nats = testserver.StartNATS(t, fmt.Sprintf("jetstream { store_dir: %q, sync_interval: \"1s\", max_file_store: 16GB }", disk.Dir))
	}
	w := newWorks(t, nats, flags...)
	_, done := w.submit(t)
	w.finish(t)
	held := w.hold(t)
	if disk != nil {
		disk.Fill()
	}
	refused := 0
	for i := 0; refused < 5; i++ {
		a, _ := w.submit(t)
		switch a.code {
		case http.StatusServiceUnavailable:
			refused++
		case http.StatusAccepted: // what was reserved before is used up first
		default:
			t.Fatalf("submit: %d %s", a.code, a.body)
		}
		if i > 100_000 {
			t.Fatal("the disk does not get full")
		}
	}
	if a := w.poll(t, done); a.code != http.StatusOK {
		t.Errorf("a poll of a finished job: %d %s", a.code, a.body)
	}
	if a := w.poll(t, held[0]); a.code != http.StatusOK && a.code != http.StatusServiceUnavailable {
		t.Errorf("a poll of an unfinished job: %d %s", a.code, a.body)
	}
	if a := tell(t, http.MethodGet, w.api+"/healthz", ""); a.code != http.StatusOK {
		t.Errorf("/healthz: %d", a.code)
	}
	w.release(t)
	if disk != nil {
		disk.Free()
		w.nats.Stop()
		w.nats.Start()
	}
	w.awaitReady(t)
	w.finish(t)
	eventually(t, func() error {
		if a, id := w.submit(t); id == "" {
			return errors.New(string(a.body))
		}
		return nil
	})
	w.finish(t)
}
