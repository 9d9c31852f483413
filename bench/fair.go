package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

// wantFairRatio is how much longer a tenant's p99 may be while another floods.
const wantFairRatio = 2

// fairConfig holds the flags of the measurement of fairness.
type fairConfig struct {
	verbSettings
	modelSettings

	rounds    int
	phase     time.Duration
	lead      time.Duration
	load      float64
	flood     float64
	shares    int
	perTenant int
	jobs      int
}

func parseFair(args []string, stderr io.Writer) (*fairConfig, error) {
	c := &fairConfig{verbSettings: newVerbSettings()}
	fs := c.newFlags("fair", stderr)
	c.modelSettings.flags(fs, &c.labSettings, "mlp")
	fs.IntVar(&c.rounds, "rounds", 5, "rounds of the three phases: alone, flooded by a tenant of another share, and by one of the same share")
	fs.DurationVar(&c.phase, "phase", 15*time.Second, "length of a phase")
	fs.DurationVar(&c.lead, "lead", 4*time.Second, "how long the flood goes on before a phase is measured")
	fs.Float64Var(&c.load, "load", 0.5, "part of its share of the capacity (half of it) that the quiet tenant uses")
	fs.Float64Var(&c.flood, "flood", 50, "times its share that the flooding tenant offers")
	fs.IntVar(&c.shares, "shares", 8, "tenant shares of the queue: what the tenants' names are chosen by")
	fs.IntVar(&c.perTenant, "per-tenant", 100, "messages that the interactive lane takes of one tenant")
	fs.IntVar(&c.jobs, "message-jobs", 16, "jobs of one message of the flood at most")
	if err := c.parse(fs, args); err != nil {
		return nil, err
	}
	if c.quick {
		shorten(fs, map[string]func(){
			"rounds": func() { c.rounds = 1 }, "phase": func() { c.phase = 4 * time.Second }, "lead": func() { c.lead = 2 * time.Second },
		})
	}
	return c, c.validate()
}

func (c *fairConfig) validate() error {
	errs := []error{c.labSettings.validate(), c.apply(&c.labSettings)}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.rounds < 1 || c.rounds > 100 {
		bad("-rounds is %d: expected 1 to 100", c.rounds)
	}
	if c.phase < time.Second || c.phase > time.Hour || c.lead < 0 || c.lead > time.Hour {
		bad("-phase is %v and -lead %v: expected 1s to 1h, and 0 to 1h", c.phase, c.lead)
	}
	if !(c.load > 0 && c.load <= 1) || !(c.flood >= 1 && c.flood <= 10_000) {
		bad("-load is %v and -flood %v: expected more than 0 and at most 1, and 1 to 10000", c.load, c.flood)
	}
	if c.shares < 1 || c.shares > 64 || c.perTenant < 1 || c.jobs < 1 || c.jobs > 64 {
		bad("-shares is %d, -per-tenant %d, -message-jobs %d: expected 1 to 64, 1 or more, and 1 to 64", c.shares, c.perTenant, c.jobs)
	}
	return errors.Join(errs...)
}

// tenantShare is the share of a tenant: what nats-server's partition function gives for the tenant's token.
func tenantShare(tenant string, shares int) int {
	h := fnv.New32a()
	_, _ = io.WriteString(h, tenant)
	return int(h.Sum32() % uint32(shares)) //nolint:gosec // small numbers
}

const quietTenant = "quiet"

// floodTenants returns a tenant of another share than the quiet one's, and one of the same.
func floodTenants(shares int) (other, same string) {
	for i := 0; other == "" || same == ""; i++ {
		name := "flood" + strconv.Itoa(i)
		switch alike := tenantShare(name, shares) == tenantShare(quietTenant, shares); {
		case alike && same == "":
			same = name
		case !alike && other == "":
			other = name
		}
		if shares == 1 {
			other = same
		}
	}
	return other, same
}

