package worker

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

var errNoRedis = fmt.Errorf("%w: no route", resultstore.ErrUnavailable)

// While the store is down nothing is fetched at all; what is held waits, is kept and is settled when it is back.
func TestNothingIsFetchedWhileTheStoreIsDown(t *testing.T) {
	inRig(t, func(r *rig) {
		var log bytes.Buffer
		r.logger = slog.New(slog.NewTextHandler(&log, nil))
		r.broker.lapse = true
		runs := 0
		r.double(func(*model.Batch, []float32) error { runs++; return nil })
		r.store.set(func() { r.store.down = errNoRedis })
		first := doubleJob(t, 1)
		held := r.publish(job.Interactive, first)
		r.pass(r.cfg.FetchWait) // the requests that were under way have ended
		asked := r.broker.asked()
		next := doubleJob(t, 2)
		waits := r.publish(job.Interactive, next)
		r.pass(time.Hour)
		if n := r.broker.asked() - asked; n != 0 {
			t.Errorf("%d fetches while the store was down, want none", n)
		}
		if held.deliveries() != 1 || waits.deliveries() != 0 {
			t.Errorf("%d and %d deliveries, want 1 and 0: leases that are held are kept, and no new ones taken", held.deliveries(), waits.deliveries())
		}
		r.wantUnacked(held)
		if err := r.pool.Ready(); err == nil || !strings.Contains(err.Error(), "no route") {
			t.Errorf("ready: %v, want why not", err)
		}
		r.store.set(func() { r.store.down = nil })
		r.pass(2 * r.cfg.OutageDelayMax)
		r.wantDoubled(first)
		r.wantDoubled(next)
		r.wantAcked(held, waits)
		if runs != 2 || held.deliveries() != 1 {
			t.Errorf("%d runs, %d deliveries of the first, want each job computed once", runs, held.deliveries())
		}
		if err := r.pool.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		if n := strings.Count(log.String(), "the result store fails"); n != 1 {
			t.Errorf("the outage was logged %d times, want once:\n%s", n, log.String())
		}
		_ = r.shutdown()
	})
}

// The worker has nothing to write and nothing to fetch, and still finds out that the store works again.
func TestOutageEndsThoughNobodyHasAnythingToDo(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		r.store.set(func() { r.store.down = errNoRedis })
		r.pool.store.fail(errNoRedis)
		r.pass(time.Hour)
		if r.pool.Ready() == nil {
			t.Error("ready during the outage")
		}
		r.store.set(func() { r.store.down = nil })
		r.pass(r.cfg.OutageDelayMax)
		if err := r.pool.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		j := doubleJob(t, 1)
		r.wantAcked(r.publish(job.Interactive, j))
		r.wantDoubled(j)
		_ = r.shutdown()
	})
}

// A batch that the store refuses for its own sake is no outage: fetching goes on, and nothing waits for a heal that
// nobody is left to bring.
func TestRefusedRecordIsNoOutage(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		r.store.set(func() { r.store.finishDown = errors.New("wrong kind of key") })
		sent := r.publish(job.Interactive, doubleJob(t, 1))
		r.pass(10 * time.Second)
		if len(sent.retries()) == 0 || r.pool.store.isDown() {
			t.Errorf("given back %d times, outage %v: want it to be given back and nothing else to stop", len(sent.retries()), r.pool.store.isDown())
		}
		r.store.set(func() { r.store.finishDown = nil })
		j := doubleJob(t, 2)
		other := r.publish(job.Interactive, j)
		r.pass(time.Minute)
		r.wantDoubled(j)
		r.wantAcked(sent, other)
		_ = r.shutdown()
	})
}

// The store answers and takes no writes: pauses grow, and the store is not hammered.
func TestStoreThatOnlyRefusesWrites(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		r.store.set(func() { r.store.finishDown = errNoRedis })
		j := doubleJob(t, 1)
		sent := r.publish(job.Interactive, j)
		r.pass(time.Minute)
		writes := 0
		r.store.set(func() { writes = r.store.writes })
		if most := 20 + int(time.Minute/(r.cfg.OutageDelayMax/2)); writes > most {
			t.Errorf("%d writes in a minute, want at most %d", writes, most)
		}
		r.wantUnacked(sent)
		r.store.set(func() { r.store.finishDown = nil })
		r.pass(2 * r.cfg.OutageDelayMax)
		r.wantDoubled(j)
		r.wantAcked(sent)
		_ = r.shutdown()
	})
}

func TestShutdownDuringAnOutage(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		r.store.set(func() { r.store.down = errNoRedis })
		sent := r.publish(job.Interactive, doubleJob(t, 1))
		r.pass(time.Minute)
		begin := time.Now()
		if err := r.shutdown(); err == nil {
			t.Error("a drain that left work behind returned nil")
		}
		if d := time.Since(begin); d > r.cfg.DrainTimeout+time.Second {
			t.Errorf("the shutdown took %v", d)
		}
		if len(sent.retries()) != 1 {
			t.Errorf("given back %v, want once", sent.retries())
		}
	})
}

// A write may take longer than a lease: the lease is kept, and the job is not computed again.
func TestSlowStore(t *testing.T) {
	inRig(t, func(r *rig) {
		r.broker.lapse = true
		r.store.slow = 3 * r.broker.ackWait
		runs := 0
		r.double(func(*model.Batch, []float32) error { runs++; return nil })
		var jobs []job.Job
		var sent []*fakeMessage
		for i := range 5 {
			jobs = append(jobs, doubleJob(t, float32(i)))
			sent = append(sent, r.publish(job.Interactive, jobs[i]))
			r.pass(time.Second)
		}
		r.pass(10 * r.store.slow)
		for i := range jobs {
			r.wantDoubled(jobs[i])
			if n := sent[i].deliveries(); n != 1 {
				t.Errorf("message %d was delivered %d times, want once", i, n)
			}
		}
		r.wantAcked(sent...)
		if runs > len(jobs) {
			t.Errorf("%d runs for %d jobs", runs, len(jobs))
		}
		_ = r.shutdown()
	})
}

