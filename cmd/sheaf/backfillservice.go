package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/backfill"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

// backfillService is who computes for a backfill: the HTTP API, or NATS and Redis themselves.
type backfillService struct {
	where  string // for people
	tenant string
	limits job.Limits
	model  model.Info
	// jobs submits what asks for these outputs. again says that an earlier run may have had some of it computed.
	jobs func(outputs []string, again bool) backfill.Jobs
	// depth is how many messages of the model wait on the bulk lane; negative if that is not known.
	depth func(ctx context.Context) int
	close func()
}

// backfillConnect is the settings of both ways.
type backfillConnect struct {
	client       *client
	nats         *queue.Config
	redis        *resultstore.Config
	limits       *job.Limits
	tenant       string
	modelVersion string
	patience     time.Duration
}

func backfillConnectFlags(cmd *cobra.Command) *backfillConnect {
	c := &backfillConnect{client: clientFlags(cmd), nats: natsFlags(cmd), redis: redisFlags(cmd), limits: limitFlags(cmd)}
	fs := cmd.Flags()
	fs.StringVar(&c.tenant, "tenant", job.DefaultTenant, "whose jobs they are, with --nats-url; with --server the API key says it")
	fs.StringVar(&c.modelVersion, "model-version", "", "`VERSION` of the model; default: the one served")
	fs.DurationVar(&c.patience, "patience", 15*time.Minute, "how long a service that is full or out of reach is waited for; 0 is for ever")
	return c
}

// direct says whether NATS and Redis are asked themselves: if a flag names one, or else if a setting does and no flag
// names a server.
func (c *backfillConnect) direct(cmd *cobra.Command) (bool, error) {
	fs := cmd.Flags()
	byFlag := fs.Changed("nats-url") || fs.Changed("redis-url") || fs.Changed("redis-addrs")
	if fs.Changed("server") {
		if byFlag {
			return false, withCode(exitUsage, errors.New("--server and --nats-url are two ways; which one is meant? --nats-url goes with --redis-url"))
		}
		return false, nil
	}
	set := func(name string) bool { f := fs.Lookup(name); return f.Value.String() != f.DefValue }
	return byFlag || set("nats-url") || set("redis-url") || set("redis-addrs"), nil
}

// open reaches whoever computes, and learns what the model takes.
func (c *backfillConnect) open(cmd *cobra.Command, name string, logger *slog.Logger) (*backfillService, error) {
	direct, err := c.direct(cmd)
	if err != nil {
		return nil, err
	}
	if direct {
		return c.openDirect(cmd.Context(), name, logger)
	}
	return c.openServer(cmd.Context(), name)
}

func (c *backfillConnect) openDirect(ctx context.Context, name string, logger *slog.Logger) (_ *backfillService, err error) {
	if !job.ValidName(c.tenant) {
		return nil, withCode(exitUsage, fmt.Errorf("--tenant %q: expected letters, digits, '-', '_' and '.'", c.tenant))
	}
	var closers []func()
	shut := func() {
		for _, closer := range slices.Backward(closers) {
			closer()
		}
	}
	defer func() {
		if err != nil {
			shut()
		}
	}()
	q, err := connectQueue(ctx, *c.nats, queue.WithLogger(logger))
	if err != nil {
		return nil, err
	}
	closers = append(closers, func() { _ = q.Close() })
	results, err := openRedis(ctx, *c.redis, resultstore.WithLogger(logger))
	if err != nil {
		return nil, err
	}
	closers = append(closers, func() { _ = results.Close() })
	// What is connected lives until close, and not until Ctrl-C: what is answered by then is still written.
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	closers = append(closers, stop)
	models := model.NewCatalog()
	if err := producer.Watch(life, q, models, logger); err != nil {
		return nil, withCode(exitUnreachable, err)
	}
	submit := producer.DefaultConfig()
	submit.Limits, submit.Logger = *c.limits, logger
	submitter, err := producer.New(q, models, submit)
	if err != nil {
		return nil, withCode(exitUsage, byFlag(err))
	}
	closers = append(closers, func() { _ = submitter.Close() })
	g, err := gateway.New(gateway.DefaultConfig(), gateway.Deps{Submitter: submitter, Forecaster: submitter, Models: models, Results: results, Queue: q, Logger: logger})
	if err != nil {
		return nil, err
	}
	closers = append(closers, g.Close)
	info, ok := awaitModel(ctx, models, name, c.modelVersion)
	if !ok {
		var known []string
		for _, i := range models.List() {
			known = append(known, i.Key())
		}
		return nil, unknownModel(name, c.modelVersion, known)
	}
	return &backfillService{
		where: "NATS and Redis", tenant: c.tenant, limits: *c.limits, model: info,
		jobs: func(outputs []string, again bool) backfill.Jobs {
			return backfill.ThroughGateway(g, results, backfill.GatewayConfig{
				Tenant: c.tenant, Model: info, Outputs: outputs, Again: again, Patience: c.patience, Logger: logger,
			})
		},
		depth: func(ctx context.Context) int {
			load, err := q.Load(ctx, job.Bulk, info.Name, "")
			if err != nil {
				return -1
			}
			return load.Waiting
		},
		close: shut,
	}, nil
}

