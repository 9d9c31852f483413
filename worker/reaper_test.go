package worker_test

import (
	"context"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
	"github.com/sheafml/sheaf/worker"
)

// impatient makes JetStream give a message up after two deliveries.
func impatient(c *queue.Config) {
	c.Interactive.MaxDeliver, c.Interactive.AckWait = 2, 200*time.Millisecond
}

// strand publishes the jobs in one message and lets its deliveries lapse until JetStream gives it up: what workers leave
// that die over a message, each before it could decide.
func strand(t testing.TB, q *queue.Queue, jobs []*job.Job, publish func()) {
	t.Helper()
	model := jobs[0].Model
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := q.EnsureConsumer(t.Context(), job.Interactive, model); err != nil {
		t.Fatal(err)
	}
	sources, err := q.Sources(t.Context(), job.Interactive, model)
	if err != nil {
		t.Fatal(err)
	}
	publish()
	deliveries := 0
	eventually(t, "JetStream gives the message up", func() bool {
		for _, s := range sources {
			if _, err := s.Fetch(t.Context(), 1, 0, func(*queue.Delivery) { deliveries++ }); err != nil {
				t.Fatal(err)
			}
		}
		_, running, err := q.Backlog(t.Context(), job.Interactive, model)
		return err == nil && deliveries == 2 && running == 0
	})
}

// laneMessages is how many messages the interactive lane has.
func laneMessages(t testing.TB, q *queue.Queue) uint64 {
	t.Helper()
	lanes, err := q.Lanes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return lanes[job.Interactive].Messages
}

func deadLetters(t testing.TB, q *queue.Queue) []*queue.DeadLetter {
	t.Helper()
	var list []*queue.DeadLetter
	if err := q.DeadLetters(t.Context(), queue.DeadFilter{}, func(l *queue.DeadLetter) error { list = append(list, l); return nil }); err != nil {
		t.Fatal(err)
	}
	return list
}

// hasty sweeps all the time.
func hasty() worker.Config {
	cfg := worker.DefaultConfig()
	cfg.SweepInterval = 50 * time.Millisecond
	return cfg
}

// The sweep ends each job of a message that nobody was there to hear of, and leaves alone the one that has its record.
func TestSweepEndsWhatJetStreamGaveUp(t *testing.T) {
	q := connect(t, testserver.NATS(t), impatient)
	results := openMemory(t)
	jobs := numbers(t, 3, job.Interactive, oneRow)
	strand(t, q, jobs, func() { publish(t, q, jobs) })
	done := job.AppendRecord(nil, &job.Result{ID: jobs[1].ID, State: job.Succeeded, FinishedAt: time.Now()})
	if _, err := results.Finish(t.Context(), []resultstore.Entry{{ID: jobs[1].ID, Record: done}}); err != nil {
		t.Fatal(err)
	}
	run(t, hasty(), q, results, doublingModel(nil))
	for _, k := range []int{0, 2} {
		got := await(t, results, jobs[k].ID)
		if got.State != job.Failed || got.Error == nil || got.Error.Code != job.CodeExhausted || got.Tenant != job.DefaultTenant || got.Model != "double" {
			t.Errorf("job %d: %+v, %v", k, got, got.Error)
		}
	}
	if got := await(t, results, jobs[1].ID); got.State != job.Succeeded {
		t.Errorf("the job that had its record is %s now", got.State)
	}
	eventually(t, "the message is gone", func() bool { return laneMessages(t, q) == 0 })
	letters := deadLetters(t, q)
	if len(letters) != 1 || !slices.Equal(letters[0].Jobs, []job.ID{jobs[0].ID, jobs[2].ID}) || letters[0].Code != job.CodeExhausted {
		t.Errorf("the dead letters: %+v", letters)
	}
}

// The advisory does it at once, also in a worker that does not serve the model.
func TestAdvisoryEndsWhatJetStreamGivesUp(t *testing.T) {
	url := testserver.NATS(t)
	q := connect(t, url, impatient)
	results := openRedis(t, testserver.Redis(t))
	cfg := worker.DefaultConfig()
	cfg.SweepInterval = time.Hour
	run(t, cfg, connect(t, url, nil), results, doublingModel(nil))
	jobs := numbers(t, 2, job.Interactive, oneRow)
	for _, j := range jobs {
		j.Model = "other"
	}
	strand(t, q, jobs, func() { publish(t, q, jobs) })
	for _, j := range jobs {
		got := await(t, results, j.ID)
		if got.Error == nil || got.Error.Code != job.CodeExhausted || got.Attempts != 2 {
			t.Errorf("%+v, %v", got, got.Error)
		}
	}
	eventually(t, "the message is gone", func() bool { return laneMessages(t, q) == 0 })
	if letters := deadLetters(t, q); len(letters) != 1 || letters[0].Attempts != 2 {
		t.Errorf("the dead letters: %+v", letters)
	}
}

