package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/resultstore"
)

// Submitter accepts jobs; a *producer.Producer does. What it refuses as invalid is a *job.Error, what it cannot take
// now is one of the producer's errors.
type Submitter interface {
	Submit(ctx context.Context, r producer.Request) (producer.Submission, error)
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
}

// Check is one condition of readiness. Run must return within its context.
type Check struct {
	Name string
	Run  func(ctx context.Context) error
}

// Deps is what an API stands on. Submitter, Models, Results and Queue are needed.
type Deps struct {
	Submitter Submitter
	Models    Models
	Results   Results
	Queue     Queue
	// Forecaster is what Retry-After and eta_ms of waiting jobs go by. Nil: nothing is known.
	Forecaster Forecaster
	// Operator serves the routes of administrators. Nil: there are none.
	Operator Operator
	// Ready lists what /readyz asks.
	Ready []Check
	// Logger gets requests at debug level and faults at error level. Nil is silent.
	Logger *slog.Logger
	// Registerer takes the API's own metrics. Nil is none.
	Registerer prometheus.Registerer
	// Gatherer is what /metrics shows. Nil: there is no such route.
	Gatherer prometheus.Gatherer
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
			errs = append(errs, fmt.Errorf("%s is nil: the API needs it", f.name))
		}
	}
	for i, c := range d.Ready {
		if c.Name == "" || c.Run == nil {
			errs = append(errs, fmt.Errorf("check %d of Ready has no name or no function", i))
		}
	}
	return errors.Join(errs...)
}

// API answers HTTP requests. It is safe for concurrent use.
type API struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics
	results *results
	queue   *guardedQueue
	waiters *waiters
	ready   readiness
	handler http.Handler
	bodies  sync.Pool // of *[]byte
	close   func()
}

// New returns an API that listens for done notices until Close.
func New(cfg Config, deps Deps) (*API, error) {
	if err := errors.Join(cfg.Validate(), deps.validate()); err != nil {
		return nil, fmt.Errorf("HTTP API settings: %w", err)
	}
	cfg.Limits.MaxBytes = int(cfg.MaxBodyBytes)
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	a := &API{cfg: cfg, deps: deps, log: deps.Logger}
	a.bodies.New = func() any { return new([]byte) }
	var err error
	if a.metrics, err = newMetrics(deps.Registerer); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.results = newResults(ctx, deps.Results, a.log, a.metrics, &cfg)
	a.queue = newGuardedQueue(ctx, deps.Queue, a.log, a.metrics, &cfg)
	a.waiters = newWaiters(ctx, cancel, a.results, a.log, a.metrics, &cfg)
	stop, err := deps.Queue.OnDone(a.waiters.notice)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("listen for finished jobs: %w", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.waiters.run(ctx)
	}()
	a.close = sync.OnceFunc(func() {
		cancel()
		stop()
		<-done
		for _, g := range []*guard{a.results.reads, a.results.writes, a.queue.lookups, a.queue.submits} {
			g.wait()
		}
	})
	a.handler = a.routes()
	return a, nil
}

// Handler returns the handler of every route.
func (a *API) Handler() http.Handler { return a.handler }

// Close answers every waiting request at once with what is known, makes /readyz fail, and stops listening for notices.
// Requests are still answered, but no longer wait. On the way down call it while http.Server.Shutdown drains, a moment
// before the drain time is over: short waits have then ended by themselves, and long ones are answered, not cut off.
func (a *API) Close() { a.close() }

// NewServer returns an http.Server with the timeouts that the API needs: a client that is slow to send its headers or
// to read an answer is dropped, one that waits for a result is not. The caller sets Addr or listens itself.
func NewServer(cfg Config, h http.Handler, logger *slog.Logger) *http.Server {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		// net/http takes the end of ReadTimeout for the client's leaving, so it has to outlast the longest wait. The time
		// for the body alone is Config.BodyTimeout.
		ReadTimeout:    cfg.BodyTimeout + cfg.longestWait() + slack,
		WriteTimeout:   cfg.BodyTimeout + cfg.longestWait() + slack,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 32 << 10,
	}
	if logger != nil {
		s.ErrorLog = slog.NewLogLogger(logger.Handler(), slog.LevelDebug) // broken connections: the clients' affair
	}
	return s
}

// slack is the time for everything in a request that is neither body nor wait.
const slack = 30 * time.Second

// longestWait is the longest time that a handler may take from the body to the answer.
func (c *Config) longestWait() time.Duration {
	return max(c.MaxWait, c.PredictTimeout) + c.SubmitTimeout + 4*c.LookupTimeout
}
