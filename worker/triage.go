package worker

import (
	"context"
	"errors"
	"log/slog"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/resultstore"
)

// triage handles the messages that need the result store or the dead letters before anything of them can be run: those
// delivered before, and those with a part that cannot be run. It is one goroutine for each model, which serves the
// fetchers in turn. If it is held up, those whose messages wait for it stop fetching.
type triage struct {
	engine *engine
	ledger ledger
	ids    []job.ID
}

// run works until the sideline is closed. When ctx ends, it gives back what comes.
func (g *triage) run(ctx context.Context, from *sideline) {
	for m := range from.all() {
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
		case t.found != nil:
			e.left(m.from, t.rows)
			g.ledger.confirm(t)
		case t.refused == nil:
			runnable++
		case t.state == job.Expired:
			e.left(m.from, t.rows)
			g.ledger.expire(t)
		case buried:
			e.left(m.from, t.rows)
			g.refuse(ctx, t)
		default:
			e.left(m.from, t.rows)
			g.ledger.giveBack(t, e.retryDelay(m.delivery.Attempt))
		}
	}
	// Before its neighbours run: one of them may end this process, and what is decided here would have to be again.
	e.settle(ctx, &g.ledger)
	if runnable == 0 {
		return
	}
	select {
	case e.in <- m:
	case <-ctx.Done():
		g.ledger.begin()
		g.giveBackRunnable(m)
		e.settle(ctx, &g.ledger)
	}
}

// refuse enters the record of a job that will not be run.
func (g *triage) refuse(ctx context.Context, t *task) {
	m := t.message
	t.dead = true
	g.engine.logRefused(ctx, t, t.refused)
	g.ledger.fail(t, t.state, t.refused, job.Timings{Queue: max(0, m.taken.Sub(t.job.CreatedAt))})
}

func (e *engine) logRefused(ctx context.Context, t *task, err *job.Error) {
	level := slog.LevelDebug // anybody may send anything; the record, the dead letter and the metrics tell of it
	if err.Code == job.CodeExhausted {
		level = slog.LevelWarn
	}
	e.log.Log(ctx, level, "job refused", slog.String("job", t.job.ID.String()), slog.String("tenant", t.job.Tenant),
		slog.String("code", string(err.Code)), slog.String("reason", err.Error()))
}

func (g *triage) giveBackRunnable(m *message) {
	for i := range m.tasks {
		if t := &m.tasks[i]; t.runnable() {
			g.engine.left(m.from, t.rows)
			g.ledger.giveBack(t, 0)
		}
	}
}

func (t *task) runnable() bool { return t.found == nil && t.refused == nil }

// lookUp finds out which jobs of a redelivered message have a record, and which have been run alone before. It returns
// false if ctx ended before the store answered.
func (g *triage) lookUp(ctx context.Context, m *message) bool {
	e := g.engine
	g.ids = g.ids[:0]
	for i := range m.tasks {
		g.ids = append(g.ids, m.tasks[i].job.ID)
	}
	for i := range m.tasks {
		g.ids = append(g.ids, attemptNote(m.delivery.Seq, m.tasks[i].job.ID, 2))
	}
	for i := range m.tasks {
		g.ids = append(g.ids, failureNote(m.delivery.Seq, m.tasks[i].job.ID, 1))
	}
	if len(g.ids) == 0 {
		return true
	}
	refused := 0
	for tries := 0; ; tries++ {
		err := g.ask(ctx, m)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		if errors.Is(err, resultstore.ErrUnavailable) {
			e.store.fail(err)
		} else if refused++; refused == refusals {
			e.log.Error("the result store refuses to be read; a message will be tried again", slog.Uint64("seq", m.delivery.Seq), slog.Any("error", err))
			m.needRetry(e.retryDelay(m.delivery.Attempt))
			return false
		}
		if !e.rest(ctx, tries) {
			return false
		}
	}
}

// ask reads the records and the notes of the message's jobs once.
func (g *triage) ask(ctx context.Context, m *message) error {
	records, err := g.engine.results.Get(ctx, g.ids...)
	if err == nil && len(records) != len(g.ids) {
		err = errIncomplete
	}
	if err != nil {
		return err
	}
	n := len(m.tasks)
	for i := range m.tasks {
		t := &m.tasks[i]
		t.found, t.suspect, t.failed = records[i], records[n+i] != nil, records[2*n+i] != nil
	}
	if err := g.askNotes(ctx, m); err != nil {
		return err
	}
	g.mark(m)
	return nil
}

// mark gives up the jobs whose attempts are used up, as Retry says.
func (g *triage) mark(m *message) {
	most := g.engine.retry.MaxAttempts
	for i := range m.tasks {
		t := &m.tasks[i]
		if !t.suspect || !t.runnable() {
			continue
		}
		used := t.attempts >= most || t.past.silent >= silentLimit && m.delivery.Attempt > most
		if t.past.last == "" && t.past.quiet == 0 {
			used = false // it may have been another who ended the process
		}
		switch {
		case !used:
		case t.past.last != "":
			t.refused = errExhausted(t.attempts, t.past.last)
		default:
			t.refused = errSilent(t.attempts)
		}
	}
}

// bury copies what is refused to the dead letters. It returns false if that failed; the message must then come again.
func (g *triage) bury(ctx context.Context, m *message) bool {
	e := g.engine
	g.ids = g.ids[:0]
	reason := ""
	if m.undecodable != "" {
		reason = string(job.CodeMalformed) + ": " + m.undecodable
	}
	for i := range m.tasks {
		t := &m.tasks[i]
		if t.found != nil || t.refused == nil || t.state == job.Expired {
			continue
		}
		if t.refused.Code == job.CodeExhausted && m.undecodable == "" {
			// It has a history of its own, and so a dead letter.
			if !g.copy(ctx, m, []job.ID{t.job.ID}, reasonOf(t.refused), t.past.history) {
				return false
			}
			continue
		}
		g.ids = append(g.ids, t.job.ID)
		if reason == "" {
			reason = reasonOf(t.refused)
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
	return g.copy(ctx, m, ids, reason, nil)
}

// copy writes one dead letter. A job whose copy was written before a crash, or before the next one failed, has it
// already: the dead stream knows it again.
func (g *triage) copy(ctx context.Context, m *message, ids []job.ID, reason string, history []string) bool {
	e := g.engine
	if err := e.broker.DeadLetter(ctx, m.delivery, ids, reason, history...); err != nil {
		e.nats.fail(err)
		m.needRetry(e.retryDelay(m.delivery.Attempt))
		return false
	}
	m.dead.Store(true)
	e.reach.Reach(failpoint.DeadCopied)
	return true
}

// reasonOf is the reason of a dead letter.
func reasonOf(err *job.Error) string { return string(err.Code) + ": " + err.Error() }