// fairPhase is what the quiet tenant saw in one phase.
type fairPhase struct {
	Quiet   spread        `json:"quiet"`
	Refused int           `json:"quiet_refused"`
	LateP99 float64       `json:"late_p99_ms"`
	Flood   *feederReport `json:"flood,omitempty"`
	// FloodDone is what the flooding tenant got meanwhile, in jobs/s.
	FloodDone float64 `json:"flood_finished_per_second,omitempty"`
	// LeastWaiting is the smallest number of messages that waited in the lane.
	LeastWaiting int `json:"least_waiting_messages"`
}

// fairRound is the three phases.
type fairRound struct {
	Alone fairPhase `json:"alone"`
	Other fairPhase `json:"other_share"`
	Same  fairPhase `json:"same_share"`
}

// fairReport is what the measurement has shown.
type fairReport struct {
	verbReport

	Model     string      `json:"model"`
	Rows      int         `json:"rows"`
	Capacity  float64     `json:"capacity_jobs_per_second"`
	QuietRate float64     `json:"quiet_jobs_per_second"`
	FloodRate float64     `json:"flood_jobs_per_second"`
	Tenants   [3]string   `json:"tenants"` // quiet, flood of another share, flood of the same
	Shares    int         `json:"shares"`
	Rounds    []fairRound `json:"rounds"`
	Other     summary     `json:"p99_ratio_other_share"`
	Same      summary     `json:"p99_ratio_same_share"`
	Verdict   verdict     `json:"verdict"`
}

func runFair(ctx context.Context, c *fairConfig, stderr io.Writer) (*fairReport, error) {
	r := &fairReport{Model: c.model, Rows: c.rows, Shares: c.shares}
	r.Tenants[0] = quietTenant
	r.Tenants[1], r.Tenants[2] = floodTenants(c.shares)
	c.labSettings.workerArgs = append(c.labSettings.workerArgs, "--interactive-max-msgs-per-tenant", strconv.Itoa(c.perTenant))
	err := inLab(ctx, &c.verbSettings, stderr, &r.verbReport, func(ctx context.Context, l *lab, say func(string, ...any)) error {
		load, err := c.workload(ctx, &c.labSettings, r.library)
		if err != nil {
			return err
		}
		settings := clientSettings(l)
		(&feederSettings{perTenant: c.perTenant}).apply(&settings)
		client, err := openClient(ctx, l, settings, load.model)
		if err != nil {
			return err
		}
		defer client.close()
		m := &fairBench{fairConfig: c, lab: l, client: client, load: load, report: r}
		if r.Capacity, err = m.capacity(ctx); err != nil {
			return err
		}
		r.QuietRate, r.FloodRate = max(1, c.load*r.Capacity/2), c.flood*r.Capacity/2
		say("%s: %s jobs/s at most; %s submits %.0f a second, and %s and %s flood with %s", c.model, thousands(int(r.Capacity)),
			r.Tenants[0], r.QuietRate, r.Tenants[1], r.Tenants[2], thousands(int(r.FloodRate)))
		for i := range c.rounds {
			one, err := m.round(ctx, i)
			if err != nil {
				return err
			}
			r.Rounds = append(r.Rounds, one)
			say("round %d of %d: p99 %.1f ms alone, %.1f ms flooded by another share, %.1f ms by the same", i+1, c.rounds, one.Alone.Quiet.P99, one.Other.Quiet.P99, one.Same.Quiet.P99)
		}
		var other, same []float64
		for _, one := range r.Rounds {
			other, same = append(other, one.Other.Quiet.P99/one.Alone.Quiet.P99), append(same, one.Same.Quiet.P99/one.Alone.Quiet.P99)
		}
		r.Other, r.Same = summarize(other), summarize(same)
		return nil
	})
	return r, err
}

// fairBench is a measurement in progress.
type fairBench struct {
	*fairConfig
	lab    *lab
	client *client
	load   *workload
	report *fairReport
}