// announceTime is how long a model is waited for that no worker has announced: one may just be starting.
const announceTime = 3 * time.Second

func awaitModel(ctx context.Context, models *model.Catalog, name, version string) (model.Info, bool) {
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for enough := time.Now().Add(announceTime); ; {
		if info, ok := models.Get(name, version); ok || time.Now().After(enough) {
			return info, ok
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return model.Info{}, false
		}
	}
}

func unknownModel(name, version string, known []string) error {
	if version != "" {
		name += "/" + version
	}
	if len(known) == 0 {
		return fmt.Errorf("no worker has announced model %q, nor any other; is a worker running?", name)
	}
	return fmt.Errorf("no worker has announced model %q; there are: %s", name, strings.Join(known, ", "))
}

// servedModel is what is read of GET /v1/models/{model}.
type servedModel struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	model.Signature
	MaxRows    int    `json:"max_rows"`
	Prediction string `json:"prediction"`
	Digest     string `json:"digest"`
	Limits     struct {
		BodyBytes int `json:"max_body_bytes"`
		Rows      int `json:"max_rows"`
		Elements  int `json:"max_elements"`
	} `json:"limits"`
}

func (c *backfillConnect) openServer(ctx context.Context, name string) (*backfillService, error) {
	path := "/v1/models/" + url.PathEscape(name)
	if c.modelVersion != "" {
		path += "/versions/" + url.PathEscape(c.modelVersion)
	}
	a, err := c.client.do(ctx, http.MethodGet, path, nil, nil, 0)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, a.problem()
	}
	var m servedModel
	if err := json.Unmarshal(a.body, &m); err != nil {
		return nil, fmt.Errorf("%s does not describe model %q as expected: %w", c.client.server, name, err)
	}
	limits := *c.limits
	for _, l := range []struct {
		ours   *int
		theirs int
	}{{&limits.MaxBytes, m.Limits.BodyBytes}, {&limits.MaxRows, m.Limits.Rows}, {&limits.MaxElements, m.Limits.Elements}} {
		if l.theirs > 0 {
			*l.ours = l.theirs
		}
	}
	info := model.Info{Name: m.Name, Version: m.Version, Signature: m.Signature, MaxRows: m.MaxRows, Prediction: m.Prediction, Digest: m.Digest}
	return &backfillService{
		where: c.client.server, limits: limits, model: info,
		jobs: func(outputs []string, _ bool) backfill.Jobs {
			return backfill.OverHTTP(backfill.HTTPConfig{
				Server: strings.TrimRight(c.client.server, "/"), Client: c.client.http, Authorize: c.client.authorize,
				Model: info, Outputs: outputs, Patience: c.patience,
			})
		},
		depth: func(context.Context) int { return -1 },
		close: func() { c.client.http.CloseIdleConnections() },
	}, nil
}
