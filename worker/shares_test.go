package worker

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/queue"
)

// shares is a queue with several shares of tenants in each lane, each of them in order.
type shares struct {
	*fakeBroker
	lanes [2][]*share
}

type share struct {
	mu      sync.Mutex
	waiting []*shareMessage
	held    int // delivered, and neither acknowledged nor given back
	most    int // the most held at once
	arrived chan struct{}
}

type shareMessage struct {
	share   *share
	tenant  string
	attempt int
	body    []byte
}

func newShares(n int) *shares {
	s := &shares{fakeBroker: newFakeBroker()}
	for lane := range s.lanes {
		for range n {
			s.lanes[lane] = append(s.lanes[lane], &share{arrived: make(chan struct{}, 1)})
		}
	}
	return s
}

func (s *shares) Open(_ context.Context, lane job.Lane, _ string) ([]source, error) {
	var all []source
	for _, sh := range s.lanes[lane] {
		all = append(all, sh)
	}
	return all, nil
}

// publish puts in a message for each chunk of jobs.
func (s *share) publish(attempt, chunk int, jobs ...job.Job) {
	for some := range slices.Chunk(jobs, chunk) {
		s.put(&shareMessage{share: s, tenant: some[0].Tenant, attempt: attempt, body: sheafOf(some...)})
	}
}

func (s *share) put(m *shareMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, m)
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

func (s *share) AckWait() time.Duration { return 10 * time.Second }

func (s *share) Fetch(ctx context.Context, limit int, wait time.Duration, fn func(*queue.Delivery, lease)) (int, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for came := 0; ; {
		s.mu.Lock()
		n := min(limit-came, len(s.waiting))
		some := s.waiting[:n]
		s.waiting = s.waiting[n:]
		s.held += n
		s.most = max(s.most, s.held)
		s.mu.Unlock()
		for _, m := range some {
			header := func(key string) string {
				return map[string]string{job.HeaderContentType: job.ContentTypeSheaf}[key]
			}
			fn(&queue.Delivery{Attempt: m.attempt, Envelope: job.Envelope{
				Tenant: m.tenant, Model: "double", Published: time.Now(), Body: m.body, Header: header,
			}}, m)
		}
		if came += n; came == limit {
			return came, nil
		}
		select {
		case <-s.arrived:
		case <-timer.C:
			return came, nil
		case <-ctx.Done():
			return came, nil
		}
	}
}

// counts returns how many messages wait, and how many were held at most.
func (s *share) counts() (waiting, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting), s.most
}

func (m *shareMessage) Extend() error { return nil }

func (m *shareMessage) Ack() error {
	m.share.mu.Lock()
	defer m.share.mu.Unlock()
	m.share.held--
	return nil
}

func (m *shareMessage) Retry(time.Duration) error { return m.Ack() }

// flood makes n jobs of a tenant, of one row with the number given.
func flood(t *testing.T, n int, tenant string, number float32) []job.Job {
	t.Helper()
	jobs := make([]job.Job, n)
	for i := range jobs {
		jobs[i] = doubleJob(t, number)
		jobs[i].Tenant = tenant
	}
	return jobs
}

// sharesRig starts a pool on the shares whose runs take a millisecond and are noted.
type sharesRig struct {
	*rig
	queue *shares
	mu    sync.Mutex
	rows  []float32 // computed, in this order
	runs  int
}

func inSharesRig(t *testing.T, n int, change func(*Model), fn func(r *sharesRig)) {
	t.Helper()
	inRig(t, func(inner *rig) {
		r := &sharesRig{rig: inner, queue: newShares(n)}
		r.broker = r.queue.fakeBroker
		m := doublerModel(1, func(_ *model.Batch, values []float32) error {
			r.mu.Lock()
			r.rows = append(r.rows, values...)
			r.runs++
			r.mu.Unlock()
			takes(time.Millisecond)
			return nil
		})
		if change != nil {
			change(&m)
		}
		pool, err := newPool(r.cfg, Deps{Results: lateStore{r.store}}, r.queue, []Model{m})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		r.stop, r.ended = cancel, make(chan error, 1)
		go func() { r.ended <- pool.Run(ctx) }()
		synctest.Wait()
		fn(r)
		if err := r.shutdown(); err != nil {
			t.Error(err)
		}
	})
}

// computed returns how many rows were computed.
func (r *sharesRig) computed() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.rows)
}

// before returns how many rows were computed from place from on until the one with the number.
func (r *sharesRig) before(from int, number float32) int {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	at := slices.Index(r.rows[from:], number)
	if at < 0 {
		r.t.Errorf("the row %v was not computed", number)
	}
	return at
}

const maxRows = 64

// TestFloodInAnotherShare: whatever one tenant has waiting, in the queue and in this worker, a job of a tenant in another
// share is in the next batch that is closed. What was closed before is at most one batch for each instance.
func TestFloodInAnotherShare(t *testing.T) {
	for _, lane := range job.Lanes() {
		for _, instances := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s/%d instances", lane, instances), func(t *testing.T) {
				inSharesRig(t, 4, func(m *Model) { m.Instances = instances }, func(r *sharesRig) {
					lanes := r.queue.lanes[lane]
					lanes[1].publish(1, 16, flood(t, 10_000, "a", 1)...)
					for range 5 {
						r.pass(1500 * time.Microsecond)
						from := r.computed()
						lanes[2].publish(1, 16, flood(t, 1, "b", 2)...)
						r.pass(5 * time.Millisecond)
						if got, most := r.before(from, 2), instances*maxRows; got > most {
							t.Errorf("%d rows of the flood were computed before the other tenant's job, want %d at most", got, most)
						}
					}
					if r.computed() >= 10_000 {
						t.Error("the flood ended too early to show anything")
					}
					r.pass(time.Minute)
				})
			})
		}
	}
}

