package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// print writes the report as text.
func (r *report) print(w io.Writer) error {
	var b strings.Builder
	r.printFacts(&b)
	r.printThroughput(&b)
	r.printCPU(&b)
	r.printLatency(&b)
	b.WriteString(meaning)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *report) printFacts(w io.Writer) {
	f := r.Facts
	printf(w, "Sheaf benchmark, %s, %.0f s\n", r.At.UTC().Format("2006-01-02 15:04 UTC"), r.Seconds)
	if r.Quick {
		printf(w, "QUICK: this shows that it works; run it without -quick for figures\n")
	}
	printf(w, "  machine   %s, %d cores, %s\n", f.CPU, f.Cores, f.OS)
	printf(w, "  software  Sheaf %s, Go %s, NATS %s, Redis %s, ONNX Runtime %s, asynq %s\n", f.Sheaf, f.Go, f.NATS, f.Redis, f.ORT, f.Asynq)
	redis := "appendonly no"
	if r.Settings.RedisAppendOnly {
		redis = "appendonly yes, appendfsync " + r.Settings.RedisFsync
	}
	printf(w, "  settings  Redis %s; JetStream on files, sync_interval %s; everything on this machine, over TCP\n", redis, r.Settings.NATSSyncInterval)
	if s := r.Settings; s.AsynqConcurrency > 0 {
		printf(w, "            asynq Concurrency %d%s, TaskCheckInterval %s, %d goroutines enqueue\n",
			s.AsynqConcurrency, tried(s.AsynqTried), s.AsynqInterval, s.AsynqClients)
	}
}

// tried lists the concurrencies that were measured.
func tried(m map[string]float64) string {
	if len(m) == 0 {
		return ""
	}
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = name + ": " + thousands(int(m[name]))
	}
	return " (best of those tried, jobs/s: " + strings.Join(names, ", ") + ")"
}

func (r *report) printThroughput(w io.Writer) {
	if len(r.Throughput) == 0 {
		return
	}
	printf(w, "\nThroughput: from the first submit until the last result stands in Redis; one digits row a job, one worker process\n")
	t := newTable(w)
	printf(t, "\tjobs a round\trounds\tjobs/s median\tmin\tmax\tjobs a message\trows a run\t\n")
	for i := range r.Throughput {
		p := &r.Throughput[i]
		if len(p.Rounds) == 0 {
			continue
		}
		message, batch := "1", "1"
		if p.System == systemSheaf {
			message = oneDecimal(p.summary(func(r round) float64 { return r.MessageJobs }).Median)
			batch = oneDecimal(p.summary(func(r round) float64 { return r.BatchRows }).Median)
		}
		printf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t\n", p.System, thousands(p.Rounds[0].Jobs), len(p.Rounds),
			thousands(int(p.JobsPerSecond.Median)), thousands(int(p.JobsPerSecond.Min)), thousands(int(p.JobsPerSecond.Max)), message, batch)
	}
	_ = t.Flush()
	if r.Ratio != nil {
		printf(w, "  ratio     %.1f (median of the rounds' ratios; %.1f to %.1f)\n", r.Ratio.Median, r.Ratio.Min, r.Ratio.Max)
	}
}

func (r *report) printCPU(w io.Writer) {
	processes := []string{cpuProducer, cpuNATS, cpuWorker, cpuRedis}
	rows := make([]string, 0, len(r.Throughput))
	for i := range r.Throughput {
		p := &r.Throughput[i]
		if slices.ContainsFunc(p.Rounds, func(r round) bool { return r.CPU == nil }) || len(p.Rounds) == 0 {
			continue
		}
		var line strings.Builder
		fmt.Fprintf(&line, "%s\t", p.System)
		total := 0.0
		for _, name := range processes {
			used := p.summary(func(r round) float64 { return r.CPU[name] }).Median
			total += used
			fmt.Fprintf(&line, "%s\t", oneDecimal(used))
		}
		others := p.summary(func(r round) float64 { return r.OtherCPUs })
		fmt.Fprintf(&line, "%s\t%.2f (max %.2f)\t", oneDecimal(total), others.Median, others.Max)
		rows = append(rows, line.String())
	}
	if len(rows) == 0 {
		return
	}
	printf(w, "\nCPU of the rounds: µs a job by process, median; and how many CPUs other programs kept busy meanwhile\n")
	t := newTable(w)
	printf(t, "\t%s\tsum\tothers, CPUs\t\n", strings.Join(processes, "\t"))
	for _, row := range rows {
		printf(t, "%s\n", row)
	}
	_ = t.Flush()
}

func (r *report) printLatency(w io.Writer) {
	if len(r.Latency) == 0 {
		return
	}
	printf(w, "\nLatency: ms from a job's intended arrival to its result being known, open loop, Poisson arrivals; medians of the runs, max of all\n")
	t := newTable(w)
	printf(t, "\tjobs/s\truns\tjobs a run\tp50\tp90\tp99\tmax\tof it begun late, p50 / p99\t\n")
	var remarks []string
	for i := range r.Latency {
		l := &r.Latency[i]
		if len(l.Runs) == 0 {
			continue
		}
		worst, lost, held := 0.0, 0, true
		for _, run := range l.Runs {
			worst, lost, held = max(worst, run.Max), lost+run.NoticesLost, held && run.Held
		}
		printf(t, "%s\t%s\t%d\t%s\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f / %.2f\t\n", l.System, thousands(l.Rate), len(l.Runs), thousands(l.Runs[0].Jobs),
			l.median(func(r latencyRun) float64 { return r.P50 }), l.median(func(r latencyRun) float64 { return r.P90 }),
			l.median(func(r latencyRun) float64 { return r.P99 }), worst,
			l.median(func(r latencyRun) float64 { return r.LateP50 }), l.median(func(r latencyRun) float64 { return r.LateP99 }))
		if !held {
			remarks = append(remarks, fmt.Sprintf("%s did not hold %s jobs/s here: more than a second after the last arrival there was work left", l.System, thousands(l.Rate)))
		}
		if lost > 0 {
			remarks = append(remarks, fmt.Sprintf("%s at %s jobs/s: %s results stood without a notice and count as known when their run ended",
				l.System, thousands(l.Rate), thousands(lost)))
		}
	}
	_ = t.Flush()
	for _, remark := range remarks {
		printf(w, "  %s\n", remark)
	}
}

const meaning = `
Measured: producer.SubmitAll or Submit, NATS JetStream, one worker process, ONNX Runtime, records in Redis; asynq with the
same model through the same code, one row a run, its results in the same Redis server. Every result is read back and
compared with the model's own within 1e-5. The end of a round is seen by asking for DBSIZE every 2 ms.
Not measured: HTTP, several machines or workers, models that are heavy to compute, replicated streams, reading results.
This machine is small and may be busy with other things: trust the ratio more than the figures, and see bench/README.md.
`

// printf writes to a table in memory, or progress to stderr: nothing that an error could stop.
func printf(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

// newTable aligns columns to the right.
func newTable(w io.Writer) *tabwriter.Writer {
	return tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
}

func oneDecimal(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }

// thousands writes a number with commas.
func thousands(n int) string {
	s := strconv.Itoa(n)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}
