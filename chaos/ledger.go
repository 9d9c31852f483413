package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/sheafml/sheaf/job"
)

// entry is one job in the ledger.
type entry struct {
	row      *row
	via      string // "http", "bulk", "interactive": how it was submitted
	id       job.ID // known beforehand if it has an Idempotency-Key
	ticket   string // of the first acceptance
	accepted time.Time
	unclear  int  // tries whose answer was not clear
	refused  bool // for good
	seen     outcome
	readable time.Time // when its record was first read from the result store
	checked  bool      // its result was read at the end
	attempts int       // as its record has it
	canceled bool      // somebody tried to cancel it
	deadline time.Time // the first that it was submitted with; zero if it has none
}

// fault says what is wrong with a finished job, "" if nothing is. A job that was canceled, or whose deadline has passed,
// may have ended so; or it has its right result.
func (e *entry) fault(o *outcome) string {
	switch {
	case o.state == job.Canceled.String() && e.canceled:
		return ""
	case o.state == job.Expired.String() && !e.deadline.IsZero():
		if o.finished < e.deadline.UnixMilli() {
			return o.String() + ", before its deadline"
		}
		return ""
	}
	return o.fault(e.row)
}

// ledger is what the harness knows of every job. It is kept in memory, where no fault reaches it.
type ledger struct {
	mu       sync.Mutex
	entries  []*entry
	accepted []*entry
	verdict  verdict
	stale    int // repeated submits of finished jobs that were answered as if they were not
}

// verdict is what was found against the promise.
type verdict struct {
	Lost     int `json:"lost"`
	Wrong    int `json:"wrong"`
	Flipped  int `json:"flipped"`
	Vanished int `json:"vanished"`

	Evidence []string `json:"evidence,omitempty"`
}

func (v *verdict) clean() bool {
	return v.Lost == 0 && v.Wrong == 0 && v.Flipped == 0 && v.Vanished == 0
}

// maxEvidence bounds what is told in detail of each kind of finding.
const maxEvidence = 10

func (v *verdict) charge(count *int, format string, args ...any) {
	*count++
	if *count <= maxEvidence {
		v.Evidence = append(v.Evidence, fmt.Sprintf(format, args...))
	}
}

// begin adds a job that is about to be submitted. id is zero if it is not known beforehand.
func (l *ledger) begin(via string, r *row, id job.ID) *entry {
	e := &entry{row: r, via: via, id: id}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, e)
	return e
}

// accept notes that the job was accepted. A repeated submit must be the same job.
func (l *ledger) accept(e *entry, ticket string, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t, err := job.ParseTicket(ticket)
	switch {
	case err != nil:
		l.verdict.charge(&l.verdict.Wrong, "wrong: submit answered with the id %q: %v", ticket, err)
		return
	case e.id.IsZero():
		e.id = t.ID
	case e.id != t.ID:
		l.verdict.charge(&l.verdict.Wrong, "wrong: job %s was accepted as %s", e.id, ticket)
		return
	}
	if e.accepted.IsZero() {
		e.ticket, e.accepted = ticket, at
		l.accepted = append(l.accepted, e)
	}
}

// doubt notes a try that may have been accepted or not.
func (l *ledger) doubt(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.unclear++
}

// refuse notes that a job will not be accepted.
func (l *ledger) refuse(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.refused = true
}

// pick returns any accepted job, nil if there is none yet, and whether it has been seen finished. Half of the time it
// is one of the latest, which are likely to be unfinished.
func (l *ledger) pick() (e *entry, finished bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.accepted)
	if n == 0 {
		return nil, false
	}
	from := 0
	if rand.IntN(2) == 0 { //nolint:gosec // which job is looked at needs no secrecy
		from = max(0, n-200)
	}
	e = l.accepted[from+rand.IntN(n-from)] //nolint:gosec // as above
	return e, e.seen.terminal()
}

// finished reports whether the job has been seen finished.
func (l *ledger) finished(e *entry) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return e.seen.terminal()
}

// saw notes a sighting. finished says whether the job had been seen finished before this look-up was begun: only then
// is an unfinished state a flip, since answers may overtake each other.
func (l *ledger) saw(e *entry, finished bool, o *outcome, where string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(e, finished, o, where)
}

func (l *ledger) note(e *entry, finished bool, o *outcome, where string) {
	v := &l.verdict
	switch {
	case !o.terminal() && finished:
		v.charge(&v.Flipped, "flipped: job %s (%s) was %s, and is %s at %s", e.ticket, e.via, &e.seen, o.state, where)
	case !o.terminal():
	case !e.seen.terminal():
		e.seen = *o
		if fault := e.fault(o); fault != "" {
			v.charge(&v.Wrong, "wrong: job %s (%s) at %s: %s", e.ticket, e.via, where, fault)
		}
	case !e.seen.same(o):
		v.charge(&v.Flipped, "flipped: job %s (%s) was %s, and is %s at %s", e.ticket, e.via, &e.seen, o, where)
	}
}

