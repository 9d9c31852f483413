package worker

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/queue"
)

// Model is a model that a pool serves.
type Model struct {
	// Info is announced to producers; its signature is what jobs are checked against.
	Info model.Info
	// MaxRows is the most rows of one run; 0 takes Info.MaxRows. A model that is not batchable runs one job at a time.
	MaxRows int
	// MaxDelay is how long a batch that is not full waits for company while an instance is free. 0, which is right for
	// most models, never waits: while all instances compute, the next batch forms by itself.
	MaxDelay time.Duration
	// Instances is how many batches are computed at the same time, express ones apart; 0 is 1.
	Instances int
	// Retry is the model's own policy; what it leaves zero is the pool's.
	Retry Retry
	// NewInstance makes one instance; it is called Instances times, up to as many times again for the express instances
	// (see Config.ExpressInstances), and again after a panic in Run.
	NewInstance func() (Instance, error)
}

// Instance computes batches of one model. A pool calls Run from one goroutine at a time.
type Instance interface {
	// Run computes the batch: an output tensor for each of b.Outputs, in their order (for each output of the signature
	// if that is nil), with as many rows as the batch if the model is batchable. The tensors are valid until the next
	// Run. An error that wraps model.ErrResources may pass; any other is the fault of a job in the batch.
	Run(ctx context.Context, b *model.Batch) ([]job.Tensor, error)
	Close() error
}

// Deps is what a pool works with.
type Deps struct {
	Queue   *queue.Queue
	Results Results
	// Logger may be nil: then nothing is logged.
	Logger *slog.Logger
	// Registerer takes the metrics; it may be nil.
	Registerer prometheus.Registerer
	// Name is what this worker is called in the history of a job, such as its host and process ID; empty is "a worker".
	Name string
	// Reach is told of each step of the crash table. Nil, as outside tests, is nobody.
	Reach failpoint.Hook
}

// Pool serves a set of models until it is told to stop.
type Pool struct {
	cfg     Config
	models  []Model
	broker  broker
	results Results
	log     *slog.Logger
	metrics *metrics
	store   *outage
	nats    *outage
	reach   failpoint.Hook
	name    string
	cancels cancels
	tokens  atomic.Uint64
	started atomic.Bool
	working atomic.Bool
	quiet   quiet
}

// New makes a pool. The error names every fault of the configuration at once.
func New(cfg Config, deps Deps, models ...Model) (*Pool, error) {
	if deps.Queue == nil {
		return nil, errors.New("a worker pool needs a queue")
	}
	return newPool(cfg, deps, jetStream{deps.Queue}, models)
}

func newPool(cfg Config, deps Deps, b broker, models []Model) (*Pool, error) {
	errs := []error{cfg.Validate()}
	if deps.Results == nil {
		errs = append(errs, errors.New("a worker pool needs a result store"))
	}
	if len(models) == 0 {
		errs = append(errs, errors.New("a worker pool needs at least one model"))
	}
	p := &Pool{cfg: cfg, broker: b, results: deps.Results, log: deps.Logger, reach: deps.Reach, name: cmp.Or(deps.Name, "a worker"), models: make([]Model, 0, len(models))}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	names := make(map[string]bool)
	for _, m := range models {
		errs = append(errs, m.complete())
		if names[m.Info.Name] {
			errs = append(errs, fmt.Errorf("model %s is given twice: a pool serves one version of a model", m.Info.Name))
		}
		names[m.Info.Name] = true
		p.models = append(p.models, m)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var err error
	if p.metrics, err = newMetrics(deps.Registerer); err != nil {
		return nil, err
	}
	p.store = newOutage("the result store", p.log, &p.cfg, p.results.Ping)
	// One stream without a leader must not stop the others, so only the connection counts as an outage of NATS.
	p.nats = newOutage("NATS", p.log, &p.cfg, func(context.Context) error {
		if !b.Connected() {
			return queue.ErrUnavailable
		}
		return nil
	})
	// The token of a record has to differ from those of every other process and of this one's other attempts.
	var seed [8]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, fmt.Errorf("make the token of this process: %w", err)
	}
	p.tokens.Store(binary.LittleEndian.Uint64(seed[:]))
	return p, nil
}

// complete sets what was left out and checks the rest.
func (m *Model) complete() error {
	if m.MaxRows == 0 {
		m.MaxRows = m.Info.MaxRows
	}
	if m.Instances == 0 {
		m.Instances = 1
	}
	if !m.Info.Signature.Batchable {
		m.MaxRows = 1
	}
	var errs []error
	if m.MaxRows < 1 {
		errs = append(errs, fmt.Errorf("model %s: MaxRows is %d: a batch needs at least one row", m.Info.Name, m.MaxRows))
	}
	if m.MaxDelay < 0 {
		errs = append(errs, fmt.Errorf("model %s: MaxDelay is %v: it must not be negative", m.Info.Name, m.MaxDelay))
	}
	if m.Instances < 1 {
		errs = append(errs, fmt.Errorf("model %s: Instances is %d: it must be positive", m.Info.Name, m.Instances))
	}
	if m.NewInstance == nil {
		errs = append(errs, fmt.Errorf("model %s: NewInstance is missing", m.Info.Name))
	}
	if err := m.Retry.validate(); err != nil {
		errs = append(errs, fmt.Errorf("model %s: %w", m.Info.Name, err))
	}
	m.Info.MaxRows = max(1, m.MaxRows)
	return errors.Join(append(errs, m.Info.Validate())...)
}

