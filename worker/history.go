package worker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/resultstore"
)

// Before a redelivered job is run alone a note says so, and after an attempt that failed for a reason that may pass
// another says why. So it is known of every job how often it was tried, by whom and what came of it, although whoever
// tried it may be gone. Notes are rare: a job that succeeds in its first delivery has none. They are in the result
// store, where they expire; each has the form of a record, so that whatever looks at the store can read it.

// What a note says of an attempt that is begun.
const (
	noteAlone = "run alone"
	noteQuiet = "run alone, with nothing else in its process"
)

// noteStopped says of an attempt that its worker was stopped in the middle of it. It does not count.
const noteStopped = "its worker was stopped before it was done"

// noteSpare is how many attempts that do not count are looked for beyond those that do.
const noteSpare = 16

// noteTTL is how long it is remembered that a job was run alone: longer than all its deliveries take.
const noteTTL = 6 * time.Hour

// attemptNote is the key under which it stands that the n-th attempt at a job, n from 2, was begun.
func attemptNote(seq uint64, id job.ID, n int) job.ID { return noteKey("\x00attempt", seq, id, n) }

// failureNote is the key under which it stands why the n-th attempt, n from 1, failed.
func failureNote(seq uint64, id job.ID, n int) job.ID { return noteKey("\x00failure", seq, id, n) }

// noteKey makes the key of a note. No tenant can have the name of a kind, so no Idempotency-Key leads to it. The
// message's sequence is part of it: a dead letter that is put in the queue again begins anew.
func noteKey(kind string, seq uint64, id job.ID, n int) job.ID {
	key := binary.BigEndian.AppendUint64(id[:], seq)
	return job.DerivedID(kind, string(append(key, byte(n)))) //nolint:gosec // attemptsLimit bounds it
}

// newNote encodes a note of this worker.
func (e *engine) newNote(n int, text string) []byte {
	return job.AppendRecord(nil, &job.Result{
		State: job.Failed, Model: e.info.Name, Attempts: n, FinishedAt: time.Now(),
		Error: job.Errorf(job.CodeInternal, e.name, "%s", text),
	})
}

// noted is a note that was read.
type noted struct {
	at     time.Time
	worker string
	text   string
}

func readNote(record []byte) noted {
	r, err := job.DecodeRecord(job.ID{}, record)
	if err != nil || r.Error == nil {
		return noted{text: "an unreadable note"}
	}
	return noted{at: r.FinishedAt, worker: r.Error.Field, text: r.Error.Detail}
}

// past is what is known of a job's attempts before this delivery.
type past struct {
	alone   int      // runs alone
	spared  int      // runs alone that do not count, see noteStopped
	silent  int      // those of which no end is known
	quiet   int      // those of the silent that had the process to themselves
	last    string   // why the last attempt failed; empty if it ended without a word
	history []string // one entry for each attempt
}

// historyText bounds what an entry of the history says of a failure, in bytes.
const historyText = 200

func entry(n int, at time.Time, worker, text string) string {
	text = shortenTo(text, historyText)
	if worker == "" {
		return fmt.Sprintf("attempt %d: %s", n, text)
	}
	return fmt.Sprintf("attempt %d at %s by %s: %s", n, at.UTC().Format(time.RFC3339), worker, text)
}

// readPast makes sense of a job's notes: begun[i] and failed[i] are of attempt i+1.
func readPast(begun, failed [][]byte) *past {
	p := &past{}
	for n := 1; n <= len(failed); n++ {
		var start, end noted
		if n > 1 {
			if begun[n-1] == nil {
				break
			}
			start = readNote(begun[n-1])
			p.alone++
		}
		if failed[n-1] != nil {
			end = readNote(failed[n-1])
		}
		switch {
		case n > 1 && end.text == noteStopped:
			p.alone--
			p.spared++
			p.history = append(p.history, entry(n, end.at, end.worker, end.text))
		case failed[n-1] != nil:
			p.last = end.text
			p.history = append(p.history, entry(n, end.at, end.worker, end.text))
		case n == 1:
			p.history = append(p.history, entry(n, time.Time{}, "", "the first delivery, of which nothing is noted"))
		default:
			p.silent++
			if start.text == noteQuiet {
				p.quiet++
			}
			p.last = ""
			p.history = append(p.history, entry(n, start.at, start.worker, start.text+", and nothing was heard of it again"))
		}
	}
	return p
}

// askNotes asks the store for all notes of the jobs that have some.
func (g *triage) askNotes(ctx context.Context, m *message) error {
	most := g.engine.retry.MaxAttempts + 1 + noteSpare
	var ids []job.ID
	var of []*task
	for i := range m.tasks {
		t := &m.tasks[i]
		if !t.suspect && !t.failed || !t.runnable() {
			continue
		}
		of = append(of, t)
		for n := 1; n <= most; n++ {
			ids = append(ids, attemptNote(m.delivery.Seq, t.job.ID, n), failureNote(m.delivery.Seq, t.job.ID, n))
		}
	}
	if len(of) == 0 {
		return nil
	}
	records, err := g.engine.results.Get(ctx, ids...)
	if err == nil && len(records) != len(ids) {
		err = errIncomplete
	}
	if err != nil {
		return err
	}
	begun, failed := make([][]byte, most), make([][]byte, most)
	for _, t := range of {
		for n := range begun {
			begun[n], failed[n] = records[2*n], records[2*n+1]
		}
		records = records[2*len(begun):]
		t.past = readPast(begun, failed)
		t.attempts, t.spared = 1+t.past.alone, t.past.spared
	}
	return nil
}

// note writes down, before a redelivered job is run, that it will be, and whether it has the process to itself: should it
// kill this process, it is known which one it was. It returns false, and how soon to try again, if that cannot be done: ctx has ended, or the store
// refuses it.
func (e *engine) note(ctx context.Context, t *task, alone bool) (ok bool, again time.Duration) {
	text := noteAlone
	if alone {
		text = noteQuiet
	}
	refused := 0
	var entries []resultstore.Entry
	for tries := 0; ; tries++ {
		n := t.attempts + t.spared + 1
		if entries == nil { // the same bytes each time, so that a write whose answer was lost counts as ours
			entries = []resultstore.Entry{{ID: attemptNote(t.message.delivery.Seq, t.job.ID, n), Record: e.newNote(n, text), TTL: noteTTL}}
		}
		outcomes, err := e.results.Finish(ctx, entries)
		if err == nil && len(outcomes) == 1 && outcomes[0].Err == nil {
			e.store.heal()
			t.attempts++
			if outcomes[0].Won || t.attempts > e.retry.MaxAttempts {
				return true, 0
			}
			entries = nil
			continue // an attempt whose lease has lapsed may still be at it
		}
		if err == nil {
			err = errIncomplete
		}
		if ctx.Err() != nil {
			return false, 0
		}
		if errors.Is(err, resultstore.ErrUnavailable) {
			e.store.fail(err)
		} else if refused++; refused == refusals {
			e.log.Error("the result store refuses a note; the job will be tried again", slog.String("job", t.job.ID.String()), slog.Any("error", err))
			return false, e.retryDelay(t.message.delivery.Attempt)
		}
		if !e.rest(ctx, tries) {
			return false, 0
		}
	}
}

// errIncomplete is what a store returns that answers less than it was asked.
var errIncomplete = errors.New("the result store gave no outcome for a record")

// noteTime is how long a worker that was stopped may take to note it.
const noteTime = stragglers / 2

// noteFailures writes down why jobs are given back. It is tried once: it only explains.
func (e *engine) noteFailures(ctx context.Context, l *ledger) {
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), noteTime)
		defer cancel()
	}
	l.entries = l.entries[:0]
	for _, r := range l.returned {
		if r.cause == "" || r.task.job.ID.IsZero() {
			continue
		}
		t, n := r.task, r.task.attempts+r.task.spared
		key := failureNote(t.message.delivery.Seq, t.job.ID, n)
		l.entries = append(l.entries, resultstore.Entry{ID: key, Record: e.newNote(n, r.cause), TTL: noteTTL})
	}
	if len(l.entries) == 0 || e.store.isDown() {
		return
	}
	if _, err := e.results.Finish(ctx, l.entries); err != nil {
		e.log.Debug("it could not be noted why jobs are given back", slog.Any("error", err))
	}
}

// bury puts the jobs among the dead letters whose last attempt failed, and enters their records. A job whose copy
// cannot be written comes again.
func (e *engine) bury(ctx context.Context, l *ledger) {
	for _, x := range l.exhausted {
		t := x.task
		var history []string
		if t.past != nil {
			history = t.past.history
		} else if t.attempts > 1 {
			history = []string{entry(1, time.Time{}, "", "the first delivery, of which nothing is noted")}
		}
		history = append(history, entry(t.attempts+t.spared, x.at, e.name, x.cause))
		err := errExhausted(t.attempts, x.cause)
		l.ids = append(l.ids[:0], t.job.ID)
		if failed := e.broker.DeadLetter(ctx, t.message.delivery, l.ids, reasonOf(err), history...); failed != nil {
			e.nats.fail(failed)
			l.returned = append(l.returned, returned{task: t, delay: e.retryDelay(t.attempts), cause: x.cause})
			continue
		}
		t.dead = true
		t.message.dead.Store(true)
		e.reach.Reach(failpoint.DeadCopied)
		e.logRefused(ctx, t, err)
		l.record(t, job.Failed, nil, err, x.timings)
	}
	l.exhausted = l.exhausted[:0]
}
