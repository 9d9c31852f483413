package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
)

// The queue is full, for one tenant or for all: submits are refused with when to come back, polls and readiness go on,
// and what was accepted finishes.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, flag string
		code       int
		problem    string
	}{
		{"the tenant's share", "--interactive-max-msgs-per-tenant", http.StatusTooManyRequests, "tenant-full"},
		{"the whole lane", "--interactive-max-msgs", http.StatusServiceUnavailable, "full"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorks(t, testserver.StartNATS(t, ""), c.flag, "8")
			held := w.hold(t)
			for range 8 {
				w.submit(t)
			}
			if len(w.accepted) > 8+3 {
				t.Errorf("%d jobs were accepted, one by one, where 8 messages may wait", len(w.accepted))
			}
			_, body := w.row()
			for _, path := range []string{"jobs", "predict"} {
				a := tell(t, http.MethodPost, w.api+"/v1/models/digits/"+path, body)
				if a.code != c.code || !strings.Contains(string(a.body), "/problems/"+c.problem) {
					t.Errorf("%s: %d %s, expected %d %s", path, a.code, a.body, c.code, c.problem)
				}
			}
			if a := w.poll(t, held[0]); a.code != http.StatusOK {
				t.Errorf("a poll: %d %s", a.code, a.body)
			}
			if a := tell(t, http.MethodGet, w.api+"/readyz", ""); a.code != http.StatusOK {
				t.Errorf("a full queue is no fault of this process, yet it is not ready: %s", a.body)
			}
			w.release(t)
			w.finish(t)
			eventually(t, func() error {
				if a, id := w.submit(t); id == "" {
					return fmt.Errorf("a submit when there is room again: %d %s", a.code, a.body)
				}
				return nil
			})
			w.finish(t)
		})
	}
}

// More clients than the shim has places for: some are refused at once, with when to come back; the others' jobs finish.
func TestMoreSubmitsThanPlaces(t *testing.T) {
	t.Parallel()
	w := newWorks(t, testserver.StartNATS(t, ""))
	small := start(t, "serve", "--addr", "127.0.0.1:0", "--nats-url", w.nats.URL(), "--redis-url", "redis://"+w.redis.Addr, "--max-submits", "2")
	w.api = small.find(`HTTP API is up.* url=(\S+)`)
	w.awaitReady(t)
	w.nats.Pause() // so that submits stay in hand
	type outcome struct {
		told
		row heldoutRow
	}
	outcomes := make(chan outcome, 10)
	var clients sync.WaitGroup
	for range cap(outcomes) {
		row, body := w.row()
		clients.Go(func() {
			outcomes <- outcome{tell(t, http.MethodPost, w.api+"/v1/models/digits/jobs", body), row}
		})
	}
	busy := 0
	for range cap(outcomes) - 2 {
		o := <-outcomes
		if o.code != http.StatusServiceUnavailable || !strings.Contains(string(o.body), "/problems/busy") {
			t.Errorf("expected to be told that the server is busy: %d %s", o.code, o.body)
		}
		busy++
	}
	w.nats.Resume()
	clients.Wait()
	close(outcomes)
	for o := range outcomes {
		if o.code != http.StatusAccepted {
			t.Errorf("one that had a place: %d %s", o.code, o.body)
			continue
		}
		w.accepted[decodeJob(t, o.body).ID] = o.row
	}
	w.finish(t)
	if n := metric(t, w.api, "sheaf_gateway_submits_total", `outcome="busy"`); int(n) != busy {
		t.Errorf("the metrics count %v busy answers, there were %d", n, busy)
	}
}

