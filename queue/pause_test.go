package queue_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

func laneState(t testing.TB, q *queue.Queue, lane job.Lane) queue.LaneState {
	t.Helper()
	all, err := q.Lanes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all[lane]
}

// modelState is how a model stands; zero if it is not there.
func modelState(t testing.TB, q *queue.Queue, lane job.Lane, model string) queue.ModelState {
	t.Helper()
	for _, m := range laneState(t, q, lane).Models {
		if m.Model == model {
			return m
		}
	}
	return queue.ModelState{}
}

func pause(t testing.TB, q *queue.Queue, lane job.Lane, model string, until time.Time) {
	t.Helper()
	if err := q.Pause(t.Context(), lane, model, until); err != nil {
		t.Fatal(err)
	}
}

func resume(t testing.TB, q *queue.Queue, lane job.Lane, model string) {
	t.Helper()
	if err := q.Resume(t.Context(), lane, model); err != nil {
		t.Fatal(err)
	}
}

func TestLanes(t *testing.T) {
	q := ready(t, nil)
	s := source(t, q, job.Bulk, "digits.v1")
	bulk := func(tenant string) func(*job.Job) {
		return func(j *job.Job) { j.Lane, j.Model, j.Tenant = job.Bulk, "digits.v1", tenant }
	}
	start := time.Now().Add(-time.Second)
	for range 3 {
		publish(t, q, newJob(t, bulk(job.DefaultTenant)))
	}
	publish(t, q, newJob(t, bulk("acme")))
	publish(t, q, newJob(t, func(j *job.Job) { j.Lane, j.Model = job.Bulk, "new" }))
	fetch(t, s, 1)
	eventually(t, "the server has counted", func() bool {
		l := laneState(t, q, job.Bulk)
		return l.Messages == 5 && len(l.Models) == 2 && l.Models[0].Running == 1
	})
	l := laneState(t, q, job.Bulk)
	if m := l.Models[0]; m.Model != "digits.v1" || m.Waiting != 3 || m.Unserved || m.Oldest.Before(start) || m.Redelivered != 0 || !m.PausedUntil.IsZero() {
		t.Errorf("digits.v1: %+v", m)
	}
	if m := l.Models[1]; m.Model != "new" || m.Waiting != 1 || !m.Unserved || m.Oldest.Before(start) {
		t.Errorf("new: %+v", m)
	}
	cfg := queue.DefaultConfig().Bulk
	if l.Bytes == 0 || l.MaxMessages != cfg.MaxMsgs || l.MaxBytes != cfg.MaxBytes || l.MaxMessagesPerTenant != cfg.MaxMsgsPerSubject {
		t.Errorf("the lane: %+v", l)
	}
	if l := laneState(t, q, job.Interactive); l.Messages != 0 || len(l.Models) != 0 {
		t.Errorf("the other lane: %+v", l)
	}
}

// A pause stays over a restart of nats-server and of the workers, which prepare their consumers anew, and holds for a
// model that comes later.
func TestAPauseSurvivesRestarts(t *testing.T) {
	server := testserver.StartNATS(t, "")
	cfg := testConfig(server.URL())
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	bulk := func(model string) func(*job.Job) { return func(j *job.Job) { j.Lane, j.Model = job.Bulk, model } }
	s := source(t, q, job.Bulk, "digits")
	pause(t, q, job.Bulk, "", time.Time{})
	publish(t, q, newJob(t, bulk("digits")))
	publish(t, q, newJob(t, bulk("later")))
	publish(t, q, newJob(t, nil))
	fetchNone(t, s)
	fetch(t, source(t, q, job.Interactive, "digits"), 1) // the other lane goes on

	server.Stop()
	server.Start()
	cfg.Bulk.AckWait = 2 * time.Minute // so that the consumers are updated
	cfg.TenantShares *= 2
	q = connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, model := range []string{"digits", "later"} {
		for _, s := range sources(t, q, job.Bulk, model) {
			fetchNone(t, s)
		}
		if m := modelState(t, q, job.Bulk, model); !m.PausedUntil.Equal(queue.PausedForever) || m.Waiting != 1 {
			t.Errorf("model %s: %+v", model, m)
		}
	}
	if l := laneState(t, q, job.Bulk); !l.PausedUntil.Equal(queue.PausedForever) {
		t.Errorf("the lane is paused until %v", l.PausedUntil)
	}
	resume(t, q, job.Bulk, "")
	for _, model := range []string{"digits", "later", "last"} {
		if model == "last" {
			publish(t, q, newJob(t, bulk(model)))
		}
		all := sources(t, q, job.Bulk, model) // it lies in the share that it had before there were more
		eventually(t, "the message of model "+model+" is delivered", func() bool {
			came := 0
			for _, s := range all {
				n, err := s.Fetch(t.Context(), 1, 0, func(*queue.Delivery) {})
				if err != nil {
					t.Fatal(err)
				}
				came += n
			}
			return came == 1
		})
	}
	if l := laneState(t, q, job.Bulk); !l.PausedUntil.IsZero() {
		t.Errorf("the lane is paused until %v", l.PausedUntil)
	}
}

