package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

// redisFlags adds the settings of the connection to Redis.
func redisFlags(cmd *cobra.Command) *resultstore.Config {
	cfg := resultstore.DefaultConfig()
	fs := cmd.Flags()
	fs.StringVar(&cfg.URL, "redis-url", cfg.URL, "Redis server: redis://[user[:password]@]host[:port][/db], rediss:// for TLS")
	fs.StringSliceVar(&cfg.Addrs, "redis-addrs", nil, "`LIST` of sentinels (with --redis-master) or of nodes of a Redis Cluster, in place of --redis-url")
	fs.StringVar(&cfg.MasterName, "redis-master", "", "`NAME` of the group that the sentinels watch")
	fs.BoolVar(&cfg.Cluster, "redis-cluster", false, "the server is a node of a Redis Cluster")
	fs.StringVar(&cfg.Username, "redis-username", "", "ACL user of Redis")
	fs.StringVar(&cfg.Password, "redis-password", "", "its password; better given by the environment")
	fs.StringVar(&cfg.SentinelUsername, "redis-sentinel-username", "", "ACL user of the sentinels")
	fs.StringVar(&cfg.SentinelPassword, "redis-sentinel-password", "", "its password; better given by the environment")
	fs.BoolVar(&cfg.TLS.Enabled, "redis-tls", false, "use TLS, for --redis-addrs; rediss:// says so by itself")
	fs.StringVar(&cfg.TLS.CAFile, "redis-tls-ca", "", "PEM `FILE` of authorities to trust for Redis")
	fs.StringVar(&cfg.TLS.CertFile, "redis-tls-cert", "", "PEM `FILE` of the client certificate for Redis")
	fs.StringVar(&cfg.TLS.KeyFile, "redis-tls-key", "", "PEM `FILE` of its key")
	fs.StringVar(&cfg.Prefix, "redis-prefix", cfg.Prefix, "what stands before the job ID in each key")
	fs.DurationVar(&cfg.DefaultTTL, "result-ttl", cfg.DefaultTTL, "how long a result is kept, unless model.yaml says otherwise")
	fs.IntVar(&cfg.PoolSize, "redis-pool-size", cfg.PoolSize, "connections to Redis at most; 0 is ten for each CPU")
	fs.IntVar(&cfg.WaitReplicas, "redis-wait-replicas", cfg.WaitReplicas, "replicas that must have a result before its job counts as finished")
	fs.DurationVar(&cfg.WaitTimeout, "redis-wait-timeout", cfg.WaitTimeout, "how long they may take; then the result is tried again")
	asSettings(fs, "redis-url", "redis-addrs", "redis-master", "redis-cluster", "redis-username", "redis-password",
		"redis-sentinel-username", "redis-sentinel-password", "redis-tls", "redis-tls-ca", "redis-tls-cert", "redis-tls-key",
		"redis-prefix", "result-ttl", "redis-pool-size", "redis-wait-replicas", "redis-wait-timeout")
	return &cfg
}

// connectQueue opens NATS and turns what is wrong into the exit code for it.
func connectQueue(ctx context.Context, cfg queue.Config, options ...queue.Option) (*queue.Queue, error) {
	if err := cfg.Validate(); err != nil {
		return nil, withCode(exitUsage, err)
	}
	q, err := queue.Connect(ctx, cfg, options...)
	return q, unreachable(ctx, err)
}

// openRedis opens Redis and turns what is wrong into the exit code for it.
func openRedis(ctx context.Context, cfg resultstore.Config, options ...resultstore.Option) (*resultstore.Redis, error) {
	if err := cfg.Validate(); err != nil {
		return nil, withCode(exitUsage, err)
	}
	r, err := resultstore.OpenRedis(ctx, cfg, options...)
	return r, unreachable(ctx, err)
}

// unreachable gives the error of a dependency its exit code, unless it is the user who ended it.
func unreachable(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errors.Join(ctx.Err(), err)
	}
	return withCode(exitUnreachable, fmt.Errorf("%w (sheaf doctor looks at everything)", err))
}
