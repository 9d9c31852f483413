// Package worker turns waiting jobs into results: it binds many jobs into one micro-batch, runs the model once for all
// of them and gives each job its own outcome.
//
// # The path of a job
//
//	fetch    leases messages from JetStream, no more than can be computed soon, and decodes them     fetch.go
//	batch    collects the jobs' rows and closes a batch when an instance of the model is free        batcher.go
//	infer    runs the model, and finds the guilty job if a batch fails                               infer.go
//	settle   writes the records, queues webhooks, wakes whoever waits, and only then acknowledges the messages        settle.go
//
// The stages are goroutines joined by bounded channels. While the result store or NATS is known to be down nothing is
// fetched (outage.go); a keeper (lease.go) renews the leases of everything that is held. On shutdown senders stop before
// receivers: fetching first, then what is buffered goes back to the queue at once, then the batches in flight are
// finished.
//
// # Who is next
//
//   - Interactive jobs come before bulk, which fills what they leave free and has a small reserve. The bulk rows that are
//     added to their runs are bounded by the time they take ([Config].BulkSlice).
//   - Nothing ends a run that has begun, and nobody waits for one in which others have their way: interactive jobs
//     overtake runs of bulk, and tenants the runs of one who floods, on express instances (overtake.go). The run that is
//     overtaken yields the CPU (yield.go).
//   - Within a lane the tenants take turns, a sixteenth of a batch each, over all their jobs whether they can share a
//     batch or not (fair.go). A tenant alone has everything. The jobs of one tenant keep their order.
//   - The queue keeps the tenants in shares, in order of arrival each. A fetcher for each share brings its messages, and
//     nothing between it and the batcher makes one share wait for another: not the buffer, of which each share that has
//     more to bring gets its part, nor triage, which serves them in turn. Tenants of one share wait behind each other in
//     the queue.
//
// # What holds whatever happens
//
//   - A message is acknowledged only after every job in it has a terminal record in the result store.
//   - The same holds for the delivery of its webhook, if it names one (webhooks.go).
//   - A record is written once. Losing the race for it to another attempt is no error: inference is pure.
//   - Every job has an outcome of its own. A job that makes its batch fail is found by halving the batch; one that
//     kills the process is found because redelivered jobs run alone, and is given up after its attempts; see [Retry].
//   - A canceled job is dropped from a batch that has not started, and a run is ended when all of its jobs are canceled.
//     The record decides, whoever wrote it; a notice that nobody stands behind loses no job, which then has a canceled
//     record.
//   - Nothing in a message is believed: what cannot be understood gets a failed record and a copy among the dead letters.
//
// # Where to start reading
//
// [Pool] wires the parts. The batcher has no goroutine and no clock of its own, so its rules can be read, and tested,
// apart from everything else.
package worker
