package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/internal/telemetry"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/model/onnx"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
	"github.com/sheafml/sheaf/worker"
)

// workerFlags adds the settings of a worker pool.
func workerFlags(cmd *cobra.Command, library *string) *worker.Config {
	cfg := worker.DefaultConfig()
	fs := cmd.Flags()
	fs.StringVar(library, "onnxruntime-lib", "", "ONNX Runtime's shared library; default: lib/ beside the program, then the system's")
	fs.DurationVar(&cfg.DrainTimeout, "drain-timeout", cfg.DrainTimeout, "how long batches in flight may take after SIGTERM")
	fs.IntVar(&cfg.MaxAttempts, "max-attempts", cfg.MaxAttempts, "how often a job is tried, unless its model.yaml says so: its first delivery, and each time it is run alone since")
	fs.DurationVar(&cfg.RunTimeout, "run-timeout", cfg.RunTimeout, "a run of the model that takes longer is stopped, and its jobs are tried alone")
	fs.Float64Var(&cfg.ReserveBulk, "bulk-reserve", cfg.ReserveBulk, "share of rows that the bulk lane gets while both lanes have work, 0 to 0.5")
	fs.DurationVar(&cfg.BulkSlice, "bulk-slice", cfg.BulkSlice, "how much time bulk rows may add to a run with interactive jobs; 0 is no bound")
	fs.IntVar(&cfg.YieldNice, "yield-nice", cfg.YieldNice, "how far runs of bulk, and of a tenant who floods, step back behind all other threads if they take 2 ms or more, 0 to 19 (Linux)")
	fs.IntVar(&cfg.ExpressInstances, "express-instances", cfg.ExpressInstances, "instances of each model besides its own, on which interactive jobs overtake runs of bulk, and tenants the runs of one who floods; 0 is none")
	fs.DurationVar(&cfg.Ahead, "ahead", cfg.Ahead, "how much work, in time, each lane of a model holds ready")
	fs.IntVar(&cfg.BufferBytes, "buffer-bytes", cfg.BufferBytes, "bytes of messages that each lane of a model holds ready")
	fs.DurationVar(&cfg.RetryDelay, "retry-delay", cfg.RetryDelay, "first pause before a job is tried again after a failure that may pass; it doubles")
	fs.DurationVar(&cfg.RetryDelayMax, "retry-delay-max", cfg.RetryDelayMax, "the longest such pause")
	fs.DurationVar(&cfg.SweepInterval, "sweep-interval", cfg.SweepInterval, "how often the lanes are searched for messages that NATS has given up")
	asSettings(fs, "sweep-interval", "onnxruntime-lib", "drain-timeout", "max-attempts", "run-timeout", "bulk-reserve", "bulk-slice", "express-instances", "yield-nice", "ahead", "buffer-bytes",
		"retry-delay", "retry-delay-max")
	return &cfg
}

// loadedModels are the models of a directory, ready to run.
type loadedModels struct {
	runtime *onnx.Runtime
	models  []*onnx.Model
	specs   []worker.Model
}

// closeTimeout bounds how long the end of a process waits for a run that has outlived the drain.
const closeTimeout = 2 * time.Second

// close frees the models. A run that nothing could stop holds its model; the process then ends without freeing it.
func (l *loadedModels) close() {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for _, m := range l.models {
			_ = m.Close()
		}
		if l.runtime != nil {
			_ = l.runtime.Close()
		}
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
	}
}

// loadModels loads the highest version of every model of the directories. A model that cannot be served is logged and
// left out; it is an error if none is left.
func loadModels(ctx context.Context, library string, dirs []string, logger *slog.Logger) (_ *loadedModels, err error) {
	var versions []model.Version
	var faults []error
	for _, dir := range dirs {
		found, err := model.Scan(dir)
		if err != nil {
			faults = append(faults, err)
		}
		versions = append(versions, found...)
	}
	rt, err := onnx.Open(onnx.Config{Library: library})
	if err != nil {
		return nil, withCode(exitUnreachable, err)
	}
	l := &loadedModels{runtime: rt}
	for _, v := range model.Latest(versions) {
		m, err := rt.Load(ctx, v)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		l.models = append(l.models, m)
		if why := m.Unbatched(); why != nil {
			logger.Warn("batching is off for a model: each of its jobs is run alone", "model", v.String(), "reason", why)
		}
		l.specs = append(l.specs, worker.Model{
			Info:     m.Info(),
			MaxRows:  v.Manifest.Batching.MaxRows,
			MaxDelay: v.Manifest.Batching.MaxDelay, Instances: v.Manifest.InstanceCount(),
			Retry:       worker.Retry(v.Manifest.Retry),
			NewInstance: func() (worker.Instance, error) { return m.NewInstance() },
		})
	}
	if len(l.models) == 0 {
		l.close()
		faults = append(faults, fmt.Errorf("no model to serve in %q: expected NAME/VERSION/model.onnx or NAME.onnx", dirs))
		return nil, withCode(exitUsage, errors.Join(faults...))
	}
	for _, fault := range faults {
		logger.Error("a model is not served", "error", fault)
	}
	return l, nil
}

