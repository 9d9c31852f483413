package webhook

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// Results reads terminal records; a resultstore.Store does.
type Results interface {
	Get(ctx context.Context, ids ...job.ID) (records [][]byte, err error)
}

// Render returns the JSON of a finished job, as GET gives it, with its outputs or without them.
type Render func(t job.Ticket, r *job.Result, outputs bool) []byte

// Batches knows what webhooks of batches tell; a *batch.Service does. job.ErrNotFound says that there is nothing to tell.
type Batches interface {
	Event(ctx context.Context, tenant string, id job.ID) (Event, error)
}

// Event is what a webhook tells, and whom.
type Event struct {
	URL    string
	Tenant string
	Type   string    // such as "batch.completed"
	Time   time.Time // when it happened
	Data   []byte    // JSON
}

// Deps is what a Sender stands on. All but Batches, Resolver, Roots, Logger, Registerer and Reach are needed.
type Deps struct {
	Queue   *queue.Queue
	Results Results
	// Batches nil: webhooks of batches wait for a process that knows them.
	Batches Batches
	Secrets *Secrets
	Render  Render
	// Resolver looks up the names of hosts. Nil is the system's.
	Resolver *net.Resolver
	// Roots are the authorities that receivers' certificates are checked against. Nil is the system's.
	Roots *x509.CertPool
	// Logger gets what is given up at warning level. Nil is silent.
	Logger *slog.Logger
	// Registerer takes the metrics. Nil is none.
	Registerer prometheus.Registerer
	// Reach is told of each step of the crash table. Nil, as outside tests, is nobody.
	Reach failpoint.Hook
}

// deliveries is what a Sender needs of the queue.
type deliveries interface {
	open(ctx context.Context) (source, error)
	// again stores the next attempt; queue.ErrFull or queue.ErrTenantFull if there is no room.
	again(ctx context.Context, w queue.Webhook) error
	giveUp(ctx context.Context, w *queue.Webhook, reason string) error
	backlog(ctx context.Context) (waiting, givenUp uint64, err error)
}

// source is where deliveries come from.
type source interface {
	fetch(ctx context.Context, limit int, wait time.Duration, fn func(queue.Webhook, lease)) error
}

// lease is what may be done with a delivery that is held.
type lease interface {
	Done(ctx context.Context) error
	Defer(delay time.Duration) error
}

// Sender delivers webhooks. Any number of processes share the work.
type Sender struct {
	cfg     Config
	deps    Deps
	queue   deliveries
	policy  *Policy
	client  *http.Client
	log     *slog.Logger
	metrics *metrics

	free    chan struct{} // one token for each attempt that may begin
	hosts   *slots
	tenants *slots
	working sync.WaitGroup
	trouble outage
}

// New returns a Sender. Run makes it work.
func New(cfg Config, deps Deps) (*Sender, error) {
	if deps.Queue == nil || deps.Results == nil || deps.Secrets == nil || deps.Render == nil {
		return nil, errors.New("a sender of webhooks needs Queue, Results, Secrets and Render")
	}
	return newSender(cfg, deps, jetStream{deps.Queue})
}

func newSender(cfg Config, deps Deps, q deliveries) (*Sender, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("webhook settings: %w", err)
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(deps.Registerer)
	if err != nil {
		return nil, err
	}
	s := &Sender{
		cfg: cfg, deps: deps, queue: q, policy: NewPolicy(&cfg), log: deps.Logger, metrics: m,
		free: make(chan struct{}, cfg.Concurrency), hosts: newSlots(cfg.PerHost), tenants: newSlots(cfg.PerTenant),
	}
	for range cfg.Concurrency {
		s.free <- struct{}{}
	}
	s.client = newClient(&cfg, s.policy, deps.Resolver, deps.Roots)
	s.trouble.log = s.log
	return s, nil
}

const (
	// fetchWait is how long one fetch waits. It also bounds how long Run takes to notice its end.
	fetchWait = time.Second
	// sampleEvery is how often the backlog is counted.
	sampleEvery = 15 * time.Second
)

// Run delivers until ctx ends, and then lets what is in hand come to an end, for a few seconds at most.
func (s *Sender) Run(ctx context.Context) {
	defer s.client.CloseIdleConnections()
	attempts, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(s.cfg.StopTimeout, cut) })()
	s.working.Go(func() { s.sample(ctx) })
	defer s.working.Wait()
	var from source
	for failures := 0; ctx.Err() == nil; {
		err := s.round(ctx, attempts, &from)
		if err == nil {
			failures = 0
			continue
		}
		s.trouble.fail("webhooks cannot be fetched; trying again until it works", err)
		rest(ctx, backoff(failures))
		failures++
	}
}

// round fetches once, as many as there is room for.
func (s *Sender) round(ctx, attempts context.Context, from *source) (err error) {
	if *from == nil {
		if *from, err = s.queue.open(ctx); err != nil {
			return err
		}
	}
	select {
	case <-s.free:
		s.free <- struct{}{}
	case <-ctx.Done():
		return nil
	}
	err = (*from).fetch(ctx, len(s.free), fetchWait, func(w queue.Webhook, l lease) { s.take(attempts, w, l) })
	if err == nil {
		s.trouble.heal("webhooks are fetched again")
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// take begins an attempt, or puts the delivery off if it is not its time, or its receiver or its tenant has as many in
// hand as it may.
func (s *Sender) take(ctx context.Context, w queue.Webhook, l lease) {
	now := time.Now()
	if early := w.Due.Sub(now); early > 0 {
		s.putOff(l, early)
		return
	}
	after, ok := s.hosts.take(w.Host, now)
	if !ok {
		s.putOff(l, after)
		return
	}
	if after, ok = s.tenants.take(w.Tenant, now); !ok {
		s.hosts.release(w.Host, 0)
		s.putOff(l, after)
		return
	}
	<-s.free // there is one: no more are fetched than there are, and only here they are taken
	s.working.Go(func() {
		took := s.deliver(ctx, w, l)
		s.hosts.release(w.Host, took)
		s.tenants.release(w.Tenant, took)
		s.free <- struct{}{}
	})
}

// putOff gives a delivery back without an attempt.
func (s *Sender) putOff(l lease, delay time.Duration) {
	s.metrics.putOff.Inc()
	if err := l.Defer(delay); err != nil {
		s.log.Debug("a webhook could not be given back; it comes again by itself", slog.Any("error", err))
	}
}

// sample counts the backlog now and then.
func (s *Sender) sample(ctx context.Context) {
	for ctx.Err() == nil {
		if waiting, kept, err := s.queue.backlog(ctx); err == nil {
			s.metrics.waiting.Set(float64(waiting))
			s.metrics.kept.Set(float64(kept))
		}
		rest(ctx, sampleEvery)
	}
}

// backoff is the pause after so many failures.
func backoff(failures int) time.Duration {
	return jitter(min(10*time.Second, 250*time.Millisecond<<min(failures, 10)))
}

// jitter makes a pause up to a fifth longer, so that what failed together is not tried again together.
func jitter(d time.Duration) time.Duration {
	return d + rand.N(d/5+1) //nolint:gosec // jitter needs no secrecy
}

func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// outage logs the beginning and the end of a trouble that many deliveries meet.
type outage struct {
	log *slog.Logger

	mu sync.Mutex
	on bool
}

func (o *outage) fail(what string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.on {
		o.log.Warn(what, slog.Any("error", err))
	}
	o.on = true
}

func (o *outage) heal(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.on {
		o.log.Info(what)
	}
	o.on = false
}
