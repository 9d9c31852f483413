package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sheafml/sheaf/job"
)

// backfillChaos is a run in progress.
type backfillChaos struct {
	*backfillChaosConfig
	lab     *lab
	report  *backfillChaosReport
	say     func(string, ...any)
	program string
	files   backfillFiles
	ledger  []ledgerEntry

	victims []*victim // the workers
	before  int64     // rows that they had run before

	mu      sync.Mutex
	command *process
	begun   time.Time // of the disturbed run
}

// killed is a kill that was done.
type killed struct {
	What string  `json:"what"`
	At   float64 `json:"at_s"`
	Rows int64   `json:"rows_run"` // by then
}

// moment is when what is to be killed: when the workers have run that share of the rows, and a little later.
type moment struct {
	share float64
	later time.Duration
	pause time.Duration // until it is started again; the command is at once
	what  string
}

const (
	theCommand = "sheaf backfill"
	theWorker  = "worker"
	theRedis   = "redis-server"
	theNATS    = "nats-server"
)

// lastKill is the share of the rows after which nothing is killed, so that a command that is nearly done does not end before.
const lastKill = 0.9

// moments draws them: anywhere in the run, so that some come close together, and some when the command has just been
// started again. What is counted is rows and not seconds, so that all of them come to pass.
func (c *backfillChaosConfig) moments() []moment {
	random := rand.New(rand.NewPCG(c.seed, 0xbf)) //nolint:gosec // it has to be reproducible, not secret
	upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
	var list []moment
	for what, n := range []int{c.kills, c.workerKill, c.redisKill, c.natsKill} {
		for range n {
			m := moment{share: lastKill * random.Float64(), later: upTo(20 * time.Millisecond), what: []string{theCommand, theWorker, theRedis, theNATS}[what]}
			m.pause = upTo(time.Second)
			list = append(list, m)
		}
	}
	slices.SortFunc(list, func(a, b moment) int {
		if a.share < b.share {
			return -1
		}
		return 1
	})
	return list
}

// startWorkers starts those that the lab has not.
func (b *backfillChaos) startWorkers(ctx context.Context) error {
	first := b.lab.workerVictim("worker-1", b.lab.worker, b.lab.opsAddr)
	first.owner = &b.lab.worker
	b.victims = []*victim{first}
	for i := 1; i < b.workers; i++ {
		p, ops, err := b.lab.startSheaf(ctx, "worker", "--ops-addr", append([]string{"--models", b.lab.modelsDir()}, b.workerArgs...))
		if err != nil {
			return err
		}
		b.victims = append(b.victims, b.lab.workerVictim(fmt.Sprintf("worker-%d", i+1), p, ops))
	}
	return nil
}

// close ends the workers that the lab does not know.
func (b *backfillChaos) close() {
	for _, v := range b.victims {
		if v.owner == nil {
			v.stop()
		}
	}
}

// seen is how many rows the workers were seen to run in the disturbed run.
func (b *backfillChaos) seen() int64 {
	var sum int64
	for _, v := range b.victims {
		sum += v.rows()
	}
	return sum - b.before
}

// scrapeInterval is how often the workers are read besides.
const scrapeInterval = 20 * time.Millisecond

