package main

import (
	"fmt"
	"io"
)

func (r *backfillReport) judge() {
	for _, f := range r.Forms {
		want := map[string]float64{formatParquet: wantParquetShare, formatJSONL: wantJSONLShare}[f.Format]
		// Nobody who writes a loop for a Parquet file writes the readers and writers, too: the one in Python counts.
		of, share := "bare loop", f.Share
		if f.Beside != nil {
			of, share = "loop in Python", *f.Beside
		}
		if share.Median < want {
			r.miss("%s: sheaf backfill does %.2f of the %s's rows/s; %.2f is wanted", f.Format, share.Median, of, want)
		}
		for i := range f.Rounds {
			if peak := f.Rounds[i].Sheaf.Peak; peak > wantPeak {
				r.miss("%s, round %d: the command took %d MB; at most %d is wanted", f.Format, i+1, peak>>20, wantPeak>>20)
			}
		}
	}
}

func (r *backfillReport) print(w io.Writer) {
	r.printHead(w, "Sheaf backfill")
	order := "--ordered"
	if !r.Ordered {
		order = "as they come"
	}
	printf(w, "  rows      %s of digits a file, %s; the bare loop runs %d rows at a time on each core\n", thousands(int(r.Rows)), order, r.Batch)
	for _, f := range r.Forms {
		if len(f.Rounds) == 0 {
			continue
		}
		columns := "a column of lists"
		if f.Wide {
			columns = "a column for each pixel"
		}
		printf(w, "\n%s, %s, %s bytes: from the start of the program to its end\n", f.Format, columns, thousands(int(f.Size)))
		t := newTable(w)
		printf(t, "round\tPython, rows/s\tCPU s\tbare, rows/s\tCPU s\tMB\tsheaf, rows/s\tof Python\tof bare\tMB\tCPU s: command\tworker\tnats\tredis\tothers, CPUs\trun again\tbad\tcompared\t\n")
		for i := range f.Rounds {
			one := &f.Rounds[i]
			rows := float64(r.Rows)
			pyloop, cpu, beside := "-", "-", "-"
			if one.Python != nil {
				pyloop, cpu, beside = thousands(int(rows/one.Python.Seconds)), fmt.Sprintf("%.1f", one.Python.CPU), fmt.Sprintf("%.2f", one.Beside)
			}
			printf(t, "%d\t%s\t%s\t%s\t%.1f\t%d\t%s\t%s\t%.2f\t%d\t%.1f\t%.1f\t%.1f\t%.1f\t%.2f\t%d\t%s\t%s\t\n", i+1, pyloop, cpu,
				thousands(int(rows/one.Bare.Seconds)), one.Bare.CPU, one.Bare.Peak>>20, thousands(int(rows/one.Sheaf.Seconds)), beside, one.Share, one.Sheaf.Peak>>20,
				one.Sheaf.CPU, one.CPU["worker"], one.CPU["nats-server"], one.CPU["redis-server"], one.Others,
				one.Ran-(r.Rows-one.Bad), thousands(int(one.Bad)), thousands(int(one.Equal.Rows)))
		}
		_ = t.Flush()
		printf(w, "  share %.2f of the bare loop (median; %.2f to %.2f)\n", f.Share.Median, f.Share.Min, f.Share.Max)
		if f.Beside != nil {
			printf(w, "  share %.2f of the loop in Python (median; %.2f to %.2f)\n", f.Beside.Median, f.Beside.Min, f.Beside.Max)
		}
	}
	for _, f := range r.Forms {
		for i := range f.Rounds {
			one := &f.Rounds[i].Sheaf
			printf(w, "\n%s, round %d: memory of sheaf backfill %d MB in the second quarter of its time, %d MB in the last (medians), %d MB at most",
				f.Format, i+1, int64(one.Early)>>20, int64(one.Late)>>20, one.Peak>>20)
		}
	}
	printf(w, "\n\nEvery row of every output was compared with the bare loop's, within %g, and some of those with the model itself.\n", rowTolerance)
	if r.Bad > 0 {
		printf(w, "The files of bad rows have exactly those that were made bad, each with its line and a reason; submitted again, they gave the same reasons.\n")
	}
	r.printMissed(w)
}
