package main

import (
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

// feederVerb is the hidden first argument that makes this binary a feeder: a process of its own that floods a lane, so
// that its work is not in the way of this one's clock.
const feederVerb = "feeder"

// Kinds of feeders.
const (
	feederBulk  = "bulk"  // SubmitAll, keeping a number of jobs unfinished
	feederFlood = "flood" // Submit at a rate, whatever is refused
)

// feederSettings say what a feeder does.
type feederSettings struct {
	kind        string
	lane        job.Lane
	tenant      string
	window      int     // of feederBulk
	rate        float64 // of feederFlood
	messageJobs int     // jobs of one message at most
	share       int     // of the results that are compared
	perTenant   int     // messages that the lane takes of one tenant; 0: the default
}

// feederReport is what a feeder tells at its end.
type feederReport struct {
	Verdict verdict        `json:"verdict"`
	Offered int            `json:"offered"`
	Unsent  int            `json:"unsent,omitempty"` // due, but too many submits were on their way
	Refused map[string]int `json:"refused,omitempty"`
	Seconds float64        `json:"seconds"`
}

// feeder is one that runs.
type feeder struct {
	process *process
	report  string
}

// startFeeder starts a feeder.
func startFeeder(l *lab, load *workload, s *feederSettings) (*feeder, error) {
	dir, err := l.subdir("feeder")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "workload")
	if err := load.save(file); err != nil {
		return nil, err
	}
	f := &feeder{report: filepath.Join(dir, "report.json")}
	_ = os.Remove(f.report)
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	f.process, err = startProcess("feeder", dir, program, feederVerb,
		"-nats", l.natsURL(), "-redis", l.redisURL(dbSheaf), "-workload", file, "-report", f.report, "-kind", s.kind,
		"-lane", s.lane.String(), "-tenant", s.tenant, "-window", strconv.Itoa(s.window),
		"-rate", strconv.FormatFloat(s.rate, 'f', -1, 64), "-message-jobs", strconv.Itoa(s.messageJobs),
		"-share", strconv.Itoa(max(s.share, 1)), "-per-tenant", strconv.Itoa(s.perTenant))
	if err != nil {
		return nil, err
	}
	l.watch(f.process)
	return f, nil
}

// finish lets the feeder wait for its last results, and returns what it tells.
func (f *feeder) finish(ctx context.Context) (r feederReport, err error) {
	f.process.expected.Store(true)
	_ = f.process.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-f.process.done:
	case <-ctx.Done():
		f.process.stop()
		return r, context.Cause(ctx)
	case <-time.After(feederPatience):
		f.process.stop()
		return r, f.process.failure(fmt.Sprintf("did not end within %v", feederPatience))
	}
	b, err := os.ReadFile(f.report)
	var exit *exec.ExitError
	if err != nil || errors.As(f.process.err, &exit) {
		return r, f.process.failure(fmt.Sprintf("ended with %v", f.process.err))
	}
	return r, json.Unmarshal(b, &r)
}

// feederPatience is how long a feeder may take to end: it waits for its results.
const feederPatience = 2 * time.Minute

