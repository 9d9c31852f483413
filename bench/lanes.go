package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

// What is wanted of the lanes.
const (
	wantLanesRatio = 1.5
	wantBulkShare  = 0.8
)

// lanesConfig holds the flags of the lanes' measurement.
type lanesConfig struct {
	verbSettings
	modelSettings

	rounds int
	phase  time.Duration
	lead   time.Duration
	rate   float64
	load   float64
	window int

	command *backfillSettings // the backfill is `sheaf backfill`; nil: a feeder
}

func parseLanesConfig(args []string, stderr io.Writer) (*lanesConfig, error) {
	c := &lanesConfig{verbSettings: newVerbSettings()}
	fs := c.newFlags("lanes", stderr)
	c.modelSettings.flags(fs, &c.labSettings, modelName)
	fs.IntVar(&c.rounds, "rounds", 5, "rounds of the three phases: interactive alone, backfill alone, both")
	fs.DurationVar(&c.phase, "phase", 15*time.Second, "length of a phase")
	fs.DurationVar(&c.lead, "lead", 3*time.Second, "how long the backfill goes on before a phase is measured")
	fs.Float64Var(&c.rate, "rate", 0, "interactive jobs/s; 0: the share -load of what the backfill does alone, at most 500")
	fs.Float64Var(&c.load, "load", 0.1, "see -rate")
	fs.IntVar(&c.window, "window", 0, "unfinished jobs of the backfill; 0: what takes some seconds")
	if err := c.parse(fs, args); err != nil {
		return nil, err
	}
	if c.quick {
		shorten(fs, map[string]func(){
			"rounds": func() { c.rounds = 2 }, "phase": func() { c.phase = 3 * time.Second }, "lead": func() { c.lead = time.Second },
		})
	}
	return c, c.validate()
}

// shorten applies what a quick run has in place of flags that are not given.
func shorten(fs *flag.FlagSet, changes map[string]func()) {
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for name, apply := range changes {
		if !given[name] {
			apply()
		}
	}
}

func (c *lanesConfig) validate() error {
	errs := []error{c.labSettings.validate(), c.apply(&c.labSettings)}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.rounds < 1 || c.rounds > 100 {
		bad("-rounds is %d: expected 1 to 100", c.rounds)
	}
	if c.phase < time.Second || c.phase > time.Hour || c.lead < 0 || c.lead > time.Hour {
		bad("-phase is %v and -lead %v: expected 1s to 1h, and 0 to 1h", c.phase, c.lead)
	}
	if c.rate < 0 || c.rate > maxRate || !(c.load > 0 && c.load <= 1) || c.window < 0 {
		bad("-rate is %v, -load %v, -window %d: expected 0 to %d, more than 0 and at most 1, and no negative number", c.rate, c.load, c.window, maxRate)
	}
	return errors.Join(errs...)
}

// lanesPhase is what one phase has shown.
type lanesPhase struct {
	Interactive *spread `json:"interactive,omitempty"`
	// Served is the same from when this program began the submit: what is left out is its own wait for a CPU.
	Served  spread  `json:"interactive_served"`
	LateP99 float64 `json:"late_p99_ms,omitempty"` // of the arrivals, by this program
	Bulk    float64 `json:"bulk_jobs_per_second,omitempty"`
	// LeastWaiting is the smallest number of messages that waited in the bulk lane, as nats-server told: the backfill
	// saturates the workers if it was never 0.
	LeastWaiting int `json:"least_waiting_messages"`
}

// lanesRound is the three phases.
type lanesRound struct {
	Alone    lanesPhase `json:"interactive_alone"`
	Backfill lanesPhase `json:"backfill_alone"`
	Both     lanesPhase `json:"both"`
}

// lanesReport is what the measurement has shown.
type lanesReport struct {
	verbReport

	Command  bool         `json:"sheaf_backfill"` // in place of a feeder
	Model    string       `json:"model"`
	Rows     int          `json:"rows"`
	MaxRows  int          `json:"max_rows"`
	Capacity float64      `json:"capacity_jobs_per_second"`
	Rate     float64      `json:"interactive_jobs_per_second"`
	Window   int          `json:"window"`
	Rounds   []lanesRound `json:"rounds"`
	P50Ratio summary      `json:"p50_ratio"`
	P99Ratio summary      `json:"p99_ratio"`
	Served   summary      `json:"p99_ratio_served"`
	Share    summary      `json:"bulk_share"`
	Verdict  verdict      `json:"verdict"`
}

