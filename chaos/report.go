package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sheafml/sheaf/job"
)

// report is what a run has shown.
type report struct {
	Seed   uint64 `json:"seed"`
	Passed bool   `json:"passed"`
	counts
	verdict

	Jobs       int    `json:"jobs"`
	RedisFsync string `json:"redis_fsync"`
	Schedule   []fault
	Faults     map[class]map[kind]int `json:"faults"`
	Failed     []string               `json:"faults_that_failed,omitempty"`

	RowsComputed   int     `json:"rows_computed_at_least"`
	LateResults    int     `json:"late_results_at_least"`
	ComputedTwice  int     `json:"computed_twice_at_least"`
	Redelivered    int     `json:"jobs_delivered_again"`
	TwiceShare     float64 `json:"computed_twice_share"`
	Recovery       spread  `json:"recovery_after_begin"` // from the beginning of a fault
	RecoveryLifted spread  `json:"recovery_after_lift"`  // from its end
	ByClass        map[class]spread
	Life           spread `json:"accepted_to_finished"`

	Left          map[string]int `json:"messages_left"` // in the streams at the end
	AskedOverHTTP int            `json:"asked_over_http"`
	Exits         []string       `json:"exits_by_themselves,omitempty"`
	Waits         int            `json:"exits_before_ready"`
	Starts        int            `json:"starts"`
	Odd           map[string]int `json:"odd_answers,omitempty"`

	SubmitSeconds float64 `json:"submit_seconds"`
	SettleSeconds float64 `json:"settle_seconds"`
	Seconds       float64 `json:"seconds"`
}

func (t *trial) report(held map[string]int, asked int) *report {
	done := t.injector.injected()
	r := &report{
		Seed: t.cfg.seed, Jobs: t.cfg.jobs, RedisFsync: t.cfg.fsync, counts: t.ledger.counts(),
		Faults: make(map[class]map[kind]int), ByClass: make(map[class]spread),
		Left: held, AskedOverHTTP: asked, Odd: t.load.noted(),
	}
	r.RowsComputed, r.LateResults = t.meter.totals()
	t.ledger.mu.Lock()
	r.verdict = t.ledger.verdict
	t.ledger.mu.Unlock()
	spans := t.ledger.spans()
	var begins, ends []time.Time
	byClass := make(map[class][]time.Time)
	for _, f := range done {
		r.Schedule = append(r.Schedule, f.fault)
		if f.err != nil {
			r.Failed = append(r.Failed, fmt.Sprintf("%s: %v", f.fault, f.err))
		}
		if r.Faults[f.Class] == nil {
			r.Faults[f.Class] = make(map[kind]int)
		}
		r.Faults[f.Class][f.Kind]++
		begins, ends = append(begins, f.began), append(ends, f.lifted)
		byClass[f.Class] = append(byClass[f.Class], f.began)
	}
	r.Recovery, r.RecoveryLifted = spreadOf(recoveries(begins, spans)), spreadOf(recoveries(ends, spans))
	for c, at := range byClass {
		r.ByClass[c] = spreadOf(recoveries(at, spans))
	}
	var lives []time.Duration
	for _, s := range spans {
		lives = append(lives, max(0, s.finished.Sub(s.accepted)))
	}
	r.Life = spreadOf(lives)
	// A job that was canceled, or had expired, while it was computed has a late result too, and was computed once.
	r.ComputedTwice = max(0, r.LateResults-r.Canceled-r.Expired, r.RowsComputed-r.Finished-r.Lost)
	r.Redelivered = t.ledger.redelivered()
	if r.Finished > 0 {
		r.TwiceShare = float64(r.ComputedTwice) / float64(r.Finished)
	}
	r.Passed = r.clean() && r.Accepted == r.Finished && r.Accepted > 0 && r.Refused == 0 &&
		held != nil && held[job.Interactive.String()]+held[job.Bulk.String()] == 0
	return r
}

