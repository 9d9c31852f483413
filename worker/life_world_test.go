package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

// world is JetStream, Redis and the API as far as a job's life goes, on the clock of a synctest bubble. It watches what
// must hold at every moment: no message is acknowledged before all its jobs have records, and no record ever changes.
type world struct {
	ackWait time.Duration

	mu        sync.Mutex
	changed   chan struct{} // closed and made anew when a message may be delivered
	messages  []*sent
	records   map[job.ID][]byte
	storeDown bool
	loseReply bool // the store does what it is told, and its answer is lost
	processes []*simulated
	dead      map[job.ID]int  // copies among the dead letters
	hooks     map[job.ID]int  // deliveries of webhooks
	hooked    map[job.ID]bool // the jobs that name one
	breaches  []string
}

// sent is a message in its stream.
type sent struct {
	seq       uint64
	lane      job.Lane
	body      []byte
	jobs      []job.ID
	published time.Time
	visible   time.Time // when it may be delivered next
	delivered int
	gone      bool
}

func newWorld() *world {
	return &world{
		ackWait: 10 * time.Second, changed: make(chan struct{}),
		records: make(map[job.ID][]byte), dead: make(map[job.ID]int), hooks: make(map[job.ID]int), hooked: make(map[job.ID]bool),
	}
}

func (w *world) breach(format string, args ...any) {
	w.breaches = append(w.breaches, fmt.Sprintf(format, args...))
}

func (w *world) wake() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// submit publishes the jobs as one message.
func (w *world) submit(lane job.Lane, jobs ...job.Job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := &sent{seq: uint64(len(w.messages) + 1), lane: lane, body: sheafOf(jobs...), published: time.Now(), visible: time.Now()}
	for i := range jobs {
		m.jobs = append(m.jobs, jobs[i].ID)
		w.hooked[jobs[i].ID] = jobs[i].Webhook != ""
	}
	w.messages = append(w.messages, m)
	w.wake()
}

// write is SET NX GET. It returns the record that stood there, nil if this one stands now.
func (w *world) write(id job.ID, record []byte) []byte {
	if old := w.records[id]; old != nil {
		if slices.Equal(old, record) {
			return nil // our own, of a try whose answer was lost
		}
		return old
	}
	w.records[id] = slices.Clone(record)
	return nil
}

// end is what the API does for a cancel, and for a look-up of an overdue job. It reports whether its record won.
func (w *world) end(j *job.Job, state job.State, code job.Code) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.storeDown {
		return false // answered 503
	}
	record := job.AppendRecord(nil, &job.Result{
		State: state, Tenant: j.Tenant, Model: j.Model, FinishedAt: time.Now(), Error: job.Errorf(code, "", "by the API"),
	})
	if w.write(j.ID, record) != nil {
		return false
	}
	if state == job.Canceled {
		for _, p := range w.processes {
			if p.canceled != nil && p.alive() {
				p.canceled([]job.ID{j.ID})
			}
		}
	}
	if j.Webhook != "" {
		if w.loseReply { // stands for an API that dies here, or cannot queue the delivery
			w.loseReply = false
			return true
		}
		w.hooks[j.ID]++
	}
	for _, m := range w.messages {
		if len(m.jobs) == 1 && m.jobs[0] == j.ID {
			m.gone = true
		}
	}
	return true
}

// unfinished counts the messages that still stand in their stream.
func (w *world) unfinished() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, m := range w.messages {
		if !m.gone {
			n++
		}
	}
	return n
}

// set changes the world while nothing moves.
func (w *world) set(fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn()
}

// simulated is a worker process: what its pool sees of the world. It may die after any step that it takes, or stand
// still for a while, as after SIGSTOP.
type simulated struct {
	w        *world
	steps    int // left to live; 0 is for ever
	stands   time.Time
	died     chan struct{}
	canceled func([]job.ID)
}

var errGone = errors.New("the process is gone")

func (w *world) process() *simulated {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := &simulated{w: w, died: make(chan struct{})}
	w.processes = append(w.processes, p)
	return p
}

func (p *simulated) alive() bool {
	select {
	case <-p.died:
		return false
	default:
		return true
	}
}

