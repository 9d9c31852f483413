package worker

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/resultstore"
)

func TestCanceledJobsAreRememberedForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c cancels
		if c.lookup(time.Now()) != nil {
			t.Fatal("an empty set has something to ask")
		}
		first, second := newID(t), newID(t)
		c.add([]job.ID{first})
		takes(cancelsAge - 1)
		c.add([]job.ID{second}) // still of the same generation
		takes(cancelsAge)
		if has := c.lookup(time.Now()); has == nil || !has(first) || !has(second) || has(newID(t)) {
			t.Error("within two generations a job was forgotten, or one was remembered that nobody canceled")
		}
		takes(1)
		if c.lookup(time.Now()) != nil || c.has(first) || c.has(second) {
			t.Error("after two generations the jobs are not forgotten")
		}
	})
}

func TestCanceledJobsAreForgottenByGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c cancels
		first, second := newID(t), newID(t)
		c.add([]job.ID{first})
		takes(cancelsAge + cancelsAge/2)
		c.add([]job.ID{second})
		takes(cancelsAge/2 - 1)
		if has := c.lookup(time.Now()); has == nil || !has(first) {
			t.Error("the first was forgotten too early")
		}
		takes(1)
		if has := c.lookup(time.Now()); has == nil || has(first) || !has(second) {
			t.Error("want the first to be forgotten and the second to be remembered")
		}
	})
}

func TestCanceledJobsAreBounded(t *testing.T) {
	var c cancels
	ids := make([]job.ID, 4096)
	for range 3 * cancelsKept / len(ids) {
		for i := range ids {
			ids[i] = newID(t)
		}
		c.add(ids)
		if n := c.held.Load(); n > 2*cancelsKept {
			t.Fatalf("%d jobs are remembered, want at most %d", n, 2*cancelsKept)
		}
	}
	if !c.has(ids[0]) {
		t.Error("the latest are forgotten")
	}
}

// obedient is a model that hangs at 666 until it is told to stop, and fails at a batch that has it among others.
type obedient struct {
	doubler
	began func(values []float32)
	ended func()
}

func (o *obedient) Run(ctx context.Context, b *model.Batch) ([]job.Tensor, error) {
	var values []float32
	for _, p := range b.Inputs[0].Parts {
		values = append(values, floats(p)...)
	}
	if o.began != nil {
		o.began(values)
	}
	switch {
	case !slices.Contains(values, 666):
	case slices.Contains(values, 13):
		return nil, errors.New("13 and 666 do not go together")
	default:
		<-ctx.Done()
		if o.ended != nil {
			o.ended()
		}
		return nil, context.Cause(ctx)
	}
	return o.doubler.Run(ctx, b)
}

// obey starts a pool of an obedient model and counts the instances made.
func (r *rig) obey(o obedient, change func(m *Model)) (made *int) {
	r.t.Helper()
	made = new(int)
	m := doublerModel(1, nil)
	m.NewInstance = func() (Instance, error) {
		*made++
		fresh := o
		return &fresh, nil
	}
	if change != nil {
		change(&m)
	}
	r.start(m)
	return made
}

func (r *rig) wantCanceled(jobs ...job.Job) {
	r.t.Helper()
	for _, j := range jobs {
		if got := r.wantFailed(j, job.CodeCanceled); got.State != job.Canceled {
			r.t.Errorf("job %s is %s, want canceled", j.ID, got.State)
		}
	}
}

func TestCanceledJobIsDroppedFromABatchThatHasNotStarted(t *testing.T) {
	inRig(t, func(r *rig) {
		var ran []float32
		r.double(func(_ *model.Batch, values []float32) error {
			ran = append(ran, values...)
			takes(time.Second)
			return nil
		})
		r.publish(job.Interactive, doubleJob(t, 1)) // keeps the instance busy
		gone, stays, large := doubleJob(t, 2), doubleJob(t, 3), doubleJob(t, make([]float32, 200)...)
		a := r.publish(job.Interactive, gone, stays)
		b := r.publish(job.Bulk, large)
		c := r.redeliver(1, gone) // the same job again, to be run alone
		r.broker.cancel(gone.ID, large.ID, newID(t))
		r.pass(time.Minute)
		r.wantCanceled(gone, large)
		r.wantDoubled(stays)
		r.wantAcked(a, b, c)
		if !slices.Equal(ran, []float32{1, 3}) {
			t.Errorf("the model ran over %v, want what was not canceled", ran)
		}
		_ = r.shutdown()
	})
}

func TestRunEndsWhenAllOfItsJobsAreCanceled(t *testing.T) {
	inRig(t, func(r *rig) {
		r.registry = prometheus.NewRegistry()
		r.cfg.ExpressInstances = 0
		made := r.obey(obedient{}, nil)
		one, two := doubleJob(t, 666), doubleJob(t, 667)
		sent := r.publish(job.Interactive, one, two)
		r.broker.cancel(one.ID)
		r.pass(time.Minute)
		if r.store.record(one.ID) != nil || r.store.record(two.ID) != nil {
			t.Error("the run was ended although one of its jobs is wanted")
		}
		r.wantUnacked(sent)
		r.broker.cancel(two.ID)
		synctest.Wait()
		r.wantCanceled(one, two)
		r.wantAcked(sent)
		if len(r.broker.deadLetters()) > 0 {
			t.Errorf("dead letters %q, want none: nothing is wrong with a canceled job", r.broker.deadLetters())
		}
		next := doubleJob(t, 5)
		r.wantAcked(r.publish(job.Interactive, next))
		r.wantDoubled(next)
		if *made != 1 {
			t.Errorf("%d instances were made, want the first to go on", *made)
		}
		if n := testutil.ToFloat64(r.pool.metrics.canceled.WithLabelValues("double")); n != 1 {
			t.Errorf("%v canceled runs are counted, want 1", n)
		}
		_ = r.shutdown()
	})
}

