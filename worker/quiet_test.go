package worker

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/resultstore"
)

// gate runs a few loops through a quiet gate on a fake clock, and then stops them.
func gate(t *testing.T, fn func(loop func(alone bool, run, gap time.Duration) *atomic.Int64)) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		q := &quiet{}
		ctx, cancel := context.WithCancel(context.Background())
		var loops sync.WaitGroup
		fn(func(alone bool, run, gap time.Duration) *atomic.Int64 {
			entered := new(atomic.Int64)
			loops.Go(func() {
				for q.enter(ctx, alone) {
					entered.Add(1)
					takes(run)
					q.leave(alone)
					takes(gap)
				}
			})
			return entered
		})
		cancel()
		loops.Wait()
	})
}

func TestSuspectsDoNotShutOutTheOthers(t *testing.T) {
	gate(t, func(loop func(bool, time.Duration, time.Duration) *atomic.Int64) {
		const ms = time.Millisecond
		alone := []*atomic.Int64{loop(true, 5*ms, ms), loop(true, 5*ms, ms)}
		common := loop(false, ms, ms)
		takes(time.Minute)
		synctest.Wait()
		if common.Load() < 1000 {
			t.Errorf("%d runs in a minute beside two models that always have a suspect, want thousands", common.Load())
		}
		for _, n := range alone {
			if n.Load() < 1000 {
				t.Errorf("%d suspects in a minute, want thousands", n.Load())
			}
		}
	})
}

func TestSuspectBehindALongRun(t *testing.T) {
	gate(t, func(loop func(bool, time.Duration, time.Duration) *atomic.Int64) {
		loop(false, 4*time.Minute, time.Hour)
		takes(time.Second)
		suspect := loop(true, time.Second, time.Hour)
		takes(time.Second)
		common := loop(false, 10*time.Millisecond, 0)
		takes(3 * time.Minute)
		synctest.Wait()
		if suspect.Load() != 0 {
			t.Error("the suspect runs beside another")
		}
		// Four fifths of the time, whatever the pieces.
		if got := float64(common.Load()) / (3 * 60 * 100); got < 0.7 {
			t.Errorf("the others have %.0f %% of their runs while a suspect waits, want four fifths", 100*got)
		}
		takes(10 * time.Minute)
		synctest.Wait()
		if suspect.Load() != 1 {
			t.Error("the suspect never runs")
		}
	})
}

func TestWaitingAtTheGateEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &quiet{}
		q.enter(t.Context(), true)
		for _, alone := range []bool{false, true} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if q.enter(ctx, alone) {
				t.Errorf("alone %v: entered beside one that is alone", alone)
			}
			cancel()
		}
		q.leave(true)
		for range 2 {
			if !q.enter(t.Context(), false) {
				t.Error("who gave up waiting is still in the way")
			}
		}
	})
}

// TestStoppedWorkersProveNothing: a job that takes longer than the drains of the workers that it meets is not given up
// for it, however often that happens, and does not come to have a process to itself.
func TestStoppedWorkersProveNothing(t *testing.T) {
	inRig(t, func(r *rig) {
		j := doubleJob(t, 7)
		m := doublerModel(1, nil)
		m.NewInstance = func() (Instance, error) { return &patient{d: time.Minute}, nil }
		for i := range 2 * r.cfg.MaxAttempts {
			r.broker = newFakeBroker()
			r.start(m)
			r.broker.publishMessage(delivered(i, sheafOf(j)))
			r.pass(10 * time.Second)
			if got := r.store.result(t, j.ID); got != nil {
				t.Fatalf("after %d stopped workers the job is %s: %v", i, got.State, got.Error)
			}
			if r.pool.quiet.alone {
				t.Fatalf("after %d stopped workers it is a suspect", i)
			}
			if err := r.shutdown(); err == nil {
				t.Fatal("the worker finished the job: the test proves nothing")
			}
		}
		r.broker = newFakeBroker()
		r.start(m)
		r.broker.publishMessage(delivered(2*r.cfg.MaxAttempts, sheafOf(j)))
		r.pass(2 * time.Minute)
		if got := r.wantDoubled(j); got.Attempts != 2 {
			t.Errorf("%d attempts, want 2: the first delivery, and the run alone that was not stopped", got.Attempts)
		}
		_ = r.shutdown()
	})
}

// patient takes its time over a run.
type patient struct {
	doubler
	d time.Duration
}

func (p *patient) Run(ctx context.Context, b *model.Batch) ([]job.Tensor, error) {
	select {
	case <-time.After(p.d):
		return p.doubler.Run(ctx, b)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// TestFoundRecordIsConfirmed: a record that was read may not be where it has to be yet; only a write says so.
func TestFoundRecordIsConfirmed(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		j := doubleJob(t, 2)
		record := job.AppendRecord(nil, &job.Result{State: job.Succeeded, Model: "double", FinishedAt: time.Now()})
		r.store.set(func() {
			r.store.records[j.ID] = record
			r.store.finishDown = resultstore.ErrUnavailable
		})
		sent := r.redeliver(1, j)
		r.pass(time.Second)
		r.wantUnacked(sent)
		r.store.set(func() { r.store.finishDown = nil })
		r.pass(time.Minute)
		r.wantAcked(sent)
		if string(r.store.record(j.ID)) != string(record) {
			t.Error("the record has changed")
		}
		_ = r.shutdown()
	})
}
