package worker

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// rig is a pool between a fake queue and a fake store. It lives in a synctest bubble: the clock stands while anything
// can still be done, and synctest.Wait returns when nothing can.
type rig struct {
	t      *testing.T
	broker *fakeBroker
	store  *fakeStore
	cfg    Config
	pool   *Pool
	// registry may be set before start.
	registry *prometheus.Registry
	logger   *slog.Logger
	reach    failpoint.Hook
	stop     context.CancelFunc
	ended    chan error
}

// inRig runs the test in a bubble. The pool is started by rig.start.
func inRig(t *testing.T, fn func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		fn(&rig{t: t, broker: newFakeBroker(), store: newFakeStore(), cfg: DefaultConfig()})
	})
}

// start runs a pool until shutdown, or the end of the test.
func (r *rig) start(models ...Model) {
	r.t.Helper()
	deps := Deps{Results: r.store, Logger: r.logger, Reach: r.reach, Name: "me"}
	if r.registry != nil {
		deps.Registerer = r.registry
	}
	var err error
	if r.pool, err = newPool(r.cfg, deps, r.broker, models); err != nil {
		r.t.Fatal(err)
	}
	var ctx context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	r.ended = make(chan error, 1)
	go func() { r.ended <- r.pool.Run(ctx) }()
	synctest.Wait()
}

// double starts a pool that serves the doubler; before is called in each run with all its values.
func (r *rig) double(before func(b *model.Batch, values []float32) error) {
	r.t.Helper()
	r.start(doublerModel(1, before))
}

// pass lets so much time go by.
func (r *rig) pass(d time.Duration) {
	takes(d)
	synctest.Wait()
}

// takes is for work that takes its time.
//
// It does not wait at a timer's channel: under the race detector Go 1.26 dies of SIGSEGV when goroutines of a bubble
// receive at the same time from timers that are due already, as one of no length is.
func takes(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // the clock is the bubble's

// shutdown ends the pool and returns what Run returned.
func (r *rig) shutdown() error {
	r.stop()
	return <-r.ended
}

// publish sends the jobs as one message and waits until the worker can do no more about it.
func (r *rig) publish(lane job.Lane, jobs ...job.Job) *fakeMessage {
	m := r.broker.publish(lane, job.ContentTypeSheaf, sheafOf(jobs...))
	synctest.Wait()
	return m
}

// redeliver sends them as a message that has been delivered so many times before.
func (r *rig) redeliver(before int, jobs ...job.Job) *fakeMessage {
	m := r.broker.publishMessage(delivered(before, sheafOf(jobs...)))
	synctest.Wait()
	return m
}

// wantDoubled checks that the job has succeeded and got twice its own numbers.
func (r *rig) wantDoubled(j job.Job) *job.Result {
	r.t.Helper()
	got := r.store.result(r.t, j.ID)
	if got == nil {
		r.t.Fatalf("job %s has no record", j.ID)
	}
	if got.State != job.Succeeded {
		r.t.Fatalf("job %s is %s (%v), want succeeded", j.ID, got.State, got.Error)
	}
	in, out := floats(j.Inputs[0].Data), floats(got.Outputs[0].Data)
	if len(in) != len(out) {
		r.t.Fatalf("job %s got %d numbers for %d", j.ID, len(out), len(in))
	}
	for i := range in {
		if out[i] != 2*in[i] {
			r.t.Fatalf("job %s, number %d: got %v for %v", j.ID, i, out[i], in[i])
		}
	}
	return got
}

// wantFailed checks that the job has a failed record with the code.
func (r *rig) wantFailed(j job.Job, code job.Code) *job.Result {
	r.t.Helper()
	got := r.store.result(r.t, j.ID)
	if got == nil {
		r.t.Fatalf("job %s has no record", j.ID)
	}
	if got.Error == nil || got.Error.Code != code {
		r.t.Fatalf("job %s is %s with error %v, want code %s", j.ID, got.State, got.Error, code)
	}
	return got
}

func (r *rig) wantAcked(messages ...*fakeMessage) {
	r.t.Helper()
	r.broker.locked(func() {
		for _, m := range messages {
			if !m.acked {
				r.t.Errorf("message %d is not acknowledged", m.seq)
			}
		}
	})
}

func (r *rig) wantUnacked(messages ...*fakeMessage) {
	r.t.Helper()
	r.broker.locked(func() {
		for _, m := range messages {
			if m.acked {
				r.t.Errorf("message %d is acknowledged too early", m.seq)
			}
		}
	})
}

// delivered makes a sheaf that has been delivered so many times before.
func delivered(before int, body []byte) *fakeMessage {
	return &fakeMessage{header: map[string]string{job.HeaderContentType: job.ContentTypeSheaf}, body: body, attempts: before}
}
