package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sheafml/sheaf/job"
)

// soakConfig holds the flags of the soak.
type soakConfig struct {
	verbSettings

	length    time.Duration // of the load; 0: none
	rate      float64       // jobs/s; 0: load × what a short saturation gives
	load      float64
	probe     time.Duration
	single    float64 // share of the interactive lane
	httpRate  float64
	every     time.Duration
	part      time.Duration
	settling  time.Duration
	ttl       time.Duration
	drains    int
	drainJobs int
	maxGap    time.Duration
}

func parseSoak(args []string, stderr io.Writer) (*soakConfig, error) {
	c := &soakConfig{verbSettings: newVerbSettings()}
	fs := c.newFlags("soak", stderr)
	fs.DurationVar(&c.length, "duration", time.Hour, "length of the steady load; 0 is none")
	fs.Float64Var(&c.rate, "rate", 0, "jobs/s of the steady load; 0 is the share -load of what a short saturation gives")
	fs.Float64Var(&c.load, "load", 0.5, "share of the saturation")
	fs.DurationVar(&c.probe, "probe", 10*time.Second, "length of that saturation")
	fs.Float64Var(&c.single, "interactive", 0.25, "share of the jobs that is submitted one by one to the interactive lane; the others go to bulk")
	fs.Float64Var(&c.httpRate, "http-rate", 50, "requests/s to /predict besides, so that the API is in it; 0 is none")
	fs.DurationVar(&c.every, "sample", 10*time.Second, "how often memory, goroutines and descriptors are read")
	fs.DurationVar(&c.part, "part", 10*time.Minute, "the beginning and the end that are compared")
	fs.DurationVar(&c.settling, "settling", time.Minute, "left out at the beginning; longer than results live")
	fs.DurationVar(&c.ttl, "result-ttl", 45*time.Second, "how long results live, so that Redis comes to a steady state")
	fs.IntVar(&c.drains, "drains", 300, "backlogs to be built up and worked off")
	fs.IntVar(&c.drainJobs, "drain-jobs", 50_000, "jobs of a backlog")
	fs.DurationVar(&c.maxGap, "max-gap", time.Second, "for -check: the longest time without a result while there is a backlog")
	if err := c.parse(fs, args); err != nil {
		return nil, err
	}
	if c.quick {
		shorten(fs, map[string]func(){
			"duration": func() { c.length = 15 * time.Second }, "probe": func() { c.probe = 3 * time.Second },
			"sample": func() { c.every = time.Second }, "part": func() { c.part = 5 * time.Second },
			"settling": func() { c.settling = 3 * time.Second }, "drains": func() { c.drains = 8 },
			"drain-jobs": func() { c.drainJobs = 10_000 },
		})
	}
	return c, c.validate()
}

func (c *soakConfig) validate() error {
	errs := []error{c.labSettings.validate()}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.length < 0 || c.length > 7*24*time.Hour {
		bad("-duration is %v: expected 0 to a week", c.length)
	}
	if c.rate < 0 || c.rate > maxRate {
		bad("-rate is %v: expected 0 to %d", c.rate, maxRate)
	}
	if !(c.load > 0 && c.load <= 1) {
		bad("-load is %v: expected more than 0, at most 1", c.load)
	}
	if !(c.single >= 0 && c.single <= 1) {
		bad("-interactive is %v: expected 0 to 1", c.single)
	}
	if c.httpRate < 0 || c.httpRate > 10_000 {
		bad("-http-rate is %v: expected 0 to 10000", c.httpRate)
	}
	for name, d := range map[string]time.Duration{"probe": c.probe, "sample": c.every, "part": c.part} {
		if d < 100*time.Millisecond {
			bad("-%s is %v: at least 100ms are expected", name, d)
		}
	}
	if c.ttl < 10*time.Second {
		bad("-result-ttl is %v: at least 10s are expected, or results are gone before they are compared", c.ttl)
	}
	if c.drains < 0 || c.drains > 100_000 || c.drainJobs < 1000 || c.drainJobs > 1_000_000 {
		bad("-drains is %d and -drain-jobs %d: expected 0 to 100000, and 1000 to 1000000", c.drains, c.drainJobs)
	}
	return errors.Join(errs...)
}