// disturb runs the command, kills it and others, and starts it again until it has ended by itself.
func (b *backfillChaos) disturb(ctx context.Context) error {
	r := b.report
	for _, v := range b.victims {
		v.scrape(ctx)
	}
	b.before = b.seen()
	deliveries, err := b.lab.lanes(ctx)
	if err != nil {
		return err
	}
	redis, nats := b.lab.serverVictims()
	b.begun = time.Now()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	group, watching := errgroup.WithContext(watching)
	for _, v := range b.victims {
		group.Go(func() error {
			for rest(watching, scrapeInterval) {
				v.scrape(watching)
			}
			return nil
		})
	}
	group.Go(func() error { return b.inject(watching, ctx, redis, nats) })
	group.Go(func() error {
		defer stop()
		return b.persist(watching)
	})
	if err := group.Wait(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.Disturbed = time.Since(b.begun).Seconds()
	if err := b.lab.drained(ctx); err != nil {
		return err
	}
	for _, v := range b.victims {
		v.scrape(ctx)
		r.Unseen += v.unseen.Seconds()
	}
	r.Seen = b.seen()
	after, err := b.lab.lanes(ctx)
	if err != nil {
		return err
	}
	b.judgeRows(int64(after[job.Bulk].Delivered - deliveries[job.Bulk].Delivered)) //nolint:gosec // a number of messages
	return b.finished(ctx)
}

// judgeRows says how many rows were run more than once.
func (b *backfillChaos) judgeRows(deliveries int64) {
	r := b.report
	rows := float64(r.Wanted)
	r.Recomputed = float64(r.Seen-r.Wanted) / rows
	// A worker that is killed between two readings takes with it what it ran since: at the pace of the undisturbed run,
	// and twice a batch for what was running.
	pace := rows / r.Undisturbed.Seconds
	kills := 0
	for _, v := range b.victims {
		kills += v.kills
	}
	r.AtMost = r.Recomputed + (r.Unseen*pace+float64(kills)*2*inFlightRows)/rows
	// What is run has been delivered. This is certain, and counts what a dead worker had and did not run. A nats-server that
	// is killed forgets some of its count.
	if size := b.rowsPerJob(); size > 0 && b.natsKill == 0 {
		r.Redelivered = deliveries - (b.rows+size-1)/size
		r.AtMost = max(r.Recomputed, min(r.AtMost, float64(r.Redelivered*size)/rows))
	}
}

// inFlightRows is a batch of the digits model.
const inFlightRows = 128

// rowsPerJob is what the command has chosen, 0 if it does not tell.
func (b *backfillChaos) rowsPerJob() int64 {
	text, err := os.ReadFile(b.files.output + ".checkpoint")
	var doc struct {
		RowsPerJob int64 `json:"rows_per_job"`
	}
	if err != nil || json.Unmarshal(text, &doc) != nil {
		return 0
	}
	return doc.RowsPerJob
}

// finished starts the command once more: all is done, so it must say so and have nothing run.
func (b *backfillChaos) finished(ctx context.Context) error {
	run, err := runCommand(ctx, "finished", b.files.dir, b.program, b.args(b.files.output)...)
	if err != nil {
		return err
	}
	if err := run.expect("sheaf backfill of what is done", b.status()); err != nil {
		return err
	}
	for _, v := range b.victims {
		v.scrape(ctx)
	}
	if more := b.seen() - b.report.Seen; more > 0 {
		return fmt.Errorf("sheaf backfill of what is done ran %d rows", more)
	}
	return nil
}

// inject kills what the moments name, until ctx ends. What was killed is started again also after that, unless life ends.
func (b *backfillChaos) inject(ctx, life context.Context, redis, nats *victim) error {
	var group errgroup.Group
	next := 0
	for _, m := range b.moments() {
		for float64(b.seen()) < m.share*float64(b.report.Wanted) {
			if !rest(ctx, 2*time.Millisecond) {
				break
			}
		}
		if !rest(ctx, m.later) {
			break
		}
		b.note(m.what)
		switch m.what {
		case theCommand:
			b.killCommand(ctx)
		case theWorker:
			v := b.victims[next%len(b.victims)]
			next++
			group.Go(func() error { return v.kill(life, m.pause) })
		case theRedis:
			group.Go(func() error { return redis.kill(life, m.pause) })
		case theNATS:
			group.Go(func() error { return nats.kill(life, m.pause) })
		}
	}
	return group.Wait()
}

// killCommand kills the command. If it is just being started again, that is waited for.
func (b *backfillChaos) killCommand(ctx context.Context) {
	for {
		b.mu.Lock()
		p := b.command
		b.mu.Unlock()
		if p != nil {
			select {
			case <-p.done:
			default:
				_ = p.cmd.Process.Kill()
				<-p.done
				return
			}
		}
		if !rest(ctx, time.Millisecond) {
			return
		}
	}
}

func (b *backfillChaos) note(what string) {
	k := killed{What: what, At: time.Since(b.begun).Seconds(), Rows: b.seen()}
	b.report.Kills = append(b.report.Kills, k)
	b.say("%6.1f s: kill -9 %s, at %s rows", k.At, what, thousands(int(k.Rows)))
}

// persist runs the command until it has ended by itself.
func (b *backfillChaos) persist(ctx context.Context) error {
	for ctx.Err() == nil {
		b.report.Starts++
		p, err := startProcess("backfill", b.files.dir, b.program, b.args(b.files.output)...)
		if err != nil {
			return err
		}
		b.mu.Lock()
		b.command = p
		b.mu.Unlock()
		select {
		case <-p.done:
		case <-ctx.Done():
			p.stop()
			return p.failure(fmt.Sprintf("did not end (%v)", context.Cause(ctx)))
		}
		switch status := p.cmd.ProcessState.ExitCode(); status {
		case b.status():
			return nil
		case exitUnreachable:
			b.report.Turned++
			rest(ctx, 200*time.Millisecond)
		case -1: // killed
		default:
			return p.failure(fmt.Sprintf("ended with status %d", status))
		}
	}
	return errors.Join(context.Cause(ctx))
}

// exitUnreachable is the status of `sheaf` that says that something it needs is out of reach.
const exitUnreachable = 4
