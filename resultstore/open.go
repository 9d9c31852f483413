package resultstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/redis/go-redis/v9"
)

// OpenRedis connects to Redis and checks that it can do what the store needs. It fails if Redis cannot be reached
// within cfg.ConnectTimeout, refuses the credentials, is older than 7.0, cannot be written to, or has fewer replicas
// than it is to wait for; the error says what to do, and wraps ErrUnavailable where another try may succeed without any
// change of settings. A Redis that is
// merely out of memory is opened, with a warning, since results can still be read from it.
func OpenRedis(ctx context.Context, cfg Config, opts ...Option) (*Redis, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := newDeps(opts)
	m, err := newMetrics(d.registry)
	if err != nil {
		return nil, err
	}
	client, err := cfg.client()
	if err != nil {
		return nil, fmt.Errorf("Redis settings: %w", err)
	}
	// go-redis has one logger for the whole process, which is the standard library's unless it is given another.
	redis.SetLogger(libraryLog{d.log})
	r := &Redis{
		client: client, wait: replication{cfg.WaitReplicas, cfg.WaitTimeout}, prefix: cfg.Prefix, defaultTTL: newExpiry(cfg.DefaultTTL),
		log: d.log, metrics: m,
	}
	r.shards, _ = client.(*redis.ClusterClient)
	ctx, cancel := context.WithTimeout(ctx, cfg.ConnectTimeout)
	defer cancel()
	if err := r.check(ctx); err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("open the result store at %s: %w", cfg.address(), cfg.redact(err))
	}
	r.warn(ctx)
	return r, nil
}

// check writes as Finish does, which shows more than any version number: that Redis knows the command, that the user
// may give it, and that it is taken. Several keys are written to meet the nodes of a Cluster.
func (r *Redis) check(ctx context.Context) error {
	pipe := r.client.Pipeline()
	for i := range probes {
		pipe.Do(ctx, "set", r.probeKey(i), "1", "NX", "GET", "PX", probeKeep.Milliseconds())
	}
	err := execute(ctx, pipe)
	if err == nil {
		return r.checkReplicas(ctx)
	}
	said := err.Error()
	switch {
	case strings.Contains(said, "syntax error"):
		return fmt.Errorf("Redis 7.0 or newer is needed for SET with NX and GET, found %s: upgrade Redis", r.version(ctx))
	case strings.HasPrefix(said, "MOVED"):
		return errors.New("this Redis is a node of a Cluster: switch the Cluster setting on")
	case strings.Contains(said, "cluster support disabled"):
		return errors.New("this Redis is not a Cluster: switch the Cluster setting off, or give one address only")
	}
	classified := r.classify(ctx, err)
	switch errorKind(classified) {
	case "full":
		r.log.Warn("the result store takes no writes now", slog.Any("error", classified))
		return nil
	case "auth":
		return fmt.Errorf("check the user name and password, and what the user may do: %w", err)
	case "connection", "timeout":
		return fmt.Errorf("%w; is redis-server running there, and does it use TLS as the settings say?", classified)
	}
	return classified
}

// checkReplicas asks for the replicas' word, where it is waited for.
func (r *Redis) checkReplicas(ctx context.Context) error {
	if r.wait.replicas == 0 {
		return nil
	}
	return r.pingReplicated(ctx, probes)
}

// version is the server's version for people.
func (r *Redis) version(ctx context.Context) string {
	info, err := r.client.Info(ctx, "server").Result()
	if v := infoField(info, "redis_version"); err == nil && v != "" {
		return v
	}
	return "an older one"
}

// warn tells of settings under which results can be lost. A managed Redis may forbid INFO: then nothing is known.
func (r *Redis) warn(ctx context.Context) {
	info, err := r.client.Info(ctx).Result()
	if err != nil {
		r.log.Debug("the settings of Redis cannot be looked at", slog.Any("error", err))
		return
	}
	if policy := infoField(info, "maxmemory_policy"); policy != "" && policy != "noeviction" {
		r.log.Warn("Redis may drop results before their time when its memory is full; set maxmemory-policy to noeviction",
			slog.String("maxmemory_policy", policy))
	}
	if infoField(info, "aof_enabled") == "0" {
		r.log.Warn("Redis loses results when it crashes, and jobs that are acknowledged are not run again; set appendonly to yes")
	}
}

// infoField returns one field of what INFO answers, "" if it is not there.
func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if key, value, ok := strings.Cut(line, ":"); ok && key == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// redact returns err, or its text without the passwords if there is one in it: an old Redis repeats the arguments of
// a command that it does not know.
func (c *Config) redact(err error) error {
	text := err.Error()
	secrets := []string{c.Password, c.SentinelPassword}
	if e, urlErr := parseURL(c.URL); urlErr == nil {
		secrets = append(secrets, e.password)
	}
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "[password]")
		}
	}
	if text == err.Error() {
		return err
	}
	if errors.Is(err, ErrUnavailable) {
		return fmt.Errorf("%w (%s)", ErrUnavailable, text)
	}
	return errors.New(text)
}

// libraryLog hands what go-redis says to our logger. It says the same as the errors that it returns, so it is of use
// only to those who look for more.
type libraryLog struct{ log *slog.Logger }

func (l libraryLog) Printf(ctx context.Context, format string, args ...any) {
	if l.log.Enabled(ctx, slog.LevelDebug) {
		l.log.DebugContext(ctx, "go-redis: "+fmt.Sprintf(format, args...))
	}
}
