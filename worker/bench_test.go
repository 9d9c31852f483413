package worker

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

// BenchmarkWorker measures the CPU that the worker itself spends on a job, from the fetch to the ack, with 16 jobs of one row of
// 64 floats to a message. NATS and the result store cost nothing here.
func BenchmarkWorker(b *testing.B) {
	const jobs = 16
	row := make([]float32, 64)
	list := make([]job.Job, jobs)
	for i := range list {
		list[i] = doubleJob(b, row...)
		list[i].Inputs[0].Shape = []int64{1, 64}
	}
	broker := &endlessBroker{fakeBroker: newFakeBroker(), body: sheafOf(list...)}
	ctx, cancel := context.WithCancel(b.Context())
	broker.left.Store(int64((b.N + jobs - 1) / jobs))
	broker.unacked.Store(broker.left.Load())
	broker.done = cancel
	m := doublerModel(64, nil)
	pool, err := newPool(DefaultConfig(), Deps{Results: acceptAll{}, Registerer: prometheus.NewRegistry()}, broker, []Model{m})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	if err := pool.Run(ctx); err != nil {
		b.Fatal(err)
	}
}

// endlessBroker delivers the same message again and again.
type endlessBroker struct {
	*fakeBroker
	body    []byte
	left    atomic.Int64
	unacked atomic.Int64
	done    func()
}

func (b *endlessBroker) Open(_ context.Context, lane job.Lane, model string) ([]source, error) {
	return []source{&endlessSource{broker: b, lane: lane, model: model}}, nil
}

func (b *endlessBroker) NotifyDone([]job.ID) error { return nil }

type endlessSource struct {
	broker *endlessBroker
	lane   job.Lane
	model  string
}

func (s *endlessSource) AckWait() time.Duration { return 10 * time.Second }

func (s *endlessSource) Fetch(ctx context.Context, limit int, _ time.Duration, fn func(*queue.Delivery, lease)) (int, error) {
	if s.lane == job.Bulk {
		<-ctx.Done()
		return 0, nil
	}
	header := func(string) string { return job.ContentTypeSheaf }
	for i := range limit {
		if s.broker.left.Add(-1) < 0 {
			<-ctx.Done()
			return i, nil
		}
		d := &queue.Delivery{Attempt: 1, Envelope: job.Envelope{Model: s.model, Tenant: "default", Published: time.Now(), Body: s.broker.body, Header: header}}
		fn(d, endlessLease{s.broker})
	}
	return limit, nil
}

type endlessLease struct{ broker *endlessBroker }

func (l endlessLease) Ack() error {
	if l.broker.unacked.Add(-1) == 0 {
		l.broker.done()
	}
	return nil
}
func (l endlessLease) Retry(time.Duration) error { return l.Ack() }
func (l endlessLease) Extend() error             { return nil }

// acceptAll is a store where every record is the first.
type acceptAll struct{}

func (acceptAll) Ping(context.Context) error { return nil }
func (acceptAll) Get(_ context.Context, ids ...job.ID) ([][]byte, error) {
	return make([][]byte, len(ids)), nil
}

func (acceptAll) Finish(_ context.Context, entries []resultstore.Entry) ([]resultstore.Outcome, error) {
	outcomes := make([]resultstore.Outcome, len(entries))
	for i := range outcomes {
		outcomes[i].Won = true
	}
	return outcomes, nil
}

// BenchmarkBatcher measures what the batcher spends on a job of one row: putting it in, and taking it into a batch of 64.
// The jobs come in runs of 16 of a tenant, as messages bring them, and 1,024 wait.
func BenchmarkBatcher(b *testing.B) {
	for _, tenants := range []int{1, 2, 16, 256} {
		b.Run(strconv.Itoa(tenants), func(b *testing.B) {
			const backlog = 1024
			batcher := testBatcher(64, 0, 0.1)
			tasks := make([]*task, backlog+64)
			for i := range tasks {
				tasks[i] = interactive(1)
				tasks[i].job.Tenant = strconv.Itoa(i / 16 % tenants)
			}
			for _, t := range tasks[:backlog] {
				batcher.add(t)
			}
			spare := tasks[backlog:]
			var out batch
			b.ReportAllocs()
			for n := 0; n < b.N; {
				for _, t := range spare {
					t.next = 0
					batcher.add(t)
				}
				batcher.fill(start, &out)
				spare = spare[:0]
				for _, p := range out.parts {
					spare = append(spare, p.task)
				}
				n += len(spare)
			}
		})
	}
}
