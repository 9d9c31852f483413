package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/internal/telemetry"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

func newServe(env environment) *cobra.Command {
	var (
		addr  string
		drain time.Duration
	)
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the HTTP API, and gRPC if told to: submit, poll, wait",
		Long: `Serve the HTTP API against a NATS and a Redis, and the gRPC API where --grpc-addr says.

The process keeps no state: run as many as you like, any one serves any job. What models there are it learns from the
workers; it needs no model files.`,
		Args: exactArgs(),
	}
	natsCfg, redisCfg, lim, logCfg := natsFlags(cmd), redisFlags(cmd), limitFlags(cmd), logFlags(cmd)
	cfg := apiFlags(cmd, &addr, natsCfg)
	grpcFlag(cmd, &cfg.grpcAddr, grpcOff, "off")
	laneFlags(cmd, natsCfg)
	publishFlags(cmd, natsCfg)
	cmd.Flags().DurationVar(&drain, "drain-timeout", 10*time.Second, "how long requests in flight may take after SIGTERM")
	asSettings(cmd.Flags(), "drain-timeout")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		logger, err := newLogger(env.stderr, logCfg)
		if err != nil {
			return err
		}
		if err := errors.Join(cfg.check(addr, natsCfg), checkPositive("drain-timeout", drain)); err != nil {
			return err
		}
		relaxGC(env)
		registry := telemetry.NewRegistry()
		q, err := connectQueue(ctx, *natsCfg, queue.WithLogger(logger), queue.WithRegisterer(registry))
		if err != nil {
			return err
		}
		defer q.Close() //nolint:errcheck // the process ends
		results, err := openRedis(ctx, *redisCfg, resultstore.WithLogger(logger), resultstore.WithRegisterer(registry))
		if err != nil {
			return err
		}
		defer results.Close() //nolint:errcheck // the process ends
		a, err := newAPI(ctx, addr, *cfg, plant{q, results, *lim, registry, logger, env.reach})
		if err != nil {
			return err
		}
		logger.Info("HTTP API is up", "url", a.url())
		if a.grpc != nil {
			logger.Info("gRPC API is up", "addr", a.grpc.address())
		}
		return a.run(ctx, drain, logger)
	}
	return cmd
}
