package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

// Submitter accepts jobs; a *producer.Producer does. What it refuses as invalid is a *job.Error, what it cannot take
// now is one of the producer's errors.
type Submitter interface {
	Submit(ctx context.Context, r producer.Request) (producer.Submission, error)
	// NewBatch begins to submit many.
	NewBatch(requests []producer.Request, done func(i int, s *producer.Submission, err error)) *producer.Batch
}

// Models knows which models are served; a *model.Catalog does.
type Models interface {
	Get(name, version string) (model.Info, bool)
	Versions(name string) []string
	List() []model.Info
}

// Forecaster knows what is to be expected of a model's jobs; a *producer.Producer does. Forecast asks nobody.
type Forecaster interface {
	Forecast(lane job.Lane, model, tenant string) (producer.Forecast, bool)
	ForecastNow(ctx context.Context, lane job.Lane, model, tenant string) (producer.Forecast, bool)
}

// Results reads terminal records, and writes those of canceled and expired jobs; a resultstore.Store does. Ping says
// why records cannot be written or read.
type Results interface {
	Get(ctx context.Context, ids ...job.ID) (records [][]byte, err error)
	Finish(ctx context.Context, entries []resultstore.Entry) ([]resultstore.Outcome, error)
	Ping(ctx context.Context) error
}

// Queue knows the jobs that are not finished; a *queue.Queue does.
type Queue interface {
	Locate(ctx context.Context, t job.Ticket) (job.Location, error)
	Remove(ctx context.Context, t job.Ticket) (bool, error)
	NotifyDone(ids []job.ID) error
	NotifyCanceled(ids []job.ID) error
	OnDone(fn func(ids []job.ID)) (stop func(), err error)
	// QueueWebhooks stores deliveries; errs is nil, or has one for each.
	QueueWebhooks(ctx context.Context, list []queue.Webhook) (errs []error)
}

// Check is one condition of readiness. Run must return within its context.
type Check struct {
	Name string
	Run  func(ctx context.Context) error
}

// Deps is what a Gateway stands on. Submitter, Models, Results and Queue are needed.
type Deps struct {
	Submitter Submitter
	Models    Models
	Results   Results
	Queue     Queue
	// Forecaster is what the expected waits of jobs go by. Nil: nothing is known.
	Forecaster Forecaster
	// Limiter bounds how many jobs each caller submits. Nil: nothing does.
	Limiter Limiter
	// Webhooks says which URLs jobs may name to be told to. Nil: none.
	Webhooks Webhooks
	// Ready lists what is asked before requests are taken.
	Ready []Check
	// Logger gets faults at error level. Nil is silent.
	Logger *slog.Logger
	// Registerer takes the metrics. Nil is none.
	Registerer prometheus.Registerer
	// Reach is told of each step of the crash table. Nil, as outside tests, is nobody.
	Reach failpoint.Hook
}

func (d *Deps) validate() error {
	var errs []error
	for _, f := range []struct {
		name    string
		missing bool
	}{
		{"Submitter", d.Submitter == nil}, {"Models", d.Models == nil}, {"Results", d.Results == nil}, {"Queue", d.Queue == nil},
	} {
		if f.missing {
			errs = append(errs, fmt.Errorf("%s is nil: the gateway needs it", f.name))
		}
	}
	for i, c := range d.Ready {
		if c.Name == "" || c.Run == nil {
			errs = append(errs, fmt.Errorf("check %d of Ready has no name or no function", i))
		}
	}
	return errors.Join(errs...)
}

// Gateway submits, looks up, waits for and cancels jobs. It is safe for concurrent use.
type Gateway struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	results *results
	queue   *guardedQueue
	waiters *waiters
	ready   readiness
	submits deadlines
	close   func()
}

// New returns a Gateway that listens for done notices until Close.
func New(cfg Config, deps Deps) (*Gateway, error) {
	if err := errors.Join(cfg.Validate(), deps.validate()); err != nil {
		return nil, fmt.Errorf("gateway settings: %w", err)
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{cfg: cfg, deps: deps, log: deps.Logger, submits: deadlines{timeout: cfg.SubmitTimeout}}
	var err error
	if g.metrics, err = newMetrics(deps.Registerer); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.results = newResults(ctx, deps.Results, g.log, g.metrics, &cfg)
	g.queue = newGuardedQueue(ctx, deps.Queue, g.log, g.metrics, &cfg)
	g.waiters = newWaiters(ctx, cancel, g.results, g.log, g.metrics, &cfg)
	stop, err := deps.Queue.OnDone(g.waiters.notice)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("listen for finished jobs: %w", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		g.waiters.run(ctx)
	}()
	g.close = sync.OnceFunc(func() {
		cancel()
		stop()
		<-done
		for _, guard := range []*guard{g.results.reads, g.results.writes, g.queue.lookups, g.queue.submits} {
			guard.wait()
		}
	})
	return g, nil
}

// Close answers every waiting request at once with what is known, makes Ready fail, and stops listening for notices.
// Requests are still answered, but no longer wait. On the way down call it while the servers drain, a moment before the
// drain time is over: short waits have then ended by themselves, and long ones are answered, not cut off.
func (g *Gateway) Close() { g.close() }

// Models returns what is announced.
func (g *Gateway) Models() Models { return g.deps.Models }

// MaxWait is the longest that a request is held; waits beyond it end there.
func (g *Gateway) MaxWait() time.Duration { return g.cfg.MaxWait }

// LongestCall is the longest that a call may take which waits for this long.
func (g *Gateway) LongestCall(wait time.Duration) time.Duration {
	return wait + g.cfg.SubmitTimeout + 4*g.cfg.LookupTimeout
}

// Model returns what is announced under a name and a version; "" is the one that is served.
func (g *Gateway) Model(name, version string) (model.Info, error) {
	if job.ValidName(name) {
		if info, ok := g.deps.Models.Get(name, version); ok {
			return info, nil
		}
		if known := g.deps.Models.Versions(name); len(known) > 0 {
			return model.Info{}, job.Errorf(job.CodeUnknownModel, "model_version",
				"no worker has announced this version of the model; the highest that is served is %s", known[0])
		}
	}
	return model.Info{}, job.Errorf(job.CodeUnknownModel, "model", "no worker has announced a model of this name; GET /v1/models lists those that are served")
}
