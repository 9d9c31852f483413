package worker

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

// The fakes stand in for NATS and the result store where a test needs to hold them still or break them. Whatever can be
// tested against the real ones is, in pool_test.go.

// fakeBroker is a queue in memory. What is given back is delivered again, with its delivery counted.
type fakeBroker struct {
	ackWait time.Duration

	mu         sync.Mutex
	waiting    [2][]*fakeMessage
	arrived    [2]chan struct{}
	all        []*fakeMessage
	dead       []string
	histories  [][]string // of the dead letters
	onCanceled func([]job.ID)
	done       []job.ID
	replies    []fakeReply
	down       error
	fetches    int

	sources []*fakeSource

	linked      bool // although it is down: the connection stands and no stream answers
	buryFails   error
	hooks       []queue.Webhook
	hooksFail   error
	lapse       bool // leases end, as the real ones do
	extendFails error
}

type fakeReply struct {
	subject string
	header  map[string]string
	body    []byte
}

type fakeMessage struct {
	broker   *fakeBroker
	lane     job.Lane
	tenant   string
	header   map[string]string
	body     []byte
	seq      uint64
	attempts int
	acked    bool
	held     bool
	delays   []time.Duration
	renewals int
	expires  time.Time // when the server takes the lease to be over
}

func newFakeBroker() *fakeBroker {
	return &fakeBroker{ackWait: 10 * time.Second, arrived: [2]chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)}}
}

// publish puts a message into a lane.
func (b *fakeBroker) publish(lane job.Lane, contentType string, body []byte) *fakeMessage {
	return b.publishMessage(&fakeMessage{lane: lane, header: map[string]string{job.HeaderContentType: contentType}, body: body})
}

// publishMessage puts in a message with what headers, and how many deliveries, it has.
func (b *fakeBroker) publishMessage(m *fakeMessage) *fakeMessage {
	b.mu.Lock()
	defer b.mu.Unlock()
	m.broker, m.tenant, m.seq = b, cmp.Or(m.tenant, job.DefaultTenant), uint64(len(b.all)+1)
	b.all = append(b.all, m)
	b.put(m)
	return m
}

func (b *fakeBroker) put(m *fakeMessage) {
	b.waiting[m.lane] = append(b.waiting[m.lane], m)
	b.wake(m.lane)
}

func (b *fakeBroker) wake(lane job.Lane) {
	select {
	case b.arrived[lane] <- struct{}{}:
	default:
	}
}

func (b *fakeBroker) EnsureConsumer(context.Context, job.Lane, string) error { return nil }
func (b *fakeBroker) Announce(context.Context, string, []byte) error         { return nil }
func (b *fakeBroker) Ready(context.Context) error {
	return looked(b, func() error { return b.down })
}

func (b *fakeBroker) Connected() bool {
	return looked(b, func() bool { return b.down == nil || b.linked })
}

func (b *fakeBroker) OnCanceled(fn func([]job.ID)) (func(), error) {
	b.locked(func() { b.onCanceled = fn })
	return func() {}, nil
}

// cancel tells the worker that the jobs are canceled.
func (b *fakeBroker) cancel(ids ...job.ID) {
	fn := looked(b, func() func([]job.ID) { return b.onCanceled })
	fn(ids)
}

func (b *fakeBroker) Open(_ context.Context, lane job.Lane, model string) ([]source, error) {
	s := &fakeSource{broker: b, lane: lane, model: model}
	b.locked(func() { b.sources = append(b.sources, s) })
	return []source{s}, nil
}

func (b *fakeBroker) DeadLetter(_ context.Context, _ *queue.Delivery, ids []job.ID, reason string, history ...string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.buryFails != nil {
		return b.buryFails
	}
	b.dead = append(b.dead, fmt.Sprintf("%d %s", len(ids), reason))
	b.histories = append(b.histories, history)
	return nil
}

func (b *fakeBroker) QueueWebhooks(_ context.Context, list []queue.Webhook) []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hooksFail != nil {
		errs := make([]error, len(list))
		for i := range errs {
			errs[i] = b.hooksFail
		}
		return errs
	}
	b.hooks = append(b.hooks, list...)
	return nil
}

func (b *fakeBroker) NotifyDone(ids []job.ID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done = append(b.done, ids...)
	return nil
}

func (b *fakeBroker) Reply(subject string, header map[string]string, body []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.replies = append(b.replies, fakeReply{subject, header, body})
	return nil
}

// locked calls fn while nothing moves.
func (b *fakeBroker) locked(fn func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fn()
}

