package main

import (
	"io"
	"slices"
)

// judge compares what was measured with what is wanted. Lost and wrong jobs are errors already.
func (r *soakReport) judge() {
	if f := r.Steady.failure(); f != nil {
		r.miss("steady load: %v", f)
	}
	if h := r.HTTP; h.Wrong+h.Failed > 0 {
		r.miss("HTTP: %d answers wrong, %d requests failed: %v", h.Wrong, h.Failed, h.Evidence)
	}
	if r.Refused > 0 {
		r.miss("steady load: %d submits were refused", r.Refused)
	}
	if r.Held > 0 && r.Held < 0.98*r.Rate {
		r.miss("steady load: %.0f jobs/s were finished of %.0f offered", r.Held, r.Rate)
	}
	for _, d := range r.Drift {
		if !d.Flat {
			r.miss("%s of %s: %.0f at the beginning, %.0f at the end", d.What, d.Process, d.First, d.Last)
		}
	}
	for _, d := range r.ByHold {
		if d.Hold == "all" && d.Over > 0 {
			r.miss("%d drains had a gap of more than %v", d.Over, r.gap)
		}
	}
}

func (r *soakReport) print(w io.Writer) {
	r.printHead(w, "Sheaf soak")
	if r.Seconds > 0 {
		r.printSteady(w)
	}
	if len(r.ByHold) > 0 {
		r.printDrains(w)
	}
	r.printMissed(w)
}

func (r *soakReport) printSteady(w io.Writer) {
	printf(w, "\nSteady load: %s jobs/s offered", thousands(int(r.Rate)))
	if r.Saturation > 0 {
		printf(w, " (saturation: %s)", thousands(int(r.Saturation)))
	}
	printf(w, ", %s finished, for %.0f s; %d submits held back\n", thousands(int(r.Held)), r.Seconds, r.HeldBack)
	v := r.Steady
	printf(w, "  accepted %s, finished %s, compared %s, LOST %d, WRONG %d; notices lost %d\n",
		thousands(v.Accepted), thousands(v.Finished), thousands(v.Compared), v.Lost, v.Wrong, v.LostNotices)
	printf(w, "  HTTP: %s right answers, %d wrong, %d failed\n", thousands(r.HTTP.Answered), r.HTTP.Wrong, r.HTTP.Failed)

	printf(w, "\nWhat the processes hold: medians of the beginning and of the end\n")
	t := newTable(w)
	printf(t, "\t\tfirst\tlast\tratio\t\t\n")
	for _, d := range r.Drift {
		flat := ""
		if !d.Flat {
			flat = "GROWS"
		}
		first, last := thousands(int(d.First)), thousands(int(d.Last))
		if d.What == "RSS" {
			first, last = megabytes(d.First), megabytes(d.Last)
		}
		printf(t, "%s\t%s\t%s\t%s\t%.2f\t%s\t\n", d.Process, d.What, first, last, d.Ratio, flat)
	}
	_ = t.Flush()
	for _, d := range r.Drift {
		if d.What == "RSS" {
			printf(w, "  %s kept %.2f CPUs busy\n", d.Process, r.CPUs[d.Process])
		}
	}

	printf(w, "\nLatency over time, ms from the intended arrival to the notice (HTTP: to the answer)\n")
	t = newTable(w)
	printf(t, "until\tinteractive p50\tp99\tmax\tbulk p50\tp99\tmax\tHTTP p50\tp99\tmax\t\n")
	step := max(1, len(r.Over)/12)
	for i := step - 1; i < len(r.Over); i += step {
		o := r.Over[i]
		printf(t, "%.0f s\t%.2f\t%.1f\t%.0f\t%.2f\t%.1f\t%.0f\t%.2f\t%.1f\t%.0f\t\n", o.To,
			o.Interactive.P50, o.Interactive.P99, o.Interactive.Max, o.Bulk.P50, o.Bulk.P99, o.Bulk.Max, o.HTTP.P50, o.HTTP.P99, o.HTTP.Max)
	}
	_ = t.Flush()
	if len(r.Over) > 0 {
		worst := slices.MaxFunc(r.Over, func(a, b interval) int { return compareFloats(a.Interactive.P99, b.Interactive.P99) })
		printf(w, "  worst minute of the interactive lane: p99 %.1f ms, until %.0f s\n", worst.Interactive.P99, worst.To)
	}
}

func compareFloats(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (r *soakReport) printDrains(w io.Writer) {
	v := r.Drained
	printf(w, "\nDrains: %s jobs in %d backlogs, LOST %d, WRONG %d; notices lost %d\n", thousands(v.Accepted), len(r.Drains), v.Lost, v.Wrong, v.LostNotices)
	printf(w, "Gap: the longest time without a result while there was work. Standstill: of deliveries while messages waited, from nats-server. ms\n")
	t := newTable(w)
	printf(t, "held by\tdrains\tgap p50\tp99\tmax\tover bound\tstandstill p50\tmax\tfirst result p50\tmax\ttook p50\tmax\t\n")
	for _, d := range r.ByHold {
		printf(t, "%s\t%d\t%.0f\t%.0f\t%.0f\t%d\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t\n", d.Hold, d.Gap.N, d.Gap.P50, d.Gap.P99, d.Gap.Max, d.Over,
			d.Standstill.P50, d.Standstill.Max, d.First.P50, d.First.Max, d.Took.P50, d.Took.Max)
	}
	_ = t.Flush()
}

func megabytes(bytes float64) string { return oneDecimal(bytes/(1<<20)) + " MB" }
