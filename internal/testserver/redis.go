package testserver

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// Redis starts a real redis-server process and returns its address, host:port. It is stopped when the test ends.
func Redis(t testing.TB) (addr string) {
	t.Helper()
	return StartRedis(t, RedisOptions{}).Addr
}

// RedisOptions says what redis-server to start.
type RedisOptions struct {
	// Args are further settings, as on the command line: "--maxmemory", "2mb".
	Args []string
	// Password is what the server asks of the user "default".
	Password string
	// Certs makes the server take TLS connections only; with ClientCerts it asks for a client certificate too.
	Certs       *Certificates
	ClientCerts bool
}

// RedisServer is a redis-server process that a test can kill and start again on the same data and port.
type RedisServer struct {
	process
	Addr string // host:port

	opts    RedisOptions
	program string
	dir     string
	conf    string // path of a configuration file, "" for none
	ready   string // what its log says when it is ready
}

// StartRedis starts a redis-server that keeps nothing on disk unless the options say so.
func StartRedis(t testing.TB, opts RedisOptions) *RedisServer {
	t.Helper()
	s := newRedis(t, opts)
	s.Start()
	t.Cleanup(s.finish)
	return s
}

// finish ends the server, and shows the log of its last run if the test failed.
func (s *RedisServer) finish() {
	s.Kill()
	if s.t.Failed() {
		s.t.Logf("testserver: redis-server at %s said:\n%s", s.Addr, s.output.String())
	}
}

func newRedis(t testing.TB, opts RedisOptions) *RedisServer {
	t.Helper()
	return &RedisServer{
		Addr:    net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t))),
		process: process{t: t, name: "redis-server"},
		opts:    opts,
		program: findProgram(t, "redis-server"),
		dir:     t.TempDir(),
		ready:   "Ready to accept connections",
	}
}

// Host and Port are the parts of Addr.
func (s *RedisServer) Host() string { host, _, _ := net.SplitHostPort(s.Addr); return host }

// Port is the second part of Addr.
func (s *RedisServer) Port() string { _, port, _ := net.SplitHostPort(s.Addr); return port }

// Start starts the server, after StartRedis only if it was stopped, and waits until it has loaded its data.
func (s *RedisServer) Start(args ...string) {
	s.t.Helper()
	s.start(s.ready, args)
}

// StartLoading starts the server again, and waits only until it listens: it loads its data, slowly.
func (s *RedisServer) StartLoading() {
	s.t.Helper()
	s.start("Server initialized", []string{"--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024"})
}

func (s *RedisServer) args() []string {
	var args []string
	if s.conf != "" {
		args = append(args, s.conf)
	}
	args = append(args, "--bind", s.Host(), "--dir", s.dir, "--save", "", "--daemonize", "no")
	if c := s.opts.Certs; c != nil {
		args = append(args, "--port", "0", "--tls-port", s.Port(), "--tls-auth-clients", "no",
			"--tls-cert-file", c.CertFile, "--tls-key-file", c.KeyFile, "--tls-ca-cert-file", c.CAFile)
	} else {
		args = append(args, "--port", s.Port())
	}
	if s.opts.ClientCerts {
		args = append(args, "--tls-auth-clients", "yes")
	}
	if s.opts.Password != "" {
		args = append(args, "--requirepass", s.opts.Password)
	}
	if s.conf != "" {
		args = append(args, "--sentinel")
	}
	return append(args, s.opts.Args...)
}

func (s *RedisServer) start(phrase string, extra []string) {
	s.t.Helper()
	s.run(phrase, s.program, slices.Concat(s.args(), extra)...)
}

// confFile gives the server a configuration file, which it may rewrite, as a sentinel does.
func (s *RedisServer) confFile(text string) {
	s.t.Helper()
	s.conf = filepath.Join(s.dir, "redis.conf")
	if err := os.WriteFile(s.conf, []byte(text), 0o600); err != nil {
		s.t.Fatalf("testserver: %v", err)
	}
}
