package httpapi

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/internal/failpoint"
)

// Deps is what an API stands on. Jobs is needed.
type Deps struct {
	// Jobs answers for jobs and models. The API does not close it.
	Jobs *gateway.Gateway
	// Auth says who calls. Nil: everybody may do everything, as the default tenant.
	Auth Authenticator
	// Batches keeps files and runs batches. Nil: there are no routes for them.
	Batches Batches
	// Operator serves the routes of administrators. Nil: there are none.
	Operator Operator
	// Logger gets requests at debug level and faults at error level. Nil is silent.
	Logger *slog.Logger
	// Registerer takes the API's own metrics. Nil is none.
	Registerer prometheus.Registerer
	// Gatherer is what /metrics shows. Nil: there is no such route.
	Gatherer prometheus.Gatherer
	// Reach is told of each step of the crash table. Nil, as outside tests, is nobody.
	Reach failpoint.Hook
}

// API answers HTTP requests. It is safe for concurrent use.
type API struct {
	cfg     Config
	deps    Deps
	jobs    *gateway.Gateway
	log     *slog.Logger
	metrics *metrics
	handler http.Handler
	fixed   fixedHeaders
	bodies  sync.Pool // of *[]byte
	// Of bulk requests:
	bulks       chan struct{} // holds one for each in hand
	blocks      sync.Pool     // of *block
	submissions sync.Pool     // of *submission
	transfers   chan struct{} // holds one for each file that is being sent or read
	// described makes the OpenAPI document when somebody asks for it first.
	described func() (*description, error)
}

// New returns an API on a gateway that somebody else closes.
func New(cfg Config, deps Deps) (*API, error) {
	err := cfg.Validate()
	if deps.Jobs == nil {
		err = errors.Join(err, errors.New("the field Jobs is nil: the API needs a gateway"))
	}
	if err != nil {
		return nil, fmt.Errorf("HTTP API settings: %w", err)
	}
	cfg.Limits.MaxBytes = int(cfg.MaxBodyBytes)
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	a := &API{cfg: cfg, deps: deps, jobs: deps.Jobs, log: deps.Logger, fixed: newFixedHeaders()}
	a.bodies.New = func() any { return new([]byte) }
	a.bulks = make(chan struct{}, cfg.Streams.MaxBulkRequests)
	a.transfers = make(chan struct{}, cfg.Streams.MaxFileStreams)
	a.submissions.New = func() any { return new(submission) }
	if a.metrics, err = newMetrics(deps.Registerer); err != nil {
		return nil, err
	}
	table := a.table()
	if err := checkScopes(table); err != nil {
		return nil, err
	}
	a.described = sync.OnceValues(func() (*description, error) { return a.describe(table) })
	a.handler = a.routes(table)
	return a, nil
}

// Handler returns the handler of every route.
func (a *API) Handler() http.Handler { return a.handler }

// Server returns an http.Server with the timeouts that the API needs: a client that is slow to send its headers or to
// read an answer is dropped, one that waits for a result is not. The caller sets Addr or listens itself.
func (a *API) Server() *http.Server {
	return &http.Server{
		Handler:           a.handler,
		ReadHeaderTimeout: a.cfg.HeaderTimeout,
		// net/http takes the end of ReadTimeout for the client's leaving, so it has to outlast the longest wait. The time
		// for the body alone is Config.BodyTimeout.
		ReadTimeout:    a.cfg.BodyTimeout + a.longestCall() + slack,
		WriteTimeout:   a.cfg.BodyTimeout + a.longestCall() + slack,
		IdleTimeout:    a.cfg.IdleTimeout,
		MaxHeaderBytes: a.cfg.MaxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(a.log.Handler(), slog.LevelDebug), // broken connections: the clients' affair
	}
}

// slack is the time for everything in a request that is neither body nor wait.
const slack = 30 * time.Second

// longestCall is the longest time that a handler may take from the body to the answer.
func (a *API) longestCall() time.Duration {
	return a.jobs.LongestCall(max(a.jobs.MaxWait(), a.cfg.PredictTimeout))
}
