package worker

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/model/onnx"
)

// loaded loads a model of the runtime's own tests into ONNX Runtime.
func loaded(t *testing.T, name, file string) Model {
	t.Helper()
	library, err := onnx.FindLibrary("../bin/lib")
	if err != nil {
		t.Fatalf("%v\nrun make deps", err)
	}
	rt, err := onnx.Open(onnx.Config{Library: library})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	m, err := rt.Load(t.Context(), model.Version{
		Name: name, Version: "1", Path: "../model/onnx/testdata/" + file, Manifest: model.DefaultManifest(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return Model{Info: m.Info(), NewInstance: func() (Instance, error) { return m.NewInstance() }}
}

func hungryJob(t *testing.T, size uint64) job.Job {
	t.Helper()
	j := doubleJob(t, 1)
	j.Inputs[0].Datatype, j.Inputs[0].Data = job.Int64, binary.LittleEndian.AppendUint64(nil, size)
	return j
}

// TestRealRuntimeOutOfMemory asks ONNX Runtime for a petabyte: the model takes as many floats of memory as the largest
// number of its batch says.
func TestRealRuntimeOutOfMemory(t *testing.T) {
	m := loaded(t, "double", "hungry.onnx")
	if !m.Info.Signature.Batchable {
		t.Fatal("the model is not batched")
	}
	inRig(t, func(r *rig) {
		r.start(m)
		var jobs []job.Job
		for i := range uint64(20) {
			jobs = append(jobs, hungryJob(t, i))
		}
		greedy, absurd := hungryJob(t, 1<<48), hungryJob(t, 1<<62)
		sent := r.publish(job.Interactive, append([]job.Job{greedy, absurd}, jobs...)...)
		r.pass(time.Minute)
		for i, j := range jobs {
			got := r.store.result(t, j.ID)
			if got == nil || got.State != job.Succeeded || got.Attempts != 1 || floats(got.Outputs[0].Data)[0] != float32(i) {
				t.Fatalf("neighbour %d: %+v, want its own answer at the first attempt", i, got)
			}
		}
		got := r.wantFailed(greedy, job.CodeExhausted)
		if got.Attempts != r.cfg.MaxAttempts || !strings.Contains(got.Error.Detail, "allocate") {
			t.Errorf("%d attempts, text %q: want %d, and what the runtime said", got.Attempts, got.Error.Detail, r.cfg.MaxAttempts)
		}
		if got := r.wantFailed(absurd, job.CodeInference); got.Attempts != 1 {
			t.Errorf("%d attempts at a size that no memory has, want 1: it can never succeed", got.Attempts)
		}
		r.wantAcked(sent)
		if len(r.broker.deadLetters()) != 1 {
			t.Errorf("dead letters %q, want one", r.broker.deadLetters())
		}
		_ = r.shutdown()
	})
}

// TestRealRunEndsWhenItsJobIsCanceled ends a run of centuries, and goes on with the same instance. It is in real time,
// because no clock of a test stands still while C code computes.
func TestRealRunEndsWhenItsJobIsCanceled(t *testing.T) {
	m := loaded(t, "loop", "loop.onnx")
	made, began := 0, make(chan struct{}, 1)
	fresh := m.NewInstance
	m.NewInstance = func() (Instance, error) {
		made++
		inst, err := fresh()
		return &signals{inst, began}, err
	}
	broker, store := newFakeBroker(), newFakeStore()
	cfg := DefaultConfig()
	cfg.ExpressInstances = 0
	pool, err := newPool(cfg, Deps{Results: store}, broker, []Model{m})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- pool.Run(ctx) }()
	loop := func(times uint64) job.Job {
		j := doubleJob(t, 1)
		j.Model = "loop"
		j.Inputs = []job.Tensor{
			{Name: "x", Datatype: job.FP32, Shape: []int64{64, 64}, Data: make([]byte, 64*64*4)},
			{Name: "count", Datatype: job.Int64, Shape: []int64{}, Data: binary.LittleEndian.AppendUint64(nil, times)},
		}
		broker.publish(job.Interactive, job.ContentTypeSheaf, sheafOf(j))
		<-began
		return j
	}
	await := func(j job.Job) *job.Result {
		for {
			if got := store.result(t, j.ID); got != nil {
				return got
			}
			select {
			case <-time.After(5 * time.Millisecond):
			case err := <-ended:
				t.Fatalf("the pool ended: %v", err)
			}
		}
	}
	for range 2 {
		endless := loop(1 << 62)
		broker.cancel(endless.ID)
		if got := await(endless); got.State != job.Canceled {
			t.Errorf("the job is %s (%v), want canceled", got.State, got.Error)
		}
		if got := await(loop(1)); got.State != job.Succeeded {
			t.Errorf("the next job is %s (%v), want succeeded", got.State, got.Error)
		}
	}
	if made != 1 {
		t.Errorf("%d instances were made, want 1", made)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// signals says when a run begins.
type signals struct {
	Instance
	began chan<- struct{}
}

func (s *signals) Run(ctx context.Context, b *model.Batch) ([]job.Tensor, error) {
	s.began <- struct{}{}
	return s.Instance.Run(ctx, b)
}