func TestNothingIsFetchedWhileNATSIsDown(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		r.broker.locked(func() { r.broker.down = fmt.Errorf("%w: no servers", queue.ErrUnavailable) })
		r.pass(10 * time.Second)
		asked := r.broker.asked()
		r.pass(time.Hour)
		if n := r.broker.asked() - asked; n != 0 {
			t.Errorf("%d fetches while NATS was down, want none", n)
		}
		if err := r.pool.Ready(); err == nil || !strings.Contains(err.Error(), "no servers") {
			t.Errorf("ready: %v, want why not", err)
		}
		r.broker.locked(func() { r.broker.down = nil })
		r.pass(2 * r.cfg.OutageDelayMax)
		j := doubleJob(t, 1)
		r.wantAcked(r.publish(job.Interactive, j))
		r.wantDoubled(j)
		if err := r.pool.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		_ = r.shutdown()
	})
}

// A stream without a leader, or one that is gone, is asked again and again: asking is what makes it anew, and the others
// must not rest for its sake.
func TestStreamThatDoesNotAnswer(t *testing.T) {
	inRig(t, func(r *rig) {
		var log bytes.Buffer
		r.logger = slog.New(slog.NewTextHandler(&log, nil))
		r.double(nil)
		r.broker.locked(func() { r.broker.down, r.broker.linked = fmt.Errorf("%w: no leader", queue.ErrUnavailable), true })
		r.pass(time.Minute)
		asked := r.broker.asked()
		r.pass(time.Minute)
		if n := r.broker.asked() - asked; n < 40 || n > 200 {
			t.Errorf("%d fetches in a minute, want one every second or two for each lane", n)
		}
		if r.pool.Ready() == nil {
			t.Error("ready although no stream answers")
		}
		if n := strings.Count(log.String(), "fetching fails"); n != 2 {
			t.Errorf("it was logged %d times, want once for each lane:\n%s", n, log.String())
		}
		r.broker.locked(func() { r.broker.down = nil })
		r.pass(r.cfg.OutageDelayMax)
		j := doubleJob(t, 1)
		r.wantAcked(r.publish(job.Interactive, j))
		r.wantDoubled(j)
		_ = r.shutdown()
	})
}

// What became of an attempt may be said until its lease lapses, and not a moment later: then the message comes again
// by itself, and another worker may hold it.
func TestEdgeOfALease(t *testing.T) {
	const ackWait = 10 * time.Second
	lease := ackWait - ackWait/20
	for _, tt := range []struct {
		name  string
		takes time.Duration
		naks  int
	}{
		{"a moment before it lapses", lease - 1, 1},
		{"when it lapses", lease, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inRig(t, func(r *rig) {
				r.broker.lapse, r.broker.ackWait = true, ackWait
				r.broker.extendFails = errors.New("stopped")
				runs := 0
				r.double(func(*model.Batch, []float32) error {
					if runs++; runs > 1 {
						return nil
					}
					takes(tt.takes)
					return model.ErrResources
				})
				j := doubleJob(t, 1)
				sent := r.publish(job.Interactive, j)
				r.pass(tt.takes)
				if n := len(sent.retries()); n != tt.naks {
					t.Errorf("given back %d times, want %d", n, tt.naks)
				}
				r.pass(time.Minute)
				r.wantDoubled(j)
				r.wantAcked(sent)
				if sent.deliveries() != 2 {
					t.Errorf("%d deliveries, want 2", sent.deliveries())
				}
				_ = r.shutdown()
			})
		})
	}
}

// TestStaleAttemptChangesNothing stops a worker, as SIGSTOP does, for longer than its leases last. Another finishes its
// job; what the first does when it goes on, whatever its attempt comes to, changes nothing.
func TestStaleAttemptChangesNothing(t *testing.T) {
	for name, outcome := range map[string]error{"succeeds": nil, "fails": errors.New("bad"), "fails for want of memory": model.ErrResources} {
		t.Run(name, func(t *testing.T) {
			inRig(t, func(r *rig) {
				r.broker.lapse = true
				r.broker.extendFails = errors.New("stopped")
				resume := make(chan struct{})
				r.double(func(*model.Batch, []float32) error { <-resume; return outcome })
				j := doubleJob(t, 1)
				sent := r.publish(job.Interactive, j)
				r.broker.freeze(true)

				other := &rig{t: t, broker: r.broker, store: r.store, cfg: r.cfg}
				other.double(nil)
				r.pass(r.broker.ackWait - 1)
				if r.store.record(j.ID) != nil {
					t.Error("the second worker has the job before the lease of the first is over")
				}
				r.pass(2 * time.Second)
				r.wantDoubled(j)
				r.wantAcked(sent)
				record := string(r.store.record(j.ID))

				close(resume)
				r.broker.freeze(false)
				r.pass(time.Minute)
				if string(r.store.record(j.ID)) != record {
					t.Error("the record has changed")
				}
				if n := sent.deliveries(); n != 2 || len(sent.retries()) > 0 {
					t.Errorf("%d deliveries, given back %v: want 2 and never", n, sent.retries())
				}
				if len(r.broker.deadLetters()) > 0 {
					t.Errorf("dead letters %q, want none", r.broker.deadLetters())
				}
				_ = r.shutdown()
				_ = other.shutdown()
			})
		})
	}
}