// Run ensures the consumers, loads the instances, announces the models and works until ctx ends. Then it drains: it
// stops fetching, gives what is buffered back to the queue at once and finishes the batches in flight within
// Config.DrainTimeout. It returns nil after a drain that left nothing behind. A pool runs once.
//
// The acknowledgements may still be on their way to the server when it returns; closing the queue flushes them.
func (p *Pool) Run(ctx context.Context) error {
	if p.started.Swap(true) {
		return errors.New("a worker pool runs only once: make a new one")
	}
	k := &keeper{nats: p.nats}
	var engines []*engine
	closeAll := func() error {
		var errs []error
		for _, e := range engines {
			errs = append(errs, e.closeInstances())
		}
		return errors.Join(errs...)
	}
	for i := range p.models {
		e := p.newEngine(&p.models[i])
		if err := e.open(ctx, k); err != nil {
			return errors.Join(err, closeAll())
		}
		engines = append(engines, e)
	}
	for _, e := range engines {
		if err := e.announce(ctx); err != nil {
			return errors.Join(err, closeAll())
		}
	}
	deaf, err := p.broker.OnCanceled(p.cancels.add)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for canceled jobs: %w", err), closeAll())
	}
	defer deaf()
	err = p.work(ctx, engines, k)
	return errors.Join(err, closeAll())
}

// stragglers is how long, after the drain is over and everything was told to stop, a run of a model may take to obey.
const stragglers = 500 * time.Millisecond

func (p *Pool) work(ctx context.Context, engines []*engine, k *keeper) error {
	// Work in flight does not end with ctx: it has the time of the drain.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	done := make(chan struct{}, len(engines))
	for _, e := range engines {
		go func() {
			e.run(ctx, work)
			done <- struct{}{}
		}()
	}
	// What keeps the leases, and what ends an outage, outlives the work.
	var keepers sync.WaitGroup
	keep, stopKeeping := context.WithCancel(context.WithoutCancel(ctx))
	keepers.Go(func() { k.run(keep) })
	keepers.Go(func() { p.store.run(keep) })
	keepers.Go(func() { p.nats.run(keep) })
	defer func() {
		stopKeeping()
		keepers.Wait()
	}()
	defer p.startReaper(keep)()
	p.working.Store(true)
	p.log.Info("worker is ready", slog.Int("models", len(engines)))
	<-ctx.Done()
	p.working.Store(false)
	p.log.Info("worker stops: finishing what is in flight", slog.Duration("at_most", p.cfg.DrainTimeout))

	timer := time.NewTimer(p.cfg.DrainTimeout)
	defer timer.Stop()
	left := await(done, len(engines), timer.C)
	if left == 0 {
		return nil
	}
	stop()
	timer.Reset(stragglers)
	await(done, left, timer.C)
	return p.abandon(k)
}

// await receives up to n times and returns how many are missing when the time is over.
func await(done <-chan struct{}, n int, over <-chan time.Time) (missing int) {
	for ; n > 0; n-- {
		select {
		case <-done:
		case <-over:
			return n
		}
	}
	return 0
}

// abandon gives back what could not be finished, so that another worker has it at once.
func (p *Pool) abandon(k *keeper) error {
	messages := 0
	for _, l := range k.lists {
		for _, m := range l.clear() {
			messages++
			_ = m.lease.Retry(0) // if this fails the message comes again by itself
		}
	}
	return fmt.Errorf("work in flight did not finish within the drain timeout (%v); %d messages go back to the queue and will be computed again", p.cfg.DrainTimeout, messages)
}

// Ready returns nil when the pool works: it fetches, the result store takes writes and the queue answers. It waits for
// an answer of either for at most two seconds. While an outage lasts nothing is fetched, so it is an error too.
func (p *Pool) Ready() error {
	if !p.working.Load() {
		return errors.New("the worker is starting or stopping")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var errs []error
	if err := cmp.Or(p.results.Ping(ctx), p.store.err()); err != nil {
		errs = append(errs, fmt.Errorf("result store: %w", err))
	}
	if err := cmp.Or(p.broker.Ready(ctx), p.nats.err()); err != nil {
		errs = append(errs, fmt.Errorf("queue: %w", err))
	}
	return errors.Join(errs...)
}
