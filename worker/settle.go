package worker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

// settle writes the records of the ledger, stores the deliveries of webhooks, tells whoever waits and then acknowledges each message whose last job is
// done. This is the only place in a worker where the records of jobs are written and messages acknowledged, in this order and
// no other.
//
// While the store is out of reach it tries again until ctx, which the shutdown of the pool does not end before its
// drain time is over: then the jobs go back to the queue.
func (e *engine) settle(ctx context.Context, l *ledger) {
	if len(l.exhausted) > 0 {
		e.bury(ctx, l)
	}
	start := time.Now()
	written := e.write(ctx, l)
	if len(l.lines) > 0 && written {
		e.metrics.observeWrite(time.Since(start))
		e.reach.Reach(failpoint.Recorded)
		if e.reach != nil && l.anyDead() {
			e.reach.Reach(failpoint.DeadRecorded)
		}
	}
	if l.webhooks > 0 {
		e.queueWebhooks(ctx, l)
	}
	if len(l.lines) > 0 && written {
		e.tell(l)
		e.reach.Reach(failpoint.Told)
	}
	e.metrics.observeLines(l)
	for i := range l.lines {
		if t := l.lines[i].task; t != nil {
			e.finished(t)
		}
	}
	if len(l.returned) > 0 {
		e.noteFailures(ctx, l)
	}
	for _, r := range l.returned {
		r.task.message.needRetry(r.delay)
		r.task.message.comeBy(r.task.job.Deadline)
		e.finished(r.task)
	}
	l.forget()
}

// refusals is how often an entry is offered that the store refuses for a reason of its own.
const refusals = 3

// write brings every line's record into the store, in one round trip if nothing goes wrong. It returns false if it had
// to give up; the lines without a record have then moved to l.returned.
func (e *engine) write(ctx context.Context, l *ledger) bool {
	l.entries, l.owners = l.entries[:0], l.owners[:0]
	for i := range l.lines {
		ln := &l.lines[i]
		if ln.task.job.ID.IsZero() {
			continue // nothing can be stored without a key; its message is among the dead letters
		}
		l.entries = append(l.entries, resultstore.Entry{ID: ln.task.job.ID, Record: l.records[ln.lo:ln.hi:ln.hi], TTL: e.info.ResultTTL})
		l.owners = append(l.owners, i)
	}
	refused := 0
	for tries := 0; len(l.entries) > 0; tries++ {
		outcomes, err := e.results.Finish(ctx, l.entries)
		down, refusal := l.settleOutcomes(outcomes, err)
		if len(l.entries) == 0 {
			e.store.heal()
			break
		}
		if ctx.Err() != nil {
			l.returnRest()
			return false
		}
		if down != nil {
			e.store.fail(down)
		}
		if refusal != nil {
			if refused++; refused == refusals {
				e.unstorable(l, refusal)
				return true
			}
		}
		if !e.rest(ctx, tries) {
			l.returnRest()
			return false
		}
	}
	return true
}

// settleOutcomes removes the entries that have a record now from l.entries. Of the others it returns an error that may
// pass, and one that the store has for reasons of the record's own.
func (l *ledger) settleOutcomes(outcomes []resultstore.Outcome, err error) (down, refusal error) {
	sort := func(err error) {
		switch {
		case err == nil:
			refusal = errIncomplete
		case errors.Is(err, resultstore.ErrUnavailable):
			down = err
		default:
			refusal = err
		}
	}
	if len(outcomes) != len(l.entries) {
		sort(err)
		return down, refusal
	}
	left := 0
	for i := range outcomes {
		switch o := &outcomes[i]; {
		case o.Err == nil && (o.Won || o.Existing != nil):
			if !o.Won {
				l.lines[l.owners[i]].lost(o.Existing)
			}
		default:
			l.entries[left], l.owners[left] = l.entries[i], l.owners[i]
			left++
			sort(o.Err)
		}
	}
	l.entries, l.owners = l.entries[:left], l.owners[:left]
	return down, refusal
}

// lost takes over the outcome of the attempt that was first.
func (ln *line) lost(record []byte) {
	r, err := job.DecodeRecord(ln.task.job.ID, record)
	if err != nil {
		return
	}
	ln.state, ln.late, ln.finished = r.State, true, r.FinishedAt
	if ln.reply != nil {
		ln.reply = newReply(ln.task, &r)
	}
}

// anyDead reports whether a job of the ledger is among the dead letters.
func (l *ledger) anyDead() bool {
	for i := range l.lines {
		if l.lines[i].dead {
			return true
		}
	}
	return false
}

// unstorable gives the messages of the entries that the store does not take back to the queue.
func (e *engine) unstorable(l *ledger, err error) {
	for _, i := range l.owners {
		t := l.lines[i].task
		e.log.Error("the result store refuses a record; the job will be tried again", slog.String("job", t.job.ID.String()), slog.Any("error", err))
		l.returned = append(l.returned, returned{task: t, delay: e.retryDelay(t.message.delivery.Attempt), cause: shorten("the result store refuses the record: " + err.Error())})
		l.lines[i] = line{}
	}
}

// returnRest gives what could not be written in time back to the queue.
func (l *ledger) returnRest() {
	for _, i := range l.owners {
		t := l.lines[i].task
		ln := returned{task: t}
		if t.solo && t.found == nil {
			ln.cause = noteStopped
		}
		l.returned = append(l.returned, ln)
		l.lines[i] = line{}
	}
}

// tell wakes whoever waits for the jobs. It is best effort: who misses it finds the record.
func (e *engine) tell(l *ledger) {
	l.ids = l.ids[:0]
	for i := range l.lines {
		ln := &l.lines[i]
		if ln.task == nil || ln.task.job.ID.IsZero() {
			continue
		}
		l.ids = append(l.ids, ln.task.job.ID)
		if ln.reply == nil {
			continue
		}
		if err := e.broker.Reply(ln.task.job.Reply, ln.reply.header, ln.reply.body); err != nil {
			e.log.Debug("reply not sent", slog.String("job", ln.task.job.ID.String()), slog.Any("error", err))
		}
	}
	if err := e.broker.NotifyDone(l.ids); err != nil {
		e.log.Debug("done notice not sent", slog.Any("error", err))
	}
}

// finished counts a job of its message as done with.
func (e *engine) finished(t *task) { e.release(t.message, 1) }

// release counts n jobs of the message as done with; the last one ends the message.
func (e *engine) release(m *message, n int32) {
	if m.pending.Add(-n) == 0 {
		e.end(m)
	}
}

// end acknowledges a message, or gives it back if some job of it has to be tried again. A message whose lease has
// lapsed is never given back, because another worker may hold it: it comes again by itself.
func (e *engine) end(m *message) {
	m.leases.remove(m)
	var err error
	if delay, again := m.delay(time.Now()); again {
		err = m.lease.Retry(delay)
	} else {
		err = m.lease.Ack()
		e.reach.Reach(failpoint.Acked)
		if m.dead.Load() {
			e.reach.Reach(failpoint.DeadSettled)
		}
	}
	// Either way nothing is lost: the message comes again, and the records that it has are found.
	if err != nil && !errors.Is(err, queue.ErrLapsed) {
		e.nats.fail(err)
	}
}
