package worker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

// fakeStrandings has messages that JetStream has given up, whose consumers are never idle: only advisories find them.
type fakeStrandings struct {
	mu       sync.Mutex
	deaf     int // calls of OnGivenUp that fail
	hear     func(queue.GivenUp)
	messages map[uint64]*queue.Stranded
	broken   map[uint64]error // what StrandedAt says of them
	asked    []uint64
	buried   int
	slow     time.Duration // that StrandedAt takes
}

func (f *fakeStrandings) OnGivenUp(fn func(queue.GivenUp)) (func(), error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.deaf > 0 {
		f.deaf--
		return nil, queue.ErrUnavailable
	}
	f.hear = fn
	return func() {}, nil
}

func (f *fakeStrandings) StrandedAt(ctx context.Context, g queue.GivenUp) (*queue.Stranded, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, g.Seq)
	if err := f.broken[g.Seq]; err != nil {
		return nil, err
	}
	if f.slow > 0 {
		select {
		case <-time.After(f.slow):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if m, ok := f.messages[g.Seq]; ok {
		return m, nil
	}
	return nil, job.ErrNotFound
}

func (f *fakeStrandings) Sweep(context.Context, *queue.Floors, int, func(*queue.Stranded) error) (bool, error) {
	return false, nil
}

func (f *fakeStrandings) BuryStranded(context.Context, *queue.Stranded, []job.ID, string, ...string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.buried++
	return nil
}

func (f *fakeStrandings) RemoveStranded(_ context.Context, s *queue.Stranded) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.messages, s.Seq)
	return nil
}

func (f *fakeStrandings) QueueWebhooks(context.Context, []queue.Webhook) []error { return nil }

func (f *fakeStrandings) NotifyDone([]job.ID) error                     { return nil }
func (f *fakeStrandings) Reply(string, map[string]string, []byte) error { return nil }

func (f *fakeStrandings) set(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
}

// left returns the messages that are still there.
func (f *fakeStrandings) left() (seqs []uint64) {
	f.set(func() {
		for seq := range f.messages {
			seqs = append(seqs, seq)
		}
	})
	slices.Sort(seqs)
	return seqs
}

// strand makes a message of each job; the first has sequence 1.
func (f *fakeStrandings) strand(jobs ...job.Job) {
	f.messages = make(map[uint64]*queue.Stranded)
	for i := range jobs {
		header := map[string]string{job.HeaderContentType: job.ContentTypeSheaf}
		f.messages[uint64(i+1)] = &queue.Stranded{Seq: uint64(i + 1), Deliveries: 2, Envelope: job.Envelope{
			Model: "double", Tenant: "default", Published: time.Unix(1, 0), Body: sheafOf(jobs[i]),
			Header: func(k string) string { return header[k] },
		}}
	}
}

// tell sends the advisories of so many messages and waits until nothing can be done.
func (f *fakeStrandings) tell(n int) {
	for i := range n {
		f.hear(queue.GivenUp{Seq: uint64(i + 1), Deliveries: 2})
	}
	synctest.Wait()
}

func newReaper(q strandings, results Results) *reaper {
	n := uint64(0)
	return &reaper{
		queue: q, results: results, limits: job.DefaultLimits(), ttl: func(string) time.Duration { return 0 },
		log: slog.New(slog.DiscardHandler), every: time.Minute, token: func() uint64 { n++; return n },
	}
}

// inReaper runs a reaper in a bubble.
func inReaper(t *testing.T, q *fakeStrandings, results Results, fn func(), change ...func(*reaper)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newReaper(q, results)
		for _, c := range change {
			c(r)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var done sync.WaitGroup
		done.Go(func() { r.run(ctx) })
		synctest.Wait()
		fn()
		cancel()
		done.Wait()
	})
}

// after lets so much time go by.
func after(d time.Duration) {
	takes(d)
	synctest.Wait()
}

// An advisory comes once, and no sweep sees the message while its consumer is never idle.
func TestReaperKeepsAnAdvisoryThatFails(t *testing.T) {
	q, store, j := &fakeStrandings{}, newFakeStore(), doubleJob(t, 1)
	q.strand(j)
	store.down = resultstore.ErrUnavailable
	inReaper(t, q, store, func() {
		q.tell(1)
		after(time.Hour)
		q.set(func() {
			if n := len(q.asked); n < 30 || n > 300 {
				t.Errorf("asked %d times within an hour of outage", n)
			}
		})
		store.set(func() { store.down = nil })
		after(2 * time.Minute)
		if got := store.result(t, j.ID); got == nil || got.State != job.Failed {
			t.Errorf("the job after the outage: %+v", got)
		}
		if left := q.left(); left != nil {
			t.Errorf("messages %v are left", left)
		}
	})
}

// A short outage costs seconds, not a sweep's interval.
func TestReaperTriesAnAdvisoryAgainSoon(t *testing.T) {
	q, store, j := &fakeStrandings{}, newFakeStore(), doubleJob(t, 1)
	q.strand(j)
	store.down = resultstore.ErrUnavailable
	inReaper(t, q, store, func() {
		q.tell(1)
		store.set(func() { store.down = nil })
		after(2 * sweepAgain)
		if store.result(t, j.ID) == nil {
			t.Error("the job has no record")
		}
	}, func(r *reaper) { r.every = 24 * time.Hour })
}

