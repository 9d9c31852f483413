package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sheafml/sheaf/job"
)

// What is wanted under overload.
const (
	wantGoodput = 0.9  // of the sustainable goodput
	wantInTime  = 0.99 // of what was accepted
	// wantAnswer is how long the p99 of refusals may take: a refusal that takes long is a hang.
	wantAnswer = time.Second
)

// overloadConfig holds the flags of the measurement of overload.
type overloadConfig struct {
	verbSettings
	modelSettings

	probe    time.Duration
	clients  int
	times    float64
	length   time.Duration
	warmUp   time.Duration
	deadline time.Duration
}

func parseOverload(args []string, stderr io.Writer) (*overloadConfig, error) {
	c := &overloadConfig{verbSettings: newVerbSettings()}
	fs := c.newFlags("overload", stderr)
	c.modelSettings.flags(fs, &c.labSettings, "cnn")
	fs.DurationVar(&c.probe, "probe", 15*time.Second, "length of the closed loop that finds the sustainable goodput, after two seconds of warm-up")
	fs.IntVar(&c.clients, "clients", 64, "clients of the closed loop")
	fs.Float64Var(&c.times, "times", 5, "times the sustainable goodput that is offered then")
	fs.DurationVar(&c.length, "duration", 20*time.Second, "of the overload")
	fs.DurationVar(&c.warmUp, "warm-up", 3*time.Second, "not counted at the beginning of the overload")
	fs.DurationVar(&c.deadline, "deadline", 2*time.Second, "of each job, from its intended arrival")
	if err := c.parse(fs, args); err != nil {
		return nil, err
	}
	if c.quick {
		shorten(fs, map[string]func(){
			"probe": func() { c.probe = 3 * time.Second }, "duration": func() { c.length = 6 * time.Second },
			"warm-up": func() { c.warmUp = 2 * time.Second },
		})
	}
	return c, c.validate()
}

func (c *overloadConfig) validate() error {
	errs := []error{c.labSettings.validate(), c.apply(&c.labSettings)}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.probe < time.Second || c.length < time.Second || c.length > time.Hour || c.warmUp < 0 || c.warmUp >= c.length {
		bad("-probe is %v, -duration %v, -warm-up %v: expected 1s or more, 1s to 1h, and less than -duration", c.probe, c.length, c.warmUp)
	}
	if c.clients < 1 || c.clients > 10_000 || !(c.times >= 1 && c.times <= 1000) || c.deadline < 10*time.Millisecond {
		bad("-clients is %d, -times %v, -deadline %v: expected 1 to 10000, 1 to 1000, and 10ms or more", c.clients, c.times, c.deadline)
	}
	return errors.Join(errs...)
}

// overloadReport is what the measurement has shown. Refusals are by status; 0 is no answer at all.
type overloadReport struct {
	verbReport

	Model       string                 `json:"model"`
	Rows        int                    `json:"rows"`
	Sustainable float64                `json:"sustainable_jobs_per_second"`
	Offered     float64                `json:"offered_jobs_per_second"`
	Deadline    float64                `json:"deadline_s"`
	Length      float64                `json:"overload_s"`
	Submitted   int                    `json:"submitted"`
	Accepted    int                    `json:"accepted"`
	InTime      int                    `json:"in_time"`
	Outcomes    map[string]int         `json:"outcomes"` // of the accepted
	Wrong       int                    `json:"wrong"`
	Goodput     float64                `json:"goodput_jobs_per_second"`
	Share       float64                `json:"goodput_share"`
	InTimeShare float64                `json:"in_time_share"` // of the accepted
	Refused     map[int]int            `json:"refused"`
	Reasons     map[string]int         `json:"reasons"` // problem types
	RetryAfter  map[int]map[string]int `json:"retry_after"`
	Refusals    spread                 `json:"refusals"`    // how long they took
	Acceptances spread                 `json:"acceptances"` // how long they took
	Life        spread                 `json:"life"`        // from the intended arrival to the result, of what was in time
	LateP99     float64                `json:"late_p99_ms"`
}

