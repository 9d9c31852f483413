package worker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/sheafml/sheaf/job"
)

// fate is one job of a history: what its row does to the model, and when its answer is of no more use.
type fate struct {
	row      float32
	rows     int
	lane     job.Lane
	deadline time.Duration // after its submit; 0 is never
	webhook  bool
}

// event is something that happens in a history.
type event struct {
	after time.Duration // the event before
	kind  string
	job   int // of submit: how many go into the message; of cancel and look: which one
	steps int // of crash: how many steps the process still takes
	span  time.Duration
}

// history is a life of some jobs, drawn by rapid before the bubble, so that a failing one can be made smaller.
type history struct {
	fates   []fate
	events  []event
	killers bool // some jobs kill the process that runs them
}

func drawHistory(t *rapid.T) history {
	var h history
	n := rapid.IntRange(1, 12).Draw(t, "jobs")
	values, rows := []float32{1, 2, 3, 4, 5, 6, rowFails, rowSlow + 200, 25_000}, []int{1, 1, 1, 2, 9}
	if h.killers = rapid.Bool().Draw(t, "killers"); h.killers {
		// A job that is split is not run at one go: a killer may come between its pieces.
		values, rows = append(values, rowKills, rowKills), []int{1, 1, 2}
	}
	for range n {
		h.fates = append(h.fates, fate{
			row:      rapid.SampledFrom(values).Draw(t, "row"),
			rows:     rapid.SampledFrom(rows).Draw(t, "rows"), // 9 are more than a batch has
			lane:     rapid.SampledFrom(job.Lanes()).Draw(t, "lane"),
			deadline: rapid.SampledFrom([]time.Duration{0, 0, 0, 50 * time.Millisecond, 15 * time.Second, 5 * time.Minute}).Draw(t, "deadline"),
			webhook:  rapid.Bool().Draw(t, "webhook"),
		})
	}
	kinds := []string{"submit", "submit", "submit", "cancel", "cancel", "look", "crash", "stand", "store", "reply", "again"}
	for range rapid.IntRange(1, 24).Draw(t, "events") {
		e := event{
			after: rapid.SampledFrom([]time.Duration{0, time.Millisecond, 4 * time.Millisecond, 100 * time.Millisecond, 3 * time.Second, 12 * time.Second}).Draw(t, "after"),
			kind:  rapid.SampledFrom(kinds).Draw(t, "kind"),
			job:   rapid.IntRange(0, n-1).Draw(t, "job"),
			steps: rapid.IntRange(1, 12).Draw(t, "steps"),
			span:  rapid.SampledFrom([]time.Duration{50 * time.Millisecond, 2 * time.Second, 14 * time.Second, 40 * time.Second}).Draw(t, "for"),
		}
		h.events = append(h.events, e)
	}
	return h
}

// TestLifeOfAJob lets random histories happen to a few jobs: submits in company and again, deliveries, runs, writes,
// acknowledgements, cancels, deadlines, crashes after any step, workers that stand still beyond their leases, a store
// that is down or whose answer is lost. Whatever happens, each accepted job ends, once and rightly.
func TestLifeOfAJob(t *testing.T) {
	for range 10 { // each check is a hundred histories
		rapid.Check(t, func(rt *rapid.T) {
			h := drawHistory(rt)
			var found []string
			synctest.Test(t, func(*testing.T) { found = h.happen() })
			if len(found) > 0 {
				rt.Fatalf("%v", found)
			}
		})
	}
}

// story is a history while it happens.
type story struct {
	history
	w        *world
	jobs     []job.Job
	accepted []bool
	verdicts map[job.ID]job.State // of records that the API wrote, and told its client of
	workers  sync.WaitGroup
	stop     context.CancelFunc
	crashes  int
	found    []string
}

// happen returns what is wrong in the end.
func (h history) happen() []string {
	s := &story{history: h, w: newWorld(), accepted: make([]bool, len(h.fates)), verdicts: make(map[job.ID]job.State)}
	for _, f := range h.fates {
		values := make([]float32, f.rows)
		for k := range values {
			values[k] = f.row
		}
		id, err := job.NewID()
		if err != nil {
			return []string{err.Error()}
		}
		hook := ""
		if f.webhook {
			hook = "https://hooks.example/"
		}
		s.jobs = append(s.jobs, job.Job{
			ID: id, Webhook: hook, Tenant: "default", Model: "double", Lane: f.lane,
			Inputs: []job.Tensor{{Name: "x", Datatype: job.FP32, Shape: []int64{int64(f.rows), 1}, Data: rawFloats(values...)}},
		})
	}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	for range 2 {
		s.workers.Go(func() { s.supervise(ctx) })
	}
	synctest.Wait()
	for _, e := range h.events {
		takes(e.after)
		s.tell(e)
	}
	s.finish()
	return append(s.found, s.w.breaches...)
}

// supervise runs a worker process, and another whenever it dies.
func (s *story) supervise(ctx context.Context) {
	var pools sync.WaitGroup
	for ctx.Err() == nil {
		p := s.w.process()
		m := doublerModel(1, nil)
		m.MaxRows = 4
		m.NewInstance = func() (Instance, error) { return &fated{p: p}, nil }
		cfg := DefaultConfig()
		cfg.DrainTimeout = time.Second
		pool, err := newPool(cfg, Deps{Results: p}, p, []Model{m})
		if err != nil {
			s.w.set(func() { s.w.breach("%v", err) })
			return
		}
		life, over := context.WithCancel(ctx)
		pools.Go(func() { _ = pool.Run(life) })
		select {
		case <-p.died:
		case <-ctx.Done():
		}
		over()
		takes(100 * time.Millisecond) // until it is started again
	}
	pools.Wait()
}

