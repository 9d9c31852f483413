package worker

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

func TestAckOnlyAfterTheRecord(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		gate := make(chan struct{})
		r.store.set(func() { r.store.gate = gate })
		j := doubleJob(t, 1)
		sent := r.publish(job.Interactive, j)
		r.pass(time.Hour)
		r.wantUnacked(sent)
		if sent.extended() < 100 {
			t.Errorf("the lease was extended %d times in an hour, want every few seconds", sent.extended())
		}
		if len(r.broker.told()) != 0 {
			t.Error("the job was told of as done before its record was written")
		}
		close(gate)
		synctest.Wait()
		r.wantDoubled(j)
		r.wantAcked(sent)
		_ = r.shutdown()
	})
}

func TestStoreDownAndUpAgain(t *testing.T) {
	inRig(t, func(r *rig) {
		runs := 0
		m := doublerModel(1, func(*model.Batch, []float32) error { runs++; return nil })
		m.MaxRows = 4
		r.start(m)
		r.store.set(func() { r.store.down = fmt.Errorf("%w: no route", resultstore.ErrUnavailable) })
		var jobs []job.Job
		var sent []*fakeMessage
		for i := range 100 {
			j := doubleJob(t, float32(i))
			jobs = append(jobs, j)
			sent = append(sent, r.broker.publish(job.Interactive, job.ContentTypeSheaf, sheafOf(j)))
		}
		r.pass(10 * time.Minute)
		r.wantUnacked(sent...)
		if r.pool.Ready() == nil {
			t.Error("ready although the result store is down")
		}
		waiting := 0
		r.broker.locked(func() { waiting = len(r.broker.waiting[job.Interactive]) })
		if waiting < 50 {
			t.Errorf("%d of 100 messages are left in the queue, want most: a worker that cannot settle must not fetch", waiting)
		}
		r.store.set(func() { r.store.down = nil })
		r.pass(time.Minute)
		for _, j := range jobs {
			r.wantDoubled(j)
		}
		r.wantAcked(sent...)
		if err := r.pool.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		if runs > 110 {
			t.Errorf("%d runs for 100 jobs: results were computed again instead of kept", runs)
		}
		_ = r.shutdown()
	})
}

func TestRecordThatTheStoreRefusesDoesNotStopTheOthers(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		r.store.set(func() { r.store.down = errors.New("value too large") })
		first := r.publish(job.Interactive, doubleJob(t, 1))
		r.pass(time.Second)
		r.wantUnacked(first)
		if len(first.retries()) == 0 {
			t.Error("the message was not given back")
		}
		r.store.set(func() { r.store.down = nil })
		j := doubleJob(t, 2)
		r.wantAcked(r.publish(job.Interactive, j))
		r.wantDoubled(j)
		r.pass(time.Minute)
		r.wantAcked(first)
		_ = r.shutdown()
	})
}

func TestShutdownFinishesWhatRunsAndGivesBackTheRest(t *testing.T) {
	inRig(t, func(r *rig) {
		m := doublerModel(1, func(*model.Batch, []float32) error { takes(10 * time.Second); return nil })
		m.MaxRows = 2
		r.start(m)
		running := []job.Job{doubleJob(t, 1), doubleJob(t, 2)}
		large := doubleJob(t, 3, 4, 5, 6, 7)
		first := r.publish(job.Interactive, running...)
		second := r.publish(job.Interactive, doubleJob(t, 8), large)
		third := r.publish(job.Bulk, doubleJob(t, 9))
		begin := time.Now()
		r.pass(time.Second)
		r.stop()
		synctest.Wait()
		if len(second.retries()) != 1 || second.retries()[0] != 0 || len(third.retries()) != 1 {
			t.Errorf("retries %v and %v: what was buffered must go back at once", second.retries(), third.retries())
		}
		r.wantUnacked(first)
		if err := <-r.ended; err != nil {
			t.Error(err)
		}
		if d := time.Since(begin); d != 10*time.Second {
			t.Errorf("shutdown ended after %v, want as soon as the batch in flight was through: 10s", d)
		}
		for _, j := range running {
			r.wantDoubled(j)
		}
		r.wantAcked(first)
		r.wantUnacked(second, third)
	})
}