// What cannot be read has a dead letter, and nobody whose record it could be.
func TestSweepBuriesWhatCannotBeRead(t *testing.T) {
	url := testserver.NATS(t)
	q := connect(t, url, impatient)
	jobs := numbers(t, 1, job.Interactive, oneRow)
	strand(t, q, jobs, func() {
		testserver.Publish(t, url, "sheaf.interactive.double.default", map[string]string{"Content-Type": "application/json"}, []byte("{"))
	})
	run(t, hasty(), q, openMemory(t), doublingModel(nil))
	eventually(t, "the message is gone", func() bool { return laneMessages(t, q) == 0 })
	if letters := deadLetters(t, q); len(letters) != 1 || letters[0].Size != 1 {
		t.Errorf("the dead letters: %+v", letters)
	}
}

// Whatever step a reaper dies after, the next one ends the job once: one record, one dead letter, no message.
func TestReaperThatDies(t *testing.T) {
	for _, point := range []failpoint.Point{failpoint.DeadCopied, failpoint.DeadRecorded, failpoint.DeadSettled} {
		t.Run(string(point), func(t *testing.T) {
			q := connect(t, testserver.NATS(t), impatient)
			results := openMemory(t)
			jobs := numbers(t, 2, job.Interactive, oneRow)
			strand(t, q, jobs, func() { publish(t, q, jobs) })
			var died atomic.Bool
			mortal, err := worker.New(hasty(), worker.Deps{Queue: q, Results: results, Reach: func(p failpoint.Point) {
				if p == point {
					died.Store(true)
					runtime.Goexit() // its goroutine ends here
				}
			}}, doublingModel(nil))
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
			ended := make(chan error, 1)
			go func() { ended <- mortal.Run(ctx) }()
			eventually(t, "the first reaper dies", died.Load)
			stop()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			run(t, hasty(), q, results, doublingModel(nil))
			for _, j := range jobs {
				if got := await(t, results, j.ID); got.State != job.Failed {
					t.Errorf("job %s is %s", j.ID, got.State)
				}
			}
			eventually(t, "the message is gone", func() bool { return laneMessages(t, q) == 0 })
			if letters := deadLetters(t, q); len(letters) != 1 || len(letters[0].Jobs) != 2 {
				t.Errorf("the dead letters: %+v", letters)
			}
		})
	}
}

// awayStore is a store that is away while broken, and counts who asked.
type awayStore struct {
	worker.Results
	broken atomic.Bool
	asked  atomic.Int64
}

func (s *awayStore) Get(ctx context.Context, ids ...job.ID) ([][]byte, error) {
	if s.broken.Load() {
		s.asked.Add(1)
		return nil, resultstore.ErrUnavailable
	}
	return s.Results.Get(ctx, ids...)
}

// A worker holds a message all the time, so no sweep sees the one that was given up beside it: when the store is back,
// the job ends because the advisory was kept.
func TestReaperEndsAJobOfABusyConsumerAfterAnOutage(t *testing.T) {
	url := testserver.NATS(t)
	slower := func(c *queue.Config) { c.Interactive.MaxDeliver, c.Interactive.AckWait = 2, time.Second }
	q := connect(t, url, slower)
	store := &awayStore{Results: openMemory(t)}
	store.broken.Store(true)
	run(t, hasty(), connect(t, url, slower), store, doublingModel(nil))
	jobs := numbers(t, 2, job.Interactive, oneRow)
	for _, j := range jobs {
		j.Model = "other"
	}
	if err := q.EnsureConsumer(t.Context(), job.Interactive, "other"); err != nil {
		t.Fatal(err)
	}
	sources, err := q.Sources(t.Context(), job.Interactive, "other")
	if err != nil {
		t.Fatal(err)
	}
	var held *queue.Delivery
	fetch := func(wait time.Duration, fn func(*queue.Delivery)) {
		for _, s := range sources {
			if _, err := s.Fetch(t.Context(), 1, wait, fn); err != nil {
				t.Fatal(err)
			}
		}
	}
	publish(t, q, jobs[:1])
	eventually(t, "a message is held", func() bool {
		fetch(0, func(d *queue.Delivery) { held = d })
		return held != nil
	})
	publish(t, q, jobs[1:])
	hold := func() {
		if err := held.Extend(); err != nil {
			t.Fatalf("the lease could not be kept: %v", err)
		}
	}
	eventually(t, "the reaper asks for the other one's record", func() bool {
		hold()
		fetch(0, func(d *queue.Delivery) {
			if d.Seq == held.Seq {
				t.Error("the message that is held came again")
			}
		})
		return store.asked.Load() > 0
	})
	store.broken.Store(false)
	eventually(t, "the other one is gone", func() bool {
		hold()
		return laneMessages(t, q) == 1
	})
	if got := await(t, store, jobs[1].ID); got.Error == nil || got.Error.Code != job.CodeExhausted {
		t.Errorf("the job: %+v, %v", got, got.Error)
	}
	if records, err := store.Get(t.Context(), jobs[0].ID); err != nil || records[0] != nil {
		t.Errorf("the job that is held has a record: %q, %v", records, err)
	}
}