// Classes of the soak's book.
const (
	classInteractive = iota
	classBulk
	laneClasses
)

// soakReport is what a soak has shown.
type soakReport struct {
	verbReport

	Saturation float64 `json:"saturation_jobs_per_second,omitempty"`
	Rate       float64 `json:"rate_jobs_per_second,omitempty"` // offered
	Held       float64 `json:"finished_jobs_per_second,omitempty"`
	HeldBack   int     `json:"held_back,omitempty"`
	Refused    int     `json:"refused,omitempty"`
	Seconds    float64 `json:"load_seconds,omitempty"`

	Steady verdict                `json:"steady"`
	HTTP   httpTally              `json:"http"`
	Over   []interval             `json:"over_time,omitempty"`
	Drift  []drift                `json:"drift,omitempty"`
	CPUs   map[string]float64     `json:"cpus,omitempty"` // kept busy on average
	Series map[string][]resources `json:"series,omitempty"`

	Drains  []drained  `json:"drains,omitempty"`
	ByHold  []drainsOf `json:"drains_by_holding,omitempty"`
	Drained verdict    `json:"drained"`
	gap     time.Duration
}

// interval is what happened between two looks.
type interval struct {
	To          float64 `json:"to_s"`
	Interactive spread  `json:"interactive"`
	Bulk        spread  `json:"bulk"`
	HTTP        spread  `json:"http"`
}

// runSoak does everything and returns the report.
func runSoak(ctx context.Context, c *soakConfig, stderr io.Writer) (*soakReport, error) {
	c.models = []string{c.digits()}
	c.workerArgs = []string{"--result-ttl", c.ttl.String()}
	c.serveArgs = []string{"--result-ttl", c.ttl.String()}
	r := &soakReport{gap: c.maxGap}
	err := inLab(ctx, &c.verbSettings, stderr, &r.verbReport, func(ctx context.Context, l *lab, say func(string, ...any)) error {
		load, err := digitsWorkload(c.heldOut())
		if err != nil {
			return err
		}
		if err := l.startServe(ctx); err != nil {
			return err
		}
		if c.length > 0 {
			if err := c.steady(ctx, l, load, r, say); err != nil {
				return err
			}
		}
		if c.drains > 0 {
			return c.drainAll(ctx, l, load, r, say)
		}
		return nil
	})
	return r, err
}