type fakeSource struct {
	broker *fakeBroker
	lane   job.Lane
	model  string
	frozen bool // its worker is stopped
}

// freeze stops the workers that have opened sources so far from fetching, as SIGSTOP does.
func (b *fakeBroker) freeze(frozen bool) {
	b.locked(func() {
		for _, s := range b.sources {
			s.frozen = frozen
		}
	})
}

func (s *fakeSource) AckWait() time.Duration { return s.broker.ackWait }

func (s *fakeSource) Fetch(ctx context.Context, limit int, wait time.Duration, fn func(*queue.Delivery, lease)) (int, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	came := 0
	s.broker.locked(func() { s.broker.fetches++ })
	for {
		var batch []*fakeMessage
		b := s.broker
		b.mu.Lock()
		down, frozen := b.down, s.frozen
		if down == nil && !frozen {
			n := min(limit-came, len(b.waiting[s.lane]))
			batch = append(batch, b.waiting[s.lane][:n]...)
			b.waiting[s.lane] = b.waiting[s.lane][n:]
			batch = slices.DeleteFunc(batch, func(m *fakeMessage) bool { return m.acked })
			for _, m := range batch {
				m.attempts++
				m.held = true
			}
		}
		b.mu.Unlock()
		if down != nil {
			return came, down
		}
		for _, m := range batch {
			fn(m.deliver(s.model), m.newLease())
		}
		if came += len(batch); came == limit {
			return came, nil
		}
		select {
		case <-s.broker.arrived[s.lane]:
			if frozen {
				s.broker.locked(func() { s.broker.wake(s.lane) })
				takes(time.Millisecond)
			}
		case <-timer.C:
			return came, nil
		case <-ctx.Done():
			return came, nil
		}
	}
}

func (m *fakeMessage) deliver(model string) *queue.Delivery {
	return &queue.Delivery{
		Seq: m.seq, Attempt: m.attempts,
		Envelope: job.Envelope{
			Lane: m.lane, Tenant: m.tenant, Model: model, Published: time.Now(), Body: m.body,
			Header: func(key string) string { return m.header[key] },
		},
	}
}

// deliveries returns how often the message was delivered.
func (m *fakeMessage) deliveries() int {
	return looked(m.broker, func() int { return m.attempts })
}

func (m *fakeMessage) Ack() error {
	m.broker.mu.Lock()
	defer m.broker.mu.Unlock()
	m.acked, m.held = true, false
	return nil
}

func (m *fakeMessage) Retry(delay time.Duration) error {
	m.broker.mu.Lock()
	defer m.broker.mu.Unlock()
	m.held = false
	m.delays = append(m.delays, delay)
	if delay == 0 {
		m.broker.put(m)
		return nil
	}
	time.AfterFunc(delay, func() { m.broker.locked(func() { m.broker.put(m) }) })
	return nil
}

func (m *fakeMessage) Extend() error {
	m.broker.mu.Lock()
	defer m.broker.mu.Unlock()
	if m.broker.extendFails != nil {
		return m.broker.extendFails
	}
	m.renewals++
	return nil
}

// retries returns the delays with which the message was given back.
func (m *fakeMessage) retries() []time.Duration {
	return looked(m.broker, func() []time.Duration { return slices.Clone(m.delays) })
}

// extended returns how often the lease was renewed.
func (m *fakeMessage) extended() int { return looked(m.broker, func() int { return m.renewals }) }

func (b *fakeBroker) deadLetters() []string {
	return looked(b, func() []string { return slices.Clone(b.dead) })
}

func (b *fakeBroker) told() []job.ID {
	return looked(b, func() []job.ID { return slices.Clone(b.done) })
}

func (b *fakeBroker) answers() []fakeReply {
	return looked(b, func() []fakeReply { return slices.Clone(b.replies) })
}

func (b *fakeBroker) asked() int { return looked(b, func() int { return b.fetches }) }

// looked reads something of the broker while nothing moves.
func looked[T any](b *fakeBroker, fn func() T) T {
	b.mu.Lock()
	defer b.mu.Unlock()
	return fn()
}

// fakeStore keeps records in memory.
type fakeStore struct {
	mu         sync.Mutex
	records    map[job.ID][]byte
	down       error         // what Finish and Get return
	finishDown error         // what Finish returns
	gate       chan struct{} // Finish waits for it, if there is one
	slow       time.Duration // that Finish takes
	writes     int           // calls of Finish
	forgetful  int           // calls of Finish that write, and whose answer is lost
}

