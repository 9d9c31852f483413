package queue

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sheafml/sheaf/job"
)

// subjectKey is what the jobs of one message share.
type subjectKey struct {
	lane          job.Lane
	model, tenant string
}

func keyOf(j *job.Job) subjectKey { return subjectKey{j.Lane, j.Model, j.Tenant} }

// groups is the group commit: for each subject that is being published, what is in flight and what waits for it.
// Subjects without anything in flight have no entry.
type groups struct {
	mu   sync.Mutex
	live map[subjectKey]*subjectGroups
}

func (g *groups) init() { g.live = make(map[subjectKey]*subjectGroups) }

type subjectGroups struct {
	inFlight int
	waiting  []*group // in order; only the last can take more jobs
	// While a place in flight is kept for a message that waits for more jobs: how many there are to be, and what is
	// closed then.
	want  int
	ready chan struct{}
}

// group is one message that is being put together, and then its outcome.
type group struct {
	first  job.ID
	jobs   int
	full   bool
	body   []byte
	room   *[]byte   // what body lies in
	opened time.Time // when its first job came

	done chan struct{} // closed when ack and err are set
	ack  ack
	err  error
}

// join publishes the job at once if nothing of its subject is in flight, and else with the next message.
func (q *Queue) join(ctx context.Context, j *job.Job, body []byte) (job.Ticket, bool, error) {
	k := keyOf(j)
	q.groups.mu.Lock()
	s := q.groups.live[k]
	if s == nil {
		s = &subjectGroups{inFlight: 1}
		q.groups.live[k] = s
		q.groups.mu.Unlock()
		defer q.passOn(k, s)
		return q.storeAlone(ctx, j, body)
	}
	g := q.place(s, j, body)
	index := g.jobs - 1
	s.hurry()
	var start *group
	if s.waiting[0].full && s.inFlight < q.cfg.Publish.MaxInFlight {
		start = s.take()
		s.inFlight++
	}
	q.groups.mu.Unlock()
	if start != nil {
		q.startGroup(k, s, start)
	}
	select {
	case <-g.done:
		if g.err != nil {
			return job.Ticket{}, false, g.err
		}
		return job.Ticket{ID: j.ID, Lane: j.Lane, Seq: g.ack.seq, Index: index}, g.ack.duplicate, nil
	case <-ctx.Done():
		return job.Ticket{}, false, fmt.Errorf("publish given up: %w (%w)", ctx.Err(), ErrUncertain)
	}
}

// place puts the encoded job into the last group that waits, or a new one. groups.mu is held.
func (q *Queue) place(s *subjectGroups, j *job.Job, body []byte) *group {
	limit := &q.cfg.Publish
	var g *group
	if n := len(s.waiting); n > 0 {
		g = s.waiting[n-1]
		if len(g.body)+len(body) > q.messageBytes() {
			g.full = true
		}
	}
	if g == nil || g.full {
		g = newGroup(j.ID)
		s.waiting = append(s.waiting, g)
	}
	g.body = append(g.body, body...)
	g.jobs++
	g.full = g.jobs >= limit.MaxJobs || len(g.body) >= q.messageBytes()
	return g
}

func newGroup(first job.ID) *group {
	room, _ := bodies.Get().(*[]byte)
	if room == nil {
		room = new([]byte)
	}
	return &group{first: first, opened: time.Now(), done: make(chan struct{}), room: room, body: (*room)[:0]}
}

// sent is called when the body is needed no more.
func (g *group) sent() {
	if cap(g.body) <= keepBytes {
		*g.room = g.body[:0]
		bodies.Put(g.room)
	}
	g.body, g.room = nil, nil
}

// bodies are the buffers of groups.
var bodies sync.Pool

// messageBytes bounds a message of several jobs: by the settings, and by the server.
func (q *Queue) messageBytes() int {
	if limit := q.payload.Load() - headerRoom; limit > 0 && limit < int64(q.cfg.Publish.MaxBytes) {
		return int(limit)
	}
	return q.cfg.Publish.MaxBytes
}

func (s *subjectGroups) take() *group {
	g := s.waiting[0]
	s.waiting[0] = nil
	s.waiting = s.waiting[1:]
	return g
}

// lingerFrom is how many jobs a message must have carried for the next one to wait for more: below, too few come
// together for that to be worth the wait.
const lingerFrom = 8

// linger waits until as many jobs are there as twice those of the last message, but for no longer than the setting
// says. While many come at the same time most of them come right after the answers to the last ones; without a wait the
// first of them would make up a message alone.
func (q *Queue) linger(s *subjectGroups, last int) {
	limit := q.cfg.Publish.Linger
	if limit == 0 || last < lingerFrom {
		return
	}
	q.groups.mu.Lock()
	if s.inFlight > 1 {
		q.groups.mu.Unlock()
		return // another message is on its way, and these go when it is answered
	}
	ready := make(chan struct{})
	s.want, s.ready = min(2*last, q.cfg.Publish.MaxJobs), ready
	s.hurry()
	q.groups.mu.Unlock()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-ready:
	case <-timer.C:
	case <-q.closed:
	}
	q.groups.mu.Lock()
	s.ready = nil
	q.groups.mu.Unlock()
}

// hurry ends a linger for which enough jobs are there. groups.mu is held.
func (s *subjectGroups) hurry() {
	if s.ready == nil || len(s.waiting) == 0 || !s.waiting[0].full && s.waiting[0].jobs < s.want {
		return
	}
	close(s.ready)
	s.ready = nil
}

// passOn gives the place in flight that the caller held to the next group, if that may go.
func (q *Queue) passOn(k subjectKey, s *subjectGroups) {
	if g := q.next(k, s); g != nil {
		q.startGroup(k, s, g)
	}
}

// next takes the group that goes in the place of one that is done; nil, and the place is given up, if none does.
func (q *Queue) next(k subjectKey, s *subjectGroups) *group {
	q.groups.mu.Lock()
	defer q.groups.mu.Unlock()
	if len(s.waiting) > 0 && (s.inFlight == 1 || s.waiting[0].full) {
		return s.take()
	}
	if s.inFlight--; s.inFlight == 0 {
		delete(q.groups.live, k)
	}
	return nil
}

// startGroup publishes the group, and then what came together meanwhile, until nothing waits. It has a goroutine of
// its own, since none of the waiting callers may be made to wait longer than for its own job.
func (q *Queue) startGroup(k subjectKey, s *subjectGroups, g *group) {
	run := func() {
		for ; g != nil; g = q.next(k, s) {
			// In an outage groups queue up behind each other. One whose callers were promised an answer by now is not
			// sent any more: it would keep the next ones waiting, and publish jobs that were given up.
			if waited := time.Since(g.opened); waited > q.cfg.Publish.Timeout {
				g.err = fmt.Errorf("%w: the job waited %v behind others and was not sent", ErrUnavailable, waited.Round(time.Millisecond))
			} else {
				g.ack, g.err = q.store(q.life, k, g.first, g.jobs, g.body)
			}
			g.sent()
			close(g.done)
			if g.err == nil {
				q.linger(s, g.jobs)
			}
		}
	}
	if q.spawn(run) {
		return
	}
	for ; g != nil; g = q.next(k, s) { // the Queue is closed
		g.err = ErrClosed
		close(g.done)
	}
}
