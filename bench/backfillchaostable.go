package main

import "io"

func (r *backfillChaosReport) judge() {
	if r.AtMost > wantRecomputed {
		r.miss("up to %.2f %% of the rows were computed again (%.2f %% were seen to be); less than %.0f %% is wanted", 100*r.AtMost, 100*r.Recomputed, 100*wantRecomputed)
	}
	if len(r.Kills) < r.Wished {
		r.miss("there were %d kills and not %d: the command ended before", len(r.Kills), r.Wished)
	}
}

func (r *backfillChaosReport) print(w io.Writer) {
	r.printHead(w, "Sheaf backfill among kills")
	order := "as they come"
	if r.Ordered {
		order = "--ordered"
	}
	printf(w, "  rows      %s of digits, %s of them bad, as %s, %s; seed %d\n", thousands(int(r.Rows)), thousands(r.Bad), r.Format, order, r.Seed)
	printf(w, "\nundisturbed %.1f s; among the kills %.1f s, in %d starts of the command, %d of them in vain because a server was down\n",
		r.Undisturbed.Seconds, r.Disturbed, r.Starts, r.Turned)
	t := newTable(w)
	printf(t, "at, s\trows run\tkill -9\t\n")
	for _, k := range r.Kills {
		printf(t, "%.1f\t%s\t%s\t\n", k.At, thousands(int(k.Rows)), k.What)
	}
	_ = t.Flush()
	printf(w, "\nrows with a prediction: %s, all as in the undisturbed run within %g, %s of them to the last bit; %s compared with the model itself\n",
		thousands(int(r.Equal.Rows)), rowTolerance, thousands(int(r.Equal.Identical)), thousands(r.Sampled))
	if r.Bad > 0 {
		printf(w, "bad rows: exactly the %s that were made bad, each once, with its line and a reason\n", thousands(r.Bad))
	}
	printf(w, "computed again: at least %.2f %% of the rows, by the workers' metrics, which were read a moment before each kill (%.0f ms in all);\n",
		100*max(0, r.Recomputed), 1000*r.Unseen)
	printf(w, "  at most %.2f %%, with what they can have run in those moments; nats-server gave %s jobs to a worker again, as far as it knows\n",
		100*r.AtMost, thousands(int(r.Redelivered)))
	printf(w, "started once more, the command said that all is done, and nothing was run\n")
	r.printMissed(w)
}
