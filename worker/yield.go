package worker

import (
	"context"
	"log/slog"
	"runtime"
	"runtime/debug"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// A run that yields is computed on a thread of the operating system that has a low priority: it gets what the other
// threads leave of the CPUs, those that compute express runs, and the servers beside the worker. A model of which a run
// takes some microseconds is computed in the usual way: it would take longer until such a thread gets its turn.
//
// The priority could be lower still, but before and after the run such a thread is one of Go's, and Go's collector waits
// for it: on a CPU that another program keeps busy for 42 ms at a niceness of 19, for 275 ms with SCHED_IDLE, and for no
// longer than usual (2.7 ms) at 10.

// backThread computes what yields.
type backThread struct {
	calls chan func()
	done  chan struct{}
}

func newBackThread(nice int, log *slog.Logger) *backThread {
	b := &backThread{calls: make(chan func()), done: make(chan struct{})}
	go func() {
		// It is never unlocked: a thread cannot be given its priority back, so it ends with the goroutine.
		runtime.LockOSThread()
		if err := yieldThread(nice); err != nil {
			log.Debug("runs of bulk have the usual priority", slog.Any("error", err))
		}
		for call := range b.calls {
			call()
			b.done <- struct{}{}
		}
	}()
	return b
}

func (b *backThread) do(call func()) {
	b.calls <- call
	<-b.done
}

func (b *backThread) close() {
	if b != nil {
		close(b.calls)
	}
}

// runYielding runs the input on the instance, on the back thread if that is what the batch is for.
func (r *runner) runYielding(ctx context.Context, inst Instance) (outputs []job.Tensor, err error) {
	e := r.engine
	r.yielded = r.batch.owner.yields && e.cfg.YieldNice > 0 && r.crew == &e.regular && e.costs.load().of(r.input.Rows) >= heavy
	if !r.yielded {
		return safely(ctx, inst, &r.input)
	}
	if r.back == nil {
		r.back = newBackThread(e.cfg.YieldNice, e.log)
	}
	r.back.do(func() { outputs, err = safely(ctx, inst, &r.input) })
	return outputs, err
}

// safely turns a panic of the runtime into an error.
func safely(ctx context.Context, inst Instance, b *model.Batch) (outputs []job.Tensor, err error) {
	defer func() {
		if v := recover(); v != nil {
			outputs, err = nil, &panicError{value: v, stack: debug.Stack()}
		}
	}()
	return inst.Run(ctx, b)
}