// capacity measures how many jobs of the interactive lane are finished a second at most.
func (m *fairBench) capacity(ctx context.Context) (rate float64, err error) {
	book := newBook(m.load, m.client.store, laneClasses)
	stop, err := m.client.queue.OnDone(book.done)
	if err != nil {
		return 0, err
	}
	defer stop()
	group, all := errgroup.WithContext(ctx)
	feeding, enough := context.WithCancel(all)
	defer enough()
	f := &feed{client: m.client, book: book, lane: job.Interactive, tenant: quietTenant, window: 800}
	group.Go(func() error { return f.single(feeding) })
	group.Go(func() error {
		defer enough()
		rest(all, m.lead)
		before, from := book.finished(0), time.Now()
		rest(all, m.phase)
		rate = float64(book.finished(0)-before) / time.Since(from).Seconds()
		return nil
	})
	if err := group.Wait(); err != nil {
		return 0, err
	}
	if err := book.settle(ctx, drainPatience); err != nil {
		return 0, err
	}
	v := book.result()
	m.report.Verdict.add(&v)
	if rate == 0 {
		return 0, errors.New("nothing was finished")
	}
	return rate, errors.Join(v.failure(), m.lab.drained(ctx))
}

// round does the three phases, each time in another order.
func (m *fairBench) round(ctx context.Context, i int) (r fairRound, err error) {
	phases := []func() error{
		func() (err error) { r.Alone, err = m.measure(ctx, "", i); return err },
		func() (err error) { r.Other, err = m.measure(ctx, m.report.Tenants[1], i); return err },
		func() (err error) { r.Same, err = m.measure(ctx, m.report.Tenants[2], i); return err },
	}
	for k := range phases {
		if err := phases[(i+k)%len(phases)](); err != nil {
			return r, err
		}
	}
	return r, nil
}

// measure does one phase, with a flood of a tenant if one is named.
func (m *fairBench) measure(ctx context.Context, tenant string, seed int) (p fairPhase, err error) {
	if err := m.lab.empty(ctx); err != nil {
		return p, err
	}
	book := newBook(m.load, m.client.store, laneClasses)
	stop, err := m.client.queue.OnDone(book.done)
	if err != nil {
		return p, err
	}
	defer stop()
	var flood *feeder
	if tenant != "" {
		flood, err = startFeeder(m.lab, m.load, &feederSettings{
			kind: feederFlood, lane: job.Interactive, tenant: tenant, rate: m.report.FloodRate,
			messageJobs: m.jobs, perTenant: m.perTenant,
		})
		if err != nil {
			return p, err
		}
		defer flood.process.stop()
	}
	rest(ctx, m.lead)
	if err := m.timed(ctx, book, seed, &p); err != nil {
		return p, err
	}
	if flood != nil {
		fed, err := flood.finish(ctx)
		if err != nil {
			return p, err
		}
		p.Flood = &fed
		m.report.Verdict.add(&fed.Verdict)
		if err := fed.Verdict.failure(); err != nil {
			return p, err
		}
	}
	if err := book.settle(ctx, drainPatience); err != nil {
		return p, err
	}
	latency := book.takeLatency(classInteractive)
	p.Quiet = latency.spread()
	v := book.result()
	m.report.Verdict.add(&v)
	return p, errors.Join(v.failure(), m.lab.drained(ctx))
}

// timed is the part of a phase that is measured.
func (m *fairBench) timed(ctx context.Context, book *book, seed int, p *fairPhase) error {
	db := m.lab.database(dbSheaf)
	defer db.Close() //nolint:errcheck // only read
	before, err := db.DBSize(ctx).Result()
	if err != nil {
		return fmt.Errorf("count the results in Redis: %w", err)
	}
	from := time.Now()
	watching, unwatch := context.WithCancel(ctx)
	defer unwatch()
	least := make(chan int, 1)
	go func() { least <- leastWaiting(watching, m.lab, job.Interactive) }()
	refused := &refusals{}
	arrivals := schedule(max(int(m.report.QuietRate), 1), m.phase, uint64(seed)) //nolint:gosec // not negative
	p.LateP99, err = openInteractive(ctx, m.client, book, producer.Request{Tenant: quietTenant}, arrivals, refused)
	if err != nil {
		return err
	}
	unwatch()
	p.LeastWaiting, p.Refused = <-least, refused.count()
	after, err := db.DBSize(ctx).Result()
	if err != nil {
		return fmt.Errorf("count the results in Redis: %w", err)
	}
	p.FloodDone = float64(int(after-before)-book.finished(classInteractive)) / time.Since(from).Seconds()
	// The quiet tenant's last results are waited for beside the flood, not after it.
	err = poll(ctx, 5*time.Millisecond, noticePatience, func() (bool, error) { return book.outstanding(classInteractive) == 0, nil })
	if err != nil && !errors.Is(err, errPatience) {
		return err
	}
	return nil
}

