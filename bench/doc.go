// Command bench measures Sheaf from the outside, the way a Go web app uses it, and asynq beside it on the same machine,
// the same Redis server and the same model. `make bench` runs it; README.md says how to read the table.
//
// It starts nats-server, redis-server, one `sheaf worker` and, when it is asynq's turn, one asynq server, each as a
// process of its own on a free loopback port with its data in a temporary directory, and ends them by process ID.
//
//	config.go       flags
//	process.go      one child process: start, log, CPU time, end
//	lab.go          the set of them: nats-server, redis-server, sheaf worker
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
package main