// sum adds what the processes did.
func (r *report) sum(l *lab) {
	if r == nil {
		return
	}
	for _, p := range l.processes {
		p.mu.Lock()
		r.Exits = append(r.Exits, p.exits...)
		r.Waits += p.waits
		r.Starts += p.number
		p.mu.Unlock()
		r.Exits = append(r.Exits, p.panics()...)
	}
	r.Passed = r.Passed && len(r.Exits) == 0
}

// text is the report for people.
func (r *report) text() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	line := func(what, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "%s\t%s\n", what, fmt.Sprintf(format, args...))
	}
	line("seed", "%d", r.Seed)
	line("time", "%.1f s: submit %.1f s, then %.1f s until the last result", r.Seconds, r.SubmitSeconds, r.SettleSeconds)
	total := 0
	for _, c := range slices.Sorted(maps.Keys(r.Faults)) {
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(r.Faults[c])) {
			parts = append(parts, fmt.Sprintf("%s %d", k, r.Faults[c][k]))
			total += r.Faults[c][k]
		}
		line("faults: "+string(c), "%s", strings.Join(parts, ", "))
	}
	line("faults", "%d (Redis runs with appendfsync %s)", total, r.RedisFsync)
	line("processes", "%d starts; %d ended before they were ready, for want of a server", r.Starts, r.Waits)
	line("ENDED BY THEMSELVES", "%d, panics included", len(r.Exits))
	line("accepted", "%d of %d", r.Accepted, r.Submitted)
	line("unclear", "%d tries, %d jobs in the end", r.UnclearTries, r.Unclear)
	line("stale", "%d repeated submits of a finished job were answered as if it were not (its record stands)", r.Stale)
	line("refused", "%d", r.Refused)
	line("finished", "%d, each compared with the model's answer; %d answers over HTTP besides", r.Finished, r.AskedOverHTTP)
	line("canceled", "%d of %d that somebody tried to cancel; the others have their results", r.Canceled, r.CancelTried)
	line("expired", "%d of %d with a short deadline; %d more were turned away for it", r.Expired, r.Hurried, r.TurnedAway)
	line("LOST", "%d", r.Lost)
	line("WRONG", "%d", r.Wrong)
	line("FLIPPED", "%d", r.Flipped)
	line("VANISHED", "%d", r.Vanished)
	line("computed twice", "at least %d (%.2f %%): workers were seen to compute %d rows, %d of them too late; %d results are of a redelivery", r.ComputedTwice, 100*r.TwiceShare, r.RowsComputed, r.LateResults, r.Redelivered)
	line("recovery", "p50 %.3f s, p99 %.3f s, max %.3f s from the begin of a fault to the first result of a job accepted after it", r.Recovery.P50, r.Recovery.P99, r.Recovery.Max)
	line("", "p50 %.3f s, p99 %.3f s, max %.3f s from the end of a fault", r.RecoveryLifted.P50, r.RecoveryLifted.P99, r.RecoveryLifted.Max)
	for _, c := range slices.Sorted(maps.Keys(r.ByClass)) {
		s := r.ByClass[c]
		line("  "+string(c), "p50 %.3f s, p99 %.3f s (n %d)", s.P50, s.P99, s.N)
	}
	line("accept to result", "p50 %.3f s, p99 %.3f s, max %.3f s", r.Life.P50, r.Life.P99, r.Life.Max)
	line("LEFT in the queue", "%d interactive, %d bulk, and %d dead letters", r.Left[job.Interactive.String()], r.Left[job.Bulk.String()], r.Left["dead"])
	_ = w.Flush()
	for _, what := range slices.Sorted(maps.Keys(r.Odd)) {
		_, _ = fmt.Fprintf(&b, "odd answer, %d times: %s\n", r.Odd[what], what)
	}
	for _, list := range [][]string{r.Failed, r.Exits, r.Evidence} {
		for _, s := range list {
			b.WriteString(s + "\n")
		}
	}
	if r.Passed {
		b.WriteString("passed\n")
	} else {
		b.WriteString("FAILED\n")
	}
	return b.String()
}

func (r *report) save(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o600) //nolint:gosec // the user says where
}