// TestFloodInTheSameShare: the queue gives out a share in order, so a job behind a flood waits for what is before it
// there, but not for what the worker holds already.
func TestFloodInTheSameShare(t *testing.T) {
	inSharesRig(t, 4, nil, func(r *sharesRig) {
		share := r.queue.lanes[job.Interactive][1]
		share.publish(1, 16, flood(t, 10_000, "a", 1)...)
		share.publish(1, 16, flood(t, 1, "b", 2)...)
		share.publish(1, 16, flood(t, 5_000, "a", 1)...)
		r.pass(time.Minute)
		got, held := r.before(0, 2), 0
		_, most := share.counts()
		held = 16 * most
		if got > 10_000 || got < 10_000-held-maxRows {
			t.Errorf("%d rows were computed before the job behind 10,000, of which the worker held %d", got, held)
		}
		if n := r.computed(); n != 15_001 {
			t.Errorf("%d rows were computed, want each of 15,001 once", n)
		}
	})
}

func TestBufferIsSharedByTheShares(t *testing.T) {
	inSharesRig(t, 8, func(m *Model) { m.MaxRows = 16 }, func(r *sharesRig) {
		for i, s := range r.queue.lanes[job.Interactive] {
			s.publish(1, 1, flood(t, 5_000, fmt.Sprint(i), 1)...)
		}
		r.pass(time.Second)
		// A row takes 1/16 ms, so 50 ms of work are 800 rows.
		sum := 0
		for i, s := range r.queue.lanes[job.Interactive] {
			waiting, most := s.counts()
			if waiting == 0 || waiting == 5_000 {
				t.Errorf("%d messages wait in share %d, want some to have been fetched, and not all", waiting, i)
			}
			sum += most
		}
		const target = 800
		if sum > 3*target {
			t.Errorf("the worker held up to %d rows, want 2.7 times %d at most", sum, target)
		}
		r.pass(time.Hour)
		if n := r.computed(); n != 40_000 {
			t.Errorf("%d rows were computed, want 40,000", n)
		}
	})
}

// lateStore takes its time to answer triage.
type lateStore struct{ *fakeStore }

func (s lateStore) Get(ctx context.Context, ids ...job.ID) ([][]byte, error) {
	takes(10 * time.Millisecond)
	return s.fakeStore.Get(ctx, ids...)
}

// TestTriageServesTheSharesInTurn: messages that keep triage busy hold up those of their own share only, and no more of
// them are fetched than it can take.
func TestTriageServesTheSharesInTurn(t *testing.T) {
	inSharesRig(t, 4, nil, func(r *sharesRig) {
		lane := r.queue.lanes[job.Interactive]
		refused := flood(t, 2_000, "a", 1)
		for i := range refused {
			refused[i].Inputs[0].Name = "no such input"
		}
		lane[1].publish(2, 1, refused...)
		r.pass(time.Second)
		lane[2].publish(1, 1, flood(t, 1, "b", 2)...)
		lane[3].publish(2, 1, flood(t, 1, "c", 3)...)
		r.pass(5 * time.Millisecond)
		r.before(0, 2)
		r.pass(50 * time.Millisecond) // a few messages in triage, where there are 2,000
		r.before(0, 3)
		waiting, most := lane[1].counts()
		if waiting == 0 || most > 2*asideMost {
			t.Errorf("%d messages were held at once and %d wait, want %d to be held at most", most, waiting, 2*asideMost)
		}
		r.pass(time.Hour)
		if n := len(r.broker.deadLetters()); n != len(refused) {
			t.Errorf("%d dead letters, want %d", n, len(refused))
		}
	})
}

func TestBatchLoopTakesInAllThatHasCome(t *testing.T) {
	e := &engine{in: make(chan *message, 3)}
	for range cap(e.in) {
		m := &message{tasks: make([]task, 1), taken: start, delivery: &queue.Delivery{Attempt: 1}}
		m.tasks[0] = task{job: interactive(5).job, message: m, rows: 5}
		e.in <- m
	}
	b := testBatcher(4, 0, 0.1)
	if e.takeIn(b); b.lanes[job.Interactive].rows != 15 {
		t.Errorf("%d rows were taken in, want all 15, although a batch has 4: among them may be another tenant's", b.lanes[job.Interactive].rows)
	}
}

func TestSideline(t *testing.T) {
	s := newSideline(3)
	for _, from := range []int{2, 2, 2, 0, 1, 1} {
		s.put(&message{from: from})
	}
	if n := s.waiting(2); n != 3 {
		t.Errorf("%d messages of a fetcher wait, want 3", n)
	}
	s.close()
	var order []int
	for m := range s.all() {
		order = append(order, m.from)
	}
	if want := []int{0, 1, 2, 1, 2, 2}; !slices.Equal(order, want) {
		t.Errorf("the fetchers were served in the order %v, want %v", order, want)
	}
	if s.waiting(2) != 0 || s.take() != nil {
		t.Error("something is left")
	}
}
