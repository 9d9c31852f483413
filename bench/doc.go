// Command bench measures Sheaf from the outside, the way a Go web app uses it. Without a verb it measures throughput and
// latency, and asynq beside it on the same machine, the same Redis server and the same model. The verbs measure what is
// promised of Sheaf under load:
//
//	bench              throughput and latency of Sheaf and asynq             make bench
//	bench lanes        interactive jobs beside a backfill, and the reverse   make bench-lanes
//	bench fair         one tenant while another floods                       make bench-fair
//	bench backfill     files of a million rows, beside a bare loop           make bench-backfill
//	bench backfill-lanes  interactive jobs beside `sheaf backfill`           make bench-backfill-lanes
//	bench backfill-chaos  `sheaf backfill` among kills                       make chaos-backfill
//	bench rows         makes such a file
//	bench overload     five times what is sustainable, over HTTP             make bench-overload
//	bench soak         an hour at half load, then 300 backlogs               make soak
//
// README.md says how to read the tables. It starts nats-server, redis-server, one `sheaf worker`, where it needs them
// `sheaf serve`, a feeder (this binary again) or an asynq server, each as a process of its own on a free loopback port
// with its data in a temporary directory, and ends them by process ID.
//
//	config.go       flags
//	process.go      one child process: start, log, CPU time, end
//	lab.go          the set of them: nats-server, redis-server, sheaf worker, sheaf serve; labsettings.go its flags
//	client.go       the connection of a web app to it
//	streams.go      what nats-server itself says of the lanes
//	rows.go         the held-out rows with the probabilities that the model gives for them
//	sheaf.go        a round of Sheaf: producer.SubmitAll → records in Redis, verified
//	asynq.go        a round of asynq: Client.Enqueue → results in Redis, verified
//	asynqserver.go  asynq's worker process: this binary again, with a hidden verb; predictor.go runs the model for it
//	watch.go        when the last result stands, and who used the CPU
//	counters.go     jobs a message and rows a run, from the processes' metrics
//	openloop.go     arrivals that are fixed beforehand, and what became of each
//	latency.go      submit → result known, for both
//	stats.go        medians and percentiles
//	report.go       the report; table.go prints it
//	facts.go        the machine and the versions
//	run.go          the order of everything
//
// And for the verbs:
//
//	verb.go         what they have in common
//	subject.go      which model is measured; workload.go, random.go its jobs and what it must give for them
//	book.go         every job from its acceptance to the comparison of its result
//	feed.go         jobs into a lane, at a rate or as many as it takes; feeder.go the same in a process of its own
//	histogram.go    distributions of millions of times
//	lanes.go, fair.go, overload.go (submitter.go is its client), soak.go
//	drains.go       backlogs built up and worked off; hold.go keeps the workers from them, gaps.go looks for standstills
//	backfill.go     `sheaf backfill` and the bare loop (bareloop.go) on the same file; backfillfiles.go, backfilltable.go
//	manyrows.go     any number of digits rows; rowfile.go, rowformats.go files of them, rowsverb.go the verb
//	answers.go      what stands in an output; badrows.go in a file of errors
//	command.go      a program that comes to its end, and what it used
//	backfillchaos.go, backfillkills.go the same among kills; victim.go kills and starts again
//	backfilllanes.go  `sheaf backfill` as the backfill of the lanes
//	predictclient.go  asks /predict; resources.go what processes hold, and whether it grows
package main
