package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"github.com/sheafml/sheaf/producer"
)

// quiet is how long the load goes on after the last fault, so that its recovery can be seen.
const quiet = 2 * time.Second

// experiment is one run. The report is nil only if nothing could be started.
func experiment(ctx context.Context, cfg *config, out io.Writer) (r *report, err error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, cfg.duration)
	defer cancel()
	rows, err := loadRows(filepath.Join(cfg.digits(), "heldout.jsonl"))
	if err != nil {
		return nil, err
	}
	l, err := openLab(ctx, cfg)
	if l == nil {
		return nil, err
	}
	defer func() {
		l.close()
		r.sum(l) // what the processes did until their end
		interrupted := r != nil && r.clean() && errors.Is(ctx.Err(), context.Canceled)
		if cfg.keep || r != nil && !r.Passed && !interrupted {
			sayf(out, "logs and data: %s\n", l.dir)
		} else {
			err = errors.Join(err, l.remove())
		}
	}()
	if err != nil {
		return nil, err
	}
	p, err := connect(ctx, l)
	if err != nil {
		return nil, err
	}
	defer p.Close() //nolint:errcheck // everything that counts was acknowledged
	store, err := openStore(ctx, l.redisAddr)
	if err != nil {
		return nil, err
	}
	defer store.Close() //nolint:errcheck // only read

	t := &trial{cfg: cfg, lab: l, ledger: &ledger{}, meter: newMeter(l), out: out, began: began}
	t.injector = &injector{lab: l, meter: t.meter, out: out}
	t.load = newLoad(cfg, l, t.ledger, rows, p, out)
	t.auditor = &auditor{cfg: cfg, ledger: t.ledger, store: store, out: out}
	return t.run(ctx)
}

// connect opens the producer through its link and waits until it knows the model.
func connect(ctx context.Context, l *lab) (*producer.Producer, error) {
	cfg := producer.DefaultConfig()
	cfg.Queue.URL, cfg.Queue.Name = "nats://"+l.producer.addr(), "chaos"
	cfg.Queue.Interactive.AckWait, cfg.Queue.Bulk.AckWait = ackWait, ackWait
	p, err := producer.Connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	for {
		if _, ok := p.Models().Get(modelName, ""); ok {
			return p, nil
		}
		if !sleep(ctx, 20*time.Millisecond) {
			return nil, errors.Join(errors.New("no worker announced the model "+modelName), p.Close())
		}
	}
}

// trial is a run whose processes are up.
type trial struct {
	cfg      *config
	lab      *lab
	ledger   *ledger
	meter    *meter
	injector *injector
	load     *load
	auditor  *auditor
	out      io.Writer
	began    time.Time
}

func (t *trial) run(ctx context.Context) (*report, error) {
	faults := plan(t.cfg.seed, t.cfg.faults, t.cfg.gap, ackWait, t.lab.targets(), deck(t.cfg.killRedis()))
	length := end(faults) + quiet
	sayf(t.out, "seed %d: %d jobs and %d faults in %v\n", t.cfg.seed, t.cfg.jobs, len(faults), length.Round(100*time.Millisecond))

	background, stop := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	watchers.Go(func() { t.meter.run(background) })
	watchers.Go(func() { t.load.poll(background) })
	watchers.Go(func() { t.auditor.track(background) })
	start := time.Now()
	var work sync.WaitGroup
	var waves []time.Duration
	for _, f := range faults {
		waves = append(waves, f.At)
	}
	work.Go(func() { t.load.run(ctx, length, waves) })
	work.Go(func() { t.injector.run(ctx, faults, start) })
	work.Wait()
	submitted := time.Since(start)
	sayf(t.out, "all is submitted; waiting for the results\n")

	incomplete := t.auditor.await(ctx)
	settled := time.Since(start)
	stop()
	watchers.Wait()
	asked := t.load.ask(ctx, 200)
	held, err := emptied(ctx, t.lab.monitor, 20*time.Second)
	if err != nil {
		sayf(t.out, "what is left in the queue is not known: %v\n", err)
	}
	incomplete = errors.Join(incomplete, t.auditor.recheck(ctx))
	for _, p := range t.lab.processes {
		t.meter.read(ctx, p)
	}
	r := t.report(held, asked)
	r.SubmitSeconds, r.SettleSeconds, r.Seconds = submitted.Seconds(), (settled - submitted).Seconds(), time.Since(t.began).Seconds()
	if incomplete != nil {
		r.Passed = false
		return r, fmt.Errorf("the run ended before every job was checked: %w", incomplete)
	}
	return r, nil
}

// sayf tells the progress.
func sayf(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