func runLanes(ctx context.Context, c *lanesConfig, stderr io.Writer) (*lanesReport, error) {
	r := &lanesReport{Command: c.command != nil, Model: c.model, Rows: c.rows}
	err := inLab(ctx, &c.verbSettings, stderr, &r.verbReport, func(ctx context.Context, l *lab, say func(string, ...any)) error {
		load, err := c.workload(ctx, &c.labSettings, r.library)
		if err != nil {
			return err
		}
		client, err := openClient(ctx, l, clientSettings(l), load.model)
		if err != nil {
			return err
		}
		defer client.close()
		info, _ := client.models.Get(load.model, "")
		r.MaxRows = info.MaxRows
		m := &lanesBench{lanesConfig: c, lab: l, client: client, load: load, report: r}
		if err := m.prepare(ctx); err != nil {
			return err
		}
		if err := m.calibrate(ctx); err != nil {
			return err
		}
		say("%s: the backfill alone does about %s jobs/s; interactive jobs: %.0f a second", c.model, thousands(int(r.Capacity)), r.Rate)
		for i := range c.rounds {
			one, err := m.round(ctx, i)
			if err != nil {
				return err
			}
			r.Rounds = append(r.Rounds, one)
			say("round %d of %d: interactive p99 %.2f ms alone, %.2f ms beside the backfill; backfill %s jobs/s alone, %s beside",
				i+1, c.rounds, one.Alone.Interactive.P99, one.Both.Interactive.P99, thousands(int(one.Backfill.Bulk)), thousands(int(one.Both.Bulk)))
		}
		r.sum()
		return nil
	})
	return r, err
}

// sum makes the ratios of the rounds.
func (r *lanesReport) sum() {
	var p50, p99, served, share []float64
	for _, one := range r.Rounds {
		p50 = append(p50, one.Both.Interactive.P50/one.Alone.Interactive.P50)
		p99 = append(p99, one.Both.Interactive.P99/one.Alone.Interactive.P99)
		served = append(served, one.Both.Served.P99/max(one.Alone.Served.P99, 1e-6))
		share = append(share, one.Both.Bulk/one.Backfill.Bulk)
	}
	r.P50Ratio, r.P99Ratio, r.Served, r.Share = summarize(p50), summarize(p99), summarize(served), summarize(share)
}

// lanesBench is a measurement in progress.
type lanesBench struct {
	*lanesConfig
	lab    *lab
	client *client
	load   *workload
	report *lanesReport
	runs   int // of the command
}

// calibrate finds out what the backfill does alone, and sets the rate and the window by it.
func (m *lanesBench) calibrate(ctx context.Context) error {
	m.report.Window = 20 * m.report.MaxRows
	one, err := m.measure(ctx, 0, true, 0)
	if err != nil {
		return err
	}
	r := m.report
	r.Capacity = one.Bulk
	// The worker holds some batches ready: what waits beyond them is what keeps the lane full.
	r.Window = max(int(2.5*one.Bulk), 20*r.MaxRows)
	if m.window > 0 {
		r.Window = m.window
	}
	if r.Rate = m.rate; r.Rate == 0 {
		r.Rate = math.Min(500, math.Max(1, m.lanesConfig.load*one.Bulk))
	}
	return nil
}

// round does the three phases, each time in another order.
func (m *lanesBench) round(ctx context.Context, i int) (r lanesRound, err error) {
	phases := []func() error{
		func() (err error) { r.Alone, err = m.measure(ctx, m.report.Rate, false, i); return err },
		func() (err error) { r.Backfill, err = m.measure(ctx, 0, true, i); return err },
		func() (err error) { r.Both, err = m.measure(ctx, m.report.Rate, true, i); return err },
	}
	for k := range phases {
		if err := phases[(i+k)%len(phases)](); err != nil {
			return r, err
		}
	}
	return r, nil
}

// bulkCompared is the part of the backfill's results that is compared.
const bulkCompared = 20