func runOverload(ctx context.Context, c *overloadConfig, stderr io.Writer) (*overloadReport, error) {
	r := &overloadReport{Model: c.model, Rows: c.rows, Deadline: c.deadline.Seconds(), Length: c.length.Seconds()}
	err := inLab(ctx, &c.verbSettings, stderr, &r.verbReport, func(ctx context.Context, l *lab, say func(string, ...any)) error {
		load, err := c.workload(ctx, &c.labSettings, r.library)
		if err != nil {
			return err
		}
		if err := l.startServe(ctx); err != nil {
			return err
		}
		client, err := openClient(ctx, l, clientSettings(l), load.model) // reads the records
		if err != nil {
			return err
		}
		defer client.close()
		o := &overload{overloadConfig: c, lab: l, client: client, api: newSubmitter(l, load), load: load, report: r}
		if r.Sustainable, err = o.sustainable(ctx); err != nil {
			return err
		}
		r.Offered = c.times * r.Sustainable
		say("%s: %s jobs/s over HTTP are sustainable; offering %s with a deadline of %v, for %v", c.model, thousands(int(r.Sustainable)), thousands(int(r.Offered)), c.deadline, c.length)
		return o.run(ctx)
	})
	return r, err
}

// overload is a measurement in progress.
type overload struct {
	*overloadConfig
	lab    *lab
	client *client
	api    *submitter
	load   *workload
	report *overloadReport
}

// sustainable measures how many jobs/s a closed loop of waiting clients gets.
func (o *overload) sustainable(ctx context.Context) (float64, error) {
	const warmUp = 2 * time.Second
	var all sync.WaitGroup
	var mu sync.Mutex
	var failure error
	n := 0
	loop, end := context.WithTimeout(ctx, warmUp+o.probe)
	defer end()
	start := time.Now()
	for k := range o.clients {
		all.Go(func() {
			for i := k; loop.Err() == nil; i += o.clients {
				a := o.api.submit(context.WithoutCancel(loop), i, time.Time{}, "wait=30")
				mu.Lock()
				since := time.Since(start)
				switch {
				case a.status != http.StatusOK || a.state != job.Succeeded.String():
					failure = fmt.Errorf("a job of the closed loop was answered %d (%s): %s", a.status, a.state, a.problem)
				case since > warmUp && since <= warmUp+o.probe:
					n++
				}
				mu.Unlock()
				if a.status != http.StatusOK {
					return
				}
			}
		})
	}
	all.Wait()
	if failure != nil {
		return 0, failure
	}
	return float64(n) / o.probe.Seconds(), o.lab.drained(ctx)
}

// submitted is one job that was accepted.
type submitted struct {
	id       job.ID
	ticket   string
	sample   int
	due      time.Time
	deadline time.Time
}

// run offers the overload and judges what became of it.
func (o *overload) run(ctx context.Context) error {
	if err := o.lab.empty(ctx); err != nil {
		return err
	}
	r := o.report
	r.Refused, r.Reasons, r.RetryAfter, r.Outcomes = map[int]int{}, map[string]int{}, map[int]map[string]int{}, map[string]int{}
	var mu sync.Mutex
	var accepted []submitted
	var refusals, acceptances times
	arrivals := schedule(int(r.Offered), o.length, latencySeed)
	start, late, err := openLoop(ctx, arrivals, func(i int, due time.Time) error {
		began := time.Now()
		deadline := due.Add(o.deadline).Truncate(time.Millisecond) // as the header says it
		a := o.api.submit(ctx, i, deadline, "")
		took := time.Since(began)
		mu.Lock()
		defer mu.Unlock()
		if a.status == http.StatusAccepted || a.status == http.StatusOK {
			acceptances.add(took)
			accepted = append(accepted, submitted{a.ticket.ID, a.ticket.String(), i, due, deadline})
			return nil
		}
		refusals.add(took)
		r.Refused[a.status]++
		r.Reasons[a.problem]++
		if r.RetryAfter[a.status] == nil {
			r.RetryAfter[a.status] = map[string]int{}
		}
		r.RetryAfter[a.status][a.retryAfter]++
		return nil
	})
	if err != nil {
		return err
	}
	var spread times
	for _, d := range late {
		spread.add(d)
	}
	r.LateP99, r.Submitted, r.Accepted = milliseconds(spread.percentile(99)), len(arrivals), len(accepted)
	r.Refusals, r.Acceptances = refusals.spread(), acceptances.spread()
	rest(ctx, o.deadline+time.Second)
	if err := o.judgeJobs(ctx, accepted, start); err != nil {
		return err
	}
	return o.lab.drained(ctx)
}

