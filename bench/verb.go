package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

// verbSettings are what every verb but the benchmark itself has.
type verbSettings struct {
	labSettings

	jsonFile string
	quick    bool
	check    bool
}

func newVerbSettings() verbSettings { return verbSettings{labSettings: defaultLabSettings()} }

// newFlags makes the flags that every verb has.
func (s *verbSettings) newFlags(verb string, stderr io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet("bench "+verb, flag.ContinueOnError)
	fs.SetOutput(stderr)
	s.flags(fs)
	fs.StringVar(&s.jsonFile, "json", "", "write the report as JSON to this `FILE` too")
	fs.BoolVar(&s.quick, "quick", false, "a short form to see that it works: the figures mean little")
	fs.BoolVar(&s.check, "check", false, "end with status 1 if a wanted bound is broken")
	return fs
}

func (s *verbSettings) parse(fs *flag.FlagSet, args []string) error {
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q: there are only flags, -h lists them", fs.Arg(0))
	}
	return nil
}

// verbReport is what every report of a verb begins with.
type verbReport struct {
	Verb    string    `json:"verb"`
	At      time.Time `json:"at"`
	Total   float64   `json:"seconds"`
	Quick   bool      `json:"quick,omitempty"`
	Facts   facts     `json:"facts"`
	Missed  []string  `json:"missed"` // wanted bounds that are broken
	library string
}

// miss notes a broken bound.
func (r *verbReport) miss(format string, args ...any) {
	r.Missed = append(r.Missed, fmt.Sprintf(format, args...))
}

func (r *verbReport) head() *verbReport { return r }

// printHead begins the text of a report.
func (r *verbReport) printHead(w io.Writer, title string) {
	printf(w, "%s, %s, %.0f s\n", title, r.At.UTC().Format("2006-01-02 15:04 UTC"), r.Total)
	if r.Quick {
		printf(w, "QUICK: this shows that it works; run it without -quick for figures\n")
	}
	f := r.Facts
	printf(w, "  machine   %s, %d cores, %s\n", f.CPU, f.Cores, f.OS)
	printf(w, "  software  Sheaf %s, Go %s, NATS %s, Redis %s, ONNX Runtime %s\n", f.Sheaf, f.Go, f.NATS, f.Redis, f.ORT)
}

// printMissed ends it.
func (r *verbReport) printMissed(w io.Writer) {
	if len(r.Missed) == 0 {
		printf(w, "\nevery wanted bound was kept\n")
		return
	}
	printf(w, "\nMISSED\n")
	for _, m := range r.Missed {
		printf(w, "  %s\n", m)
	}
}

// verbOutcome is the report of a verb.
type verbOutcome interface {
	head() *verbReport
	print(w io.Writer)
	// judge notes the wanted bounds that are broken.
	judge()
}

// runVerb runs one of the verbs, and reports whether there is one of this name.
func runVerb(ctx context.Context, args []string, stdout, stderr io.Writer) (code int, ok bool) {
	var settings *verbSettings
	var run func(context.Context) (verbOutcome, error)
	var err error
	switch args[0] {
	case "backfill":
		var c *backfillConfig
		if c, err = parseBackfill(args[1:], stderr); err == nil {
			settings = &c.verbSettings
			run = func(ctx context.Context) (verbOutcome, error) { return runBackfill(ctx, c, stderr) }
		}
	case "backfill-chaos":
		var c *backfillChaosConfig
		if c, err = parseBackfillChaos(args[1:], stderr); err == nil {
			settings = &c.verbSettings
			run = func(ctx context.Context) (verbOutcome, error) { return runBackfillChaos(ctx, c, stderr) }
		}
	case "backfill-lanes":
		var c *lanesConfig
		if c, err = parseBackfillLanes(args[1:], stderr); err == nil {
			settings = &c.verbSettings
			run = func(ctx context.Context) (verbOutcome, error) { return runLanes(ctx, c, stderr) }
		}
	case "fair":
		var c *fairConfig
		if c, err = parseFair(args[1:], stderr); err == nil {
			settings = &c.verbSettings
			run = func(ctx context.Context) (verbOutcome, error) { return runFair(ctx, c, stderr) }
		}
	case "grpc":
		var c *grpcConfig
		if c, err = parseGRPC(args[1:], stderr); err == nil {
			settings = &c.verbSettings
			run = func(ctx context.Context) (verbOutcome, error) { return runGRPC(ctx, c, stderr) }
		}
	case "http":
		var c *httpConfig
		if c, err = parseHTTP(args[1:], stderr); err == nil {
			settings = &c.verbSettings
			run = func(ctx context.Context) (verbOutcome, error) { return runHTTP(ctx, c, stderr) }
		}
	case "lanes":
		var c *lanesConfig
		if c, err = parseLanesConfig(args[1:], stderr); err == nil {
			settings = &c.verbSettings
			run = func(ctx context.Context) (verbOutcome, error) { return runLanes(ctx, c, stderr) }
		}
	case "overload":
		var c *overloadConfig
		if c, err = parseOverload(args[1:], stderr); err == nil {
			settings = &c.verbSettings
			run = func(ctx context.Context) (verbOutcome, error) { return runOverload(ctx, c, stderr) }
		}
	case "soak":
		var c *soakConfig
		if c, err = parseSoak(args[1:], stderr); err == nil {
			settings = &c.verbSettings
			run = func(ctx context.Context) (verbOutcome, error) { return runSoak(ctx, c, stderr) }
		}
	default:
		return 0, false
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK, true
	case err != nil:
		printf(stderr, "bench %s: %v\n", args[0], err)
		return exitUsage, true
	}
	return conductVerb(ctx, args[0], settings, run, stdout, stderr), true
}

func conductVerb(ctx context.Context, verb string, s *verbSettings, run func(context.Context) (verbOutcome, error), stdout, stderr io.Writer) int {
	began := time.Now()
	outcome, err := run(ctx)
	if ctx.Err() != nil {
		printf(stderr, "bench: interrupted; every process that it started has been ended\n")
		return exitInterrupted
	}
	r := outcome.head()
	r.Verb, r.At, r.Quick, r.Total = verb, began, s.quick, time.Since(began).Seconds()
	if err == nil {
		outcome.judge()
		outcome.print(stdout)
	}
	// What was measured before a failure is worth keeping.
	if s.jsonFile != "" && !r.At.IsZero() {
		b, encode := json.MarshalIndent(outcome, "", "  ")
		if encode == nil {
			encode = os.WriteFile(s.jsonFile, append(b, '\n'), 0o644) //nolint:gosec // a report is for everybody
		}
		err = errors.Join(err, encode)
	}
	if err != nil {
		printf(stderr, "bench %s: %v\n", verb, err)
		return exitFailed
	}
	if s.check && len(r.Missed) > 0 {
		return exitFailed
	}
	return exitOK
}

// inLab starts redis-server, nats-server and a worker, calls fn, and ends every process.
func inLab(ctx context.Context, s *verbSettings, stderr io.Writer, r *verbReport, fn func(context.Context, *lab, func(string, ...any)) error) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	library, err := preflight(&s.labSettings)
	if err != nil {
		return err
	}
	r.library = library
	l, err := openLab(&s.labSettings, end)
	if err != nil {
		return err
	}
	defer l.close()
	if s.keep {
		printf(stderr, "logs and data stay in %s\n", l.dir)
	}
	r.Facts = gatherFacts(ctx, &s.labSettings, library)
	say := func(format string, args ...any) { printf(stderr, format+"\n", args...) }
	say("starting redis-server, nats-server and a worker")
	for _, start := range []func(context.Context) error{l.startRedis, l.startNATS, l.startWorker} {
		if err := start(ctx); err != nil {
			return err
		}
	}
	err = fn(ctx, l, say)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause // a process that ended says more than what failed because of it
	}
	return err
}

// subjects lists the processes that can be sampled, and this program.
func (l *lab) subjects() []subject {
	list := []subject{
		{name: "worker", pid: l.worker.pid(), metrics: "http://" + l.opsAddr + "/metrics"},
		{name: "nats-server", pid: l.nats.pid()},
		{name: "redis-server", pid: l.redis.pid()},
		{name: "bench", pid: os.Getpid()},
	}
	if l.serve != nil {
		list = append(list, subject{name: "serve", pid: l.serve.pid(), metrics: "http://" + l.apiAddr + "/metrics"})
	}
	return list
}
