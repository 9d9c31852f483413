package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Databases of the one Redis server. Each holds nothing else, so that its size is the number of finished jobs.
const (
	dbSheaf        = 0
	dbAsynqQueue   = 1
	dbAsynqResults = 2
)

// startPatience is how long a child may take to get ready.
const startPatience = 30 * time.Second

// lab is everything that runs beside this program, and the directory with its data.
type lab struct {
	cfg *labSettings
	dir string
	end context.CancelCauseFunc // ends the run

	redisAddr, natsAddr, monitorAddr, opsAddr, apiAddr string
	redis, nats, worker, serve                         *process
	stopping                                           atomic.Bool

	admin *redis.Client
}

// openLab makes a lab in which nothing runs yet. close removes it.
func openLab(cfg *labSettings, end context.CancelCauseFunc) (*lab, error) {
	dir, err := os.MkdirTemp("", "sheaf-bench-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the data: %w", err)
	}
	l := &lab{cfg: cfg, dir: dir, end: end}
	for _, model := range cfg.models {
		if err := os.CopyFS(filepath.Join(l.modelsDir(), filepath.Base(model)), os.DirFS(model)); err != nil {
			l.close()
			return nil, fmt.Errorf("copy the model: %w", err)
		}
		if err := limitRows(filepath.Join(l.modelsDir(), filepath.Base(model), "model.yaml"), cfg.maxRows); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

// modelsDir is the model repository of the run, with nothing in it but the settings' models.
func (l *lab) modelsDir() string { return filepath.Join(l.dir, "models") }

// close ends every process, Sheaf's first, and removes the data.
func (l *lab) close() {
	l.stopping.Store(true)
	if l.admin != nil {
		_ = l.admin.Close()
	}
	for _, p := range []*process{l.serve, l.worker, l.nats, l.redis} {
		if p != nil {
			p.stop()
		}
	}
	if !l.cfg.keep {
		_ = os.RemoveAll(l.dir) //nolint:gosec // the directory that openLab made
	}
}

// watch ends the run when a process that everything needs has ended.
func (l *lab) watch(p *process) {
	go func() {
		<-p.done
		if !l.stopping.Load() && !p.expected.Load() {
			l.end(p.failure(fmt.Sprintf("ended in the middle of the run (%v)", p.err)))
		}
	}()
}

// subdir makes a directory in the lab.
func (l *lab) subdir(name string) (string, error) {
	dir := filepath.Join(l.dir, name)
	return dir, os.MkdirAll(dir, 0o700)
}

func (l *lab) startRedis(ctx context.Context) error {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return fmt.Errorf("redis-server is needed and not on the PATH: run `make deps` (%w)", err)
	}
	dir, err := l.subdir("redis")
	if err != nil {
		return err
	}
	if l.redisAddr, err = freeAddr(ctx); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(l.redisAddr)
	if err != nil {
		return err
	}
	appendOnly := "no"
	if l.cfg.appendOnly {
		appendOnly = "yes"
	}
	l.redis, err = startProcess("redis-server", dir, program,
		"--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", "",
		"--appendonly", appendOnly, "--appendfsync", l.cfg.fsync)
	if err != nil {
		return err
	}
	l.watch(l.redis)
	l.admin = redis.NewClient(&redis.Options{Addr: l.redisAddr})
	return l.redis.await(ctx, startPatience, func(ctx context.Context) error { return l.admin.Ping(ctx).Err() })
}

// natsSyncInterval is how often JetStream syncs its files, as in docker-compose.yml. The server's own default is 2 min.
const natsSyncInterval = "1s"

// natsSettings are those of docker-compose.yml, with the monitoring page.
const natsSettings = `host: 127.0.0.1
port: %s
http: %s
server_name: bench
max_payload: 8MB
jetstream {
  store_dir: %s
  sync_interval: %s
}
`

