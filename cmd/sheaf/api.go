package main

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/httpapi"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/producer"
)

// apiFlags adds the settings of the HTTP API.
func apiFlags(cmd *cobra.Command, addr *string) *httpapi.Config {
	cfg := httpapi.DefaultConfig()
	fs := cmd.Flags()
	fs.StringVar(addr, "addr", "127.0.0.1:8080", "`HOST:PORT` of the HTTP API; port 0 is any free one")
	fs.DurationVar(&cfg.MaxWait, "max-wait", cfg.MaxWait, "the longest that ?wait= and Prefer: wait= may hold a request")
	fs.DurationVar(&cfg.PredictTimeout, "predict-timeout", cfg.PredictTimeout, "how long /predict waits for its answer")
	fs.IntVar(&cfg.MaxWaiters, "max-waiters", cfg.MaxWaiters, "requests that may wait at the same time")
	fs.DurationVar(&cfg.SubmitTimeout, "submit-timeout", cfg.SubmitTimeout, "how long a submit may take while NATS is out of reach")
	fs.DurationVar(&cfg.LookupTimeout, "lookup-timeout", cfg.LookupTimeout, "how long a look-up or a cancel may take")
	fs.DurationVar(&cfg.BodyTimeout, "body-timeout", cfg.BodyTimeout, "how long a client may take to send its body")
	fs.DurationVar(&cfg.PollInterval, "poll-interval", cfg.PollInterval, "how often waiting requests are looked up in case a notice was lost")
	asSettings(fs, "addr", "max-wait", "predict-timeout", "max-waiters", "submit-timeout", "lookup-timeout", "body-timeout",
		"poll-interval")
	return &cfg
}

// api is the HTTP shim, put together.
type api struct {
	cfg      httpapi.Config
	handler  *httpapi.API
	models   *model.Catalog
	listener net.Listener
	stop     context.CancelFunc
}

// newAPI wires the shim to an open queue and result store and starts to listen.
func newAPI(ctx context.Context, addr string, cfg httpapi.Config, on plant) (_ *api, err error) {
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
	models := model.NewCatalog()
	if err := producer.Watch(watch, q, models, on.logger); err != nil {
		return nil, withCode(exitUnreachable, err)
	}
	pcfg := producer.DefaultConfig()
	pcfg.Limits, pcfg.Logger, pcfg.Reach = on.limits, on.logger, on.reach
	submitter, err := producer.New(q, models, pcfg)
	if err != nil {
		return nil, withCode(exitUsage, byFlag(err))
	}
	cfg.Limits = on.limits
	cfg.MaxBodyBytes = int64(on.limits.MaxBytes)
	handler, err := httpapi.New(cfg, httpapi.Deps{
		Submitter: submitter, Models: models, Results: on.results, Queue: q,
		Ready: []httpapi.Check{
			{Name: "nats", Run: q.Ready},
			{Name: "results", Run: on.results.Ping},
		},
		Logger: on.logger, Registerer: on.registry, Gatherer: on.registry, Reach: on.reach,
	})
	if err != nil {
		return nil, withCode(exitUsage, byFlag(err))
	}
	listener, err := listen(ctx, "addr", addr)
	if err != nil {
		handler.Close()
		return nil, err
	}
	return &api{cfg: cfg, handler: handler, models: models, listener: listener, stop: stop}, nil
}

// waitersGrace is how long after SIGTERM those who wait for a result may go on: most have it by then. The others are
// answered with what is known, since another process can serve their next poll.
const waitersGrace = time.Second

// run serves until ctx ends and requests in flight are answered or the drain time is over.
func (a *api) run(ctx context.Context, drain time.Duration, logger *slog.Logger) error {
	defer a.stop()
	defer a.handler.Close()
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(min(waitersGrace, drain/2), a.handler.Close)
	})()
	return serveUntil(ctx, httpapi.NewServer(a.cfg, a.handler.Handler(), logger), a.listener, drain, logger)
}