func newWorker(env environment) *cobra.Command {
	var modelsDir, opsAddr, library string
	cmd := &cobra.Command{
		Use:   "worker",
		Short: "Run a pool of workers: fetch, batch, infer, settle",
		Long: `Run a pool of workers over the models of a directory.

DIR holds NAME/VERSION/model.onnx (with an optional NAME/model.yaml) or NAME.onnx; the highest version is served.
Run as many of these processes as you like: they share the work. SIGTERM drains: batches in flight are finished,
buffered jobs are handed back at once.`,
		Args: exactArgs(),
	}
	fs := cmd.Flags()
	fs.StringVar(&modelsDir, "models", "models", "`DIR` of models")
	fs.StringVar(&opsAddr, "ops-addr", "127.0.0.1:0", "`HOST:PORT` of /healthz, /readyz and /metrics; port 0 is any free one")
	asSettings(fs, "models", "ops-addr")
	cfg := workerFlags(cmd, &library)
	natsCfg, redisCfg, lim, logCfg := natsFlags(cmd), redisFlags(cmd), limitFlags(cmd), logFlags(cmd)
	laneFlags(cmd, natsCfg)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		logger, err := newLogger(env.stderr, logCfg)
		if err != nil {
			return err
		}
		if err := checkAddress("ops-addr", opsAddr); err != nil {
			return err
		}
		relaxGC(env)
		loaded, err := loadModels(ctx, library, []string{modelsDir}, logger)
		if err != nil {
			return err
		}
		defer loaded.close()
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
		pool, err := newPool(ctx, *cfg, loaded, plant{q, results, *lim, registry, logger, env.reach})
		if err != nil {
			return err
		}
		l, err := listen(ctx, "ops-addr", opsAddr)
		if err != nil {
			return err
		}
		logger.Info("worker is up", "models", modelNames(loaded), "ops", baseURL(l, false), "onnxruntime", loaded.runtime.Version())
		return runTogether(ctx,
			pool.Run,
			func(ctx context.Context) error {
				return serveUntil(ctx, newOpsServer(pool.Ready, registry), l, time.Second, logger)
			},
		)
	}
	return cmd
}

// gcPercent lets a heap that is small and made of short-lived messages grow to five times what lives before it is
// collected: measured, 7 to 12 % less CPU for a job than with Go's own 100 in a worker; in the HTTP API a tenth of its
// CPU was the collector's.
const gcPercent = 400

// relaxGC sets the garbage collector for workers, the HTTP API and backfills, unless the operator has set GOGC.
func relaxGC(env environment) {
	if env.getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}

// newPool wires a pool to an open queue and result store.
func newPool(ctx context.Context, cfg worker.Config, loaded *loadedModels, on plant) (*worker.Pool, error) {
	if err := on.queue.EnsureStreams(ctx); err != nil {
		return nil, withCode(exitUnreachable, err)
	}
	cfg.Limits = on.limits
	deps := worker.Deps{Queue: on.queue, Results: on.results, Logger: on.logger, Registerer: on.registry, Reach: on.reach, Name: processName()}
	pool, err := worker.New(cfg, deps, loaded.specs...)
	return pool, withCode(exitUsage, byFlag(err))
}

// processName is what this worker is called in the history of a job: its host and process ID.
func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "a host without a name"
	}
	return host + "/" + strconv.Itoa(os.Getpid())
}

func modelNames(l *loadedModels) []string {
	var names []string
	for _, m := range l.models {
		info := m.Info()
		names = append(names, info.Key())
	}
	return names
}