// judgeJobs reads the records of the accepted jobs. Goodput counts what was finished in time while the overload lasted.
func (o *overload) judgeJobs(ctx context.Context, accepted []submitted, start time.Time) error {
	r := o.report
	from, to := start.Add(o.warmUp), start.Add(o.length)
	inWindow := 0
	var life times
	for at := 0; at < len(accepted); at += verifyChunk {
		part := accepted[at:min(at+verifyChunk, len(accepted))]
		ids := make([]job.ID, len(part))
		for i := range part {
			ids[i] = part[i].id
		}
		records, err := o.client.store.Get(ctx, ids...)
		if err != nil {
			return fmt.Errorf("read the records: %w", err)
		}
		for i, record := range records {
			s := &part[i]
			if record == nil {
				// Nobody has said what became of it yet; the API is to know.
				r.Outcomes["no record, then "+o.api.state(ctx, s.ticket)]++
				continue
			}
			result, err := job.DecodeRecord(s.id, record)
			if err != nil {
				return fmt.Errorf("job %s: %w", s.id, err)
			}
			state := result.State.String()
			switch {
			case result.State != job.Succeeded:
			case o.load.check(s.sample, s.id, record) != nil:
				r.Wrong++
			case result.FinishedAt.After(s.deadline):
				state += ", too late"
			default:
				r.InTime++
				life.add(max(0, result.FinishedAt.Sub(s.due)))
				if !result.FinishedAt.Before(from) && result.FinishedAt.Before(to) {
					inWindow++
				}
			}
			r.Outcomes[state]++
		}
	}
	r.Life = life.spread()
	r.Goodput = float64(inWindow) / (o.length - o.warmUp).Seconds()
	r.Share = r.Goodput / r.Sustainable
	if len(accepted) > 0 {
		r.InTimeShare = float64(r.InTime) / float64(len(accepted))
	}
	if r.Wrong > 0 {
		return fmt.Errorf("%d results are wrong", r.Wrong)
	}
	return nil
}

func (r *overloadReport) judge() {
	if r.Share < wantGoodput {
		r.miss("the goodput under %.1f times the sustainable load is %.0f %% of what is sustainable; %.0f %% is wanted", r.Offered/r.Sustainable, 100*r.Share, 100*wantGoodput)
	}
	if r.InTimeShare < wantInTime {
		r.miss("%.1f %% of what was accepted was finished in time; %.0f %% is wanted", 100*r.InTimeShare, 100*wantInTime)
	}
	if r.Refusals.P99 > milliseconds(wantAnswer) {
		r.miss("the p99 of refusals is %.0f ms; at most %.0f is wanted", r.Refusals.P99, milliseconds(wantAnswer))
	}
	if n := r.Refused[0]; n > 0 {
		r.miss("%d submits were not answered", n)
	}
	for status, after := range r.RetryAfter {
		if after[""] > 0 && (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable) {
			r.miss("%d answers of status %d had no Retry-After", after[""], status)
		}
	}
}

func (r *overloadReport) print(w io.Writer) {
	r.printHead(w, "Sheaf overload")
	printf(w, "  model     %s, %d rows a job\n", r.Model, r.Rows)
	printf(w, "\nSustainable over HTTP (closed loop): %.0f jobs/s. Offered then: %.0f jobs/s, open loop, deadline %.1f s, for %.0f s\n", r.Sustainable, r.Offered, r.Deadline, r.Length)
	printf(w, "  goodput   %.0f jobs/s finished within their deadline: %.0f %% of the sustainable\n", r.Goodput, 100*r.Share)
	printf(w, "  accepted  %s of %s; %.1f %% of them in time; what became of them: %v\n", thousands(r.Accepted), thousands(r.Submitted), 100*r.InTimeShare, r.Outcomes)
	printf(w, "  in time   p50 %.0f ms, p99 %.0f ms from the intended arrival to the result\n", r.Life.P50, r.Life.P99)
	printf(w, "  answers   acceptances p50 %.1f ms, p99 %.1f ms; refusals p50 %.1f ms, p99 %.1f ms, max %.0f ms\n",
		r.Acceptances.P50, r.Acceptances.P99, r.Refusals.P50, r.Refusals.P99, r.Refusals.Max)
	for _, status := range slices.Sorted(maps.Keys(r.Refused)) {
		printf(w, "  refused   status %d: %s; Retry-After: %s\n", status, thousands(r.Refused[status]), distribution(r.RetryAfter[status]))
	}
	for _, reason := range slices.Sorted(maps.Keys(r.Reasons)) {
		printf(w, "            %s: %s\n", reason, thousands(r.Reasons[reason]))
	}
	printf(w, "  begun late by this program: p99 %.1f ms\n", r.LateP99)
	r.printMissed(w)
}

// distribution lists whole seconds with their counts, in order.
func distribution(counts map[string]int) string {
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		return x - y
	})
	parts := make([]string, len(keys))
	for i, k := range keys {
		name := k + " s"
		if k == "" {
			name = "none"
		}
		parts[i] = name + " × " + thousands(counts[k])
	}
	return strings.Join(parts, ", ")
}