func TestPausingOneModel(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(time.Hour).UTC().Round(0)
	source(t, q, job.Bulk, "a")
	source(t, q, job.Bulk, "b")
	pause(t, q, job.Bulk, "a", until)
	pause(t, q, job.Bulk, "c.later", until)
	source(t, q, job.Bulk, "c.later")
	check := func(what string, lane time.Time, want map[string]time.Time) {
		t.Helper()
		if l := laneState(t, q, job.Bulk); !l.PausedUntil.Equal(lane) {
			t.Errorf("%s: the lane is paused until %v, expected %v", what, l.PausedUntil, lane)
		}
		for model, at := range want {
			if m := modelState(t, q, job.Bulk, model); !m.PausedUntil.Equal(at) {
				t.Errorf("%s: model %s is paused until %v, expected %v", what, model, m.PausedUntil, at)
			}
		}
	}
	none := time.Time{}
	check("two models", none, map[string]time.Time{"a": until, "b": none, "c.later": until})
	resume(t, q, job.Bulk, "a")
	check("one is resumed", none, map[string]time.Time{"a": none, "b": none, "c.later": until})
	pause(t, q, job.Bulk, "", until.Add(time.Hour))
	resume(t, q, job.Bulk, "b")
	source(t, q, job.Bulk, "b") // a worker starts
	check("all but one", until.Add(time.Hour), map[string]time.Time{"a": until.Add(time.Hour), "b": none, "c.later": until.Add(time.Hour)})
	resume(t, q, job.Bulk, "")
	check("none", none, map[string]time.Time{"a": none, "b": none, "c.later": none})
	_, js := operator(t, cfg.URL)
	for key := range streamConfig(t, js, "bulk").Metadata {
		if strings.HasPrefix(key, "sheaf") {
			t.Errorf("the stream's metadata still has %s", key)
		}
	}
	if err := q.Pause(t.Context(), job.Bulk, "", time.Now().Add(-time.Second)); err == nil {
		t.Error("a pause until a time that is over was taken")
	}
	if err := q.Pause(t.Context(), job.Bulk, "no model", none); err == nil {
		t.Error("a pause of a model that is none was taken")
	}
}

// A pause ends by itself, and the fetch that waits has the messages then.
func TestAPauseEnds(t *testing.T) {
	q := ready(t, nil)
	s := source(t, q, job.Interactive, "digits")
	publish(t, q, newJob(t, nil))
	pause(t, q, job.Interactive, "digits", time.Now().Add(700*time.Millisecond))
	// A fetch of a paused consumer waits as of one that is empty: nobody spins.
	start := time.Now()
	if n, err := s.Fetch(t.Context(), 1, 200*time.Millisecond, func(*queue.Delivery) {}); n != 0 || err != nil || time.Since(start) < 190*time.Millisecond {
		t.Errorf("a fetch while it is paused: %d messages, error %v, after %v", n, err, time.Since(start))
	}
	fetch(t, s, 1)
}

// A pause or a resume that was cut short shows, and doing it again mends it, though the stream notes the right thing
// already; so does a worker that starts.
func TestWhatWasCutShortIsMended(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	source(t, q, job.Bulk, "a")
	_, js := operator(t, cfg.URL)
	again := map[string]func(){
		"a worker starts":  func() { source(t, q, job.Bulk, "a") },
		"it is done again": nil,
	}
	for name, mend := range again {
		for _, paused := range []bool{true, false} {
			repeat, left, want := func() { resume(t, q, job.Bulk, "") }, queue.PausedForever, time.Time{}
			if paused {
				repeat, left, want = func() { pause(t, q, job.Bulk, "", time.Time{}) }, time.Time{}, queue.PausedForever
			}
			repeat()
			// One share is left as it was.
			if _, err := js.PauseConsumer(t.Context(), "bulk", "a~3", left); err != nil {
				t.Fatal(err)
			}
			if m := modelState(t, q, job.Bulk, "a"); !m.Partly || !m.PausedUntil.Equal(queue.PausedForever) {
				t.Errorf("cut short, paused %v: %+v", paused, m)
			}
			if mend == nil {
				repeat()
			} else {
				mend()
			}
			if m := modelState(t, q, job.Bulk, "a"); m.Partly || !m.PausedUntil.Equal(want) {
				t.Errorf("%s: %+v; want it paused until %v", name, m, want)
			}
		}
	}
}
