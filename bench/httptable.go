package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

func (r *httpReport) judge() {
	var sync, submit, ratio, bulk []float64
	for _, one := range r.Rounds {
		sync, submit = append(sync, one.Sync), append(submit, one.Submit)
		ratio, bulk = append(ratio, one.Submit/one.Sync), append(bulk, one.Bulk)
	}
	r.Sync, r.Submit, r.Ratio, r.Bulk = summarize(sync), summarize(submit), summarize(ratio), summarize(bulk)
	if r.Ratio.Median < wantSubmitRatio {
		r.miss("submits/s are %.2f times what the synchronous server does; at least %.1f is wanted", r.Ratio.Median, wantSubmitRatio)
	}
	if r.Bulk.Median > 0 && r.Bulk.Median < wantBulkRate {
		r.miss("the bulk route does %s jobs/s; at least %s is wanted", thousands(int(r.Bulk.Median)), thousands(wantBulkRate))
	}
}

func (r *httpReport) print(w io.Writer) {
	r.printHead(w, "Sheaf over HTTP")
	printf(w, "  model     digits, one row a job; %d connections; the worker works the jobs off meanwhile\n", r.Connections)
	printf(w, "\nClosed loops, requests or jobs a second; ms of an answer\n")
	t := newTable(w)
	printf(t, "round\tsynchronous /s\tp99\tsubmits /s\tp99\tratio\tthen drained, s\tbulk jobs/s\tthen drained, s\t\n")
	for i, one := range r.Rounds {
		printf(t, "%d\t%s\t%.1f\t%s\t%.1f\t%.2f\t%.1f\t%s\t%.1f\t\n", i+1, thousands(int(one.Sync)), one.SyncP99, thousands(int(one.Submit)), one.SubmitP99,
			one.Submit/one.Sync, one.Drained, thousands(int(one.Bulk)), one.BulkDrain)
	}
	_ = t.Flush()
	printf(w, "  medians: synchronous %s/s, submits %s/s, ratio %.2f (%.2f to %.2f), bulk %s jobs/s (%s to %s)\n", thousands(int(r.Sync.Median)),
		thousands(int(r.Submit.Median)), r.Ratio.Median, r.Ratio.Min, r.Ratio.Max, thousands(int(r.Bulk.Median)), thousands(int(r.Bulk.Min)), thousands(int(r.Bulk.Max)))
	if r.Rounds[0].SubmitHalf.N > 0 {
		printf(w, "\nOpen loops at half of what the round gave; ms from the intended beginning to the answer\n")
		t = newTable(w)
		printf(t, "round\tsynchronous p50\tp99\tsubmits p50\tp99\t\n")
		for i, one := range r.Rounds {
			printf(t, "%d\t%.2f\t%.1f\t%.2f\t%.1f\t\n", i+1, one.SyncHalf.P50, one.SyncHalf.P99, one.SubmitHalf.P50, one.SubmitHalf.P99)
		}
		_ = t.Flush()
	}
	printf(w, "\nCPU time of each process, µs a request, or a job until it is finished; medians of the rounds\n")
	for _, of := range []struct {
		what string
		per  func(*httpRound) map[string]float64
	}{
		{"synchronous", func(one *httpRound) map[string]float64 { return one.SyncCPU }},
		{"submits", func(one *httpRound) map[string]float64 { return one.SubmitCPU }},
		{"bulk", func(one *httpRound) map[string]float64 { return one.BulkCPU }},
	} {
		printf(w, "  %-11s %s\n", of.what, r.cpu(of.per))
	}
	printf(w, "  accepted %s, finished and right %s\n", thousands(r.Accepted), thousands(r.Right))
	r.printMissed(w)
}

// cpu lists the medians of each process, and their sum.
func (r *httpReport) cpu(per func(*httpRound) map[string]float64) string {
	all := map[string][]float64{}
	for i := range r.Rounds {
		for name, us := range per(&r.Rounds[i]) {
			all[name] = append(all[name], us)
		}
	}
	var parts []string
	sum := 0.0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		median := summarize(all[name]).Median
		sum += median
		parts = append(parts, fmt.Sprintf("%s %.1f", name, median))
	}
	if parts == nil {
		return "not measured"
	}
	return fmt.Sprintf("%s; together %.1f", strings.Join(parts, ", "), sum)
}
