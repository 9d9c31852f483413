package gateway

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/resultstore"
)

// probeEvery is how long after a failed probe the next one is made.
const probeEvery = time.Second

// guard is a circuit breaker before one way to use a dependency. A call that fails because nobody answers has it probed;
// if that fails too, the circuit is open: calls fail at once until a probe succeeds. Probes are made in the background,
// so that no client has to wait for one, as with the breakers that let a request through now and then: with a dependency
// that hangs that one would wait for as long as it may, and among few clients it would be nearly every one.
//
// Each way has a guard of its own, since a Redis that is full or read-only can be read, and a queue that is full can be
// looked into.
type guard struct {
	what    string // for people
	log     *slog.Logger
	gauge   prometheus.Gauge // 1 while open
	timeout time.Duration    // of a probe
	probe   func(ctx context.Context) error

	open atomic.Bool
	life context.Context // ends with the API

	mu      sync.Mutex
	probing bool
	probes  sync.WaitGroup
}

// newGuard returns a closed guard. name is its label in the metrics.
func newGuard(life context.Context, name, what string, log *slog.Logger, m *metrics, cfg *Config, probe func(context.Context) error) *guard {
	g := &guard{
		what: what, log: log.With("what", name), gauge: m.unreachable.WithLabelValues(name), life: life, probe: probe,
		timeout: min(cfg.LookupTimeout, readyTimeout),
	}
	g.gauge.Set(0)
	return g
}

// outOfReach reports whether the error says that a dependency did not answer or does not serve now.
func outOfReach(err error) bool {
	return errors.Is(err, resultstore.ErrUnavailable) || errors.Is(err, producer.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

// guarded makes one call through the guard.
func guarded[T any](g *guard, call func() (T, error)) (T, error) {
	if g.open.Load() {
		var none T
		return none, g.refusal()
	}
	v, err := call()
	if err != nil && outOfReach(err) {
		g.suspect()
	}
	return v, err
}

// refusal is what a call is told while the circuit is open.
func (g *guard) refusal() error {
	return &Problem{Code: CodeUnavailable, Busy: true, Detail: g.what + " is out of reach; try again later"}
}

// suspect has the dependency probed, unless it is being probed already.
func (g *guard) suspect() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.probing || g.life.Err() != nil {
		return
	}
	g.probing = true
	g.probes.Go(g.watch)
}

// watch probes until a probe succeeds.
func (g *guard) watch() {
	defer func() {
		g.mu.Lock()
		g.probing = false
		g.mu.Unlock()
	}()
	for {
		ctx, cancel := context.WithTimeout(g.life, g.timeout)
		err := g.probe(ctx)
		cancel()
		if g.life.Err() != nil {
			return
		}
		if err == nil || !outOfReach(err) {
			if g.open.Swap(false) {
				g.gauge.Set(0)
				g.log.Info("a dependency answers again")
			}
			return
		}
		if !g.open.Swap(true) {
			g.gauge.Set(1)
			g.log.Error("a dependency is out of reach; what needs it is refused until it answers", slog.Any("error", err))
		}
		select {
		case <-g.life.Done():
			return
		case <-time.After(probeEvery):
		}
	}
}

// wait waits for the last probe. The guard's life has ended.
func (g *guard) wait() {
	g.mu.Lock()
	g.mu.Unlock() //nolint:staticcheck // whoever suspects after this finds the life ended
	g.probes.Wait()
}
