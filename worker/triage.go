package worker

import (
	"context"
	"log/slog"
	"time"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/resultstore"
)

// triage handles the messages that need the result store or the dead letters before anything of them can be run: those
// delivered before, and those with a part that cannot be run. It is one goroutine for each model. If it is held up, its
// channel fills and fetching stops.
type triage struct {
	engine *engine
	ledger ledger
	ids    []job.ID
}

// run works until the channel is closed. When ctx ends, it gives back what comes.
func (g *triage) run(ctx context.Context, from <-chan *message) {
	for m := range from {
		if ctx.Err() != nil {
			g.engine.handBack(m)
			continue
		}
		g.handle(ctx, m)
	}
}

func (g *triage) handle(ctx context.Context, m *message) {
	e := g.engine
	m.pending.Add(1) // so that the message does not end before everything here is said
	defer e.release(m, 1)
	if m.delivery.Attempt > 1 && !g.lookUp(ctx, m) {
		m.needRetry(0)
		e.unbuffer(m)
		e.release(m, int32(len(m.tasks))) //nolint:gosec // Limits.MaxJobs bounds it
		return
	}
	buried := g.bury(ctx, m)
	g.ledger.begin()
	runnable := 0
	for i := range m.tasks {
		t := &m.tasks[i]
		switch {
		case t.settled:
			e.left(t.job.Lane, t.rows)
			e.finished(t)
		case t.refused == nil:
			runnable++
		case t.state == job.Expired:
			e.left(t.job.Lane, t.rows)
			g.ledger.expire(t)
		case buried:
			e.left(t.job.Lane, t.rows)
			g.refuse(ctx, t)
		default:
			e.left(t.job.Lane, t.rows)
			g.ledger.giveBack(t, e.retryDelay(m.delivery.Attempt))
		}
	}
	if runnable > 0 {
		select {
		case e.in <- m:
		case <-ctx.Done():
			g.giveBackRunnable(m)
		}
	}
	e.settle(ctx, &g.ledger)
}

func (g *triage) refuse(ctx context.Context, t *task) {
	m := t.message
	level := slog.LevelDebug // anybody may send anything; the record, the dead letter and the metrics tell of it
	if t.refused.Code == job.CodeExhausted {
		level = slog.LevelWarn
	}
	g.engine.log.Log(ctx, level, "job refused", slog.String("job", t.job.ID.String()), slog.String("tenant", t.job.Tenant),
		slog.String("code", string(t.refused.Code)), slog.String("reason", t.refused.Error()))
	g.ledger.fail(t, t.state, t.refused, job.Timings{Queue: max(0, m.taken.Sub(t.job.CreatedAt))})
}

func (g *triage) giveBackRunnable(m *message) {
	for i := range m.tasks {
		if t := &m.tasks[i]; t.runnable() {
			g.engine.left(t.job.Lane, t.rows)
			g.ledger.giveBack(t, 0)
		}
	}
}

func (t *task) runnable() bool { return !t.settled && t.refused == nil }

// lookUp finds out which jobs of a redelivered message have a record, and which have been run alone before. It returns
// false if ctx ended before the store answered.
func (g *triage) lookUp(ctx context.Context, m *message) bool {
	e := g.engine
	g.ids = g.ids[:0]
	for i := range m.tasks {
		g.ids = append(g.ids, m.tasks[i].job.ID)
	}
	for i := range m.tasks {
		g.ids = append(g.ids, attemptNote(m.tasks[i].job.ID))
	}
	if len(g.ids) == 0 {
		return true
	}
	for tries := 0; ; tries++ {
		records, err := e.results.Get(ctx, g.ids...)
		if err == nil && len(records) == len(g.ids) {
			e.store.heal()
			g.mark(m, records)
			return true
		}
		if err != nil && ctx.Err() == nil {
			e.store.fail(err)
		}
		if !pause(ctx, backoff(tries, e.cfg.OutageDelay, e.cfg.OutageDelayMax)) {
			return false
		}
	}
}

// mark applies what lookUp found. A job is given up when it was run alone, found no end there, and its message has used
// up its attempts. A job that was never run alone is innocent of its message's deliveries, and gets its chance.
func (g *triage) mark(m *message, records [][]byte) {
	n := len(m.tasks)
	for i := range m.tasks {
		t := &m.tasks[i]
		t.settled = records[i] != nil
		t.suspect = records[n+i] != nil
		if t.suspect && t.runnable() && m.delivery.Attempt > g.engine.cfg.MaxAttempts {
			t.refused = job.Errorf(job.CodeExhausted, "", "the job was tried %d times and never finished: each time the worker died, or ran out of resources", m.delivery.Attempt-1)
		}
	}
}

// bury copies what is refused to the dead letters. It returns false if that failed; the message must then come again.
func (g *triage) bury(ctx context.Context, m *message) bool {
	e := g.engine
	g.ids = g.ids[:0]
	reason := m.undecodable
	for i := range m.tasks {
		t := &m.tasks[i]
		if t.settled || t.refused == nil || t.state == job.Expired {
			continue
		}
		g.ids = append(g.ids, t.job.ID)
		if reason == "" {
			reason = string(t.refused.Code) + ": " + t.refused.Error()
		}
	}
	ids := g.ids
	if m.undecodable != "" {
		ids = nil // the whole message
		e.log.Debug("message cannot be decoded", slog.Uint64("seq", m.delivery.Seq), slog.String("lane", m.lane.String()),
			slog.String("tenant", m.delivery.Envelope.Tenant), slog.String("reason", m.undecodable))
	} else if len(ids) == 0 {
		return true
	}
	if err := e.broker.DeadLetter(ctx, m.delivery, ids, reason); err != nil {
		e.nats.fail(err)
		m.needRetry(e.retryDelay(m.delivery.Attempt))
		return false
	}
	e.reach.Reach(failpoint.DeadCopied)
	return true
}

// noteTTL is how long it is remembered that a job was run alone: longer than all its deliveries take.
const noteTTL = 6 * time.Hour

// note writes down, before a redelivered job is run alone, that it will be: should it kill this process, it is known
// which one it was. It returns false if ctx ended before the store took the note.
func (e *engine) note(ctx context.Context, p part) bool {
	t := p.task
	if t.suspect || p.from > 0 {
		return true // it stands there
	}
	// The note has the form of a record, so that whatever looks at the store can read it.
	record := job.AppendRecord(nil, &job.Result{
		State: job.Failed, Model: e.info.Name, Attempts: t.message.delivery.Attempt, FinishedAt: time.Now(),
		Error: job.Errorf(job.CodeInternal, "", "a note of the worker: job %s is being run alone", t.job.ID),
	})
	entries := []resultstore.Entry{{ID: attemptNote(t.job.ID), Record: record, TTL: noteTTL}}
	for tries := 0; ; tries++ {
		outcomes, err := e.results.Finish(ctx, entries)
		if err == nil && len(outcomes) == 1 && outcomes[0].Err == nil {
			e.store.heal()
			return true
		}
		if err != nil && ctx.Err() == nil {
			e.store.fail(err)
		}
		if !pause(ctx, backoff(tries, e.cfg.OutageDelay, e.cfg.OutageDelayMax)) {
			return false
		}
	}
}