// While a backlog is worked off, a job whose deadline would pass before its turn is refused, with when to come back. A
// job that has the time is taken, and all that was taken finishes.
func TestDeadlineOutOfReach(t *testing.T) {
	t.Parallel()
	w := newWorks(t, testserver.StartNATS(t, ""))
	start(t, "worker", "--models", hazardModels, "--nats-url", w.nats.URL(), "--redis-url", "redis://"+w.redis.Addr)
	url, work, jobs := w.api+"/v1/models/slow/", 20.0, 0
	// Its own parameter keeps each job out of the others' batches.
	body := func() string {
		jobs++
		return fmt.Sprintf(`{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[%g,1]}],"parameters":{"n":%d}}`, work, jobs)
	}
	var took float64
	eventually(t, func() error {
		a := tell(t, http.MethodPost, url+"predict", body())
		took = timingOf(t, a.body)
		if a.code != http.StatusOK || took <= 0 {
			return fmt.Errorf("a job alone: %d %s", a.code, a.body)
		}
		return nil
	})
	work *= 20 / took // a job takes about 20 ms

	deadline := func(d time.Duration) told {
		header := http.Header{"Sheaf-Deadline": {time.Now().Add(d).UTC().Format(time.RFC3339Nano)}}
		return tell(t, http.MethodPost, url+"jobs", body(), header)
	}
	var open []string // without a deadline, or with one that is far away
	submit := func(n int) {
		for range n {
			a := tell(t, http.MethodPost, url+"jobs", body())
			if a.code != http.StatusAccepted {
				t.Fatalf("a job without a deadline: %d %s", a.code, a.body)
			}
			open = append(open, decodeJob(t, a.body).ID)
		}
	}
	submit(50)
	eventually(t, func() error {
		submit(10) // keeps the backlog up until its rate is known
		a := deadline(100 * time.Millisecond)
		if a.code == http.StatusAccepted {
			return fmt.Errorf("a job that has a tenth of a second is accepted behind %d others", len(open))
		}
		if a.code != http.StatusServiceUnavailable || !strings.Contains(string(a.body), "/problems/overloaded") {
			t.Fatalf("a job that has a tenth of a second: %d %s", a.code, a.body)
		}
		return nil
	})
	a := tell(t, http.MethodGet, w.api+"/v1/jobs/"+open[len(open)-1], "")
	if !strings.Contains(string(a.body), `"eta_ms":`) && strings.Contains(string(a.body), `"queued"`) {
		t.Errorf("the rate is known, but not when this job will be finished: %s", a.body)
	}
	if a := deadline(time.Hour); a.code != http.StatusAccepted {
		t.Errorf("a job that has an hour: %d %s", a.code, a.body)
	} else {
		open = append(open, decodeJob(t, a.body).ID)
	}
	if n := metric(t, w.api, "sheaf_gateway_submits_total", `outcome="too_late"`); n != 1 {
		t.Errorf("the metrics count %v jobs that were too late, there was one", n)
	}
	for _, id := range open {
		eventually(t, func() error {
			if a := tell(t, http.MethodGet, w.api+"/v1/jobs/"+id+"?wait=5s", ""); a.code != http.StatusOK || decodeJob(t, a.body).Status != "succeeded" {
				return fmt.Errorf("job %s: %d %s", id, a.code, a.body)
			}
			return nil
		})
	}
}

// timingOf reads how long the run of a job took, in milliseconds; 0 if there was none.
func timingOf(t testing.TB, body []byte) float64 {
	t.Helper()
	var doc struct {
		Timings struct {
			Infer float64 `json:"infer_ms"`
		} `json:"timings"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return doc.Timings.Infer
}

// Faults of the settings of admission are named by their flags.
func TestAdmissionSettings(t *testing.T) {
	t.Parallel()
	s := testserver.StartNATS(t, "")
	redis := "redis://" + testserver.Redis(t)
	for flag, value := range map[string]string{
		"--max-submits": "0", "--deadline-margin": "0.5", "--retry-after": "0s", "--retry-after-max": "1ms",
	} {
		_, stderr, code := runToEnd(t, "", "serve", "--addr", "127.0.0.1:0", "--nats-url", s.URL(), "--redis-url", redis, flag, value)
		if code != exitUsage || !strings.Contains(stderr, flag) {
			t.Errorf("%s %s: exit code %d, %s; expected 2 and the flag's name", flag, value, code, stderr)
		}
	}
}
