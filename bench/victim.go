package main

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// victim is a process that is killed and started again with the same command line.
type victim struct {
	lab   *lab
	name  string
	ready func(context.Context) error
	ops   string    // of a worker: where its metrics are
	owner **process // where the lab keeps it, if it does

	killing sync.Mutex // one kill at a time
	process *process

	mu      sync.Mutex
	kills   int
	counted int64 // rows of the runs that have ended, as they were last read
	current int64 // of this one
	unseen  time.Duration
}

// serverVictims are the servers of the lab.
func (l *lab) serverVictims() (redis, nats *victim) {
	redis = &victim{lab: l, name: "redis-server", process: l.redis, owner: &l.redis, ready: func(ctx context.Context) error { return l.admin.Ping(ctx).Err() }}
	nats = &victim{lab: l, name: "nats-server", process: l.nats, owner: &l.nats, ready: func(ctx context.Context) error {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", l.natsAddr)
		if err != nil {
			return err
		}
		return c.Close()
	}}
	return redis, nats
}

// workerVictim is a worker that was started.
func (l *lab) workerVictim(name string, p *process, ops string) *victim {
	return &victim{lab: l, name: name, process: p, ops: ops, ready: func(ctx context.Context) error {
		body, err := get(ctx, "http://"+ops+"/readyz")
		if err != nil {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(body))
		}
		return nil
	}}
}

// scrapePatience bounds the reading of a page of metrics.
const scrapePatience = 500 * time.Millisecond

// scrape reads how many rows the worker has run. What it does not answer is what it had said before.
func (v *victim) scrape(ctx context.Context) {
	if v.ops == "" {
		return
	}
	v.mu.Lock()
	run := v.kills
	v.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, scrapePatience)
	defer cancel()
	page, err := get(ctx, "http://"+v.ops+"/metrics")
	if err != nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.kills == run {
		v.current = max(v.current, rowsOnPage(page))
	}
}

// rows is how many rows the worker was seen to run, over all its runs.
func (v *victim) rows() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.counted + v.current
}

// kill ends the process with SIGKILL, reads its rows just before, and starts it again after the pause. It returns when the
// process is ready, or ctx ends.
func (v *victim) kill(ctx context.Context, pause time.Duration) error {
	v.killing.Lock()
	defer v.killing.Unlock()
	old := v.process
	old.expected.Store(true)
	before := time.Now()
	v.scrape(ctx)
	_ = old.cmd.Process.Kill()
	v.mu.Lock()
	v.unseen += time.Since(before)
	v.kills++
	v.counted, v.current = v.counted+v.current, 0
	v.mu.Unlock()
	<-old.done
	rest(ctx, pause)
	for ctx.Err() == nil {
		p, err := startProcess(old.name, old.cmd.Dir, old.cmd.Path, old.cmd.Args[1:]...)
		if err != nil {
			return err
		}
		v.process = p
		if v.owner != nil {
			*v.owner = p
		}
		// A process may end at its start because a server that it needs is down: then it is started again.
		if err = p.await(ctx, startPatience, v.ready); err == nil {
			v.lab.watch(p)
			return nil
		}
		select {
		case <-p.done:
		default:
			return err
		}
		rest(ctx, 200*time.Millisecond)
	}
	return context.Cause(ctx)
}

// stop ends the process of a victim that the lab does not know.
func (v *victim) stop() {
	v.killing.Lock()
	defer v.killing.Unlock()
	v.process.expected.Store(true)
	v.process.stop()
}
