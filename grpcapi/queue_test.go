package grpcapi_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// memQueue stands for JetStream: messages of one job each, in order, and notices to everybody who listens. It serves
// the real producer on one side and the gateway on the other.
type memQueue struct {
	mu        sync.Mutex
	seq       uint64
	waiting   []*message
	byKey     map[job.ID]job.Ticket
	listeners map[int]func([]job.ID)
	room      int   // messages that it takes; negative: any number
	refused   int   // for lack of room
	sheaves   []int // how many jobs were to be published together

	publishErr error
	onPublish  func(t job.Ticket, j job.Job) // called in a goroutine of its own
	published  sync.WaitGroup
}

type message struct {
	ticket job.Ticket
	job    job.Job
	state  job.State
}

func newQueue() *memQueue {
	return &memQueue{byKey: map[job.ID]job.Ticket{}, listeners: map[int]func([]job.ID){}, room: -1}
}

func (q *memQueue) Publish(ctx context.Context, j *job.Job) (job.Ticket, bool, error) {
	if err := ctx.Err(); err != nil {
		return job.Ticket{}, false, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.publishErr != nil {
		return job.Ticket{}, false, q.publishErr
	}
	if t, ok := q.byKey[j.ID]; ok {
		t.Fingerprint = j.Fingerprint
		return t, true, nil
	}
	if q.room == len(q.waiting) {
		q.refused++
		return job.Ticket{}, false, queue.ErrTenantFull
	}
	q.seq++
	t := job.Ticket{ID: j.ID, Lane: j.Lane, Seq: q.seq, Fingerprint: j.Fingerprint}
	q.byKey[j.ID] = t
	q.waiting = append(q.waiting, &message{ticket: t, job: *j, state: job.Queued})
	if q.onPublish != nil {
		copied := *j
		q.published.Go(func() { q.onPublish(t, copied) })
	}
	return t, false, nil
}

// PublishSheaf publishes while there is room.
func (q *memQueue) PublishSheaf(ctx context.Context, jobs []*job.Job) (tickets []job.Ticket, err error) {
	q.mu.Lock()
	q.sheaves = append(q.sheaves, len(jobs))
	q.mu.Unlock()
	for _, j := range jobs {
		t, _, err := q.Publish(ctx, j)
		if err != nil {
			return tickets, err
		}
		tickets = append(tickets, t)
	}
	return tickets, nil
}

func (q *memQueue) Load(context.Context, job.Lane, string, string) (queue.Load, error) {
	return queue.Load{}, nil
}

func (q *memQueue) find(t job.Ticket) int {
	return slices.IndexFunc(q.waiting, func(m *message) bool { return m.ticket.ID == t.ID && m.ticket.Seq == t.Seq })
}

func (q *memQueue) Locate(_ context.Context, t job.Ticket) (job.Location, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := q.find(t)
	if i < 0 {
		return job.Location{}, job.ErrNotFound
	}
	j := &q.waiting[i].job
	loc := job.Location{State: q.waiting[i].state, Tenant: j.Tenant, Model: j.Model, CreatedAt: j.CreatedAt, Deadline: j.Deadline, Fingerprint: j.Fingerprint}
	if loc.State == job.Queued {
		loc.Ahead = i
	}
	return loc, nil
}

func (q *memQueue) NotifyCanceled([]job.ID) error { return nil }

func (q *memQueue) QueueWebhooks(context.Context, []queue.Webhook) []error { return nil }

func (q *memQueue) Remove(_ context.Context, t job.Ticket) (bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := q.find(t)
	if i < 0 {
		return false, nil
	}
	q.waiting = slices.Delete(q.waiting, i, i+1)
	return true, nil
}

func (q *memQueue) NotifyDone(ids []job.ID) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, fn := range q.listeners {
		fn(ids)
	}
	return nil
}

func (q *memQueue) OnDone(fn func([]job.ID)) (func(), error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.listeners)
	q.listeners[n] = fn
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		delete(q.listeners, n)
	}, nil
}

// last returns the newest message.
func (q *memQueue) last(t testing.TB) message {
	t.Helper()
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		t.Fatal("nothing was published")
	}
	return *q.waiting[len(q.waiting)-1]
}

func (q *memQueue) setState(t job.Ticket, s job.State) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := q.find(t); i >= 0 {
		q.waiting[i].state = s
	}
}

// setRoom says how many messages it takes.
func (q *memQueue) setRoom(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.room = n
}

// refusals says how often there was no room.
func (q *memQueue) refusals() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.refused
}
