package backfill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// Run is one backfill.
type Run struct {
	cfg  Config
	deps Deps
	log  *slog.Logger
	pace *pace

	// slots bounds the jobs in flight, room the bytes of the parts in hand.
	slots *semaphore.Weighted
	room  *semaphore.Weighted

	units, failed, jobs, inFlight atomic.Int64
}

// New returns a Run that has not begun.
func New(cfg Config, deps Deps) (*Run, error) {
	if err := errors.Join(cfg.Validate(), deps.validate()); err != nil {
		return nil, fmt.Errorf("backfill settings: %w", err)
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	return &Run{
		cfg: cfg, deps: deps, log: deps.Logger, pace: newPace(&cfg),
		slots: semaphore.NewWeighted(int64(cfg.Flight)), room: semaphore.NewWeighted(cfg.MaxAhead),
	}, nil
}

// Progress is how far a run has come. It counts from the run's begin, not what earlier runs did.
type Progress struct {
	Units    int64 // answered and written, the bad ones too
	Failed   int64 // of those, the bad ones
	Jobs     int64 // finished
	InFlight int64 // jobs
	Paused   bool
	Waiting  string // what for, if for something
}

// Progress says how far the run has come.
func (r *Run) Progress() Progress {
	paused, waiting := r.pace.state()
	return Progress{
		Units: r.units.Load(), Failed: r.failed.Load(), Jobs: r.jobs.Load(), InFlight: r.inFlight.Load(), Paused: paused, Waiting: waiting,
	}
}

// Pause holds up what is not asked yet, until Resume. What is in flight goes on.
func (r *Run) Pause() { r.pace.pause() }

// Resume ends a Pause.
func (r *Run) Resume() { r.pace.resume() }

// answered is a part on its way to be written.
type answered struct {
	part    Part
	seq     int64 // its place among the parts of this run
	weight  int64
	encoded any
	failed  int64
	keys    []string // of its jobs
}

// Run works until the task ends, ctx does, or something fails that waiting does not mend. What was written by then has
// been committed, also if the error is not nil. Jobs in flight at an early end go on in the queue, and are found again by
// their keys. It is called once.
func (r *Run) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	done := make(chan *answered)
	var parts sync.WaitGroup
	var writing sync.WaitGroup
	// What is complete is written although the run was stopped.
	writing.Go(func() { r.write(context.WithoutCancel(ctx), done, stop) })
	readErr := r.read(ctx, func(a *answered) {
		parts.Go(func() {
			if err := r.answer(ctx, a); err != nil {
				stop(err)
				return
			}
			done <- a
		})
	})
	if readErr != nil {
		stop(readErr)
	}
	parts.Wait()
	close(done)
	writing.Wait()
	return context.Cause(ctx)
}

// read hands on part after part, no more of them than there is room for.
func (r *Run) read(ctx context.Context, begin func(*answered)) error {
	for seq := int64(0); ; seq++ {
		if err := r.pace.wait(ctx); err != nil {
			return nil //nolint:nilerr // the context ended, and says why by itself
		}
		part, err := r.deps.Task.Next(ctx)
		switch {
		case errors.Is(err, io.EOF), err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		weight := min(max(1, int64(part.Bytes)), r.cfg.MaxAhead)
		if r.room.Acquire(ctx, weight) != nil {
			return nil
		}
		// A part begins with a job in flight, so that no more are decoded than can be asked.
		if r.slots.Acquire(ctx, 1) != nil {
			return nil
		}
		begin(&answered{part: part, seq: seq, weight: weight})
		if r.pace.paid(ctx, part.Units) != nil {
			return nil
		}
	}
}

// write takes parts as they come, or in order, and commits from time to time. It tells stop what is wrong.
func (r *Run) write(ctx context.Context, done <-chan *answered, stop context.CancelCauseFunc) {
	w := writer{run: r, held: map[int64]*answered{}}
	tick := time.NewTicker(r.cfg.CommitEvery)
	defer tick.Stop()
	stopped, broken := false, false
	check := func(err error) {
		if err != nil {
			stopped, broken = true, !errors.Is(err, ErrTooManyErrors)
			stop(err)
		}
	}
	for {
		select {
		case a, more := <-done:
			if !more {
				if !broken {
					check(w.commit(ctx))
				}
				return
			}
			if !stopped {
				check(w.take(ctx, a))
			}
		case <-tick.C:
			if !stopped {
				check(w.commit(ctx))
			}
		}
	}
}

// writer is the end of the line.
type writer struct {
	run  *Run
	held map[int64]*answered // those that came before their turn
	next int64               // whose turn it is
	keys []string            // of jobs whose answers are written and not committed
	some bool                // something is
}

// take writes a part, or holds it until its turn comes.
func (w *writer) take(ctx context.Context, a *answered) error {
	if !w.run.cfg.Ordered {
		return w.put(ctx, a)
	}
	w.held[a.seq] = a
	for {
		a, ok := w.held[w.next]
		if !ok {
			return nil
		}
		delete(w.held, w.next)
		w.next++
		if err := w.put(ctx, a); err != nil {
			return err
		}
	}
}

func (w *writer) put(ctx context.Context, a *answered) error {
	r := w.run
	if err := r.deps.Task.Write(ctx, a.part, a.encoded); err != nil {
		return fmt.Errorf("write the answers: %w", err)
	}
	r.room.Release(a.weight)
	w.some = true
	w.keys = append(w.keys, a.keys...)
	r.units.Add(int64(a.part.Units))
	if failed := r.failed.Add(a.failed); r.cfg.MaxErrors >= 0 && failed > r.cfg.MaxErrors {
		return fmt.Errorf("%w: %d, and at most %d are allowed", ErrTooManyErrors, failed, r.cfg.MaxErrors)
	}
	return nil
}

// commit makes what was written last, and then has the results of its jobs forgotten.
func (w *writer) commit(ctx context.Context) error {
	if !w.some {
		return nil
	}
	if err := w.run.deps.Task.Commit(ctx); err != nil {
		return fmt.Errorf("keep what was written: %w", err)
	}
	w.run.deps.Jobs.Forget(ctx, w.keys)
	w.some, w.keys = false, w.keys[:0]
	return nil
}
