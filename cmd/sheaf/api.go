package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/netutil"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/batch"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/grpcapi"
	"github.com/sheafml/sheaf/httpapi"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/queue"
)

// apiSettings are those of the HTTP API and of the producer behind it.
type apiSettings struct {
	http   httpapi.Config
	jobs   gateway.Config
	grpc   grpcapi.Config
	submit producer.Config
	auth   *authSettings
	tls    *tlsSettings
	hooks  *webhookSettings
	batch  *batchSettings
	// insecure lets others reach the API without saying who they are.
	insecure       bool
	maxConnections int
	// grpcAddr is that of the gRPC API, or one of the words that grpc.go knows.
	grpcAddr string
}

// check names what is wrong with the settings, before anything is started.
func (s *apiSettings) check(addr string, q *queue.Config) error {
	guarded := s.auth.enabled() || s.tls.mutual()
	err := errors.Join(checkAddress("addr", addr), s.auth.check(), s.hooks.complete(q), s.batch.check(), checkExposed("addr", addr, guarded, s.insecure))
	if s.grpcAddr != grpcOff && s.grpcAddr != grpcNext {
		err = errors.Join(err, checkAddress("grpc-addr", s.grpcAddr), checkExposed("grpc-addr", s.grpcAddr, guarded, s.insecure))
	}
	if s.maxConnections < 1 {
		err = errors.Join(err, withCode(exitUsage, fmt.Errorf("--max-connections is %d: at least 1 is needed", s.maxConnections)))
	}
	return err
}

// apiFlags adds the settings of the HTTP API.
func apiFlags(cmd *cobra.Command, addr *string, q *queue.Config) *apiSettings {
	s := &apiSettings{
		http: httpapi.DefaultConfig(), jobs: gateway.DefaultConfig(), grpc: grpcapi.DefaultConfig(), submit: producer.DefaultConfig(), auth: authFlags(cmd), tls: tlsFlags(cmd),
		hooks: webhookFlags(cmd, q), batch: batchFlags(cmd),
	}
	cfg, jobs, submit := &s.http, &s.jobs, &s.submit
	fs := cmd.Flags()
	fs.StringVar(addr, "addr", "127.0.0.1:8080", "`HOST:PORT` of the HTTP API; port 0 is any free one")
	fs.DurationVar(&jobs.MaxWait, "max-wait", jobs.MaxWait, "the longest that ?wait= and Prefer: wait= may hold a request")
	fs.DurationVar(&cfg.PredictTimeout, "predict-timeout", cfg.PredictTimeout, "how long /predict waits for its answer")
	fs.IntVar(&jobs.MaxWaiters, "max-waiters", jobs.MaxWaiters, "jobs that requests may wait for at the same time")
	fs.DurationVar(&jobs.SubmitTimeout, "submit-timeout", jobs.SubmitTimeout, "how long a submit may take while NATS is out of reach")
	fs.DurationVar(&jobs.LookupTimeout, "lookup-timeout", jobs.LookupTimeout, "how long a look-up or a cancel may take")
	fs.DurationVar(&cfg.BodyTimeout, "body-timeout", cfg.BodyTimeout, "how long a client may take to send its body")
	fs.DurationVar(&jobs.PollInterval, "poll-interval", jobs.PollInterval, "how often waiting requests are looked up in case a notice was lost")
	fs.IntVar(&submit.MaxSubmits, "max-submits", submit.MaxSubmits, "submits that may be in hand at the same time; those beyond are answered 503 at once")
	fs.Float64Var(&submit.DeadlineMargin, "deadline-margin", submit.DeadlineMargin, "how many times the expected wait of a job must fit before its deadline, or it is refused; 0 refuses none")
	fs.DurationVar(&cfg.RetryAfter, "retry-after", cfg.RetryAfter, "the least that Retry-After says")
	fs.DurationVar(&cfg.RetryAfterMax, "retry-after-max", cfg.RetryAfterMax, "the most that Retry-After says")
	fs.BoolVar(&s.insecure, "insecure", false, "listen beyond loopback although nobody is asked who they are (without --auth and --tls-client-ca)")
	fs.IntVar(&s.maxConnections, "max-connections", 20_000, "connections at the same time; those beyond wait until one is closed")
	fs.DurationVar(&cfg.HeaderTimeout, "header-timeout", cfg.HeaderTimeout, "how long a client may take to send its headers")
	fs.DurationVar(&cfg.IdleTimeout, "idle-timeout", cfg.IdleTimeout, "how long a connection may stay open between two requests")
	fs.IntVar(&cfg.MaxHeaderBytes, "max-header-bytes", cfg.MaxHeaderBytes, "bytes of a request's headers")
	fs.StringSliceVar(&cfg.CORSOrigins, "cors-origins", nil, "`LIST` of origins whose pages may call the API from a browser, such as https://app.example.com; * is any")
	asSettings(fs, "insecure", "max-connections", "header-timeout", "idle-timeout", "max-header-bytes", "cors-origins", "addr", "max-wait", "predict-timeout", "max-waiters", "submit-timeout", "lookup-timeout", "body-timeout",
		"poll-interval", "max-submits", "deadline-margin", "retry-after", "retry-after-max")
	streamFlags(fs, &cfg.Streams)
	grpcFlags(fs, &s.grpc)
	return s
}

