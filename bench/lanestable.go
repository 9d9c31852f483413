package main

import "io"

func (r *lanesReport) judge() {
	if r.P99Ratio.Median > wantLanesRatio {
		r.miss("interactive p99 beside a backfill is %.2f times what it is without; at most %.1f is wanted", r.P99Ratio.Median, wantLanesRatio)
	}
	// How much of the machine the interactive jobs take from the command is in the table, and not promised.
	if !r.Command && r.Share.Median < wantBulkShare {
		r.miss("the backfill keeps %.0f %% of its throughput beside interactive jobs; %.0f %% is wanted", 100*r.Share.Median, 100*wantBulkShare)
	}
	for i, one := range r.Rounds {
		// The jobs of the command are many rows each, so a few in the workers' hands are enough.
		if !r.Command && (one.Both.LeastWaiting == 0 || one.Backfill.LeastWaiting == 0) {
			r.miss("round %d: the bulk lane ran empty, so the backfill did not saturate the workers (-window)", i+1)
		}
	}
}

func (r *lanesReport) print(w io.Writer) {
	r.printHead(w, "Sheaf lanes")
	unit := "jobs"
	if r.Command {
		unit = "rows"
		printf(w, "  model     %s, at most %d rows a run; `sheaf backfill` alone: %s rows/s\n", r.Model, r.MaxRows, thousands(int(r.Capacity)))
	} else {
		printf(w, "  model     %s, %d rows a job, at most %d rows a run; the backfill alone: %s jobs/s; %d jobs of it unfinished at most\n",
			r.Model, r.Rows, r.MaxRows, thousands(int(r.Capacity)), r.Window)
	}
	printf(w, "\nInteractive jobs: %.0f a second, Poisson arrivals; ms from the intended arrival to the notice\n", r.Rate)
	t := newTable(w)
	printf(t, "round\talone p50\tp99\tbeside p50\tp99\tp99 ratio\tfrom submit: alone p99\tbeside p99\tbackfill alone, %s/s\tbeside\tshare\tleast waiting\tbegun late p99\t\n", unit)
	for i, one := range r.Rounds {
		a, b := one.Alone.Interactive, one.Both.Interactive
		printf(t, "%d\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%s\t%s\t%.2f\t%d\t%.2f\t\n", i+1, a.P50, a.P99, b.P50, b.P99, b.P99/a.P99, one.Alone.Served.P99, one.Both.Served.P99,
			thousands(int(one.Backfill.Bulk)), thousands(int(one.Both.Bulk)), one.Both.Bulk/one.Backfill.Bulk, one.Both.LeastWaiting, one.Both.LateP99)
	}
	_ = t.Flush()
	printf(w, "  p99 ratio %.2f (median; %.2f to %.2f), from submit %.2f, p50 ratio %.2f; backfill share %.2f (%.2f to %.2f)\n",
		r.P99Ratio.Median, r.P99Ratio.Min, r.P99Ratio.Max, r.Served.Median, r.P50Ratio.Median, r.Share.Median, r.Share.Min, r.Share.Max)
	printf(w, "  accepted %s, finished %s, compared %s, lost %d, wrong %d\n", thousands(r.Verdict.Accepted), thousands(r.Verdict.Finished),
		thousands(r.Verdict.Compared), r.Verdict.Lost, r.Verdict.Wrong)
	r.printMissed(w)
}
