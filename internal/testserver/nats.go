// Package testserver starts the real servers that tests run against: NATS in the process or as a process, and Redis.
package testserver

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
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
	t       testing.TB
	program string
	conf    string
	data    string
	url     string

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
	output bytes.Buffer
}

// StartNATS starts a nats-server process with JetStream. extra is added to its configuration file, for example an
// authorization or a tls block.
func StartNATS(t testing.TB, extra string) *NATSServer {
	t.Helper()
	dir := t.TempDir()
	port := freePort(t)
	s := &NATSServer{
		t:       t,
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
	s.mu.Lock()
	defer s.mu.Unlock()
	s.output.Reset()
	cmd := exec.Command(s.program, "-c", s.conf) //nolint:gosec,noctx // the test stops it by its process ID
	pipe, err := cmd.StderrPipe()
	if err != nil {
		s.t.Fatalf("testserver: %v", err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("testserver: start nats-server: %v", err)
	}
	s.cmd, s.exited = cmd, make(chan struct{})
	ready := make(chan bool, 1)
	go func() {
		defer close(s.exited)
		lines := bufio.NewScanner(pipe)
		for lines.Scan() {
			s.output.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), "Server is ready") {
				select {
				case ready <- true:
				default:
				}
			}
		}
		_ = cmd.Wait() // it is killed, and then says so
		select {
		case ready <- false:
		default:
		}
	}()
	select {
	case ok := <-ready:
		if !ok {
			<-s.exited
			s.t.Fatalf("testserver: nats-server ended at once:\n%s", s.output.String())
		}
	case <-time.After(startTimeout):
		s.t.Fatalf("testserver: nats-server is not ready after %v", startTimeout)
	}
}

// Kill ends the process at once (SIGKILL), as a crash would.
func (s *NATSServer) Kill() { s.end(syscall.SIGKILL) }

// Stop lets the server shut down in order.
func (s *NATSServer) Stop() { s.end(syscall.SIGTERM) }

// Wipe deletes all that the stopped server has stored.
func (s *NATSServer) Wipe() {
	s.t.Helper()
	if err := os.RemoveAll(s.data); err != nil {
		s.t.Fatalf("testserver: %v", err)
	}
}

// Pause and Resume stop and continue the process (SIGSTOP, SIGCONT): its connections stand, and it answers nothing.
func (s *NATSServer) Pause() { s.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *NATSServer) Resume() { s.signal(syscall.SIGCONT) }

func (s *NATSServer) end(sig syscall.Signal) {
	s.t.Helper()
	if s.signal(sig) {
		<-s.exited
		s.mu.Lock()
		s.cmd = nil
		s.mu.Unlock()
	}
}

func (s *NATSServer) signal(sig syscall.Signal) bool {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return false
	}
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Errorf("testserver: signal nats-server: %v", err)
	}
	return true
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
