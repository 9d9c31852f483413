package main

import (
	"context"
	"errors"
	"flag" //nolint:depguard // this is a program
	"fmt"
	"io"
	"os"
	"os/signal" //nolint:depguard // this is a program
	"syscall"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) //nolint:forbidigo // this is a program
}

// Exit statuses.
const (
	exitOK          = 0
	exitFailure     = 1 // the promise was broken, or the run could not be done
	exitUsage       = 2
	exitInterrupted = 130
)

func run(args []string, stdout, stderr io.Writer) int {
	cfg, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		_, _ = fmt.Fprintln(stderr, "chaos:", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r, err := experiment(ctx, &cfg, stderr)
	if r != nil {
		_, _ = io.WriteString(stdout, r.text())
		if cfg.jsonFile != "" {
			err = errors.Join(err, r.save(cfg.jsonFile))
		}
	}
	switch {
	case ctx.Err() != nil:
		return exitInterrupted
	case err != nil:
		_, _ = fmt.Fprintln(stderr, "chaos:", err)
		return exitFailure
	case !r.Passed:
		return exitFailure
	}
	return exitOK
}

func parse(args []string, stderr io.Writer) (config, error) {
	cfg := defaultConfig()
	fs := flag.NewFlagSet("chaos", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Uint64Var(&cfg.seed, "seed", cfg.seed, "of the schedule of faults and of the load")
	fs.IntVar(&cfg.jobs, "jobs", cfg.jobs, "to submit")
	fs.IntVar(&cfg.faults, "faults", cfg.faults, "to inject")
	fs.DurationVar(&cfg.gap, "gap", cfg.gap, "between the beginnings of two faults, on average")
	fs.DurationVar(&cfg.duration, "duration", cfg.duration, "of the whole run, at most; a run that is not done by then has failed")
	fs.DurationVar(&cfg.settle, "settle", cfg.settle, "after the last fault: give up after so long without a new result")
	fs.Float64Var(&cfg.httpShare, "http-share", cfg.httpShare, "part of the jobs that is submitted over HTTP")
	fs.Float64Var(&cfg.cancels, "cancels", cfg.cancels, "part of the look-ups at unfinished jobs, and of the submits over HTTP, that is followed by a cancel")
	fs.Float64Var(&cfg.deadlines, "deadlines", cfg.deadlines, "part of the jobs that has a deadline of half a second to three seconds")
	fs.StringVar(&cfg.fsync, "redis-fsync", cfg.fsync, "appendfsync of Redis: always, or everysec, with which it gets SIGTERM in place of kill -9")
	fs.BoolVar(&cfg.unsafe, "kill-redis", cfg.unsafe, "kill -9 Redis with everysec too, which may lose results")
	fs.StringVar(&cfg.root, "root", cfg.root, "the repository, with bin/ built")
	fs.StringVar(&cfg.jsonFile, "json", cfg.jsonFile, "write the report to this `FILE` too")
	fs.BoolVar(&cfg.keep, "keep", cfg.keep, "keep logs and data; they are kept anyway if something is found")
	fs.BoolVar(&cfg.quick, "quick", cfg.quick, "5,000 jobs and 16 faults in less than a minute; other flags win")
	if err := fs.Parse(args); err != nil {
		return cfg, err
	}
	if fs.NArg() > 0 {
		return cfg, fmt.Errorf("unexpected argument %q: only flags are expected", fs.Arg(0))
	}
	if cfg.quick {
		given := cfg
		cfg.shorten()
		fs.Visit(func(f *flag.Flag) {
			switch f.Name {
			case "jobs":
				cfg.jobs = given.jobs
			case "faults":
				cfg.faults = given.faults
			case "gap":
				cfg.gap = given.gap
			case "duration":
				cfg.duration = given.duration
			case "settle":
				cfg.settle = given.settle
			}
		})
	}
	return cfg, cfg.validate()
}