func TestMessageOfWhichOnlySomeJobsRanGoesBackAfterThem(t *testing.T) {
	inRig(t, func(r *rig) {
		m := doublerModel(1, func(*model.Batch, []float32) error { takes(10 * time.Second); return nil })
		m.MaxRows = 2
		r.start(m)
		jobs := []job.Job{doubleJob(t, 1), doubleJob(t, 2), doubleJob(t, 3)}
		sent := r.publish(job.Interactive, jobs...)
		r.stop()
		synctest.Wait()
		if len(sent.retries()) != 0 {
			t.Error("the message went back while two of its jobs were running")
		}
		if err := <-r.ended; err != nil {
			t.Error(err)
		}
		r.wantDoubled(jobs[0])
		r.wantDoubled(jobs[1])
		if r.store.result(t, jobs[2].ID) != nil || len(sent.retries()) != 1 {
			t.Errorf("want the third job to go back to the queue; retries %v", sent.retries())
		}
		r.wantUnacked(sent)
	})
}

func TestDrainHasAnEnd(t *testing.T) {
	for name, hang := range map[string]func(r *rig, release chan struct{}) func(*model.Batch, []float32) error{
		"a run that does not return": func(_ *rig, release chan struct{}) func(*model.Batch, []float32) error {
			return func(*model.Batch, []float32) error { <-release; return nil }
		},
		"a result store that does not come back": func(r *rig, _ chan struct{}) func(*model.Batch, []float32) error {
			r.store.set(func() { r.store.down = resultstore.ErrUnavailable })
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			inRig(t, func(r *rig) {
				release := make(chan struct{})
				r.double(hang(r, release))
				sent := r.publish(job.Interactive, doubleJob(t, 1))
				begin := time.Now()
				r.stop()
				if err := <-r.ended; err == nil {
					t.Error("Run returned nil although work was left behind")
				}
				if d := time.Since(begin); d < r.cfg.DrainTimeout || d > r.cfg.DrainTimeout+time.Second {
					t.Errorf("the drain took %v, want %v", d, r.cfg.DrainTimeout)
				}
				if len(sent.retries()) != 1 {
					t.Errorf("the message was given back %d times, want once", len(sent.retries()))
				}
				r.wantUnacked(sent)
				close(release) // the goroutine that hung may end now
			})
		})
	}
}

func TestLeasesAreKept(t *testing.T) {
	inRig(t, func(r *rig) {
		m := doublerModel(1, func(*model.Batch, []float32) error { takes(time.Minute); return nil })
		m.MaxRows = 1
		r.start(m)
		running := r.publish(job.Interactive, doubleJob(t, 1))
		buffered := r.publish(job.Interactive, doubleJob(t, 2))
		r.pass(r.broker.ackWait / 4)
		if running.extended()+buffered.extended() != 0 {
			t.Error("a lease was extended after a quarter of it")
		}
		r.pass(r.broker.ackWait / 4)
		if running.extended() != 1 || buffered.extended() != 1 {
			t.Errorf("after half of a lease extended %d and %d times, want once each", running.extended(), buffered.extended())
		}
		r.pass(3 * time.Minute)
		r.wantAcked(running, buffered)
		extended := running.extended()
		r.pass(time.Minute)
		if running.extended() != extended {
			t.Error("the lease of an acknowledged message was extended")
		}
		_ = r.shutdown()
	})
}

func TestQueueOutOfReach(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		r.broker.locked(func() { r.broker.down = errors.New("no servers") })
		r.pass(10 * time.Minute)
		fetches := r.broker.asked()
		r.pass(time.Minute)
		if n := r.broker.asked() - fetches; n > 200 {
			t.Errorf("%d fetches in a minute of outage, want a pause between them", n)
		}
		r.broker.locked(func() { r.broker.down = nil })
		r.pass(r.cfg.OutageDelayMax)
		j := doubleJob(t, 1)
		r.wantAcked(r.publish(job.Interactive, j))
		r.wantDoubled(j)
		_ = r.shutdown()
	})
}