// One look that hangs is not the end of the advisory.
func TestReaperKeepsAnAdvisoryThatTakesTooLong(t *testing.T) {
	q, store, j := &fakeStrandings{slow: time.Hour}, newFakeStore(), doubleJob(t, 1)
	q.strand(j)
	inReaper(t, q, store, func() {
		q.tell(1)
		after(reapTime)
		q.set(func() { q.slow = 0 })
		after(2 * time.Minute)
		if store.result(t, j.ID) == nil {
			t.Error("the job has no record")
		}
	})
}

// What cannot be settled keeps nothing else waiting, whether it is refused or its part of the store is out of reach.
func TestReaperPassesOverWhatCannotBeSettled(t *testing.T) {
	for name, fault := range map[string]error{"refused": errors.New("refused"), "out of reach": resultstore.ErrUnavailable} {
		t.Run(name, func(t *testing.T) {
			q, store := &fakeStrandings{broken: map[uint64]error{1: fault, 2: fault}}, newFakeStore()
			q.strand(doubleJob(t, 1), doubleJob(t, 2), doubleJob(t, 3), doubleJob(t, 4))
			inReaper(t, q, store, func() {
				q.tell(4)
				after(10 * time.Minute)
				if left := q.left(); !slices.Equal(left, []uint64{1, 2}) {
					t.Errorf("messages %v are left", left)
				}
				q.set(func() { q.broken = nil })
				after(10 * time.Minute)
				if left := q.left(); left != nil {
					t.Errorf("messages %v are left when nothing fails any more", left)
				}
			})
		})
	}
}

// While a store is away the advisories of many messages are kept, once each, and those beyond the bound are counted.
func TestReaperKeepsSoManyAdvisories(t *testing.T) {
	q, store := &fakeStrandings{}, newFakeStore()
	jobs := make([]job.Job, advisoriesKept+7)
	for i := range jobs {
		jobs[i] = doubleJob(t, 1)
	}
	q.strand(jobs...)
	store.down = resultstore.ErrUnavailable
	var log bytes.Buffer
	inReaper(t, q, store, func() {
		q.tell(advisoriesKept)
		q.tell(len(jobs))
		after(5 * time.Minute)
		store.set(func() { store.down = nil })
		after(5 * time.Minute)
		left := q.left()
		if len(left) != 7 || left[0] != advisoriesKept+1 {
			t.Errorf("messages %v are left", left)
		}
	}, func(r *reaper) { r.log = slog.New(slog.NewTextHandler(&log, nil)) })
	if n := strings.Count(log.String(), "dropped=7"); n != 1 {
		t.Errorf("the log says %d times that 7 were dropped", n)
	}
}

// NATS may be away when the reaper starts.
func TestReaperListensInTheEnd(t *testing.T) {
	q, store, j := &fakeStrandings{deaf: 2}, newFakeStore(), doubleJob(t, 1)
	q.strand(j)
	inReaper(t, q, store, func() {
		after(10 * time.Minute)
		if q.hear == nil {
			t.Error("nobody listens")
			return
		}
		q.tell(1)
		if store.result(t, j.ID) == nil {
			t.Error("the job has no record")
		}
	})
}

// However often the records fail, there is one dead letter: the dead stream drops copies for two minutes only.
func TestReaperCopiesOnce(t *testing.T) {
	q, store, j := &fakeStrandings{}, newFakeStore(), doubleJob(t, 1)
	q.strand(j)
	store.finishDown = resultstore.ErrUnavailable // it can be read
	inReaper(t, q, store, func() {
		q.tell(1)
		after(time.Hour)
		store.set(func() { store.finishDown = nil })
		after(2 * time.Minute)
		q.set(func() {
			if q.buried != 1 || len(q.messages) != 0 {
				t.Errorf("buried %d times, %d messages left", q.buried, len(q.messages))
			}
		})
	})
}

// A record that no replica has may be lost with the primary: the message stays until one has it.
func TestReaperConfirmsTheRecordsThatItFinds(t *testing.T) {
	primary := testserver.StartRedis(t, testserver.RedisOptions{})
	replica := testserver.StartRedisReplica(t, primary)
	cfg := resultstore.DefaultConfig()
	cfg.Addrs = []string{primary.Addr}
	cfg.WaitReplicas, cfg.WaitTimeout = 1, 200*time.Millisecond
	store, err := resultstore.OpenRedis(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	j := doubleJob(t, 7)
	q := &fakeStrandings{}
	q.strand(j)
	r := newReaper(q, store)
	replica.Pause()
	defer replica.Resume()
	record := job.AppendRecord(nil, &job.Result{State: job.Succeeded, Model: "double", FinishedAt: time.Now()})
	if _, err := store.Finish(t.Context(), []resultstore.Entry{{ID: j.ID, Record: record}}); !errors.Is(err, resultstore.ErrUnavailable) {
		t.Fatalf("the worker that dies then: %v", err)
	}
	if err := r.heard(t.Context(), queue.GivenUp{Seq: 1}); !errors.Is(err, resultstore.ErrUnavailable) {
		t.Errorf("a record that no replica has: %v", err)
	}
	if q.left() == nil {
		t.Fatal("the message is gone while no replica has the record")
	}
	replica.Resume()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for err = r.heard(ctx, queue.GivenUp{Seq: 1}); err != nil && ctx.Err() == nil; {
		err = r.heard(ctx, queue.GivenUp{Seq: 1})
	}
	if err != nil || q.left() != nil || q.buried != 0 {
		t.Errorf("when the replica has it: %v, messages %v, %d dead letters", err, q.left(), q.buried)
	}
	if got, err := store.Get(t.Context(), j.ID); err != nil || !bytes.Equal(got[0], record) {
		t.Errorf("the record is %q now, %v", got, err)
	}
}
