package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/queue/embedded"
)

// works checks that a connection made with these settings can be used.
func works(t *testing.T, cfg queue.Config, options ...queue.Option) {
	t.Helper()
	q := connect(t, cfg, options...)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatalf("ensure streams: %v", err)
	}
	publish(t, q, newJob(t, nil))
	fetch(t, source(t, q, job.Interactive, "digits"), 1)
}

// refuses checks that Connect fails before its timeout, for a reason, and does not tell the password.
func refuses(t *testing.T, cfg queue.Config, reason string) {
	t.Helper()
	cfg.ConnectTimeout = patience
	q, err := queue.Connect(t.Context(), cfg)
	if err == nil {
		_ = q.Close()
		t.Fatal("the connection is accepted")
	}
	if !strings.Contains(err.Error(), reason) || strings.Contains(err.Error(), "hidden") {
		t.Errorf("expected %q in the error, and no password, got: %v", reason, err)
	}
}

func TestConnectSaysWhatToDoWhenNobodyAnswers(t *testing.T) {
	server := testserver.StartNATS(t, "")
	server.Kill()
	cfg := testConfig(strings.Replace(server.URL(), "nats://", "nats://user:hidden@", 1))
	cfg.ConnectTimeout = 100 * time.Millisecond
	_, err := queue.Connect(t.Context(), cfg)
	if !errors.Is(err, queue.ErrUnavailable) || strings.Contains(err.Error(), "hidden") {
		t.Fatalf("expected ErrUnavailable without a password, got %v", err)
	}
	for _, want := range []string{"does not answer", "nats-server -js", "--nats-url", strings.TrimPrefix(server.URL(), "nats://")} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("expected %q in the error: %v", want, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cfg.ConnectTimeout = time.Hour
	if _, err := queue.Connect(ctx, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

func TestConnectWaitsForAServerThatIsStarting(t *testing.T) {
	server := testserver.StartNATS(t, "")
	server.Kill()
	cfg := testConfig(server.URL())
	cfg.ConnectTimeout = patience
	connected := make(chan error, 1)
	go func() {
		q, err := queue.Connect(t.Context(), cfg)
		if err == nil {
			err = errors.Join(q.EnsureStreams(t.Context()), q.Close())
		}
		connected <- err
	}()
	server.Start()
	if err := <-connected; err != nil {
		t.Error(err)
	}
}

func TestAServerWithoutJetStreamIsNamed(t *testing.T) {
	// An account of its own, without JetStream.
	server := testserver.StartNATS(t, `accounts { plain { users [ { user: u, password: p } ] } }`)
	cfg := testConfig(server.URL())
	cfg.User, cfg.Password = "u", "p"
	cfg.ConnectTimeout = 300 * time.Millisecond
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err == nil || !strings.Contains(err.Error(), "-js") && !strings.Contains(err.Error(), "not enabled") {
		t.Errorf("expected an error about JetStream, got %v", err)
	}
	if err := q.Ready(t.Context()); err == nil {
		t.Error("it is ready")
	}
}

func TestADeadServerInTheListIsPassedOver(t *testing.T) {
	dead := testserver.StartNATS(t, "")
	dead.Kill()
	works(t, testConfig(dead.URL()+", "+testserver.NATS(t)))
}

func TestConnectInProcess(t *testing.T) {
	cfg := embedded.DefaultConfig()
	cfg.StoreDir, cfg.Port = t.TempDir(), 0
	server, err := embedded.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	works(t, queue.DefaultConfig(), queue.WithInProcess(server))
}

func TestUserAndPassword(t *testing.T) {
	server := testserver.StartNATS(t, `authorization { user: ann, password: hidden }`)
	cfg := testConfig(server.URL())
	refuses(t, cfg, "refuses the credentials")
	cfg.User, cfg.Password = "ann", "hidden-but-wrong"
	refuses(t, cfg, "refuses the credentials")
	cfg.Password = "hidden"
	works(t, cfg)
	works(t, testConfig(strings.Replace(server.URL(), "nats://", "nats://ann:hidden@", 1)))
	refuses(t, testConfig(strings.Replace(server.URL(), "nats://", "nats://ann:hidden2@", 1)), "refuses the credentials")
}

func TestToken(t *testing.T) {
	server := testserver.StartNATS(t, `authorization { token: hidden }`)
	cfg := testConfig(server.URL())
	cfg.Token = "hidden-but-wrong"
	refuses(t, cfg, "refuses the credentials")
	cfg.Token = "hidden"
	works(t, cfg)
}

func TestNKeyFile(t *testing.T) {
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, seed := keyPair(t, user)
	server := testserver.StartNATS(t, fmt.Sprintf(`authorization { users [ { nkey: %s } ] }`, public))
	cfg := testConfig(server.URL())
	refuses(t, cfg, "refuses the credentials")
	cfg.NKeyFile = write(t, "user.nk", seed)
	works(t, cfg)
	cfg.NKeyFile = write(t, "garbage.nk", []byte("garbage"))
	refuses(t, cfg, "nkey file "+cfg.NKeyFile)
}

func TestCredentialsFile(t *testing.T) {
	operator, system := pair(t, nkeys.CreateOperator), pair(t, nkeys.CreateAccount)
	account, user := pair(t, nkeys.CreateAccount), pair(t, nkeys.CreateUser)
	operatorPublic, _ := keyPair(t, operator)
	systemPublic, _ := keyPair(t, system)
	accountPublic, _ := keyPair(t, account)
	userPublic, userSeed := keyPair(t, user)

	operatorJWT, err := jwt.NewOperatorClaims(operatorPublic).Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	systemJWT, err := jwt.NewAccountClaims(systemPublic).Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	accountClaims := jwt.NewAccountClaims(accountPublic)
	accountClaims.Limits.DiskStorage, accountClaims.Limits.MemoryStorage = -1, -1
	accountClaims.Limits.Streams, accountClaims.Limits.Consumer = -1, -1
	accountJWT, err := accountClaims.Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	userJWT, err := jwt.NewUserClaims(userPublic).Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(userJWT, userSeed)
	if err != nil {
		t.Fatal(err)
	}
	server := testserver.StartNATS(t, fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: { %s: %s, %s: %s }\n",
		operatorJWT, systemPublic, systemPublic, systemJWT, accountPublic, accountJWT))
	cfg := testConfig(server.URL())
	refuses(t, cfg, "refuses the credentials")
	cfg.CredsFile = write(t, "user.creds", creds)
	works(t, cfg)
}

func pair(t *testing.T, create func() (nkeys.KeyPair, error)) nkeys.KeyPair {
	t.Helper()
	k, err := create()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func keyPair(t *testing.T, k nkeys.KeyPair) (public string, seed []byte) {
	t.Helper()
	public, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	if seed, err = k.Seed(); err != nil {
		t.Fatal(err)
	}
	return public, seed
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestTLS(t *testing.T) {
	ours, theirs := testserver.NewCertificates(t), testserver.NewCertificates(t)
	server := testserver.StartNATS(t, fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }", ours.CertFile, ours.KeyFile, ours.CAFile))
	for _, url := range []string{server.URL(), strings.Replace(server.URL(), "nats://", "tls://", 1)} {
		cfg := testConfig(url)
		refuses(t, cfg, "check the CA file")
		cfg.TLS.CAFile = theirs.CAFile
		refuses(t, cfg, "check the CA file")
		cfg.TLS.CAFile = ours.CAFile
		refuses(t, cfg, "client certificate")
		cfg.TLS.CertFile, cfg.TLS.KeyFile = ours.CertFile, ours.KeyFile
		works(t, cfg)
	}
	cfg := testConfig(server.URL())
	cfg.TLS.CAFile = write(t, "garbage.pem", []byte("garbage"))
	refuses(t, cfg, "garbage.pem")

	plain := testConfig(strings.Replace(testserver.NATS(t), "nats://", "tls://", 1))
	refuses(t, plain, "TLS")
}

// lines is what a logger has written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestALostConnectionIsToldAndCounted(t *testing.T) {
	server := testserver.StartNATS(t, `authorization { user: ann, password: hidden }`)
	var log lines
	registry := prometheus.NewRegistry()
	cfg := testConfig(strings.Replace(server.URL(), "nats://", "nats://ann:hidden@", 1))
	q := connect(t, cfg, queue.WithLogger(slog.New(slog.NewTextHandler(&log, nil))), queue.WithRegisterer(registry))
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	publish(t, q, newJob(t, nil))
	if err := fetch(t, source(t, q, job.Interactive, "digits"), 1)[0].Retry(0); err != nil {
		t.Fatal(err)
	}
	fetch(t, source(t, q, job.Interactive, "digits"), 1)
	server.Kill()
	eventually(t, "the loss is told", func() bool { return strings.Contains(log.String(), "is lost") })
	server.Start()
	eventually(t, "the return is told", func() bool { return strings.Contains(log.String(), "is restored") })
	if strings.Contains(log.String(), "hidden") {
		t.Errorf("the log shows a password: %s", log.String())
	}
	want := `
		# HELP sheaf_queue_connected 1 while the connection to NATS stands.
		# TYPE sheaf_queue_connected gauge
		sheaf_queue_connected 1
		# HELP sheaf_queue_fetched_messages_total Messages delivered to this process.
		# TYPE sheaf_queue_fetched_messages_total counter
		sheaf_queue_fetched_messages_total{lane="bulk"} 0
		sheaf_queue_fetched_messages_total{lane="interactive"} 2
		# HELP sheaf_queue_published_jobs_total Jobs published, by outcome: accepted, duplicate, tenant_full, full, unavailable, too_large, canceled, error.
		# TYPE sheaf_queue_published_jobs_total counter
		sheaf_queue_published_jobs_total{lane="interactive",outcome="accepted"} 1
		# HELP sheaf_queue_reconnects_total Times the connection to NATS was restored.
		# TYPE sheaf_queue_reconnects_total counter
		sheaf_queue_reconnects_total 1
		# HELP sheaf_queue_redelivered_messages_total Messages delivered to this process that had been delivered before.
		# TYPE sheaf_queue_redelivered_messages_total counter
		sheaf_queue_redelivered_messages_total{lane="bulk"} 0
		sheaf_queue_redelivered_messages_total{lane="interactive"} 1
	`
	err := testutil.GatherAndCompare(registry, strings.NewReader(want), "sheaf_queue_connected", "sheaf_queue_fetched_messages_total",
		"sheaf_queue_published_jobs_total", "sheaf_queue_reconnects_total", "sheaf_queue_redelivered_messages_total")
	if err != nil {
		t.Error(err)
	}
	if _, err := queue.Connect(t.Context(), cfg, queue.WithRegisterer(registry)); err == nil {
		t.Error("a second Queue registers the same metrics")
	}
}