func TestIdleWorkerHardlyAsks(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		r.pass(time.Minute)
		if n := r.broker.asked(); n > 130 {
			t.Errorf("%d fetches in an idle minute, want one a second and lane", n)
		}
		_ = r.shutdown()
	})
}

func TestShutdownGivesBackWhatWaitsForTheStore(t *testing.T) {
	inRig(t, func(r *rig) {
		r.store.set(func() { r.store.down = resultstore.ErrUnavailable })
		var sent []*fakeMessage
		for range 3 { // the first is being looked up, the others wait for it
			sent = append(sent, r.broker.publishMessage(delivered(1, sheafOf(doubleJob(t, 1)))))
		}
		refused := doubleJob(t, 2)
		refused.Outputs = []string{"w"}
		sent = append(sent, r.broker.publish(job.Interactive, job.ContentTypeSheaf, sheafOf(refused)))
		r.double(nil)
		begin := time.Now()
		if err := r.shutdown(); err != nil {
			t.Error(err)
		}
		if d := time.Since(begin); d > time.Second {
			t.Errorf("the shutdown took %v, want at once: nothing was in flight", d)
		}
		held := 0
		for _, m := range sent {
			got := m.retries()
			if len(got) > 1 || len(got) == 1 && got[0] != 0 {
				t.Errorf("message %d was given back with %v, want once and at once", m.seq, got)
			}
			held += len(got)
		}
		waiting := looked(r.broker, func() int { return len(r.broker.waiting[job.Interactive]) })
		if held < 2 || waiting != len(sent) {
			t.Errorf("%d messages were held and given back, and %d of %d wait for another worker", held, waiting, len(sent))
		}
		r.wantUnacked(sent...)
	})
}

func TestShutdownWhileASoloAttemptCannotBeNoted(t *testing.T) {
	inRig(t, func(r *rig) {
		ran := false
		r.double(func(*model.Batch, []float32) error { ran = true; return nil })
		r.store.set(func() { r.store.finishDown = resultstore.ErrUnavailable })
		sent := r.redeliver(1, doubleJob(t, 1))
		r.pass(time.Minute)
		_ = r.shutdown()
		if ran {
			t.Error("a redelivered job ran although no note of it could be written")
		}
		r.wantUnacked(sent)
		if got := sent.retries(); len(got) != 1 {
			t.Errorf("given back with %v, want once", got)
		}
	})
}

func TestLeaseThatCannotBeExtendedIsTriedAgainSoon(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(func(*model.Batch, []float32) error { takes(20 * time.Second); return nil })
		sent := []*fakeMessage{r.publish(job.Interactive, doubleJob(t, 1)), r.publish(job.Interactive, doubleJob(t, 2))}
		r.broker.locked(func() { r.broker.extendFails = errors.New("no NATS") })
		r.pass(r.broker.ackWait / 2)
		r.broker.locked(func() { r.broker.extendFails = nil })
		r.pass(r.broker.ackWait / 6)
		for _, m := range sent {
			if m.extended() != 1 {
				t.Errorf("the lease of message %d was extended %d times after two thirds of it, want once", m.seq, m.extended())
			}
		}
		_ = r.shutdown()
	})
}

func TestLapsedLeaseIsNotExtendedButTheResultCounts(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(func(*model.Batch, []float32) error { takes(time.Minute); return nil })
		r.broker.locked(func() { r.broker.extendFails = queue.ErrLapsed })
		j := doubleJob(t, 1)
		sent := r.publish(job.Interactive, j)
		r.pass(30 * time.Second)
		r.broker.locked(func() { r.broker.extendFails = nil })
		r.pass(time.Minute)
		if sent.extended() != 0 {
			t.Error("a lapsed lease was extended")
		}
		r.wantDoubled(j)
		r.wantAcked(sent)
		_ = r.shutdown()
	})
}