// api is the shim, put together.
type api struct {
	jobs     *gateway.Gateway
	handler  *httpapi.API
	models   *model.Catalog
	listener net.Listener
	tls      *tls.Config // nil: plain HTTP
	grpc     *grpcServer // nil: off
	hooks    *webhooks
	batches  *batch.Service
	stop     func()
}

// newAPI wires the shim to an open queue and result store and starts to listen.
func newAPI(ctx context.Context, addr string, cfg apiSettings, on plant) (_ *api, err error) {
	q := on.queue
	if err := q.EnsureStreams(ctx); err != nil {
		return nil, withCode(exitUnreachable, err)
	}
	// The watch ends with the process, not with the signal: requests in flight still validate.
	watch, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			stop()
		}
	}()
	who, err := cfg.auth.open(watch, q, on.logger)
	if err != nil {
		return nil, err
	}
	limiter, err := auth.NewLimiter(cfg.auth.rate)
	if err != nil {
		return nil, withCode(exitUsage, err)
	}
	models := model.NewCatalog()
	if err := producer.Watch(watch, q, models, on.logger); err != nil {
		return nil, withCode(exitUnreachable, err)
	}
	cfg.submit.Limits, cfg.submit.Logger, cfg.submit.Reach = on.limits, on.logger, on.reach
	submitter, err := producer.New(q, models, cfg.submit)
	if err != nil {
		return nil, withCode(exitUsage, byFlag(err))
	}
	cfg.http.AdminLocal = loopback(addr)
	cfg.http.AdminTimeout = 2 * cfg.jobs.LookupTimeout
	cfg.http.Version = version
	cfg.http.Limits = on.limits
	cfg.http.MaxBodyBytes = int64(on.limits.MaxBytes)
	cfg.http.Streams.MaxFileBytes = cfg.batch.MaxFileBytes
	if err := errors.Join(cfg.jobs.Validate(), cfg.http.Validate()); err != nil {
		return nil, withCode(exitUsage, byFlag(fmt.Errorf("HTTP API settings: %w", err)))
	}
	policy := cfg.hooks.policy()
	var jobs *gateway.Gateway
	batches, err := cfg.batch.open(on, models, policy, func() *gateway.Gateway { return jobs })
	if err != nil {
		return nil, err
	}
	hooks, err := cfg.hooks.open(on, policy, batches)
	if err != nil {
		return nil, err
	}
	jobsDeps := gateway.Deps{
		Submitter: submitter, Forecaster: submitter, Models: models, Results: on.results, Queue: q, Limiter: limiter,
		Ready: []gateway.Check{
			{Name: "nats", Run: q.Ready},
			{Name: "results", Run: on.results.Ping},
		},
		Logger: on.logger, Registerer: on.registry, Reach: on.reach,
	}
	if hooks != nil {
		jobsDeps.Webhooks = hooks
	}
	jobs, err = gateway.New(cfg.jobs, jobsDeps)
	if err != nil {
		return nil, withCode(exitUsage, byFlag(err))
	}
	defer func() {
		if err != nil {
			jobs.Close()
		}
	}()
	deps := httpapi.Deps{
		Jobs: jobs, Operator: q, Batches: batches,
		Logger: on.logger, Registerer: on.registry, Gatherer: on.registry, Reach: on.reach,
	}
	if who != nil {
		deps.Auth = who
	}
	handler, err := httpapi.New(cfg.http, deps)
	if err != nil {
		return nil, withCode(exitUsage, byFlag(err))
	}
	certificate, err := cfg.tls.open(watch, on.logger)
	if err != nil {
		return nil, err
	}
	listener, err := listen(ctx, "addr", addr)
	if err != nil {
		return nil, err
	}
	listener = netutil.LimitListener(listener, cfg.maxConnections)
	grpc, err := newGRPC(ctx, jobs, &cfg, letIn{who, certificate}, listener, on)
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	return &api{
		jobs: jobs, handler: handler, models: models, listener: listener, tls: certificate, grpc: grpc, hooks: hooks, batches: batches,
		stop: func() { stop(); _ = submitter.Close() },
	}, nil
}

// waitersGrace is how long after SIGTERM those who wait for a result may go on: most have it by then. The others are
// answered with what is known, since another process can serve their next poll.
const waitersGrace = time.Second

// run serves, delivers webhooks and works on batches until ctx ends and requests in flight are answered or the drain time is over. If one of the servers ends,
// so does the other.
func (a *api) run(ctx context.Context, drain time.Duration, logger *slog.Logger) error {
	defer a.stop()
	defer a.jobs.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var beside sync.WaitGroup
	beside.Go(func() { _ = a.batches.Run(ctx) }) // it ends with ctx only
	if a.hooks != nil {
		beside.Go(func() { a.hooks.sender.Run(ctx) })
	}
	defer beside.Wait()
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(min(waitersGrace, drain/2), a.jobs.Close)
	})()
	server := a.handler.Server()
	server.TLSConfig = a.tls
	listener := a.listener
	if a.tls == nil {
		var err error
		if listener, err = a.handler.FastLane(listener); err != nil {
			return err
		}
	}
	servers := []func(context.Context) error{func(ctx context.Context) error {
		defer cancel()
		return serveUntil(ctx, server, listener, drain, logger)
	}}
	if a.grpc != nil {
		servers = append(servers, func(ctx context.Context) error {
			defer cancel()
			return a.grpc.run(ctx, drain, logger)
		})
	}
	return runTogether(ctx, servers...)
}

// url is how a client on this machine reaches the API.
func (a *api) url() string { return baseURL(a.listener, a.tls != nil) }
