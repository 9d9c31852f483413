package worker

import (
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

// ledger collects the outcomes of one batch until settle writes them. Its memory is used again for the next batch: the
// records of all jobs are encoded into one buffer.
type ledger struct {
	engine    *engine
	records   []byte
	lines     []line
	returned  []returned
	exhausted []exhausted
	entries   []resultstore.Entry // settle's
	owners    []int               // settle's: the line that each entry belongs to
	ids       []job.ID            // settle's
	webhooks  int                 // lines whose job names one, at most
	hooks     []queue.Webhook     // queueWebhooks's
	hooked    []int               // queueWebhooks's: the line that each belongs to
	result    job.Result
	token     uint64
	now       time.Time
}

// line is the outcome of one job.
type line struct {
	task   *task
	state  job.State
	lo, hi int // its record within records
	queue  time.Duration
	wait   time.Duration
	late   bool // another attempt's record was there first; state is that record's
	reply  *reply
	dead   bool // its copy is among the dead letters
	found  bool // the record stood before this delivery; it is only made sure of
	// finished is what the record says, of a job with a webhook.
	finished time.Time
}

// returned is a job without an outcome: its message has to come again.
type returned struct {
	task  *task
	delay time.Duration
	cause string // why its attempt failed; empty if there was none, or nothing is wrong with the job
}

// begin starts a new batch.
func (l *ledger) begin() {
	l.records, l.lines, l.returned, l.exhausted = l.records[:0], l.lines[:0], l.returned[:0], l.exhausted[:0]
	l.webhooks = 0
	l.token = l.engine.nextToken()
	l.now = time.Now()
}

// confirm enters a record that was found in the store. It is written again, which changes nothing: but a message may be
// acknowledged only for what the store has confirmed, and what was read may be on its way to a replica yet.
func (l *ledger) confirm(t *task) {
	ln := line{task: t, lo: len(l.records), found: true}
	l.records = append(l.records, t.found...)
	ln.hi = len(l.records)
	if t.job.Webhook != "" {
		l.webhooks++
		ln.finished = finishedAt(t.job.ID, t.found)
	}
	l.lines = append(l.lines, ln)
}

// succeed enters the outputs, which are copied.
func (l *ledger) succeed(t *task, outputs []job.Tensor, timings job.Timings) {
	l.enter(t, job.Succeeded, outputs, nil, timings)
}

// fail enters any other terminal state.
func (l *ledger) fail(t *task, state job.State, err *job.Error, timings job.Timings) {
	l.enter(t, state, nil, err, timings)
}

// expire enters that the deadline passed before the job was run.
func (l *ledger) expire(t *task) {
	taken := t.message.taken
	l.fail(t, job.Expired, errExpired(t), job.Timings{Queue: max(0, taken.Sub(t.job.CreatedAt)), BatchWait: max(0, l.now.Sub(taken))})
}

// cancel enters that the job was canceled. The API wrote that record before it told the workers, and wins; should a
// notice be nobody's, the job still has a record before its message is acknowledged.
func (l *ledger) cancel(t *task) {
	taken := t.message.taken
	l.fail(t, job.Canceled, job.Errorf(job.CodeCanceled, "", "canceled on request"), job.Timings{Queue: max(0, taken.Sub(t.job.CreatedAt)), BatchWait: max(0, l.now.Sub(taken))})
}

func errExpired(t *task) *job.Error {
	return job.Errorf(job.CodeExpired, "", "the job's deadline, %s, passed before it was run",
		t.job.Deadline.UTC().Format("2006-01-02T15:04:05.000Z07:00"))
}

// giveBack enters that the job has no outcome yet.
func (l *ledger) giveBack(t *task, delay time.Duration) { l.tryAgain(t, delay, "") }

// stopped enters that the worker was stopped before the job had an outcome. It is noted of a run alone, which began with
// a note, lest it count as one that ended the process.
func (l *ledger) stopped(t *task) {
	if t.solo {
		l.tryAgain(t, 0, noteStopped)
	} else {
		l.giveBack(t, 0)
	}
}

// tryAgain enters that an attempt failed and the job has no outcome yet.
func (l *ledger) tryAgain(t *task, delay time.Duration, cause string) {
	if t.claim() {
		l.returned = append(l.returned, returned{task: t, delay: delay, cause: cause})
	}
}

func (l *ledger) enter(t *task, state job.State, outputs []job.Tensor, err *job.Error, timings job.Timings) {
	if t.claim() { // no other part of the same job has failed before
		l.record(t, state, outputs, err, timings)
	}
}

// record enters the outcome of a job that was claimed.
func (l *ledger) record(t *task, state job.State, outputs []job.Tensor, err *job.Error, timings job.Timings) {
	j := t.job
	l.result = job.Result{
		ID: j.ID, State: state, Tenant: j.Tenant, Model: j.Model, Version: l.engine.info.Version, RequestID: j.RequestID, Webhook: j.Webhook, Fingerprint: j.Fingerprint,
		Outputs: outputs, Error: err, Attempts: t.attempts,
		CreatedAt: j.CreatedAt, FinishedAt: l.now, Timings: timings, Token: l.token,
	}
	ln := line{task: t, state: state, lo: len(l.records), queue: timings.Queue, wait: timings.BatchWait, dead: t.dead}
	l.records = job.AppendRecord(l.records, &l.result)
	if size := len(l.records) - ln.lo; size > l.engine.largest && state == job.Succeeded {
		l.records = l.records[:ln.lo]
		l.record(t, job.Failed, nil, tooLarge(size, l.engine.largest), timings)
		return
	}
	ln.hi = len(l.records)
	if j.Reply != "" {
		ln.reply = newReply(t, &l.result)
	}
	if j.Webhook != "" {
		l.webhooks++
		ln.finished = l.now
	}
	l.lines = append(l.lines, ln)
}

// forget lets go of the jobs, so that an idle runner keeps no message in memory, nor an unusually large buffer.
func (l *ledger) forget() {
	const keep = 4 << 20
	clear(l.lines)
	clear(l.returned)
	clear(l.exhausted[:cap(l.exhausted)])
	clear(l.entries)
	clear(l.hooks)
	l.lines, l.returned, l.entries, l.owners = l.lines[:0], l.returned[:0], l.entries[:0], l.owners[:0]
	l.exhausted, l.hooks = l.exhausted[:0], l.hooks[:0]
	l.result = job.Result{}
	if cap(l.records) > keep {
		l.records = nil
	}
}