// kill is kill -9: nothing that the process does from now on reaches anybody. w.mu is held.
func (p *simulated) kill() {
	if p.alive() {
		close(p.died)
	}
}

func (p *simulated) standing() bool {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return time.Now().Before(p.stands)
}

// step lets the process do one thing to the world, after which it may be dead.
func (p *simulated) step(fn func() error) error {
	for {
		p.w.mu.Lock()
		if !p.alive() {
			p.w.mu.Unlock()
			return fmt.Errorf("%w: %w", resultstore.ErrUnavailable, errGone)
		}
		still := time.Until(p.stands)
		if still <= 0 {
			break
		}
		p.w.mu.Unlock()
		takes(min(still, 50*time.Millisecond))
	}
	defer p.w.mu.Unlock()
	err := fn()
	if p.steps > 0 {
		if p.steps--; p.steps == 0 {
			p.kill()
			return fmt.Errorf("%w: %w", resultstore.ErrUnavailable, errGone)
		}
	}
	return err
}

// The broker.

func (p *simulated) EnsureConsumer(context.Context, job.Lane, string) error { return nil }
func (p *simulated) Announce(context.Context, string, []byte) error         { return nil }
func (p *simulated) Ready(context.Context) error                            { return nil }
func (p *simulated) Connected() bool                                        { return true }
func (p *simulated) NotifyDone([]job.ID) error                              { return p.step(func() error { return nil }) }
func (p *simulated) Reply(string, map[string]string, []byte) error          { return nil }

func (p *simulated) OnCanceled(fn func([]job.ID)) (func(), error) {
	p.w.set(func() { p.canceled = fn })
	return func() { p.w.set(func() { p.canceled = nil }) }, nil
}

func (p *simulated) Open(_ context.Context, lane job.Lane, model string) ([]source, error) {
	return []source{&stream{p: p, lane: lane, model: model}}, nil
}

func (p *simulated) DeadLetter(_ context.Context, _ *queue.Delivery, ids []job.ID, _ string, _ ...string) error {
	return p.step(func() error {
		for _, id := range ids {
			p.w.dead[id]++
		}
		return nil
	})
}

// QueueWebhooks may be cut short between two of them.
func (p *simulated) QueueWebhooks(_ context.Context, list []queue.Webhook) []error {
	errs := make([]error, len(list))
	failed := false
	for i := range list {
		errs[i] = p.step(func() error {
			if p.w.records[list[i].Ticket.ID] == nil {
				p.w.breach("the delivery of job %s is queued before its record", list[i].Ticket)
			}
			p.w.hooks[list[i].Ticket.ID]++
			return nil
		})
		failed = failed || errs[i] != nil
	}
	if !failed {
		return nil
	}
	return errs
}

// stream is one lane as a process sees it.
type stream struct {
	p     *simulated
	lane  job.Lane
	model string
}

func (s *stream) AckWait() time.Duration { return s.p.w.ackWait }

func (s *stream) Fetch(ctx context.Context, limit int, wait time.Duration, fn func(*queue.Delivery, lease)) (int, error) {
	w := s.p.w
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for came := 0; ; {
		var found []*leased
		var changed <-chan struct{}
		next := time.Hour
		err := s.p.step(func() error {
			changed = w.changed
			for _, m := range w.messages {
				if m.gone || m.lane != s.lane || came+len(found) == limit {
					continue
				}
				if left := time.Until(m.visible); left > 0 {
					next = min(next, left)
					continue
				}
				m.delivered++
				m.visible = time.Now().Add(w.ackWait)
				found = append(found, &leased{
					p: s.p, m: m, attempt: m.delivered, ackWait: w.ackWait, ends: time.Now().Add(w.ackWait * 19 / 20),
				})
			}
			return nil
		})
		if err != nil { // the process died with the messages on their way to it
			<-ctx.Done()
			return came, err
		}
		for _, l := range found {
			fn(l.delivery(s.model), l)
		}
		if came += len(found); came == limit {
			return came, nil
		}
		again := time.NewTimer(next)
		select {
		case <-changed:
		case <-again.C:
		case <-timer.C:
			again.Stop()
			return came, nil
		case <-ctx.Done():
			again.Stop()
			return came, nil
		}
		again.Stop()
	}
}

