package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/resultstore"
)

// engine serves one model: the stages of its pipeline and the channels between them.
//
//	fetchers ──in──▶ batch loop ──idle/given──▶ runners ──▶ settle
//	   └──aside──▶ triage ──in──▲
//
// The runners are in two crews: the express one computes what need not wait for the runs of the other, see overtake.go.
type engine struct {
	cfg     *Config
	model   *Model
	info    *model.Info
	broker  broker
	results Results
	log     *slog.Logger
	metrics *modelMetrics
	store   *outage // of the result store, shared by all models
	nats    *outage
	tokens  *atomic.Uint64
	reach   failpoint.Hook
	retry   Retry
	largest int    // record that the result store takes, in bytes
	name    string // of this worker, in the history of a job
	cancels *cancels
	quiet   *quiet

	in       chan *message
	aside    *sideline // what needs triage first
	regular  crew
	express  crew
	soloDone chan struct{} // the job that was run alone is settled
	stopped  chan struct{} // the batch loop makes no more batches

	fetchers []*fetcher      // for each lane one a share of its tenants
	buffered [2]atomic.Int64 // rows for each lane, from the fetcher to the batch
	sharers  [2]atomic.Int32 // fetchers of each lane that had more waiting when they asked last
	costs    costMeter
	single   atomic.Bool  // one job a batch, see stopBatching
	speed    atomic.Int64 // nanoseconds a row takes, all instances together; 0 is not known yet
}

// messagesWaiting is the room of the channels between stages. What bounds the buffer is the fetchers' count of rows.
const messagesWaiting = 64

func (p *Pool) newEngine(m *Model) *engine {
	return &engine{
		cfg: &p.cfg, model: m, info: &m.Info, broker: p.broker, results: p.results,
		log: p.log.With(slog.String("model", m.Info.Name)), metrics: p.metrics.model(m.Info.Name),
		store: p.store, nats: p.nats, tokens: &p.tokens, reach: p.reach, retry: m.Retry.complete(&p.cfg), largest: resultstore.MaxRecordBytes, name: p.name, cancels: &p.cancels, quiet: &p.quiet,
		in:      make(chan *message, messagesWaiting),
		regular: newCrew(m.Instances), express: newCrew(min(p.cfg.ExpressInstances, m.Instances)),
		soloDone: make(chan struct{}, 1), stopped: make(chan struct{}),
	}
}

// open makes ready what can fail: the consumers and the instances.
func (e *engine) open(ctx context.Context, k *keeper) error {
	for _, lane := range job.Lanes() {
		if err := e.broker.EnsureConsumer(ctx, lane, e.info.Name); err != nil {
			return fmt.Errorf("model %s, lane %s: %w", e.info.Name, lane, err)
		}
		sources, err := e.broker.Open(ctx, lane, e.info.Name)
		if err != nil {
			return fmt.Errorf("model %s, lane %s: %w", e.info.Name, lane, err)
		}
		for _, src := range sources {
			e.fetchers = append(e.fetchers, &fetcher{
				engine: e, lane: lane, index: len(e.fetchers), source: src, leases: k.open(src.AckWait()),
				flow: newFlow(e.cfg, e.model.MaxRows, e.model.Instances, src.AckWait()), room: make(chan struct{}, 1),
			})
		}
	}
	e.aside = newSideline(len(e.fetchers))
	for _, c := range [...]*crew{&e.regular, &e.express} {
		for range cap(c.free) {
			inst, err := e.model.NewInstance()
			if err != nil {
				return errors.Join(fmt.Errorf("model %s: %w", e.info.Name, err), e.closeInstances())
			}
			c.free <- inst
		}
	}
	return nil
}

// announce tells producers of the model.
func (e *engine) announce(ctx context.Context) error {
	value, err := e.info.Encode()
	if err != nil {
		return err
	}
	if err := e.broker.Announce(ctx, e.info.Key(), value); err != nil {
		return fmt.Errorf("announce model %s: %w", e.info.Name, err)
	}
	return nil
}

// run works until fetching ends and everything that was held is settled or given back. Batches in flight may take until
// work ends.
func (e *engine) run(fetching, work context.Context) {
	var senders, receivers sync.WaitGroup
	for _, f := range e.fetchers {
		senders.Go(func() { f.run(fetching) })
	}
	receivers.Go(func() {
		t := triage{engine: e, ledger: ledger{engine: e}}
		t.run(fetching, e.aside)
		close(e.in)
	})
	e.regular.recruit(e)
	e.express.recruit(e)
	receivers.Go(func() { e.batchLoop(fetching) })
	for _, c := range [...]*crew{&e.regular, &e.express} {
		for _, r := range c.runners {
			receivers.Go(func() { r.run(work) })
		}
	}
	senders.Wait()
	e.aside.close()
	receivers.Wait()
}

