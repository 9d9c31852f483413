// Package gateway answers for jobs, whatever protocol asks: it submits them, derives their state, waits for their ends
// and cancels them. httpapi and grpcapi translate; what they have in common is here.
//
// It keeps no state but who waits. The state of a job is derived: its terminal record in the result store says that it
// is finished, else its message in the queue that it waits or runs. So any process answers for any job.
//
//	Submit   accepted when JetStream has acknowledged it; may wait for the result
//	Ask      submit and wait: not accepted at all where nobody could be given the result
//	Find     what is known of a job, at once or when it is finished
//	Cancel   the canceled record, if it comes first
//
// Of many jobs: SubmitAll submits them as they come, no faster than the queue accepts them, FindAll is Find of each, and
// a Watch follows them until they are finished.
//
// A scope is the tenant whose jobs a caller may see; a job of another tenant does not exist for it. An error is a
// *[Problem], or [ProblemOf] makes one of it, whose code the protocols turn into theirs.
//
// # Deadlines
//
// A job whose deadline has passed is ended by whoever looks at it first, as a worker would: a look-up, a cancel, a
// repeated submit, or one who waits, at that moment. The record decides, so a worker that was quicker wins.
//
// # Dependencies
//
// What needs a dependency that is known to be out of reach is refused at once (guard.go).
//
// # Waiting
//
// A waiter is registered before its job is looked up, so no notice is lost between the two. The worker's done notice
// wakes it; as notices are best effort, one look-up for all waiters together every [Config].PollInterval stands behind
// them.
package gateway