func newFakeStore() *fakeStore { return &fakeStore{records: make(map[job.ID][]byte)} }

func (s *fakeStore) Ping(context.Context) (err error) {
	s.set(func() { err = s.down })
	return err
}

func (s *fakeStore) Finish(ctx context.Context, entries []resultstore.Entry) ([]resultstore.Outcome, error) {
	s.mu.Lock()
	gate, slow := s.gate, s.slow
	s.writes++
	s.mu.Unlock()
	if slow > 0 {
		takes(slow)
	}
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, errors.Join(resultstore.ErrUnavailable, ctx.Err())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := cmp.Or(s.down, s.finishDown); err != nil {
		return nil, err
	}
	outcomes := make([]resultstore.Outcome, len(entries))
	for i, e := range entries {
		if old, ok := s.records[e.ID]; ok && !bytes.Equal(old, e.Record) {
			outcomes[i].Existing = old
			continue
		}
		s.records[e.ID] = append([]byte(nil), e.Record...)
		outcomes[i].Won = true
	}
	if s.forgetful > 0 {
		s.forgetful--
		return nil, resultstore.ErrUnavailable
	}
	return outcomes, nil
}

func (s *fakeStore) Get(_ context.Context, ids ...job.ID) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return nil, s.down
	}
	records := make([][]byte, len(ids))
	for i, id := range ids {
		records[i] = s.records[id]
	}
	return records, nil
}

func (s *fakeStore) set(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
}

// record returns the record of a job, nil if there is none.
func (s *fakeStore) record(id job.ID) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.records[id]
}

// result returns the decoded record of a job, nil if there is none.
func (s *fakeStore) result(t testing.TB, id job.ID) *job.Result {
	t.Helper()
	record := s.record(id)
	if record == nil {
		return nil
	}
	r, err := job.DecodeRecord(id, record)
	if err != nil {
		t.Fatalf("record of %s: %v", id, err)
	}
	return &r
}

// doubler is a model that doubles the numbers of input x: FP32 [-1,width] to FP32 [-1,width].
type doubler struct {
	before func(b *model.Batch, values []float32) error // called in Run with all values
	out    []byte
}

func (d *doubler) Run(_ context.Context, b *model.Batch) ([]job.Tensor, error) {
	d.out = d.out[:0]
	for _, p := range b.Inputs[0].Parts {
		d.out = append(d.out, p...)
	}
	if d.before != nil {
		if err := d.before(b, floats(d.out)); err != nil {
			return nil, err
		}
	}
	for i := 0; i < len(d.out); i += 4 {
		v := math.Float32frombits(binary.LittleEndian.Uint32(d.out[i:]))
		binary.LittleEndian.PutUint32(d.out[i:], math.Float32bits(2*v))
	}
	return []job.Tensor{{Name: "y", Datatype: job.FP32, Shape: b.Inputs[0].Shape, Data: d.out}}, nil
}

func (d *doubler) Close() error { return nil }

func floats(data []byte) []float32 {
	out := make([]float32, len(data)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return out
}

func rawFloats(values ...float32) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

func doublerInfo(width int64) model.Info {
	return model.Info{
		Name: "double", Version: "1", Platform: model.PlatformONNX, MaxRows: 64,
		Signature: model.Signature{
			Batchable: true,
			Inputs:    []model.TensorSpec{{Name: "x", Datatype: job.FP32, Shape: []int64{-1, width}}},
			Outputs:   []model.TensorSpec{{Name: "y", Datatype: job.FP32, Shape: []int64{-1, width}}},
		},
	}
}

func doublerModel(width int64, before func(*model.Batch, []float32) error) Model {
	return Model{Info: doublerInfo(width), NewInstance: func() (Instance, error) { return &doubler{before: before}, nil }}
}

// newID makes an ID for tests.
func newID(t testing.TB) job.ID {
	t.Helper()
	id, err := job.NewID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// doubleJob is a job of the doubler with the rows given, each of one number.
func doubleJob(t testing.TB, values ...float32) job.Job {
	t.Helper()
	return job.Job{
		ID: newID(t), Tenant: "default", Model: "double", CreatedAt: time.Now(),
		Inputs: []job.Tensor{{Name: "x", Datatype: job.FP32, Shape: []int64{int64(len(values)), 1}, Data: rawFloats(values...)}},
	}
}

func sheafOf(jobs ...job.Job) []byte {
	var b []byte
	for i := range jobs {
		b = job.AppendJob(b, &jobs[i])
	}
	return b
}