// leased is a delivery with its lease. What it refuses, and when, is what queue.Delivery does.
type leased struct {
	p       *simulated
	m       *sent
	attempt int
	ackWait time.Duration
	ends    time.Time // world.mu
}

func (l *leased) delivery(name string) *queue.Delivery {
	return &queue.Delivery{
		Seq: l.m.seq, Attempt: l.attempt,
		Envelope: job.Envelope{
			Lane: l.m.lane, Tenant: "default", Model: name, Published: l.m.published, Body: l.m.body,
			Header: func(key string) string {
				if key == job.HeaderContentType {
					return job.ContentTypeSheaf
				}
				return ""
			},
		},
	}
}

func (l *leased) Ack() error {
	return l.p.step(func() error {
		for _, id := range l.m.jobs {
			if l.p.w.records[id] == nil {
				l.p.w.breach("message %d is acknowledged, and its job %s has no record", l.m.seq, id)
			}
			if l.p.w.hooked[id] && l.p.w.hooks[id] == 0 {
				l.p.w.breach("message %d is acknowledged, and the delivery of its job %s is not queued", l.m.seq, id)
			}
		}
		l.m.gone = true
		l.ends = time.Time{}
		return nil
	})
}

func (l *leased) Retry(delay time.Duration) error {
	return l.p.step(func() error {
		if !time.Now().Before(l.ends) {
			return queue.ErrLapsed
		}
		l.ends = time.Time{}
		l.m.visible = time.Now().Add(delay)
		l.p.w.wake()
		return nil
	})
}

func (l *leased) Extend() error {
	if l.p.standing() {
		return errors.New("the process stands still") // nothing is sent; it must not block the pool's lock on a fake clock
	}
	return l.p.step(func() error {
		if !time.Now().Before(l.ends) {
			return queue.ErrLapsed
		}
		l.ends = time.Now().Add(l.ackWait * 19 / 20)
		l.m.visible = time.Now().Add(l.ackWait)
		return nil
	})
}

// The result store.

func (p *simulated) Ping(context.Context) error {
	return p.step(func() error { return p.w.fault() })
}

func (w *world) fault() error {
	if w.storeDown {
		return fmt.Errorf("%w: down", resultstore.ErrUnavailable)
	}
	return nil
}

func (p *simulated) Finish(_ context.Context, entries []resultstore.Entry) ([]resultstore.Outcome, error) {
	outcomes := make([]resultstore.Outcome, len(entries))
	err := p.step(func() error {
		if err := p.w.fault(); err != nil {
			return err
		}
		for i := range entries {
			if old := p.w.write(entries[i].ID, entries[i].Record); old != nil {
				outcomes[i].Existing = slices.Clone(old)
			} else {
				outcomes[i].Won = true
			}
		}
		if p.w.loseReply {
			p.w.loseReply = false
			return fmt.Errorf("%w: the answer was lost", resultstore.ErrUnavailable)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return outcomes, nil
}

func (p *simulated) Get(_ context.Context, ids ...job.ID) ([][]byte, error) {
	records := make([][]byte, len(ids))
	err := p.step(func() error {
		for i, id := range ids {
			records[i] = slices.Clone(p.w.records[id])
		}
		return p.w.fault()
	})
	return records, err
}

// The model. What a row holds says how it behaves.

const (
	rowFails = -1   // the model refuses it
	rowKills = -666 // it takes the process with it
	rowSlow  = 1000 // and above: it takes so many milliseconds more, longer than any lease
)

type fated struct {
	p *simulated
	doubler
}

func (f *fated) Run(ctx context.Context, b *model.Batch) ([]job.Tensor, error) {
	spent := 5 * time.Millisecond
	for _, part := range b.Inputs[0].Parts {
		for _, v := range floats(part) {
			switch {
			case v == rowKills:
				f.p.w.set(f.p.kill)
				<-ctx.Done()
				return nil, ctx.Err()
			case v == rowFails:
				return nil, errors.New("the model refuses this input")
			case v >= rowSlow:
				spent = max(spent, time.Duration(v)*time.Millisecond)
			}
		}
	}
	select {
	case <-time.After(spent):
		return f.doubler.Run(ctx, b)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}
