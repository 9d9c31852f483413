package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
)

// tlsSettings are the files of the API's certificate.
type tlsSettings struct {
	cert, key, clientCA string
	every               time.Duration // how often the files are looked at again
}

// certificatesEvery is how soon a certificate that was renewed is used.
const certificatesEvery = 5 * time.Second

// tlsFlags adds the settings of TLS.
func tlsFlags(cmd *cobra.Command) *tlsSettings {
	s := &tlsSettings{every: certificatesEvery}
	fs := cmd.Flags()
	fs.StringVar(&s.cert, "tls-cert", "", "PEM `FILE` of the API's certificate, and those between it and its authority: the API speaks TLS then. It is read again when it changes")
	fs.StringVar(&s.key, "tls-key", "", "PEM `FILE` of its key")
	fs.StringVar(&s.clientCA, "tls-client-ca", "", "PEM `FILE` of authorities: only clients with a certificate of one of them are let in")
	asSettings(fs, "tls-cert", "tls-key", "tls-client-ca")
	return s
}

// enabled reports whether the API speaks TLS.
func (s *tlsSettings) enabled() bool { return s.cert != "" || s.key != "" || s.clientCA != "" }

// mutual reports whether clients have to show a certificate.
func (s *tlsSettings) mutual() bool { return s.clientCA != "" }

// open reads the files, and follows them until ctx ends. It returns nil without any.
func (s *tlsSettings) open(ctx context.Context, logger *slog.Logger) (*tls.Config, error) {
	if !s.enabled() {
		return nil, nil //nolint:nilnil // it says that there is no TLS
	}
	if s.cert == "" || s.key == "" {
		return nil, withCode(exitUsage, errors.New("--tls-cert and --tls-key: expected both, and with --tls-client-ca too"))
	}
	c := &certificates{tlsSettings: *s, log: logger}
	files, err := c.read()
	if err == nil {
		err = c.use(files)
	}
	if err != nil {
		return nil, withCode(exitUsage, err)
	}
	go c.follow(ctx)
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols(),
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return c.current.Load(), nil
		},
	}, nil
}

func protocols() []string { return []string{"h2", "http/1.1"} }

// certificates are the files as they were last read. Each connection gets what they said when it was made.
type certificates struct {
	tlsSettings
	log     *slog.Logger
	current atomic.Pointer[tls.Config]
	seen    [3][]byte // what use was given last, be it good or not
}

// read returns the certificate, the key, and the clients' authorities.
func (c *certificates) read() (files [3][]byte, err error) {
	for i, f := range []struct{ flag, path string }{{"tls-cert", c.cert}, {"tls-key", c.key}, {"tls-client-ca", c.clientCA}} {
		if f.path == "" {
			continue
		}
		if files[i], err = os.ReadFile(f.path); err != nil {
			return files, fmt.Errorf("--%s: %w", f.flag, err)
		}
	}
	return files, nil
}

// use makes the files those of the next connections, or says what is wrong with them.
func (c *certificates) use(files [3][]byte) error {
	c.seen = files
	pair, err := tls.X509KeyPair(files[0], files[1])
	if err != nil {
		return fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols(), Certificates: []tls.Certificate{pair}}
	if c.mutual() {
		cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		if !cfg.ClientCAs.AppendCertsFromPEM(files[2]) {
			return errors.New("--tls-client-ca: there is no certificate in it")
		}
	}
	// A ticket of a session would let a client in whose authority is not trusted any more.
	cfg.SessionTicketsDisabled = c.mutual()
	c.current.Store(cfg)
	return nil
}

// follow uses the files when they have changed. What is broken, as a pair is while it is being written, is told of once, and
// the last good one stays.
func (c *certificates) follow(ctx context.Context) {
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	unread := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		files, err := c.read()
		switch {
		case err != nil:
			if !unread {
				c.log.Error("the files of the certificate cannot be read; the last one stays", "error", err)
			}
			unread = true
			continue
		case c.same(files):
		default:
			if err := c.use(files); err != nil {
				c.log.Error("the certificate has changed and cannot be used; the last one stays", "error", err)
			} else {
				c.log.Info("the certificate has changed")
			}
		}
		unread = false
	}
}

func (c *certificates) same(files [3][]byte) bool {
	for i := range files {
		if !bytes.Equal(files[i], c.seen[i]) {
			return false
		}
	}
	return true
}