func (l *lab) startNATS(ctx context.Context) error {
	program, err := filepath.Abs(l.cfg.natsBinary())
	if err != nil {
		return err
	}
	dir, err := l.subdir("nats")
	if err != nil {
		return err
	}
	if l.natsAddr, err = freeAddr(ctx); err != nil {
		return err
	}
	if l.monitorAddr, err = freeAddr(ctx); err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(l.natsAddr)
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "nats.conf")
	settings := fmt.Sprintf(natsSettings, port, strconv.Quote(l.monitorAddr), strconv.Quote(filepath.Join(dir, "data")), natsSyncInterval)
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		return err
	}
	if l.nats, err = startProcess("nats-server", dir, program, "-c", file); err != nil {
		return err
	}
	l.watch(l.nats)
	return l.nats.await(ctx, startPatience, func(ctx context.Context) error {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", l.natsAddr)
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// startWorker starts the one worker process, which serves nothing but the settings' models.
func (l *lab) startWorker(ctx context.Context) (err error) {
	l.worker, l.opsAddr, err = l.startSheaf(ctx, "worker", "--ops-addr", append([]string{"--models", l.modelsDir()}, l.cfg.workerArgs...))
	return err
}

// startServe starts the HTTP API.
func (l *lab) startServe(ctx context.Context) (err error) {
	l.serve, l.apiAddr, err = l.startSheaf(ctx, "serve", "--addr", l.cfg.serveArgs)
	return err
}

// startSheaf starts a verb of bin/sheaf that listens where the named flag says, and waits until it is ready.
func (l *lab) startSheaf(ctx context.Context, verb, listen string, args []string) (*process, string, error) {
	program, err := filepath.Abs(l.cfg.sheafBinary())
	if err != nil {
		return nil, "", err
	}
	dir, err := l.subdir(verb)
	if err != nil {
		return nil, "", err
	}
	addr, err := freeAddr(ctx)
	if err != nil {
		return nil, "", err
	}
	args = append([]string{verb, listen, addr, "--nats-url", l.natsURL(), "--redis-url", l.redisURL(dbSheaf)}, args...)
	p, err := startProcess(verb, dir, program, args...)
	if err != nil {
		return nil, "", err
	}
	l.watch(p)
	err = p.await(ctx, startPatience, func(ctx context.Context) error {
		body, err := get(ctx, "http://"+addr+"/readyz")
		if err != nil {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(body))
		}
		return nil
	})
	if err != nil {
		p.expected.Store(true)
		p.stop()
	}
	return p, addr, err
}

func (l *lab) natsURL() string { return "nats://" + l.natsAddr }

func (l *lab) redisURL(db int) string { return "redis://" + l.redisAddr + "/" + strconv.Itoa(db) }

// ops gets a page of the worker's ops address.
func (l *lab) ops(ctx context.Context, path string) (body string, err error) {
	return get(ctx, "http://"+l.opsAddr+path)
}

// empty throws away everything that Redis holds, and its append-only file, so that each round begins alike.
func (l *lab) empty(ctx context.Context) error {
	if err := l.admin.FlushAll(ctx).Err(); err != nil {
		return fmt.Errorf("empty Redis: %w", err)
	}
	if !l.cfg.appendOnly {
		return nil
	}
	err := l.admin.BgRewriteAOF(ctx).Err()
	if err != nil && !strings.Contains(err.Error(), "already in progress") {
		return fmt.Errorf("rewrite Redis's append-only file: %w", err)
	}
	return poll(ctx, 20*time.Millisecond, startPatience, func() (bool, error) {
		info, err := l.admin.Info(ctx, "persistence").Result()
		return err == nil && infoField(info, "aof_rewrite_in_progress") == "0" && infoField(info, "aof_rewrite_scheduled") == "0", err
	})
}

// infoField returns one value of Redis's INFO.
func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// database opens a connection to one database of the lab's Redis.
func (l *lab) database(db int) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: l.redisAddr, DB: db})
}

// get returns the body of a page; an answer other than 200 is an error, and the body is returned all the same.
func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil) //nolint:gosec // a process of this run
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req) //nolint:gosec // as above
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	var b strings.Builder
	if _, err := copyLimited(&b, resp.Body); err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return b.String(), fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return b.String(), nil
}

var errPatience = errors.New("it took too long")

// poll calls check until it says that it is done or fails.
func poll(ctx context.Context, every, patience time.Duration, check func() (bool, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	deadline := time.Now().Add(patience)
	for {
		done, err := check()
		if done || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: %v", errPatience, patience)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticker.C:
		}
	}
}