// outdated notes a repeated submit of a finished job that was accepted as if it were unfinished. Its record stands.
func (l *ledger) outdated() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stale++
}

// cancel notes that somebody is about to cancel the job.
func (l *ledger) cancel(e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.canceled = true
}

// hurry notes a deadline that the job is about to be submitted with.
func (l *ledger) hurry(e *entry, deadline time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.deadline.IsZero() || deadline.Before(e.deadline) {
		e.deadline = deadline.Truncate(time.Millisecond)
	}
}

// vanished notes that an accepted job was unknown to somebody who should know it.
func (l *ledger) vanished(e *entry, where string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := &l.verdict
	state := "unfinished as far as was known"
	if e.seen.terminal() {
		state = e.seen.String()
	}
	v.charge(&v.Vanished, "vanished: job %s (%s), accepted %s, %s: 404 at %s", e.ticket, e.via, clock(e.accepted), state, where)
}

// read notes a record that was read from the result store.
func (l *ledger) read(e *entry, o *outcome, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(e, true, o, "the result store")
	if e.readable.IsZero() {
		e.readable = at
	}
}

// since lists the jobs that were accepted after the first n, and how many there are by now.
func (l *ledger) since(n int) ([]*entry, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.accepted[n:]), len(l.accepted)
}

// settle notes the record that a job has at the end, nil if it has none.
func (l *ledger) settle(e *entry, o *outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := &l.verdict
	switch {
	case o == nil && e.seen.terminal():
		v.charge(&v.Flipped, "flipped: job %s (%s) was %s, and has no record at the end", e.ticket, e.via, &e.seen)
		v.Lost++
	case o == nil && !e.accepted.IsZero():
		v.charge(&v.Lost, "lost: job %s (%s), accepted %s, has no record at the end", e.ticket, e.via, clock(e.accepted))
	case o != nil:
		l.note(e, true, o, "the result store")
		e.checked, e.attempts = true, o.attempts
		if e.readable.IsZero() {
			e.readable = time.Now()
		}
	}
}

// gone notes jobs without a record, of which those that had one at the end are a new loss.
func (l *ledger) gone(list []*entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := &l.verdict
	for _, e := range list {
		if e.checked {
			v.charge(&v.Flipped, "flipped: job %s (%s) was %s, and has no record any more", e.ticket, e.via, &e.seen)
			v.Lost++
		}
	}
}

// damaged notes a record that cannot be read.
func (l *ledger) damaged(e *entry, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.verdict.charge(&l.verdict.Wrong, "wrong: job %s (%s): %v", e.ticket, e.via, err)
}

// counts are the totals of the ledger.
type counts struct {
	Submitted    int `json:"submitted"`
	Accepted     int `json:"accepted"`
	UnclearTries int `json:"unclear_tries"` // of those that were accepted later, too
	Unclear      int `json:"unclear_jobs"`  // never accepted clearly, and not refused
	Refused      int `json:"refused"`
	Finished     int `json:"finished"` // accepted ones with a record
	Stale        int `json:"stale_submits"`
	TurnedAway   int `json:"turned_away"` // refused because their deadline could not be met
	Hurried      int `json:"with_a_deadline"`
	Expired      int `json:"expired"`
	CancelTried  int `json:"cancel_tried"`
	Canceled     int `json:"canceled"`
}

func (l *ledger) counts() counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := counts{Submitted: len(l.entries), Accepted: len(l.accepted), Stale: l.stale}
	for _, e := range l.entries {
		c.UnclearTries += e.unclear
		c.end(e)
		switch {
		case !e.accepted.IsZero():
			if e.checked {
				c.Finished++
			}
		case e.refused && !e.deadline.IsZero():
			c.TurnedAway++
		case e.refused:
			c.Refused++
		default:
			c.Unclear++
		}
	}
	return c
}

// end counts how a job ended that was to end early.
func (c *counts) end(e *entry) {
	if !e.deadline.IsZero() {
		c.Hurried++
	}
	if e.canceled {
		c.CancelTried++
	}
	switch {
	case !e.checked:
	case e.seen.state == job.Expired.String():
		c.Expired++
	case e.seen.state == job.Canceled.String():
		c.Canceled++
	}
}

// redelivered counts the finished jobs whose result was made by a delivery that was not the first.
func (l *ledger) redelivered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, e := range l.accepted {
		if e.checked && e.attempts > 1 {
			n++
		}
	}
	return n
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }
