package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// config holds the flags.
type config struct {
	labSettings

	jobs      int // one round of Sheaf
	asynqJobs int // one round of asynq
	rounds    int

	rates       []int // jobs/s of Sheaf's latency runs
	asynqRates  []int
	latencyFor  time.Duration
	latencyRuns int

	asynqConcurrency int           // 0: measured
	asynqClients     int           // goroutines that enqueue
	asynqInterval    time.Duration // TaskCheckInterval
	skipAsynq        bool

	jsonFile string
	quick    bool
}

// rateList is a flag of comma-separated rates. "none" is no rate at all.
type rateList struct{ rates *[]int }

func (l rateList) String() string {
	if l.rates == nil {
		return ""
	}
	parts := make([]string, len(*l.rates))
	for i, r := range *l.rates {
		parts[i] = strconv.Itoa(r)
	}
	return strings.Join(parts, ",")
}

func (l rateList) Set(s string) error {
	*l.rates = nil
	if s == "none" {
		return nil
	}
	for part := range strings.SplitSeq(s, ",") {
		r, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || r < 1 {
			return fmt.Errorf("%q is not a rate: expected positive numbers of jobs/s, such as 1000,5000, or none", part)
		}
		*l.rates = append(*l.rates, r)
	}
	return nil
}

// parseConfig reads the flags. Its error says every fault at once.
func parseConfig(args []string, stderr io.Writer) (config, error) {
	cfg := config{rates: []int{1000, 5000}, asynqRates: []int{1000}}
	cfg.labSettings = defaultLabSettings()
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	cfg.labSettings.flags(fs)
	fs.IntVar(&cfg.jobs, "jobs", 300_000, "jobs of one round of Sheaf")
	fs.IntVar(&cfg.asynqJobs, "asynq-jobs", 30_000, "jobs of one round of asynq")
	fs.IntVar(&cfg.rounds, "rounds", 5, "rounds of each, interleaved")
	fs.Var(rateList{&cfg.rates}, "rates", "jobs/s of Sheaf's latency runs, or none")
	fs.Var(rateList{&cfg.asynqRates}, "asynq-rates", "jobs/s of asynq's latency runs, or none")
	fs.DurationVar(&cfg.latencyFor, "latency", 10*time.Second, "length of one latency run")
	fs.IntVar(&cfg.latencyRuns, "latency-runs", 3, "latency runs of each rate, interleaved")
	fs.IntVar(&cfg.asynqConcurrency, "asynq-concurrency", 0, "asynq's Concurrency; 0: try several and take the best")
	fs.IntVar(&cfg.asynqClients, "asynq-clients", 8, "goroutines that enqueue to asynq")
	fs.DurationVar(&cfg.asynqInterval, "asynq-interval", time.Millisecond, "asynq's TaskCheckInterval (its own default is 1s)")
	fs.BoolVar(&cfg.skipAsynq, "skip-asynq", false, "measure Sheaf alone")
	fs.StringVar(&cfg.jsonFile, "json", "", "write the report as JSON to this `FILE` too")
	fs.BoolVar(&cfg.quick, "quick", false, "a short form to see that it works: the figures mean little")
	if err := fs.Parse(args); err != nil {
		return config{}, err
	}
	if fs.NArg() > 0 {
		return config{}, fmt.Errorf("unexpected argument %q: there are only flags, -h lists them", fs.Arg(0))
	}
	if cfg.quick {
		cfg.shorten(fs)
	}
	return cfg, cfg.validate()
}

// shorten makes a run quick wherever the command line does not say otherwise.
func (c *config) shorten(fs *flag.FlagSet) {
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	set := func(name string, apply func()) {
		if !given[name] {
			apply()
		}
	}
	set("jobs", func() { c.jobs = 40_000 })
	set("asynq-jobs", func() { c.asynqJobs = 4_000 })
	set("rounds", func() { c.rounds = 1 })
	set("rates", func() { c.rates = []int{1000} })
	set("asynq-rates", func() { c.asynqRates = []int{500} })
	set("latency", func() { c.latencyFor = 2 * time.Second })
	set("latency-runs", func() { c.latencyRuns = 1 })
	set("asynq-concurrency", func() { c.asynqConcurrency = 32 })
}

const maxRate = 1_000_000

func (c *config) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.jobs < 1000 || c.jobs > 10_000_000 {
		bad("-jobs is %d: expected 1000 to 10000000", c.jobs)
	}
	if c.asynqJobs < 500 || c.asynqJobs > 1_000_000 {
		bad("-asynq-jobs is %d: expected 500 to 1000000", c.asynqJobs)
	}
	if c.rounds < 1 || c.rounds > 100 {
		bad("-rounds is %d: expected 1 to 100", c.rounds)
	}
	if c.latencyFor < time.Second || c.latencyFor > 10*time.Minute {
		bad("-latency is %v: expected 1s to 10m", c.latencyFor)
	}
	if c.latencyRuns < 1 || c.latencyRuns > 100 {
		bad("-latency-runs is %d: expected 1 to 100", c.latencyRuns)
	}
	for _, r := range append(append([]int(nil), c.rates...), c.asynqRates...) {
		if r > maxRate {
			bad("a rate of %d jobs/s: at most %d is expected", r, maxRate)
		}
	}
	if c.asynqConcurrency < 0 || c.asynqConcurrency > 4096 {
		bad("-asynq-concurrency is %d: expected 1 to 4096, or 0 to try several", c.asynqConcurrency)
	}
	if c.asynqClients < 1 || c.asynqClients > 1024 {
		bad("-asynq-clients is %d: expected 1 to 1024", c.asynqClients)
	}
	if c.asynqInterval < time.Millisecond {
		bad("-asynq-interval is %v: at least 1ms is expected", c.asynqInterval)
	}
	errs = append(errs, c.labSettings.validate())
	return errors.Join(errs...)
}