func (r *fairReport) judge() {
	for _, k := range []struct {
		what  string
		ratio summary
	}{{"another share", r.Other}, {"the same share", r.Same}} {
		if k.ratio.Median > wantFairRatio {
			r.miss("p99 while a tenant of %s floods is %.2f times what it is alone; at most %d is wanted", k.what, k.ratio.Median, wantFairRatio)
		}
	}
	for i, one := range r.Rounds {
		if one.Alone.Refused+one.Other.Refused+one.Same.Refused > 0 {
			r.miss("round %d: jobs of the quiet tenant were refused: %d alone, %d, %d", i+1, one.Alone.Refused, one.Other.Refused, one.Same.Refused)
		}
	}
}

func (r *fairReport) print(w io.Writer) {
	r.printHead(w, "Sheaf fairness")
	printf(w, "  model     %s, %d rows a job: %s jobs/s at most, half of it is a tenant's share\n", r.Model, r.Rows, thousands(int(r.Capacity)))
	printf(w, "\nTenant %s submits %.0f jobs a second to the interactive lane, Poisson arrivals; ms from the intended arrival to the notice.\n", r.Tenants[0], r.QuietRate)
	printf(w, "Beside it %s (another share of %d) or %s (the same share) offers %s a second\n", r.Tenants[1], r.Shares, r.Tenants[2], thousands(int(r.FloodRate)))
	t := newTable(w)
	printf(t, "round\tbeside\tp50\tp99\tmax\tp99 ratio\trefused\tflood accepted\trefused\tdone/s\tleast waiting\tbegun late p99\t\n")
	for i, one := range r.Rounds {
		for _, k := range []struct {
			name string
			p    *fairPhase
		}{{"nobody", &one.Alone}, {"another share", &one.Other}, {"the same share", &one.Same}} {
			accepted, refused := 0, 0
			if k.p.Flood != nil {
				accepted = k.p.Flood.Verdict.Accepted
				for _, n := range k.p.Flood.Refused {
					refused += n
				}
			}
			printf(t, "%d\t%s\t%.2f\t%.2f\t%.0f\t%.2f\t%d\t%s\t%s\t%s\t%d\t%.2f\t\n", i+1, k.name, k.p.Quiet.P50, k.p.Quiet.P99, k.p.Quiet.Max,
				k.p.Quiet.P99/one.Alone.Quiet.P99, k.p.Refused, thousands(accepted), thousands(refused), thousands(int(k.p.FloodDone)), k.p.LeastWaiting, k.p.LateP99)
		}
	}
	_ = t.Flush()
	printf(w, "  p99 ratio %.2f (median; %.2f to %.2f) beside another share, %.2f (%.2f to %.2f) beside the same\n",
		r.Other.Median, r.Other.Min, r.Other.Max, r.Same.Median, r.Same.Min, r.Same.Max)
	for i, one := range r.Rounds {
		for _, p := range []*fairPhase{&one.Other, &one.Same} {
			if p.Flood != nil {
				printf(w, "  round %d: of %s jobs of the flood %v were refused, %d not sent for want of this machine's time\n", i+1, thousands(p.Flood.Offered), p.Flood.Refused, p.Flood.Unsent)
			}
		}
	}
	printf(w, "  accepted %s, finished %s, compared %s, lost %d, wrong %d\n", thousands(r.Verdict.Accepted), thousands(r.Verdict.Finished),
		thousands(r.Verdict.Compared), r.Verdict.Lost, r.Verdict.Wrong)
	r.printMissed(w)
}
