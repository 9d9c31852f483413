// Package testserver starts the real servers that tests run against: NATS in the process or as a process, and Redis.
package testserver

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/sheafml/sheaf/queue/embedded"
)

// startTimeout is how long a server may take to start on a busy machine.
const startTimeout = 60 * time.Second

// NATS starts a JetStream server in this process, on a directory and a loopback port of its own, and returns its URL.
// It is stopped when the test ends.
func NATS(t testing.TB) (url string) {
	t.Helper()
	cfg := embedded.DefaultConfig()
	cfg.StoreDir = t.TempDir()
	cfg.StartTimeout = startTimeout
	s, err := embedded.Start(cfg)
	if err != nil {
		t.Fatalf("testserver: %v", err)
	}
	t.Cleanup(s.Shutdown)
	return s.ClientURL()
}

// NATSProcess starts a real nats-server process with JetStream and returns its URL. It is stopped when the test ends.
func NATSProcess(t testing.TB) (url string) {
	t.Helper()
	return StartNATS(t, "").URL()
}

// NATSServer is a nats-server process that a test can kill and start again on the same data and port.
type NATSServer struct {
	process
	program string
	conf    string
	data    string
	url     string
}

// StartNATS starts a nats-server process with JetStream. extra is added to its configuration file, for example an
// authorization or a tls block.
func StartNATS(t testing.TB, extra string) *NATSServer {
	t.Helper()
	dir := t.TempDir()
	port := freePort(t)
	s := &NATSServer{
		process: process{t: t, name: "nats-server"},
		program: findProgram(t, "nats-server"),
		conf:    filepath.Join(dir, "nats.conf"),
		data:    filepath.Join(dir, "data"),
		url:     "nats://127.0.0.1:" + strconv.Itoa(port),
	}
	conf := fmt.Sprintf("listen: \"127.0.0.1:%d\"\nmax_payload: 8MB\njetstream { store_dir: %q, sync_interval: \"1s\" }\n%s\n",
		port, s.data, extra)
	if err := os.WriteFile(s.conf, []byte(conf), 0o600); err != nil {
		t.Fatalf("testserver: %v", err)
	}
	s.Start()
	t.Cleanup(s.Kill)
	return s
}

// URL is the server's URL, without credentials.
func (s *NATSServer) URL() string { return s.url }

// Start starts the server, after StartNATS only if it was stopped, and waits until it answers.
func (s *NATSServer) Start() {
	s.t.Helper()
	s.run("Server is ready", s.program, "-c", s.conf)
}

// Wipe deletes all that the stopped server has stored.
func (s *NATSServer) Wipe() {
	s.t.Helper()
	if err := os.RemoveAll(s.data); err != nil {
		s.t.Fatalf("testserver: %v", err)
	}
}

// freePort returns a loopback port that nothing listens at.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // only to learn a number
	if err != nil {
		t.Fatalf("testserver: %v", err)
	}
	defer func() { _ = l.Close() }()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatalf("testserver: %v is not a TCP address", l.Addr())
	}
	return addr.Port
}

// findProgram finds a program in the repository's bin/ or in PATH.
func findProgram(t testing.TB, name string) string {
	t.Helper()
	if _, file, _, ok := runtime.Caller(0); ok {
		local := filepath.Join(filepath.Dir(file), "..", "..", "bin", name)
		if info, err := os.Stat(local); err == nil && !info.IsDir() {
			return local
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("testserver: %s is neither in bin/ nor in PATH: run `make deps`", name)
	}
	return path
}