// tell lets an event happen.
func (s *story) tell(e event) {
	switch e.kind {
	case "submit":
		// The next jobs that were not submitted yet, of one lane, in one message.
		var jobs []job.Job
		for i := range s.jobs {
			if s.accepted[i] || len(jobs) > 0 && s.jobs[i].Lane != jobs[0].Lane || len(jobs) > e.steps%4 {
				continue
			}
			jobs = append(jobs, *s.accept(i))
		}
		if len(jobs) > 0 {
			s.w.submit(jobs[0].Lane, jobs...)
		}
	case "again": // a client that did not see the answer to its publish
		if s.accepted[e.job] {
			s.w.submit(s.jobs[e.job].Lane, s.jobs[e.job])
		}
	case "cancel":
		if j := &s.jobs[e.job]; s.accepted[e.job] && s.w.end(j, job.Canceled, job.CodeCanceled) {
			s.verdicts[j.ID] = job.Canceled
		}
	case "look":
		j := &s.jobs[e.job]
		overdue := !j.Deadline.IsZero() && !time.Now().Before(j.Deadline)
		if s.accepted[e.job] && overdue && s.w.end(j, job.Expired, job.CodeExpired) {
			s.verdicts[j.ID] = job.Expired
		}
	case "crash":
		s.w.set(func() {
			// With killers about one crash is too few to make an innocent job a suspect.
			if p := s.living(e.job); p != nil && (s.crashes == 0 || !s.killers && s.crashes < 4) {
				s.crashes++
				p.steps = e.steps
			}
		})
	case "stand":
		s.w.set(func() {
			if p := s.living(e.job); p != nil {
				p.stands = time.Now().Add(e.span)
			}
		})
	case "store":
		s.w.set(func() { s.w.storeDown = true })
		takes(e.span)
		s.w.set(func() { s.w.storeDown = false })
	case "reply":
		s.w.set(func() { s.w.loseReply = true })
	}
}

// accept marks a job as submitted now.
func (s *story) accept(i int) *job.Job {
	j := &s.jobs[i]
	s.accepted[i] = true
	j.CreatedAt = time.Now()
	if d := s.fates[i].deadline; d > 0 {
		j.Deadline = j.CreatedAt.Add(d)
	}
	return j
}

// living returns one of the processes that live. world.mu is held.
func (s *story) living(n int) *simulated {
	var list []*simulated
	for _, p := range s.w.processes {
		if p.alive() && p.steps == 0 {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		return nil
	}
	return list[n%len(list)]
}

// finish waits until every message is gone, and compares each job's record with what may be.
func (s *story) finish() {
	for waited := time.Duration(0); s.w.unfinished() > 0; waited += time.Second {
		if waited > time.Hour {
			s.found = append(s.found, fmt.Sprintf("%d messages are never acknowledged", s.w.unfinished()))
			break
		}
		takes(time.Second)
	}
	s.w.set(func() {
		for _, p := range s.w.processes {
			p.stands = time.Time{}
		}
	})
	s.stop()
	s.workers.Wait()
	s.w.set(func() {
		for i := range s.jobs {
			if s.accepted[i] {
				if why := s.judge(i); why != "" {
					s.found = append(s.found, fmt.Sprintf("job %d (%+v): %s", i, s.fates[i], why))
				}
			} else if s.w.records[s.jobs[i].ID] != nil {
				s.found = append(s.found, fmt.Sprintf("job %d was not accepted and has a record", i))
			}
		}
	})
}

// judge says what is wrong with the end of a job; "" is nothing. world.mu is held.
func (s *story) judge(i int) string {
	j, f := &s.jobs[i], s.fates[i]
	record := s.w.records[j.ID]
	if record == nil {
		return "it has no record"
	}
	r, err := job.DecodeRecord(j.ID, record)
	if err != nil {
		return err.Error()
	}
	if told, ok := s.verdicts[j.ID]; ok && r.State != told {
		return fmt.Sprintf("its client was told %s, and it is %s", told, r.State)
	}
	if f.webhook != (s.w.hooks[j.ID] > 0) {
		return fmt.Sprintf("its webhook is queued %d times", s.w.hooks[j.ID])
	}
	buried := s.w.dead[j.ID] > 0
	switch r.State {
	case job.Succeeded:
		if f.row == rowFails || f.row == rowKills {
			return "it succeeded, which it cannot"
		}
		want := make([]float32, f.rows)
		for k := range want {
			want[k] = 2 * f.row
		}
		if got := floats(r.Outputs[0].Data); !slices.Equal(got, want) {
			return fmt.Sprintf("it got %v, want %v", got, want)
		}
	case job.Canceled:
		if s.verdicts[j.ID] != job.Canceled {
			return "it is canceled, which nobody asked for"
		}
	case job.Expired:
		if j.Deadline.IsZero() || r.FinishedAt.Before(j.Deadline.Truncate(time.Millisecond)) {
			return "it expired before its time"
		}
	case job.Failed:
		switch {
		case f.row == rowFails && r.Error.Code == job.CodeInference:
		case f.row == rowKills && r.Error.Code == job.CodeExhausted && buried:
		case s.crashes >= silentLimit && r.Error.Code == job.CodeExhausted && buried:
			// It looks like a killer if its worker crashed each time it was run alone.
		default:
			return fmt.Sprintf("it failed: %v (among the dead letters: %v)", r.Error, buried)
		}
	default:
		return "it is " + r.State.String()
	}
	return ""
}
