// Package producer submits jobs: it is what a web app in Go imports.
//
// A Producer validates a request against the signature that the workers announced, gives the job its ID and publishes
// it. When Submit returns without an error the job is accepted: JetStream holds it, and it will get exactly one
// outcome. When Submit returns an error that is not a *job.Error the job may have been accepted all the same (the
// acknowledgement was lost); submitting again with the same IdempotencyKey is the same job.
//
//	p, err := producer.Connect(ctx, producer.DefaultConfig())
//	...
//	sub, err := p.Submit(ctx, producer.Request{Model: "digits", Inputs: inputs})
//	fmt.Println(sub.Ticket) // what a client polls, at any replica of the HTTP API
//
// What cannot be taken now is refused at once, with a *[Refusal] that says when to try again: the tenant's part of the
// queue is full (ErrTenantFull) or all of it (ErrFull), this process has too many submits in flight (ErrBusy), or the
// job's deadline would pass while it waits, going by what waits and by how fast that is worked off (ErrTooLate). Under
// overload the workers' time so goes to jobs that can be finished in time.
//
// Submit may be called from many goroutines: jobs that arrive while a publish is in flight share the next message.
// SubmitAll is for bulk: it packs, bounds what is in flight, and waits where the queue is full.
package producer
