// Package embedded runs a NATS server with JetStream inside the process, for `sheaf dev` and for tests. It is the
// same server as the one that stands alone; what it stores is there again when it is started on the same directory.
package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Config says where the server stores and listens. Start from [DefaultConfig].
type Config struct {
	// StoreDir is the directory of the streams. It is made if it does not exist.
	StoreDir string
	// Host is the address to listen at. The server asks nobody for a password: keep it on the loopback interface.
	Host string
	// Port is the TCP port to listen at: -1 is any free one, 0 is none, and then only InProcessConn leads to the server.
	Port int
	// MaxPayload bounds a message, in bytes.
	MaxPayload int
	// SyncInterval is how often what is written is forced to the disk: a loss of power loses as much. 0 is after
	// each message.
	SyncInterval time.Duration
	// StartTimeout bounds Start, which reads what is stored.
	StartTimeout time.Duration
	// Log takes what the server has to say; nil is nobody.
	Log *slog.Logger
}

// DefaultConfig returns settings for a server on any free loopback port; StoreDir is still to be set.
func DefaultConfig() Config {
	return Config{
		Host:         "127.0.0.1",
		Port:         -1,
		MaxPayload:   8 << 20,
		SyncInterval: time.Second,
		StartTimeout: 30 * time.Second,
	}
}

// Validate reports every fault of the settings at once.
func (c *Config) Validate() error {
	var faults []error
	if c.StoreDir == "" {
		faults = append(faults, errors.New("the store directory is empty"))
	}
	if c.Host == "" {
		faults = append(faults, errors.New("the host is empty: 127.0.0.1 is expected, or another address of this machine"))
	}
	if c.Port < -1 || c.Port > 65535 {
		faults = append(faults, fmt.Errorf("port %d: -1 (any free one), 0 (none) or 1 to 65535 is expected", c.Port))
	}
	if c.MaxPayload < 1024 || c.MaxPayload > 64<<20 {
		faults = append(faults, fmt.Errorf("maximum payload %d: 1 KiB to 64 MiB are expected", c.MaxPayload))
	}
	if c.SyncInterval < 0 {
		faults = append(faults, fmt.Errorf("sync interval %v: 0 or more is expected", c.SyncInterval))
	}
	if c.StartTimeout <= 0 {
		faults = append(faults, fmt.Errorf("start timeout %v: more than 0 is expected", c.StartTimeout))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("embedded NATS: %w", err)
	}
	return nil
}

// Server is a running server.
type Server struct {
	nats *server.Server
	stop sync.Once
}

// Start starts a server and returns when it takes connections.
func Start(cfg Config) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	opts := &server.Options{
		ServerName:   "sheaf-embedded",
		Host:         cfg.Host,
		Port:         cfg.Port,
		DontListen:   cfg.Port == 0,
		JetStream:    true,
		StoreDir:     cfg.StoreDir,
		MaxPayload:   int32(cfg.MaxPayload), //nolint:gosec // validated
		SyncInterval: cfg.SyncInterval,
		SyncAlways:   cfg.SyncInterval == 0,
		NoSigs:       true,
		NoLog:        cfg.Log == nil,
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	var faults faultKeeper
	srv.SetLoggerV2(&logger{log: cfg.Log, faults: &faults}, false, false, false)
	srv.Start()
	s := &Server{nats: srv}
	if !ready(srv, &faults, cfg.StartTimeout) || !srv.JetStreamEnabled() {
		s.Shutdown()
		if cause := faults.last(); cause != "" {
			return nil, fmt.Errorf("embedded NATS does not start on %s: %s", cfg.StoreDir, cause)
		}
		return nil, fmt.Errorf("embedded NATS did not start on %s within %v", cfg.StoreDir, cfg.StartTimeout)
	}
	return s, nil
}

// ready waits until the server takes connections. It looks every now and then whether the server has given up, which it
// only logs.
func ready(srv *server.Server, faults *faultKeeper, timeout time.Duration) bool {
	const look = 100 * time.Millisecond
	for end := time.Now().Add(timeout); ; {
		left := time.Until(end)
		switch {
		case srv.ReadyForConnections(min(max(left, time.Millisecond), look)):
			return true
		case left <= 0 || faults.isFatal():
			return false
		}
	}
}

// ClientURL is the URL to connect to; with port 0 nothing listens there.
func (s *Server) ClientURL() string { return s.nats.ClientURL() }

// InProcessConn is a connection without a socket; queue.WithInProcess takes the Server for it.
func (s *Server) InProcessConn() (net.Conn, error) {
	conn, err := s.nats.InProcessConn()
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	return conn, nil
}

// Shutdown writes what is not yet on the disk and stops the server. It may be called more than once.
func (s *Server) Shutdown() {
	s.stop.Do(func() {
		s.nats.Shutdown()
		s.nats.WaitForShutdown()
	})
}
