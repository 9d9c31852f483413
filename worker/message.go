package worker

import (
	"sync/atomic"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// message is a leased message while the worker holds it.
type message struct {
	delivery *queue.Delivery
	lease    lease
	tasks    []task // one for each job, in the message's order
	lane     job.Lane
	from     int // the fetcher that brought it, as a place in engine.fetchers
	taken    time.Time

	// pending counts the jobs that have neither a record nor been given back. Who brings it to zero ends the message.
	pending atomic.Int32
	// retry is the delay of the redelivery that some job needs, plus one; 0 if no job needs one.
	retry atomic.Int64

	// undecodable says why some part of the message belongs to no job; empty if all of it could be read.
	undecodable string
	// dead says that something of it is among the dead letters.
	dead atomic.Bool
	// due is the earliest deadline of the jobs that come again, in nanoseconds since 1970; 0 if none has one.
	due atomic.Int64

	leases *leaseList
	held   holding // the keeper's
}

// task is one job of a message on its way through the worker. Exactly one of its stages owns it at any time; the
// pieces of a split job, which several runners compute at once, share only its assembly.
type task struct {
	job     *job.Job
	message *message
	place   int // in its message
	rows    int
	refused *job.Error // why the job will not be run; it still gets a record
	state   job.State  // of the record of a refused job: Failed or Expired
	found   []byte     // the record that a redelivered job has already
	solo    bool       // redelivered: it runs alone
	suspect bool       // it has been run alone before, and has no record nevertheless
	failed  bool       // its first attempt failed for a reason that may pass
	dead    bool       // its copy is among the dead letters

	// attempts is how often the job was tried, this time included: its first delivery, and each run alone since.
	attempts int
	spared   int       // attempts besides that do not count: their workers were stopped
	past     *past     // of a job with notes
	asm      *assembly // of a job with more rows than a batch

	// The batcher's own.
	next       int // the first row that is in no batch yet
	strand     *strand
	arrived    uint64
	later      *task // in the order of arrival of the lane
	earlier    *task
	sameStrand *task // the next one of the same strand
}

// needRetry says that the message must come again, after the delay, although some of its jobs may have records.
func (m *message) needRetry(delay time.Duration) {
	want := int64(delay) + 1
	for {
		have := m.retry.Load()
		if have >= want || m.retry.CompareAndSwap(have, want) {
			return
		}
	}
}

// comeBy says that some job of the message that comes again has this deadline: it must come by then at the latest, to
// expire in time.
func (m *message) comeBy(deadline time.Time) {
	if deadline.IsZero() {
		return
	}
	due := deadline.UnixNano()
	for {
		have := m.due.Load()
		if have != 0 && have <= due || m.due.CompareAndSwap(have, due) {
			return
		}
	}
}

// delay returns after which pause the message is to come again; false if it need not.
func (m *message) delay(now time.Time) (time.Duration, bool) {
	retry := m.retry.Load()
	if retry == 0 {
		return 0, false
	}
	delay := time.Duration(retry - 1)
	if due := m.due.Load(); due != 0 {
		delay = min(delay, max(0, time.Unix(0, due).Sub(now)))
	}
	return delay, true
}

// expired reports whether the answer is of no more use.
func (t *task) expired(now time.Time) bool {
	return !t.job.Deadline.IsZero() && !now.Before(t.job.Deadline)
}

// claim reports whether the caller may decide the outcome of the job. Of the pieces of a split job only one may.
func (t *task) claim() bool { return t.asm == nil || t.asm.claim() }

// abandoned reports whether the outcome of a split job is decided, so that its other pieces need not be run.
func (t *task) abandoned() bool { return t.asm != nil && t.asm.over.Load() }