func TestHalfABatchEndsWhenAllOfItsJobsAreCanceled(t *testing.T) {
	inRig(t, func(r *rig) {
		r.obey(obedient{}, nil)
		hangs, good := doubleJob(t, 666), doubleJob(t, 13)
		sent := r.publish(job.Interactive, hangs, good)
		r.broker.cancel(hangs.ID) // which is the first half by now
		synctest.Wait()
		r.wantCanceled(hangs)
		r.wantDoubled(good)
		r.wantAcked(sent)
		_ = r.shutdown()
	})
}

func TestRunAloneEndsWhenItsJobIsCanceled(t *testing.T) {
	inRig(t, func(r *rig) {
		r.obey(obedient{}, nil)
		hangs, next := doubleJob(t, 666), doubleJob(t, 1)
		sent := r.redeliver(1, hangs, next)
		r.broker.cancel(hangs.ID)
		synctest.Wait()
		r.wantCanceled(hangs)
		r.wantDoubled(next)
		r.wantAcked(sent)
		_ = r.shutdown()
	})
}

func TestPiecesOfALargeJobEndWhenItIsCanceled(t *testing.T) {
	inRig(t, func(r *rig) {
		var runs atomic.Int32
		r.obey(obedient{began: func([]float32) { runs.Add(1) }}, func(m *Model) { m.MaxRows, m.Instances = 2, 2 })
		values := make([]float32, 12)
		for i := range values {
			values[i] = 666
		}
		large, good := doubleJob(t, values...), doubleJob(t, 1)
		sent := r.publish(job.Interactive, large, good)
		r.broker.cancel(large.ID)
		synctest.Wait()
		r.wantCanceled(large)
		r.wantDoubled(good)
		r.wantAcked(sent)
		if n := runs.Load(); n != 3 {
			t.Errorf("%d runs, want the two pieces that were being computed, and the other job", n)
		}
		_ = r.shutdown()
	})
}

// The notice comes after the batch was closed and before it runs.
func TestNoticeBetweenBatchAndRun(t *testing.T) {
	inRig(t, func(r *rig) {
		ran := false
		r.double(func(*model.Batch, []float32) error { ran = true; return nil })
		gate := make(chan struct{})
		r.store.set(func() { r.store.gate = gate })
		j := doubleJob(t, 1)
		sent := r.redeliver(1, j) // its note is held up
		r.broker.cancel(j.ID)
		close(gate)
		synctest.Wait()
		r.wantCanceled(j)
		r.wantAcked(sent)
		if ran {
			t.Error("a canceled job was run")
		}
		_ = r.shutdown()
	})
}

func TestRunThatPanicsWhenItIsEnded(t *testing.T) {
	inRig(t, func(r *rig) {
		r.cfg.ExpressInstances = 0
		made := r.obey(obedient{ended: func() { panic("not like this") }}, nil)
		hangs, next := doubleJob(t, 666), doubleJob(t, 1)
		sent := r.publish(job.Interactive, hangs)
		r.broker.cancel(hangs.ID)
		synctest.Wait()
		r.wantCanceled(hangs)
		r.wantAcked(sent, r.publish(job.Interactive, next))
		r.wantDoubled(next)
		if *made != 2 {
			t.Errorf("%d instances were made, want a new one after the panic", *made)
		}
		_ = r.shutdown()
	})
}

// The API has written its record before anybody is told; the worker's loses against it.
func TestRecordOfTheAPIStandsAfterARunWasEnded(t *testing.T) {
	inRig(t, func(r *rig) {
		r.obey(obedient{}, nil)
		j := doubleJob(t, 666)
		sent := r.publish(job.Interactive, j)
		record := job.AppendRecord(nil, &job.Result{State: job.Canceled, Model: "double", FinishedAt: time.Now(), Error: job.Errorf(job.CodeCanceled, "", "as asked")})
		if _, err := r.store.Finish(t.Context(), []resultstore.Entry{{ID: j.ID, Record: record}}); err != nil {
			t.Fatal(err)
		}
		r.broker.cancel(j.ID)
		synctest.Wait()
		if got := r.wantFailed(j, job.CodeCanceled); got.Error.Detail != "as asked" {
			t.Errorf("the record says %q, want what the API wrote", got.Error.Detail)
		}
		r.wantAcked(sent)
		_ = r.shutdown()
	})
}

func BenchmarkLookupWhileNothingIsCanceled(b *testing.B) {
	var c cancels
	now := time.Now()
	for b.Loop() {
		if c.lookup(now) != nil {
			b.Fatal("something is canceled")
		}
	}
}
