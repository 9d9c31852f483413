// Package queue is JetStream as Sheaf uses it, and the only package that knows nats.go.
//
// # What lies where
//
// Two work-queue streams, "interactive" and "bulk", hold the jobs that are not finished. A message, called a sheaf,
// carries one or more jobs of one lane, model and tenant under the subject
//
//	sheaf.<lane>.<model>.<tenant>
//
// where a '.' inside a name is written %2E. Each lane and model has a few durable pull consumers, one for each share of
// the lane's tenants, see below.
// The stream "dead" keeps copies of what could not be served, "webhooks" the outcomes that receivers are to be told of, see
// [Queue.QueueWebhooks], and the key-value bucket "sheaf-models" keeps what the
// workers announce; what else is configuration may have a [Bucket] of its own. Nothing else holds state.
//
// # Publishing: group commit
//
// JetStream's cost is per message, so [Queue.Publish] puts jobs together, but never waits for company: if nothing of
// the subject is in flight, the job is published at once by its caller; jobs that arrive while a publish is in flight
// form the next message. A job is accepted when the server has acknowledged its message, and not before. On a lost
// connection the same message is sent again under the same message ID until the publish timeout is over, so the
// stream stores it once.
//
// # Delivering: leases
//
// [Source.Fetch] hands out a [Delivery] for each message: a lease of AckWait, which Extend renews. Ack ends it for
// good, Retry gives the message back, Reject ends it without an answer. A lease that has lapsed may belong to another
// worker by now, so Retry, Reject and Extend refuse with [ErrLapsed]; Ack is always sent, since it says that the
// records are written, which is true whoever holds the lease.
//
// # Fair share
//
// A consumer delivers in the order in which messages were stored, so behind one consumer a tenant that floods a model
// would delay all others. Therefore the tenants of a lane are spread over a fixed number of shares: the server appends
// the share, a hash of the tenant, to the subject as it stores a message, and every model has a consumer for each share.
// Whoever serves the model fetches from all of them, [Queue.Sources], and takes turns. The cost is bounded: it depends on
// the number of shares, not of tenants. A tenant in whose share others have a crowd is published into a spare one.
//
// The number of shares is the stream's. A worker raises it to its own setting, after it has made the consumers; nobody
// lowers it. Workers that are running find the new shares by themselves within seconds.
//
// # Where is my job
//
// [Queue.Locate] derives the state of an unfinished job from the stream: its ticket names the message, and the
// message is asked whether it carries the job. How far the consumer of its share has delivered says whether it waits.
// [Queue.Load] sums up what waits for a model, and learns from successive looks how fast it is served.
package queue