// batchLoop owns the batcher: it puts in what comes and closes a batch whenever a runner with a free instance asks.
func (e *engine) batchLoop(ctx context.Context) {
	defer close(e.stopped)
	b := newBatcher(e.info, e.model.MaxRows, e.model.MaxDelay, e.cfg.ReserveBulk)
	b.slice.most, b.apart = e.cfg.BulkSlice, e.cfg.ExpressInstances > 0
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		e.takeIn(b)
		now := time.Now()
		var idle, express chan *runner
		var wake <-chan time.Time
		if b.ready(now) {
			idle = e.regular.idle
			if b.apart {
				over := e.regular.overtakable()
				if b.overtaker(now, over) != nil {
					select {
					case r := <-idle:
						e.give(b, r, nil)
						continue
					default: // who has to wait for a free instance may overtake
					}
					express = e.express.idle
				} else if at, ok := b.overtakeAt(now, over); ok {
					timer.Reset(at.Sub(now))
					wake = timer.C
				}
			}
		} else if at, ok := b.wakeAt(); ok {
			timer.Reset(at.Sub(now))
			wake = timer.C
		}
		select {
		case m := <-e.in:
			e.addAll(b, m)
		case r := <-idle:
			e.give(b, r, nil)
		case r := <-express:
			e.give(b, r, e.regular.over)
		case <-e.soloDone:
			b.alone.done()
		case <-wake:
		case <-ctx.Done():
			e.emptyOut(b)
			return
		}
	}
}

// give closes a batch for the runner: of all that waits, or of what may overtake the batches over.
func (e *engine) give(b *batcher, r *runner, over []owner) {
	now := time.Now()
	b.single = e.single.Load()
	b.canceled = e.cancels.lookup(now)
	b.slice.cost = e.costs.load()
	// A model is taken to be heavy until it is known not to be.
	full := b.slice.cost.of(b.maxRows)
	b.apart = e.cfg.ExpressInstances > 0 && (full == 0 || full >= heavy)
	if over == nil {
		b.fill(now, &r.batch)
	} else {
		b.fillExpress(now, over, &r.batch)
	}
	for from, rows := range r.batch.left {
		e.left(from, rows)
	}
	r.busy.Store(true)
	r.given <- struct{}{}
}

// takeIn puts in all that has come already, so that no batch is closed while company waits at the door, or a tenant
// whose turn it is.
func (e *engine) takeIn(b *batcher) {
	for range len(e.in) { // nobody else receives
		e.addAll(b, <-e.in)
	}
}

func (e *engine) addAll(b *batcher, m *message) {
	if m == nil {
		return // the channel is closed
	}
	for i := range m.tasks {
		if t := &m.tasks[i]; t.runnable() {
			b.add(t)
		}
	}
}

// emptyOut gives everything that is in no batch back to the queue, so that another worker can go on with it at once.
func (e *engine) emptyOut(b *batcher) {
	back := func(t *task) {
		e.left(t.message.from, t.rows-t.next)
		if t.claim() {
			t.message.needRetry(0)
			e.finished(t)
		}
	}
	b.drain(back)
	for m := range e.in {
		for i := range m.tasks {
			if t := &m.tasks[i]; t.runnable() {
				back(t)
			}
		}
	}
}

// left says that rows that a fetcher brought are no longer buffered, so that it may ask for more.
func (e *engine) left(from, rows int) {
	if rows == 0 {
		return
	}
	f := e.fetchers[from]
	f.buffered.Add(-int64(rows))
	e.metrics.buffered[f.lane].Set(float64(e.buffered[f.lane].Add(-int64(rows))))
	select {
	case f.room <- struct{}{}:
	default:
	}
}

// perRow returns how long a row takes at the speed of late, 0 if that is not known yet.
func (e *engine) perRow() time.Duration { return time.Duration(e.speed.Load()) }

// measure learns from a batch that took so long from closing to its last ack.
func (e *engine) measure(rows int, took time.Duration) {
	if rows == 0 {
		return
	}
	sample := int64(took) / int64(rows*e.model.Instances)
	if old := e.speed.Load(); old > 0 {
		sample = old + (sample-old)/8
	}
	e.speed.Store(max(1, sample))
}

// renew replaces an instance after a panic, whose inner state nobody knows. If that fails, the old one has to do.
func (e *engine) renew(old Instance, cause *panicError) Instance {
	e.log.Error("the model's runtime panicked; its instance is replaced", slog.Any("panic", cause.value), slog.String("stack", string(cause.stack)))
	fresh, err := e.model.NewInstance()
	if err != nil {
		e.log.Error("no new instance can be made; the old one goes on", slog.Any("error", err))
		return old
	}
	if err := closeSafely(old); err != nil {
		e.log.Warn("the old instance does not close", slog.Any("error", err))
	}
	return fresh
}

func closeSafely(inst Instance) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{value: v}
		}
	}()
	return inst.Close()
}

// closeInstances closes those that compute nothing.
func (e *engine) closeInstances() error {
	var errs []error
	for {
		select {
		case inst := <-e.regular.free:
			errs = append(errs, closeSafely(inst))
		case inst := <-e.express.free:
			errs = append(errs, closeSafely(inst))
		default:
			return errors.Join(errs...)
		}
	}
}

func (e *engine) nextToken() uint64 { return e.tokens.Add(1) }

// stopBatching runs the model with one job at a time from now on: its outputs do not follow the batch axis, so the rows
// of one job cannot be told from another's.
func (e *engine) stopBatching(err error) {
	if !e.single.Swap(true) {
		e.log.Warn("the model's outputs do not follow the batch axis; it runs one job at a time from now on", slog.Any("error", err))
	}
}
