package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// watchEvery is how often the size of the database is asked for: the resolution of a round's end, and a few hundred
	// commands a second beside tens of thousands.
	watchEvery = 2 * time.Millisecond
	// stallAfter is how long nothing may be finished before a round is given up.
	stallAfter = 30 * time.Second
	// sayEvery is how often a round in progress says how far it is.
	sayEvery = 2 * time.Second
)

// awaitKeys returns when the database holds want keys more than before: when the last result stands in Redis.
func awaitKeys(ctx context.Context, db *redis.Client, before, want int, progress io.Writer) (time.Time, error) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	moved, said := time.Now(), time.Now()
	last := int64(-1)
	for {
		n, err := db.DBSize(ctx).Result()
		n -= int64(before)
		now := time.Now()
		switch {
		case ctx.Err() != nil:
			return time.Time{}, context.Cause(ctx)
		case err != nil:
			return time.Time{}, fmt.Errorf("count the results in Redis: %w", err)
		case n >= int64(want):
			return now, nil
		case n != last:
			last, moved = n, now
		case now.Sub(moved) > stallAfter:
			return time.Time{}, fmt.Errorf("nothing was finished for %v: %d of %d results stand in Redis", stallAfter, n, want)
		}
		if now.Sub(said) > sayEvery {
			said = now
			printf(progress, "    %s of %s\n", thousands(int(n)), thousands(want))
		}
		select {
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		case <-ticker.C:
		}
	}
}

// meter reads CPU times of named processes.
type meter struct {
	names []string
	pids  []int
}

func (m *meter) add(name string, pid int) {
	m.names, m.pids = append(m.names, name), append(m.pids, pid)
}

// reading is what a meter read; ok is false where the system does not tell.
type reading struct {
	at      time.Time
	cpu     []time.Duration
	machine time.Duration
	ok      bool
}

func (m *meter) read() reading {
	r := reading{at: time.Now(), ok: true}
	for _, pid := range m.pids {
		t, err := cpuTime(pid)
		r.ok = r.ok && err == nil
		r.cpu = append(r.cpu, t)
	}
	t, err := machineTime()
	r.ok = r.ok && err == nil
	r.machine = t
	return r
}

// since fills a round with what was used between two readings.
func (m *meter) since(from, to reading, r *round) {
	if !from.ok || !to.ok {
		return
	}
	r.CPU = make(map[string]float64, len(m.names))
	var ours time.Duration
	for i, name := range m.names {
		used := to.cpu[i] - from.cpu[i]
		ours += used
		r.CPU[name] = float64(used) / float64(time.Microsecond) / float64(r.Jobs)
	}
	wall := to.at.Sub(from.at)
	if others := to.machine - from.machine - ours; others > 0 && wall > 0 {
		r.OtherCPUs = float64(others) / float64(wall)
	}
}
