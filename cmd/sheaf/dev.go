package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/examples"
	"github.com/sheafml/sheaf/internal/telemetry"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/queue/embedded"
	"github.com/sheafml/sheaf/resultstore"
	"github.com/sheafml/sheaf/worker"
)

// dev holds the settings of sheaf dev.
type dev struct {
	env       environment
	addr      string
	natsAddr  string
	modelsDir string
	dataDir   string
	library   string
	api       *apiSettings
	worker    *worker.Config
	queue     queue.Config
	redis     *resultstore.Config
	memory    resultstore.MemoryConfig
	limits    *job.Limits
	log       *telemetry.Config
}

func newDev(env environment) *cobra.Command {
	d := &dev{env: env, queue: queue.DefaultConfig(), memory: resultstore.DefaultMemoryConfig()}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything in one process, with a demo model",
		Long: `Run everything in one process: a NATS server, the results in memory, the HTTP and gRPC APIs, one worker, and the demo model
"digits" (handwritten digits, 8x8 pixels). Nothing else needs to be running.

Without --data everything is forgotten at the end. With --data DIR jobs that are not finished survive a restart;
results do so only with --redis-url.`,
		Example: `  sheaf dev
  sheaf dev --models ./models --data ./data
  sheaf dev --redis-url redis://127.0.0.1:6379`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context()) },
	}
	fs := cmd.Flags()
	fs.StringVar(&d.modelsDir, "models", "", "`DIR` of models to serve beside the demo model")
	fs.StringVar(&d.dataDir, "data", "", "`DIR` to keep the queue in; default: a temporary one")
	fs.StringVar(&d.natsAddr, "nats-addr", "", "`HOST:PORT` of the embedded NATS server; default: 127.0.0.1:4222, or a free port if that is taken")
	fs.IntVar(&d.memory.MaxEntries, "memory-max-results", d.memory.MaxEntries, "results to keep in memory; workers wait when there is no room")
	fs.Int64Var(&d.memory.MaxBytes, "memory-max-bytes", d.memory.MaxBytes, "bytes of results to keep in memory")
	asSettings(fs, "models", "data", "nats-addr", "memory-max-results", "memory-max-bytes")
	d.api = apiFlags(cmd, &d.addr, &d.queue)
	grpcFlag(cmd, &d.api.grpcAddr, grpcNext, "on 127.0.0.1 the port after that of --addr, or a free one if that is taken")
	d.api.hooks.forDevelopment(cmd)
	d.worker = workerFlags(cmd, &d.library)
	d.redis = redisFlags(cmd)
	d.redis.URL = ""
	fs.Lookup("redis-url").DefValue = ""
	fs.Lookup("redis-url").Usage = "Redis to keep the results in; default: memory (env SHEAF_REDIS_URL or REDIS_URL)"
	laneFlags(cmd, &d.queue)
	publishFlags(cmd, &d.queue)
	d.limits, d.log = limitFlags(cmd), logFlags(cmd)
	return cmd
}

func (d *dev) run(ctx context.Context) error {
	logger, err := newLogger(d.env.stderr, d.log)
	if err != nil {
		return err
	}
	if err := d.checkSettings(); err != nil {
		return err
	}
	relaxGC(d.env)
	data, cleanup, err := d.openData()
	if err != nil {
		return err
	}
	defer cleanup()

	loaded, err := d.loadModels(ctx, data, logger)
	if err != nil {
		return err
	}
	defer loaded.close()

	server, err := d.startNATS(ctx, data, logger)
	if err != nil {
		return err
	}
	defer server.Shutdown()

	registry := telemetry.NewRegistry()
	d.queue.URL = server.ClientURL()
	q, err := connectQueue(ctx, d.queue, queue.WithInProcess(server), queue.WithLogger(logger), queue.WithRegisterer(registry))
	if err != nil {
		return err
	}
	defer q.Close() //nolint:errcheck // the process ends

	results, where, err := d.openResults(ctx, logger, registry)
	if err != nil {
		return err
	}
	defer results.Close() //nolint:errcheck // the process ends

	on := plant{q, results, *d.limits, registry, logger, d.env.reach}
	pool, err := newPool(ctx, *d.worker, loaded, on)
	if err != nil {
		return err
	}
	a, err := newAPI(ctx, d.addr, *d.api, on)
	if err != nil {
		return err
	}
	// The worker outlives the API, so that requests in flight at Ctrl-C still get their answers.
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorking()
	return runTogether(ctx,
		func(ctx context.Context) error {
			defer stopWorking()
			return a.run(ctx, d.worker.DrainTimeout, logger)
		},
		func(ctx context.Context) error {
			if err := pool.Run(working); err != nil {
				return err
			}
			if ctx.Err() == nil && working.Err() == nil {
				return errors.New("the worker ended by itself")
			}
			return nil
		},
		func(ctx context.Context) error {
			if !waitUntil(ctx, func() bool { return a.announced(loaded) && pool.Ready() == nil }) {
				return nil
			}
			return d.printBanner(a, server, where, data, loaded)
		},
	)
}

