package embedded_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/queue/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, cfg embedded.Config) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

func connect(t *testing.T, url string, options ...queue.Option) *queue.Queue {
	t.Helper()
	cfg := queue.DefaultConfig()
	cfg.URL = url
	q, err := queue.Connect(t.Context(), cfg, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	return q
}

func TestWhatIsStoredSurvivesARestart(t *testing.T) {
	cfg := embedded.DefaultConfig()
	cfg.StoreDir = t.TempDir()
	first := start(t, cfg)
	q := connect(t, first.ClientURL())
	id, err := job.NewID()
	if err != nil {
		t.Fatal(err)
	}
	ticket, _, err := q.Publish(t.Context(), &job.Job{ID: id, Model: "digits", Tenant: job.DefaultTenant, CreatedAt: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	first.Shutdown()
	first.Shutdown() // twice is once

	again := connect(t, start(t, cfg).ClientURL())
	if l, err := again.Locate(t.Context(), ticket); err != nil || l.State != job.Queued {
		t.Errorf("after the restart: %v, %v", l, err)
	}
}

func TestWithoutAPortOnlyTheProcessConnects(t *testing.T) {
	cfg := embedded.DefaultConfig()
	cfg.StoreDir, cfg.Port, cfg.SyncInterval = t.TempDir(), 0, 0
	s := start(t, cfg)
	q := connect(t, "nats://127.0.0.1:1", queue.WithInProcess(s))
	if err := q.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestTheServerIsQuietUnlessSomethingIsWrong(t *testing.T) {
	var log lockedBuffer
	cfg := embedded.DefaultConfig()
	cfg.StoreDir = t.TempDir()
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	first := start(t, cfg)
	if log.String() != "" {
		t.Errorf("a good start is not silent: %s", log.String())
	}
	// The port is taken.
	_, port, _ := strings.Cut(strings.TrimPrefix(first.ClientURL(), "nats://"), ":")
	for _, c := range port {
		cfg.Port = max(cfg.Port, 0)*10 + int(c-'0')
	}
	cfg.StoreDir = t.TempDir()
	cfg.StartTimeout = time.Hour // not waited for: the server has said that it gives up
	if _, err := embedded.Start(cfg); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("on a port that is taken: %v", err)
	}
	if !strings.Contains(log.String(), "address already in use") {
		t.Errorf("the fault is not logged: %s", log.String())
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	cfg := embedded.Config{Port: -2, SyncInterval: -1}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("it is valid")
	}
	for _, want := range []string{"store directory", "host", "port -2", "maximum payload 0", "sync interval", "start timeout"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not named: %s in %v", want, err)
		}
	}
	if _, err := embedded.Start(cfg); err == nil {
		t.Error("Start takes it")
	}
}
