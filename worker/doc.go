// Package worker turns waiting jobs into results: it binds many jobs into one micro-batch, runs the model once for all
// of them and gives each job its own outcome.
//
// # The path of a job
//
//	fetch    leases messages from JetStream, no more than can be computed soon, and decodes them     fetch.go
//	batch    collects the jobs' rows and closes a batch when an instance of the model is free        batcher.go
//	infer    runs the model, and finds the guilty job if a batch fails                               infer.go
//	settle   writes the records, wakes whoever waits, and only then acknowledges the messages        settle.go
//
// The stages are goroutines joined by bounded channels. When a later stage stalls, because Redis is down for example,
// the earlier ones fill up and fetching stops by itself; a keeper (lease.go) renews the leases of everything that is
// held. On shutdown senders stop before receivers: fetching first, then what is buffered goes back to the queue at
// once, then the batches in flight are finished.
//
// # What holds whatever happens
//
//   - A message is acknowledged only after every job in it has a terminal record in the result store.
//   - A record is written once. Losing the race for it to another attempt is no error: inference is pure.
//   - Every job has an outcome of its own. A job that makes its batch fail is found by halving the batch; one that
//     kills the process is found because redelivered jobs run alone, and is given up after [Config].MaxAttempts.
//   - Nothing in a message is believed: what cannot be understood gets a failed record and a copy among the dead letters.
//
// # Where to start reading
//
// [Pool] wires the parts. The batcher has no goroutine and no clock of its own, so its rules can be read, and tested,
// apart from everything else.
package worker
