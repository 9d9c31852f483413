package main

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"
)

// drainPatience is how long a process may take to end after SIGTERM.
const drainPatience = 15 * time.Second

// injector works off a schedule.
type injector struct {
	lab   *lab
	meter *meter
	out   io.Writer

	mu   sync.Mutex
	done []injected
}

// run begins each fault at its time, and returns when the last is over. If ctx ends, faults are lifted at once.
func (j *injector) run(ctx context.Context, faults []fault, start time.Time) {
	var all sync.WaitGroup
	for _, f := range faults {
		if !sleep(ctx, time.Until(start.Add(f.At))) {
			break
		}
		sayf(j.out, "%s\n", f)
		all.Go(func() { j.inject(ctx, f) })
	}
	all.Wait()
}

func (j *injector) inject(ctx context.Context, f fault) {
	in := injected{fault: f, began: time.Now()}
	if p := j.lab.process(f.Target); p != nil {
		in.err = j.hit(ctx, p, f)
	} else if k := j.lab.link(f.Target); k != nil {
		k.misbehave(f.Kind, f.Delay)
		sleep(ctx, f.For)
		k.lift()
	} else {
		in.err = errors.New("there is no " + f.Target)
	}
	in.lifted = time.Now()
	if in.err != nil && ctx.Err() == nil {
		sayf(j.out, "%s: %v\n", f.Target, in.err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.done = append(j.done, in)
}

func (j *injector) hit(ctx context.Context, p *process, f fault) error {
	switch f.Kind {
	case kindStop, kindFreeze:
		p.signal(syscall.SIGSTOP)
		sleep(ctx, f.For)
		p.signal(syscall.SIGCONT)
		return nil
	case kindKill:
		j.meter.read(ctx, p)
		err := p.hold(syscall.SIGKILL, drainPatience)
		sleep(ctx, f.For)
		p.release()
		return err
	case kindTerm:
		j.meter.read(ctx, p)
		err := p.hold(syscall.SIGTERM, drainPatience)
		sleep(ctx, f.For)
		p.release()
		return err
	default:
		return errors.New("this cannot be done to a process: " + string(f.Kind))
	}
}

// injected returns what was done.
func (j *injector) injected() []injected {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]injected(nil), j.done...)
}

// sleep waits. false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