// checkSettings names the addresses that are malformed, and what is wrong about who may call, before anything is started.
func (d *dev) checkSettings() error {
	err := d.api.check(d.addr, &d.queue)
	if d.natsAddr != "" {
		err = errors.Join(err, checkAddress("nats-addr", d.natsAddr), checkExposedNATS(d.natsAddr, d.api.insecure))
	}
	return err
}

// openData returns the folder for the queue and the demo model, and what to do with it at the end.
func (d *dev) openData() (dir string, cleanup func(), err error) {
	if d.dataDir != "" {
		if err := os.MkdirAll(d.dataDir, 0o750); err != nil {
			return "", nil, withCode(exitUsage, fmt.Errorf("--data: %w", err))
		}
		// Two servers on one store would each overwrite what the other has written.
		unlock, err := lockFile(filepath.Join(d.dataDir, "lock"))
		if errors.Is(err, errLocked) {
			err = fmt.Errorf("--data %s is in use by another sheaf dev", d.dataDir)
		}
		if err != nil {
			return "", nil, withCode(exitUsage, err)
		}
		return d.dataDir, unlock, nil
	}
	dir, err = os.MkdirTemp("", "sheaf-dev-")
	if err != nil {
		return "", nil, fmt.Errorf("make a temporary folder (--data names one to keep): %w", err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}

// loadModels loads the models of --models and, unless one of them has its name, the demo model.
func (d *dev) loadModels(ctx context.Context, data string, logger *slog.Logger) (*loadedModels, error) {
	demo := filepath.Join(data, "demo-models")
	files, err := examples.Models()
	if err == nil {
		err = extract(files, demo)
	}
	if err != nil {
		return nil, fmt.Errorf("unpack the demo model: %w", err)
	}
	dirs := []string{demo}
	if d.modelsDir != "" {
		if _, err := os.ReadDir(d.modelsDir); err != nil {
			return nil, withCode(exitUsage, fmt.Errorf("--models: %w", err))
		}
		dirs = []string{d.modelsDir}
		own, err := hasModel(d.modelsDir, examples.Digits)
		if err != nil {
			return nil, withCode(exitUsage, fmt.Errorf("--models: %w", err))
		}
		if !own {
			dirs = append(dirs, demo)
		}
	}
	return loadModels(ctx, d.library, dirs, logger)
}

// hasModel reports whether the directory has a model of this name, be it fit to be served or not: the demo model must
// not answer in place of one that is broken.
func hasModel(dir, name string) (bool, error) {
	for _, path := range []string{filepath.Join(dir, name), filepath.Join(dir, name+".onnx")} {
		if _, err := os.Lstat(path); err == nil {
			return true, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}

// extract copies a file system into a folder, writing only what differs.
func extract(from fs.FS, dir string) error {
	return fs.WalkDir(from, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(dir, filepath.FromSlash(path))
		if entry.IsDir() {
			return os.MkdirAll(target, 0o750)
		}
		content, err := fs.ReadFile(from, path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o600)
	})
}

// startNATS starts the embedded server at the address asked for, or at the usual port, or at a free one.
func (d *dev) startNATS(ctx context.Context, data string, logger *slog.Logger) (*embedded.Server, error) {
	cfg := embedded.DefaultConfig()
	cfg.StoreDir = filepath.Join(data, "nats")
	cfg.Log = logger
	addr := d.natsAddr
	if addr == "" {
		addr = "127.0.0.1:4222"
		if l, err := listen(ctx, "nats-addr", addr); err == nil {
			_ = l.Close()
		} else {
			addr = "127.0.0.1:0"
		}
	}
	if d.natsAddr != "" {
		// The server itself only logs that its port is taken.
		l, err := listen(ctx, "nats-addr", addr)
		if err != nil {
			return nil, err
		}
		_ = l.Close()
	}
	host, port, err := net.SplitHostPort(addr)
	if err == nil {
		cfg.Host = host
		cfg.Port, err = strconv.Atoi(port)
	}
	if err != nil {
		return nil, withCode(exitUsage, fmt.Errorf("--nats-addr %q: expected HOST:PORT", addr))
	}
	if cfg.Port == 0 {
		cfg.Port = -1 // the server's way to say any free port
	}
	server, err := embedded.Start(cfg)
	if err != nil {
		return nil, fmt.Errorf("start the embedded NATS server: %w", err)
	}
	return server, nil
}

// openResults opens Redis if one is named, else memory. where says which, for people.
func (d *dev) openResults(ctx context.Context, logger *slog.Logger, registry prometheus.Registerer) (store resultstore.Store, where string, err error) {
	if d.redis.URL == "" && len(d.redis.Addrs) == 0 {
		d.memory.DefaultTTL = d.redis.DefaultTTL
		m, err := resultstore.NewMemory(d.memory, resultstore.WithRegisterer(registry))
		return m, "in memory", withCode(exitUsage, err)
	}
	r, err := openRedis(ctx, *d.redis, resultstore.WithLogger(logger), resultstore.WithRegisterer(registry))
	return r, "in Redis", err
}

// announced reports whether the API has heard of every model that the worker loaded.
func (a *api) announced(loaded *loadedModels) bool {
	for _, m := range loaded.models {
		info := m.Info()
		if _, ok := a.models.Get(info.Name, info.Version); !ok {
			return false
		}
	}
	return true
}

// waitUntil polls cond until it holds (true) or ctx ends (false).
func waitUntil(ctx context.Context, cond func() bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// printBanner says where everything is and gives a command to copy.
func (d *dev) printBanner(a *api, server *embedded.Server, where, data string, loaded *loadedModels) error {
	var b strings.Builder
	url := a.url()
	b.WriteString("\nSheaf is ready.\n\n")
	fmt.Fprintf(&b, "  HTTP API   %s\n", url)
	if a.grpc != nil {
		fmt.Fprintf(&b, "  gRPC       %s\n", a.grpc.address())
	}
	fmt.Fprintf(&b, "  metrics    %s/metrics\n", url)
	if d.api.auth.has("keys") {
		fmt.Fprintf(&b, "  API keys   sheaf key create --nats-url %s\n", server.ClientURL())
	}
	fmt.Fprintf(&b, "  NATS       %s\n", server.ClientURL())
	fmt.Fprintf(&b, "  results    %s\n", where)
	if d.dataDir != "" {
		fmt.Fprintf(&b, "  data       %s\n", data)
	} else {
		b.WriteString("  data       temporary, gone at the end; --data DIR keeps the queue\n")
	}
	for i, m := range loaded.models {
		label := "models"
		if i > 0 {
			label = ""
		}
		info := m.Info()
		fmt.Fprintf(&b, "  %-10s %s: %s\n", label, info.Key(), signatureLine(&info.Signature))
	}
	if hasDigits(loaded) {
		body, err := examples.Digit()
		if err != nil {
			return fmt.Errorf("read the example: %w", err)
		}
		fmt.Fprintf(&b, "\nTry it. This is a handwritten %d; the prediction is the probability of each digit, from 0 to 9:\n\n", examples.DigitLabel)
		b.WriteString(tryCommand(url, strings.TrimSpace(string(body)), d.api) + "\n\n")
	}
	b.WriteString("Ctrl-C stops it.\n")
	_, err := io.WriteString(d.env.stdout, b.String())
	return err
}

func hasDigits(loaded *loadedModels) bool {
	for _, m := range loaded.models {
		if info := m.Info(); info.Name == examples.Digits {
			return true
		}
	}
	return false
}
