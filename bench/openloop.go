package main

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"
)

// schedule returns when each job of a run is to arrive, counted from its start: a Poisson process, so that arrivals
// bunch as those of independent users do. The same seed gives the same arrivals.
func schedule(rate int, length time.Duration, seed uint64) []time.Duration {
	rng := rand.New(rand.NewPCG(seed, uint64(rate))) //nolint:gosec // arrivals need no secrecy
	mean := float64(time.Second) / float64(rate)
	var arrivals []time.Duration
	for at := 0.0; ; {
		at += rng.ExpFloat64() * mean
		if at >= float64(length) {
			return arrivals
		}
		arrivals = append(arrivals, time.Duration(at))
	}
}

// openLoop calls submit for each arrival at its time, each in a goroutine of its own, whatever became of those before:
// a system that falls behind is not spared. It returns when every call has returned, with the start that arrivals count
// from and how late this program itself began each.
func openLoop(ctx context.Context, arrivals []time.Duration, submit func(i int, due time.Time) error) (start time.Time, late []time.Duration, err error) {
	// A goroutine that sleeps is woken up to a millisecond late while nothing else runs. A thread is not.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	late = make([]time.Duration, len(arrivals))
	var wg sync.WaitGroup
	var once sync.Once
	failed := make(chan struct{})
	start = time.Now()
	for i, at := range arrivals {
		if wait := at - time.Since(start); wait > 0 {
			pause(wait)
		}
		select {
		case <-ctx.Done():
			wg.Wait()
			return start, late, context.Cause(ctx)
		case <-failed:
			wg.Wait()
			return start, late, err
		default:
		}
		wg.Go(func() {
			late[i] = time.Since(start) - at
			if e := submit(i, start.Add(at)); e != nil {
				once.Do(func() { err = e; close(failed) })
			}
		})
	}
	wg.Wait()
	return start, late, err
}

// inbox collects when each result was known.
type inbox[ID comparable] struct {
	mu   sync.Mutex
	ids  []ID
	seen []time.Time
}

// put notes results that are known now. IDs that nobody waits for do no harm.
func (b *inbox[ID]) put(ids ...ID) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range ids {
		b.ids, b.seen = append(b.ids, id), append(b.seen, now)
	}
}

func (b *inbox[ID]) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.ids)
}

// times returns when each ID was first known.
func (b *inbox[ID]) times() map[ID]time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := make(map[ID]time.Time, len(b.ids))
	for i, id := range b.ids {
		if _, twice := m[id]; !twice {
			m[id] = b.seen[i]
		}
	}
	return m
}