// serveFeeder is the process of a feeder: it feeds until ctx ends.
func serveFeeder(ctx context.Context, args []string, stderr io.Writer) error {
	fs := flag.NewFlagSet(feederVerb, flag.ContinueOnError)
	fs.SetOutput(stderr)
	var s feederSettings
	nats, redis := fs.String("nats", "", "URL"), fs.String("redis", "", "URL")
	file, report := fs.String("workload", "", "file"), fs.String("report", "", "file")
	fs.StringVar(&s.kind, "kind", feederBulk, "bulk or flood")
	lane := fs.String("lane", "", "interactive or bulk")
	fs.StringVar(&s.tenant, "tenant", "", "of the jobs")
	fs.IntVar(&s.window, "window", 0, "unfinished jobs")
	fs.Float64Var(&s.rate, "rate", 0, "jobs/s")
	fs.IntVar(&s.messageJobs, "message-jobs", 0, "jobs of a message at most")
	fs.IntVar(&s.share, "share", 1, "of the results that are compared: every share-th")
	fs.IntVar(&s.perTenant, "per-tenant", 0, "messages of a tenant")
	if err := fs.Parse(args); err != nil {
		return err
	}
	for _, l := range job.Lanes() {
		if l.String() == *lane {
			s.lane = l
		}
	}
	load, err := loadWorkload(*file)
	if err != nil {
		return err
	}
	cfg := producer.DefaultConfig()
	cfg.Queue.URL, cfg.Queue.Name = *nats, "feeder"
	s.apply(&cfg)
	c, err := dial(ctx, cfg, *redis, load.model)
	if err != nil {
		return err
	}
	defer c.close()
	r, err := s.feed(ctx, c, load)
	if err != nil {
		return err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(*report, b, 0o600)
}

// apply changes a producer's settings as the feeder and the whole lab have them.
func (s *feederSettings) apply(cfg *producer.Config) {
	if s.messageJobs > 0 {
		cfg.Queue.Publish.MaxJobs = s.messageJobs
	}
	if s.perTenant > 0 {
		cfg.Queue.Interactive.MaxMsgsPerSubject = int64(s.perTenant)
	}
}

func (s *feederSettings) feed(ctx context.Context, c *client, load *workload) (feederReport, error) {
	r := feederReport{Refused: map[string]int{}}
	book := newBook(load, c.store, 1)
	book.classes[0].share = max(s.share, 1)
	stop, err := c.queue.OnDone(book.done)
	if err != nil {
		return r, err
	}
	defer stop()
	watching, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	defer unwatch()
	group, _ := errgroup.WithContext(ctx)
	group.Go(func() error { return book.verify(watching) })
	start := time.Now()
	group.Go(func() error {
		defer unwatch()
		defer func() { r.Seconds = time.Since(start).Seconds() }()
		if s.kind == feederFlood {
			s.flood(ctx, c, book, &r)
			return nil
		}
		f := &feed{client: c, book: book, lane: s.lane, tenant: s.tenant, window: s.window}
		return f.bulk(ctx)
	})
	if err := group.Wait(); err != nil {
		return r, err
	}
	if err := book.settle(context.WithoutCancel(ctx), drainPatience); err != nil {
		return r, err
	}
	r.Verdict = book.result()
	r.Offered = max(r.Offered, r.Verdict.Accepted)
	return r, nil
}

// floodSubmits bounds the submits of a flood that are on their way at the same time.
const floodSubmits = 3000

// flood submits at the rate until ctx ends, and counts what is refused.
func (s *feederSettings) flood(ctx context.Context, c *client, book *book, r *feederReport) {
	var mu sync.Mutex
	var all sync.WaitGroup
	slots := make(chan struct{}, floodSubmits)
	start := time.Now()
	for n := 0; rest(ctx, time.Millisecond); {
		for due := int(time.Since(start).Seconds() * s.rate); n < due; n++ {
			r.Offered++
			select {
			case slots <- struct{}{}:
			default:
				r.Unsent++
				continue
			}
			i := n
			all.Go(func() {
				defer func() { <-slots }()
				sub, err := c.producer.Submit(context.WithoutCancel(ctx), producer.Request{
					Model: book.load.model, Lane: s.lane, Tenant: s.tenant, Inputs: book.load.at(i).inputs,
				})
				if err == nil {
					book.accept(sub.Ticket.ID, entry{due: time.Now(), sample: i})
					return
				}
				mu.Lock()
				defer mu.Unlock()
				r.Refused[refusal(err)]++
			})
		}
	}
	all.Wait()
}

// refusal names the reason of a refused submit.
func refusal(err error) string {
	switch {
	case errors.Is(err, producer.ErrTenantFull):
		return "tenant full"
	case errors.Is(err, producer.ErrFull):
		return "lane full"
	case errors.Is(err, producer.ErrUnavailable):
		return "unavailable"
	}
	text := err.Error()
	return text[:min(len(text), 80)]
}

// savedWorkload is a workload in a file.
type savedWorkload struct {
	Model, Output string
	Tolerance     float64
	Inputs        [][]job.Tensor
	Expected      [][]byte
}

func (w *workload) save(file string) error {
	s := savedWorkload{Model: w.model, Output: w.output, Tolerance: w.tolerance}
	for i := range w.samples {
		s.Inputs, s.Expected = append(s.Inputs, w.samples[i].inputs), append(s.Expected, w.samples[i].expected)
	}
	f, err := os.Create(file) //nolint:gosec // in the lab's directory
	if err != nil {
		return err
	}
	return errors.Join(gob.NewEncoder(f).Encode(&s), f.Close())
}

func loadWorkload(file string) (*workload, error) {
	f, err := os.Open(file) //nolint:gosec // as above
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	var s savedWorkload
	if err := gob.NewDecoder(f).Decode(&s); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	w := &workload{model: s.Model, output: s.Output, tolerance: s.Tolerance}
	for i := range s.Inputs {
		w.samples = append(w.samples, sample{inputs: s.Inputs[i], expected: s.Expected[i]})
	}
	return w, nil
}
