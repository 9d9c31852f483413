package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

// measure does everything and prints the report. Whatever it started has ended when it returns.
func measure(ctx context.Context, cfg config, stdout, stderr io.Writer) (err error) {
	began := time.Now()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	library, err := preflight(&cfg.labSettings)
	if err != nil {
		return err
	}
	rows, err := loadRows(cfg.heldOut())
	if err != nil {
		return err
	}
	cfg.models = []string{cfg.digits()}
	l, err := openLab(&cfg.labSettings, end)
	if err != nil {
		return err
	}
	defer l.close()
	if cfg.keep {
		printf(stderr, "logs and data stay in %s\n", l.dir)
	}
	r := report{
		At: began, Quick: cfg.quick, Facts: gatherFacts(ctx, &cfg.labSettings, library),
		Settings: settings{RedisAppendOnly: cfg.appendOnly, RedisFsync: cfg.fsync, NATSSyncInterval: natsSyncInterval},
	}
	err = runAll(ctx, &cfg, l, rows, library, &r, stderr)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause // a process that ended says more than what failed because of it
	}
	if err != nil {
		return err
	}
	r.Seconds = time.Since(began).Seconds()
	if cfg.jsonFile != "" {
		if err := r.writeJSON(cfg.jsonFile); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	}
	return r.print(stdout)
}

// preflight looks for what must have been built before.
func preflight(cfg *labSettings) (library string, err error) {
	var errs []error
	for file, advice := range map[string]string{
		cfg.sheafBinary(): "make build", cfg.natsBinary(): "make deps", cfg.heldOut(): "git checkout",
	} {
		if _, err := os.Stat(file); err != nil {
			errs = append(errs, fmt.Errorf("%w: run `%s`, or set -root to the repository", err, advice))
		}
	}
	library, err = cfg.runtimeLibrary()
	return library, errors.Join(append(errs, err)...)
}

// runAll fills the report.
func runAll(ctx context.Context, cfg *config, l *lab, rows []row, library string, r *report, progress io.Writer) error {
	say := func(format string, args ...any) { printf(progress, format+"\n", args...) }
	say("starting redis-server, nats-server and a worker")
	for _, start := range []func(context.Context) error{l.startRedis, l.startNATS, l.startWorker} {
		if err := start(ctx); err != nil {
			return err
		}
	}
	sheaf, err := openSheaf(ctx, l, rows, progress)
	if err != nil {
		return err
	}
	defer sheaf.close()
	peer := &asynqSide{lab: l, cfg: cfg, rows: rows, library: library, progress: progress}

	say("warming up")
	if _, err := sheaf.round(ctx, max(cfg.jobs/10, 1000)); err != nil {
		return err
	}
	if !cfg.skipAsynq {
		if err := peer.tune(ctx); err != nil {
			return err
		}
		r.Settings.AsynqConcurrency, r.Settings.AsynqClients = peer.concurrency, cfg.asynqClients
		r.Settings.AsynqInterval, r.Settings.AsynqTried = cfg.asynqInterval.String(), map[string]float64{}
		for c, rate := range peer.tried {
			r.Settings.AsynqTried[strconv.Itoa(c)] = rate
		}
	}
	if err := runRounds(ctx, cfg, sheaf, peer, r, say); err != nil {
		return err
	}
	return runLatency(ctx, cfg, sheaf, peer, r, say)
}

// runRounds measures throughput, in turns.
func runRounds(ctx context.Context, cfg *config, sheaf *sheafSide, peer *asynqSide, r *report, say func(string, ...any)) error {
	var ours, theirs []round
	for i := range cfg.rounds {
		one, err := sheaf.round(ctx, cfg.jobs)
		if err != nil {
			return err
		}
		ours = append(ours, one)
		say("round %d of %d: Sheaf %s jobs/s", i+1, cfg.rounds, thousands(int(one.JobsPerSecond)))
		if cfg.skipAsynq {
			continue
		}
		if one, err = peer.round(ctx, cfg.asynqJobs, peer.concurrency); err != nil {
			return err
		}
		theirs = append(theirs, one)
		say("round %d of %d: asynq %s jobs/s", i+1, cfg.rounds, thousands(int(one.JobsPerSecond)))
	}
	r.Throughput = append(r.Throughput, newThroughput(systemSheaf, ours))
	if len(theirs) > 0 {
		r.Throughput = append(r.Throughput, newThroughput(systemAsynq, theirs))
	}
	r.Ratio = ratios(ours, theirs)
	return nil
}

// runLatency measures latency at each rate, in turns.
func runLatency(ctx context.Context, cfg *config, sheaf *sheafSide, peer *asynqSide, r *report, say func(string, ...any)) error {
	type measurement func(ctx context.Context, rate int, length time.Duration) (latencyRun, error)
	var measurements []measurement
	for _, rate := range cfg.rates {
		r.Latency = append(r.Latency, latency{System: systemSheaf, Rate: rate})
		measurements = append(measurements, sheaf.latency)
	}
	if !cfg.skipAsynq {
		for _, rate := range cfg.asynqRates {
			r.Latency = append(r.Latency, latency{System: systemAsynq, Rate: rate})
			measurements = append(measurements, peer.latency)
		}
	}
	for i := range cfg.latencyRuns {
		for k, run := range measurements {
			l := &r.Latency[k]
			say("latency run %d of %d: %s at %s jobs/s, for %v", i+1, cfg.latencyRuns, l.System, thousands(l.Rate), cfg.latencyFor)
			one, err := run(ctx, l.Rate, cfg.latencyFor)
			if err != nil {
				return err
			}
			l.Runs = append(l.Runs, one)
		}
	}
	return nil
}
