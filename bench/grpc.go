package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// grpcConfig holds the flags of the measurement of calls in flight, over HTTP and gRPC.
type grpcConfig struct {
	verbSettings

	rounds      int
	phase       time.Duration
	warmUp      time.Duration
	inFlight    string
	loads       []int // of inFlight
	connections int
}

func parseGRPC(args []string, stderr io.Writer) (*grpcConfig, error) {
	c := &grpcConfig{verbSettings: newVerbSettings()}
	fs := c.newFlags("grpc", stderr)
	fs.IntVar(&c.rounds, "rounds", 3, "rounds, each with every way of asking at every number in flight")
	fs.DurationVar(&c.phase, "phase", 3*time.Second, "length of each closed loop")
	fs.DurationVar(&c.warmUp, "warm-up", 500*time.Millisecond, "not counted at the beginning of each")
	fs.StringVar(&c.inFlight, "in-flight", "1,8,64,256", "`NUMBERS` of requests on their way at the same time")
	fs.IntVar(&c.connections, "connections", 4, "connections of gRPC; HTTP has one for each request in flight")
	if err := c.parse(fs, args); err != nil {
		return nil, err
	}
	if c.quick {
		shorten(fs, map[string]func(){
			"rounds": func() { c.rounds = 1 }, "phase": func() { c.phase = 400 * time.Millisecond }, "warm-up": func() { c.warmUp = 100 * time.Millisecond },
		})
	}
	return c, c.validate()
}

func (c *grpcConfig) validate() error {
	errs := []error{c.labSettings.validate()}
	if c.rounds < 1 || c.rounds > 100 || c.phase < 100*time.Millisecond || c.phase > 10*time.Minute || c.warmUp < 0 || c.connections < 1 || c.connections > 1000 {
		errs = append(errs, fmt.Errorf("-rounds is %d, -phase %v, -warm-up %v, -connections %d: expected 1 to 100, 100ms to 10m, no negative time, and 1 to 1000",
			c.rounds, c.phase, c.warmUp, c.connections))
	}
	for text := range strings.SplitSeq(c.inFlight, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 || n > 4096 {
			errs = append(errs, fmt.Errorf("-in-flight is %q: expected numbers of 1 to 4096 with commas between", c.inFlight))
			break
		}
		c.loads = append(c.loads, n)
	}
	c.models = []string{c.digits()}
	return errors.Join(errs...)
}

// loadPoint is one closed loop.
type loadPoint struct {
	Way      string             `json:"way"`
	InFlight int                `json:"in_flight"`
	Rate     float64            `json:"per_second"`
	P50      float64            `json:"p50_ms"`
	P99      float64            `json:"p99_ms"`
	CPU      map[string]float64 `json:"cpu_us"` // of each process a job, until the job is finished
	Jobs     int                `json:"jobs"`
}

// grpcReport is what the measurement has shown.
type grpcReport struct {
	verbReport

	Connections int         `json:"grpc_connections"`
	Points      []loadPoint `json:"points"` // of all rounds
	Right       int         `json:"right"`
}

func runGRPC(ctx context.Context, c *grpcConfig, stderr io.Writer) (*grpcReport, error) {
	r := &grpcReport{Connections: c.connections}
	err := inLab(ctx, &c.verbSettings, stderr, &r.verbReport, func(ctx context.Context, l *lab, say func(string, ...any)) error {
		load, err := digitsWorkload(c.heldOut())
		if err != nil {
			return err
		}
		addr, err := freeAddr(ctx)
		if err != nil {
			return err
		}
		l.cfg.serveArgs = []string{"--grpc-addr", addr}
		if err := l.startServe(ctx); err != nil {
			return err
		}
		client, err := openClient(ctx, l, clientSettings(l), load.model) // reads the records
		if err != nil {
			return err
		}
		defer client.close()
		over := &overHTTP{httpConfig: &httpConfig{verbSettings: c.verbSettings}, lab: l, client: client, load: load, report: &httpReport{}}
		o := &inFlight{grpcConfig: c, lab: l, addr: addr, over: over, load: load, report: r}
		if err := o.prepare(); err != nil {
			return err
		}
		for i := range c.rounds {
			for j, n := range c.loads {
				for k := range o.ways {
					if err := o.point(ctx, &o.ways[(i+j+k)%len(o.ways)], n); err != nil {
						return err
					}
				}
				say("round %d of %d: %d in flight done", i+1, c.rounds, n)
			}
		}
		return nil
	})
	return r, err
}

// way is one way of asking. open returns what one of n workers asks with: the accepted job is noted in the tickets, an
// answer with a result is compared.
type way struct {
	name string
	open func(ctx context.Context, n int, accepted *tickets) (ask func(worker, sample int) error, close func(), err error)
}

// inFlight is a measurement in progress.
type inFlight struct {
	*grpcConfig
	lab    *lab
	addr   string // of gRPC
	over   *overHTTP
	load   *workload
	report *grpcReport
	ways   []way
}

// point measures one way with n requests in flight, and verifies every job.
func (o *inFlight) point(ctx context.Context, w *way, n int) error {
	if err := o.lab.empty(ctx); err != nil {
		return err
	}
	var accepted tickets
	ask, end, err := w.open(ctx, n, &accepted)
	if err != nil {
		return fmt.Errorf("%s: %w", w.name, err)
	}
	defer end()
	loop := &closedLoop{seconds: o.phase.Seconds()}
	before := cpuOf(o.lab.subjects())
	from := time.Now().Add(o.warmUp)
	to := from.Add(o.phase)
	group, asking := errgroup.WithContext(ctx)
	for k := range n {
		group.Go(func() error {
			var mine times
			asked, counted := 0, 0
			defer func() { loop.count(asked); loop.add(&mine, counted) }()
			for i := k; asking.Err() == nil; i += n {
				began := time.Now()
				if began.After(to) {
					return nil
				}
				if err := ask(k, i%len(o.load.samples)); err != nil {
					return err
				}
				asked++
				if at := time.Now(); at.After(from) && !at.After(to) {
					counted++
					mine.add(at.Sub(began))
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("%s, %d in flight: %w", w.name, n, err)
	}
	if _, err := o.over.drained(ctx); err != nil {
		return err
	}
	p := loadPoint{Way: w.name, InFlight: n, Rate: loop.rate(), CPU: before.since(loop.asked), Jobs: loop.asked}
	s := loop.latency.spread()
	p.P50, p.P99 = s.P50, s.P99
	o.report.Points = append(o.report.Points, p)
	o.report.Right += loop.asked
	return o.over.verify(ctx, &accepted)
}