// steady puts the constant load on both lanes.
func (c *soakConfig) steady(ctx context.Context, l *lab, load *workload, r *soakReport, say func(string, ...any)) error {
	client, err := openClient(ctx, l, clientSettings(l), load.model)
	if err != nil {
		return err
	}
	defer client.close()
	r.Rate = c.rate
	if r.Rate == 0 {
		if r.Saturation, err = c.saturate(ctx, l, load, client); err != nil {
			return err
		}
		r.Rate = r.Saturation * c.load
		say("saturation: %s jobs/s", thousands(int(r.Saturation)))
	}
	say("steady load: %s jobs/s for %v", thousands(int(r.Rate)), c.length)

	book := newBook(load, client.store, laneClasses)
	stop, err := client.queue.OnDone(book.done)
	if err != nil {
		return err
	}
	defer stop()
	api := newPredictClient(l, load, c.httpRate)
	sampler := newSampler(c.every, l.subjects()...)
	group, ctx := errgroup.WithContext(ctx)
	loading, end := context.WithTimeout(ctx, c.length)
	defer end()
	watching, unwatch := context.WithCancel(ctx)
	group.Go(func() error { return book.verify(watching) })
	group.Go(func() error { return sampler.run(loading) })
	start := time.Now()
	group.Go(func() error { return c.progress(loading, start, book, api, r, say) })
	interactive := &feed{client: client, book: book, class: classInteractive, lane: job.Interactive, rate: r.Rate * c.single, window: steadyWindow}
	bulk := &feed{client: client, book: book, class: classBulk, lane: job.Bulk, rate: r.Rate * (1 - c.single), window: steadyWindow}
	group.Go(func() error {
		defer unwatch()
		var feeds errgroup.Group
		if interactive.rate > 0 {
			feeds.Go(func() error { return interactive.single(loading) })
		}
		if bulk.rate > 0 {
			feeds.Go(func() error { return bulk.bulk(loading) })
		}
		feeds.Go(func() error { return api.run(loading) })
		err := feeds.Wait()
		r.Seconds = time.Since(start).Seconds()
		r.Held = float64(book.result().Finished) / r.Seconds
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	r.Refused = interactive.refused.count()
	return c.conclude(book, sampler, api, interactive.heldBack+bulk.heldBack, r, l)
}

// steadyWindow bounds what is unfinished in a lane, should the system stand still.
const steadyWindow = 200_000

// conclude waits for the last results and fills the report.
func (c *soakConfig) conclude(book *book, s *sampler, api *predictClient, heldBack int, r *soakReport, l *lab) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := book.settle(ctx, 90*time.Second); err != nil {
		return err
	}
	r.Steady, r.HTTP, r.HeldBack, r.Series = book.result(), api.tally(), heldBack, s.series
	var names []string
	r.CPUs = make(map[string]float64)
	for _, p := range l.subjects() {
		names = append(names, p.name)
		if series := s.series[p.name]; len(series) > 1 {
			a, b := series[0], series[len(series)-1]
			r.CPUs[p.name] = (b.CPU - a.CPU) / (b.At - a.At)
		}
	}
	r.Drift = drifts(names, s.series, c.settling, c.part)
	return nil
}

// saturate measures how many jobs/s pass with both lanes full.
func (c *soakConfig) saturate(ctx context.Context, l *lab, load *workload, client *client) (float64, error) {
	book := newBook(load, client.store, laneClasses)
	stop, err := client.queue.OnDone(book.done)
	if err != nil {
		return 0, err
	}
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	loading, end := context.WithTimeout(ctx, c.probe+probeWarmUp)
	defer end()
	watching, unwatch := context.WithCancel(ctx)
	group.Go(func() error { return book.verify(watching) })
	var rate float64
	group.Go(func() error {
		if !rest(loading, probeWarmUp) {
			return nil
		}
		before, from := book.result().Finished, time.Now()
		rest(loading, c.probe-probeWarmUp/10)
		rate = float64(book.result().Finished-before) / time.Since(from).Seconds()
		return nil
	})
	group.Go(func() error {
		defer unwatch()
		var feeds errgroup.Group
		if c.single > 0 {
			f := &feed{client: client, book: book, class: classInteractive, lane: job.Interactive, window: 4000}
			feeds.Go(func() error { return f.single(loading) })
		}
		if c.single < 1 {
			f := &feed{client: client, book: book, class: classBulk, lane: job.Bulk, window: 20_000}
			feeds.Go(func() error { return f.bulk(loading) })
		}
		return feeds.Wait()
	})
	if err := group.Wait(); err != nil {
		return 0, fmt.Errorf("saturate: %w", err)
	}
	end()
	if err := book.settle(context.WithoutCancel(ctx), 90*time.Second); err != nil {
		return 0, err
	}
	v := book.result()
	if err := v.failure(); err != nil {
		return 0, err
	}
	return rate, l.drained(context.WithoutCancel(ctx))
}

// probeWarmUp is left out at the beginning of a saturation.
const probeWarmUp = 2 * time.Second

// overTime is how often the latencies are summed up.
const overTime = time.Minute

// progress sums up the latencies, and says how it goes.
func (c *soakConfig) progress(ctx context.Context, start time.Time, book *book, api *predictClient, r *soakReport, say func(string, ...any)) error {
	every := min(overTime, max(c.length/4, time.Second))
	for rest(ctx, every) {
		interactive, bulk, http := book.takeLatency(classInteractive), book.takeLatency(classBulk), api.takeLatency()
		one := interval{To: time.Since(start).Seconds(), Interactive: interactive.spread(), Bulk: bulk.spread(), HTTP: http.spread()}
		r.Over = append(r.Over, one)
		v := book.result()
		say("%5.0f s: %s finished, %s compared, %d lost, %d wrong; p99 %.1f ms interactive, %.1f ms bulk, %.1f ms HTTP",
			one.To, thousands(v.Finished), thousands(v.Compared), v.Lost, v.Wrong, one.Interactive.P99, one.Bulk.P99, one.HTTP.P99)
	}
	return nil
}
