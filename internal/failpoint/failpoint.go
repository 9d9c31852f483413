// Package failpoint names the steps of a job's life after which a crash is to be harmless, so that a test can stop the
// process right after one. docs/state-machine.md has them as a table, each with what a crash there leaves.
//
// The packages that take a step call [Hook.Reach] with a hook that they were given. Outside tests there is none, and
// a step costs one comparison; nothing that an operator can set makes one.
package failpoint

// Point is a step of the crash table. Its number is the table's.
type Point string

// The steps, in the order of a job's life, then those of a cancel, of a webhook and of a dead letter.
const (
	Validated Point = "1-validated" // the request fits its model and has its ID
	Published Point = "2-published" // JetStream has acknowledged the message
	Answered  Point = "3-answered"  // the client was sent its ticket
	Delivered Point = "4-delivered" // a worker has the message
	Checked   Point = "5-checked"   // what is expired, canceled or finished was sorted out; the run is about to begin
	Inferred  Point = "6-inferred"  // the model has run
	Recorded  Point = "7-recorded"  // the records of the batch are written
	Told      Point = "8-told"      // whoever waits was told
	Acked     Point = "9-acked"     // the message is acknowledged

	CancelRecorded Point = "c1-cancel-recorded" // the canceled record is written
	CancelTold     Point = "c2-cancel-told"     // workers and waiters were told
	CancelRemoved  Point = "c3-cancel-removed"  // the message is deleted if the job was alone in it

	WebhookQueued  Point = "w1-webhook-queued"  // the delivery is in its stream
	WebhookSent    Point = "w2-webhook-sent"    // the receiver has answered
	WebhookSettled Point = "w3-webhook-settled" // the delivery is removed

	DeadCopied   Point = "d1-dead-copied"   // the copy is among the dead letters
	DeadRecorded Point = "d2-dead-recorded" // the failed record is written
	DeadSettled  Point = "d3-dead-settled"  // the message is acknowledged, or removed by the reaper
)

// The steps of a batch, in the order of its life. Package batch has them as a table.
const (
	BatchClaimed   Point = "b0-claimed"   // its Idempotency-Key, if it has one, names the batch that will be
	BatchAccepted  Point = "b1-accepted"  // JetStream has acknowledged the batch's message
	BatchRecorded  Point = "b2-recorded"  // its record is there
	BatchValidated Point = "b3-validated" // its input has been read once, and the record says so
	BatchStored    Point = "b4-stored"    // a segment is stored that the record does not name yet
	BatchCommitted Point = "b5-committed" // the record names it
	BatchEnded     Point = "b6-ended"     // the record says how the batch has ended
	BatchTold      Point = "b7-told"      // its webhook is queued
	BatchSettled   Point = "b8-settled"   // its message is removed
)

// Points lists every step of jobs.
func Points() []Point {
	return []Point{
		Validated, Published, Answered, Delivered, Checked, Inferred, Recorded, Told, Acked,
		CancelRecorded, CancelTold, CancelRemoved,
		WebhookQueued, WebhookSent, WebhookSettled, DeadCopied, DeadRecorded, DeadSettled,
	}
}

// Hook is called after each step. A nil Hook does nothing. It may be called from many goroutines.
type Hook func(Point)

// Reach says that the step is done.
func (h Hook) Reach(p Point) {
	if h != nil {
		h(p)
	}
}
