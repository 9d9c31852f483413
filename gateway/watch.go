package gateway

import (
	"context"
	"time"

	"github.com/sheafml/sheaf/job"
)

// Change is what has become known of a job that is watched: the job, or why nothing is known or ever will be.
type Change struct {
	Ticket job.Ticket
	Job    *Job
	Err    error
}

// Watch follows jobs until each is finished. It is not safe for concurrent use.
type Watch struct {
	g     *Gateway
	scope string
	seat  *seat
	jobs  []watched
	byID  map[job.ID]int
	left  int

	begun  bool
	relook time.Time // when some are looked at again, whatever they are
	cursor int       // where the next such look begins
	busy   error     // why the last look at a job failed
}

// watched is one job of a Watch.
type watched struct {
	ticket job.Ticket
	over   bool
	state  job.State // as told; Unknown: nothing was
	ahead  int
	at     time.Time // when to look at it in any case: its deadline, or another try. Zero: never
}

const (
	// relookEvery is how often a watch looks whether jobs have begun to run, at relookMost of them.
	relookEvery = 2 * time.Second
	relookMost  = 64
	// placesFor is up to how many jobs a watch tells of places in the queue that change.
	placesFor = 16
)

// Watch begins to follow jobs; a job that is named twice is followed once. Each counts as a waiter. Close must follow.
func (g *Gateway) Watch(scope string, tickets []job.Ticket) (*Watch, error) {
	w := &Watch{g: g, scope: scope, byID: make(map[job.ID]int, len(tickets))}
	ids := make([]job.ID, 0, len(tickets))
	for _, t := range tickets {
		if _, twice := w.byID[t.ID]; twice {
			continue
		}
		w.byID[t.ID] = len(w.jobs)
		w.jobs = append(w.jobs, watched{ticket: t})
		ids = append(ids, t.ID)
	}
	w.left = len(ids)
	var full *Problem
	if w.seat, full = g.waiters.take(len(ids)); full != nil {
		return nil, full
	}
	// The seat watches before the first look: a record that is written after that is told of.
	w.seat.watch(false, ids...)
	return w, nil
}

// Close ends the watch.
func (w *Watch) Close() { w.seat.leave() }

// Left is how many jobs are not finished, as far as was told.
func (w *Watch) Left() int { return w.left }

// Next waits until something has changed, and tells of it; or until the time is over, or no jobs are left. The first
// call tells at once of every job that can be looked up. The end of a job is told when its notice comes; that it has
// begun to run, and how far it is from that, may be told some seconds later.
//
// The error is tell's; or says that the gateway is closed, so that the client turns to another process; or that the
// client has left; or, of the first call, why not a single job can be looked up.
func (w *Watch) Next(ctx context.Context, timeout time.Duration, tell func(Change) error) error {
	told := false
	report := func(c Change) error {
		told = true
		return tell(c)
	}
	end := time.Now().Add(timeout)
	if !w.begun {
		w.begun, w.relook = true, time.Now().Add(relookEvery)
		if err := w.look(ctx, w.places(len(w.jobs)), report); err != nil {
			return err
		}
		if !told && w.busy != nil {
			return w.busy
		}
	}
	for !told && w.left > 0 {
		now := time.Now()
		places, next := w.due(now)
		if len(places) > 0 {
			if err := w.look(ctx, places, report); err != nil {
				return err
			}
			continue
		}
		if !now.Before(end) {
			return nil
		}
		if next.After(end) {
			next = end
		}
		if err := w.wait(ctx, next.Sub(now), report); err != nil {
			return err
		}
	}
	return nil
}

// wait waits for records, and tells of all that are there.
func (w *Watch) wait(ctx context.Context, timeout time.Duration, report func(Change) error) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case a := <-w.seat.records:
		if err := w.arrived(a, report); err != nil {
			return err
		}
	case <-timer.C:
		return nil
	case <-w.g.waiters.closed:
		return goingDown()
	case <-ctx.Done():
		return ErrClientGone
	}
	for {
		select {
		case a := <-w.seat.records:
			if err := w.arrived(a, report); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

func (w *Watch) arrived(a arrival, report func(Change) error) error {
	j := &w.jobs[w.byID[a.id]]
	if j.over {
		return nil
	}
	v, err := view(w.scope, j.ticket, a.record)
	return w.note(j, v, err, report)
}

// places returns those of the next jobs that are not over, from the cursor on.
func (w *Watch) places(most int) []int {
	var places []int
	for range w.jobs {
		if len(places) == most {
			break
		}
		if !w.jobs[w.cursor].over {
			places = append(places, w.cursor)
		}
		w.cursor = (w.cursor + 1) % len(w.jobs)
	}
	return places
}

// due returns the jobs that are to be looked at now, or else when some are.
func (w *Watch) due(now time.Time) (places []int, next time.Time) {
	if !now.Before(w.relook) {
		w.relook = now.Add(relookEvery)
		return w.places(relookMost), now
	}
	next = w.relook
	for i := range w.jobs {
		switch j := &w.jobs[i]; {
		case j.over || j.at.IsZero():
		case !now.Before(j.at):
			places = append(places, i)
		case j.at.Before(next):
			next = j.at
		}
	}
	return places, next
}

// look looks jobs up, and tells of those that have changed.
func (w *Watch) look(ctx context.Context, places []int, report func(Change) error) error {
	tickets := make([]job.Ticket, len(places))
	for k, i := range places {
		tickets[k] = w.jobs[i].ticket
	}
	return w.g.FindAll(ctx, w.scope, tickets, func(k int, v *Job, err error) error {
		return w.note(&w.jobs[places[k]], v, err, report)
	})
}

// note takes down what was found of a job.
func (w *Watch) note(j *watched, v *Job, err error, report func(Change) error) error {
	now := time.Now()
	if err != nil && ProblemOf(err).Busy {
		w.busy, j.at = err, now.Add(lookAgain)
		return nil
	}
	if err != nil || v.State.Terminal() {
		j.over = true
		w.left--
		w.seat.unwatch(j.ticket.ID)
		return report(Change{Ticket: j.ticket, Job: v, Err: err})
	}
	j.at = v.Deadline
	if v.overdue(now) {
		j.at = now.Add(lookAgain) // its end could not be recorded
	}
	if v.State == j.state && (v.Ahead == j.ahead || len(w.jobs) > placesFor) {
		return nil
	}
	j.state, j.ahead = v.State, v.Ahead
	return report(Change{Ticket: j.ticket, Job: v})
}