// measure does one phase: with interactive jobs if there is a rate, with the backfill if it is asked for.
func (m *lanesBench) measure(ctx context.Context, rate float64, backfill bool, seed int) (lanesPhase, error) {
	var p lanesPhase
	if err := m.lab.empty(ctx); err != nil {
		return p, err
	}
	book := newBook(m.load, m.client.store, laneClasses)
	stop, err := m.client.queue.OnDone(book.done)
	if err != nil {
		return p, err
	}
	defer stop()
	var bulk *feeder
	var command *process
	switch {
	case backfill && m.command != nil:
		if command, err = m.startBackfill(); err != nil {
			return p, err
		}
		defer command.stop()
	case backfill:
		bulk, err = startFeeder(m.lab, m.load, &feederSettings{kind: feederBulk, lane: job.Bulk, window: m.report.Window, share: bulkCompared})
		if err != nil {
			return p, err
		}
		defer bulk.process.stop()
	}
	rest(ctx, m.lead)
	if err := m.timed(ctx, book, rate, backfill, seed, &p); err != nil {
		return p, err
	}
	if bulk != nil {
		fed, err := bulk.finish(ctx)
		if err != nil {
			return p, err
		}
		m.report.Verdict.add(&fed.Verdict)
		if err := fed.Verdict.failure(); err != nil {
			return p, err
		}
	}
	if command != nil {
		if err := m.endBackfill(ctx, command); err != nil {
			return p, err
		}
	}
	if err := book.settle(ctx, drainPatience); err != nil {
		return p, err
	}
	v := book.result()
	m.report.Verdict.add(&v)
	return p, errors.Join(v.failure(), m.lab.drained(ctx))
}

// timed is the part of a phase that is measured.
func (m *lanesBench) timed(ctx context.Context, book *book, rate float64, backfill bool, seed int, p *lanesPhase) error {
	before, err := m.finished(ctx)
	if err != nil {
		return err
	}
	from := time.Now()
	watching, unwatch := context.WithCancel(ctx)
	defer unwatch()
	least := make(chan int, 1)
	go func() { least <- leastWaiting(watching, m.lab, job.Bulk) }()
	if rate > 0 {
		p.LateP99, err = openInteractive(ctx, m.client, book, producer.Request{}, schedule(max(int(rate), 1), m.phase, uint64(seed)), nil) //nolint:gosec // not negative
		if err != nil {
			return err
		}
	} else {
		rest(ctx, m.phase)
	}
	if backfill {
		after, err := m.finished(ctx)
		if err != nil {
			return err
		}
		p.Bulk = float64(int(after-before)-book.finished(classInteractive)) / time.Since(from).Seconds()
	}
	unwatch()
	p.LeastWaiting = <-least
	if rate > 0 {
		err := poll(ctx, 5*time.Millisecond, noticePatience, func() (bool, error) { return book.outstanding(classInteractive) == 0, nil })
		if err != nil && !errors.Is(err, errPatience) {
			return err
		}
		latency := book.takeLatency(classInteractive)
		s := latency.spread()
		p.Interactive = &s
		served := book.takeServed(classInteractive)
		p.Served = served.spread()
	}
	return nil
}

// refusals counts submits that were refused.
type refusals struct {
	mu     sync.Mutex
	byKind map[string]int
}

func (r *refusals) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byKind == nil {
		r.byKind = make(map[string]int)
	}
	r.byKind[refusal(err)]++
}

func (r *refusals) count() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.byKind {
		n += k
	}
	return n
}

// openInteractive submits jobs of the template at their times, and returns the p99 of how late this program was. With
// refused, a refusal is counted there and is no error.
func openInteractive(ctx context.Context, c *client, book *book, template producer.Request, arrivals []time.Duration, refused *refusals) (lateP99 float64, err error) {
	_, late, err := openLoop(ctx, arrivals, func(i int, due time.Time) error {
		r, begun := template, time.Now()
		r.Model, r.Inputs = book.load.model, book.load.at(i).inputs
		s, err := c.producer.Submit(ctx, r)
		switch {
		case err == nil:
			book.accept(s.Ticket.ID, entry{due: due, begun: begun, sample: i, class: classInteractive})
		case refused != nil && ctx.Err() == nil:
			refused.add(err)
		default:
			return err
		}
		return nil
	})
	var spread times
	for _, d := range late {
		spread.add(d)
	}
	return milliseconds(spread.percentile(99)), err
}

// leastWaiting looks at a lane until ctx ends, and returns the smallest number of messages that waited.
func leastWaiting(ctx context.Context, l *lab, lane job.Lane) int {
	least := math.MaxInt
	for rest(ctx, 100*time.Millisecond) {
		if states, err := l.lanes(ctx); err == nil {
			least = min(least, states[lane].Waiting)
		}
	}
	if least == math.MaxInt {
		return 0
	}
	return least
}

// add adds the verdict of another part of a run.
func (v *verdict) add(o *verdict) {
	v.Accepted, v.Finished, v.Compared = v.Accepted+o.Accepted, v.Finished+o.Finished, v.Compared+o.Compared
	v.Lost, v.Wrong, v.LostNotices = v.Lost+o.Lost, v.Wrong+o.Wrong, v.LostNotices+o.LostNotices
	v.Evidence = append(v.Evidence, o.Evidence...)
}
