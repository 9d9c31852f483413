package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{}
	a.cert, a.key, a.pem = certify(t, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil)
	return a
}

// certify makes a certificate, by itself if there is no authority.
func certify(t testing.TB, template *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// issue writes a certificate for 127.0.0.1 and its key to files.
func (a *authority) issue(t testing.TB, dir string, serial int64) (cert, key string) {
	t.Helper()
	_, private, chain := certify(t, &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "sheaf"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a)
	der, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeFile(t, cert, chain)
	writeFile(t, key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	return cert, key
}

func writeFile(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// greeter is a server that only shakes hands.
func greeter(t *testing.T, s *tlsSettings, logger *slog.Logger) (addr string) {
	t.Helper()
	cfg, err := s.open(t.Context(), logger)
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l = tls.NewListener(l, cfg)
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				_, _ = c.Write([]byte("hello"))
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); conns.Wait() })
	return l.Addr().String()
}

// greet shakes hands, and returns the serial number of the server's certificate and the protocol that was agreed on.
func greet(t *testing.T, addr string, cfg *tls.Config) (serial int64, protocol string, err error) {
	t.Helper()
	cfg.NextProtos = []string{"h2", "http/1.1"}
	d := &tls.Dialer{Config: cfg}
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		return 0, "", err
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 5)); err != nil { // with TLS 1.3 a refusal comes after the client's handshake
		return 0, "", err
	}
	state := c.(*tls.Conn).ConnectionState()
	return state.PeerCertificates[0].SerialNumber.Int64(), state.NegotiatedProtocol, nil
}

// locked is a buffer for a logger that others write to.
type locked struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// A renewed certificate is used by the next connection. One that is broken, as while it is being written, is not.
func TestCertificatesAreReadAgain(t *testing.T) {
	a, dir := newAuthority(t), t.TempDir()
	s := &tlsSettings{every: time.Millisecond}
	s.cert, s.key = a.issue(t, dir, 7)
	var log locked
	addr := greeter(t, s, slog.New(slog.NewTextHandler(&log, nil)))
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	serves := func(want int64) {
		t.Helper()
		eventually(t, func() error {
			serial, protocol, err := greet(t, addr, &tls.Config{RootCAs: roots})
			if err == nil && (serial != want || protocol != "h2") {
				err = fmt.Errorf("serial %d over %q, expected %d over h2", serial, protocol, want)
			}
			return err
		})
	}
	serves(7)
	writeFile(t, s.cert, []byte("half a certif"))
	eventually(t, func() error {
		if n := strings.Count(log.String(), "cannot be used"); n != 1 {
			return fmt.Errorf("%d lines of the log say that it cannot be used", n)
		}
		return nil
	})
	serves(7)
	if err := os.Remove(s.key); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if !strings.Contains(log.String(), "cannot be read") {
			return errors.New("no line of the log says that it cannot be read")
		}
		return nil
	})
	serves(7)
	a.issue(t, dir, 8)
	serves(8)
	if _, _, err := greet(t, addr, &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11}); err == nil { //nolint:gosec // what is to be refused
		t.Error("TLS 1.1 was taken")
	}
}

// Only clients with a certificate of the authority are let in, and no one gets by with the ticket of an earlier session.
func TestMutualTLS(t *testing.T) {
	servers, clients := newAuthority(t), newAuthority(t)
	s := &tlsSettings{every: time.Hour, clientCA: filepath.Join(t.TempDir(), "ca.pem")}
	s.cert, s.key = servers.issue(t, t.TempDir(), 1)
	writeFile(t, s.clientCA, clients.pem)
	addr := greeter(t, s, slog.New(slog.DiscardHandler))
	roots := x509.NewCertPool()
	roots.AddCert(servers.cert)
	for name, c := range map[string]struct {
		by *authority
		ok bool
	}{"none": {nil, false}, "of the authority": {clients, true}, "of another": {servers, false}} {
		cfg := &tls.Config{RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
		if c.by != nil {
			cert, key := c.by.issue(t, t.TempDir(), 2)
			pair, err := tls.LoadX509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Certificates = []tls.Certificate{pair}
		}
		if _, _, err := greet(t, addr, cfg); (err == nil) != c.ok {
			t.Errorf("a certificate %s: %v", name, err)
		}
		if c.ok {
			cfg.Certificates = nil // the session is still in the cache
			if _, _, err := greet(t, addr, cfg); err == nil {
				t.Error("a client without a certificate was let in by the session of one that had it")
			}
		}
	}
}

// An authority that is trusted no more lets nobody in, from the next connection on.
func TestClientsOfAnAuthorityThatIsReplaced(t *testing.T) {
	servers, before, after := newAuthority(t), newAuthority(t), newAuthority(t)
	s := &tlsSettings{every: time.Millisecond, clientCA: filepath.Join(t.TempDir(), "ca.pem")}
	s.cert, s.key = servers.issue(t, t.TempDir(), 1)
	writeFile(t, s.clientCA, before.pem)
	addr := greeter(t, s, slog.New(slog.DiscardHandler))
	roots := x509.NewCertPool()
	roots.AddCert(servers.cert)
	client := func(a *authority) *tls.Config {
		cert, key := a.issue(t, t.TempDir(), 2)
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	}
	former, latter := client(before), client(after)
	if _, _, err := greet(t, addr, former); err != nil {
		t.Fatal(err)
	}
	writeFile(t, s.clientCA, after.pem)
	eventually(t, func() error {
		_, _, err := greet(t, addr, latter)
		return err
	})
	if _, _, err := greet(t, addr, former); err == nil {
		t.Error("a client of the former authority is let in")
	}
}

// The verbs reach an API that speaks TLS and asks for certificates, and nobody else does.
func TestDevOverTLS(t *testing.T) {
	t.Parallel()
	servers, clients := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	cert, key := servers.issue(t, dir, 1)
	serverCA, clientCA := filepath.Join(dir, "server-ca.pem"), filepath.Join(dir, "client-ca.pem")
	writeFile(t, serverCA, servers.pem)
	writeFile(t, clientCA, clients.pem)
	ownCert, ownKey := clients.issue(t, t.TempDir(), 2)
	p := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", clientCA)
	url := p.find(`HTTP API +(https://\S+)`)
	stdout, stderr, code := runToEnd(t, "", "model", "ls", "--server", url, "--server-ca", serverCA, "--client-cert", ownCert, "--client-key", ownKey)
	if code != exitOK || !strings.Contains(stdout, "digits") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	for name, args := range map[string][]string{
		"without a certificate": {"--server-ca", serverCA}, "without the authority": {"--client-cert", ownCert, "--client-key", ownKey},
	} {
		if _, stderr, code := runToEnd(t, "", append([]string{"model", "ls", "--server", url}, args...)...); code != exitUnreachable {
			t.Errorf("%s: exit code %d: %s", name, code, stderr)
		}
	}
	resp, err := http.Get(strings.Replace(url, "https", "http", 1) + "/healthz") //nolint:noctx // one request to a process of this test
	if err == nil {
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("plain HTTP was answered %d", resp.StatusCode)
		}
	}
}

// The command that sheaf dev prints trusts the certificate that it serves, and no more connections are taken than told.
func TestConnectionsOverTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cert, key := a.issue(t, t.TempDir(), 1)
	p := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, "--max-connections", "2", "--header-timeout", "10m")
	url := p.find(`HTTP API +(https://\S+)`)
	line := p.find(`(?m)^(curl .*)$`)
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", line).CombinedOutput(); err != nil || !strings.Contains(string(out), `"prediction"`) {
		t.Errorf("%s: %v: %s", line, err, out)
	}
	var d net.Dialer
	var silent []net.Conn
	dial := func() net.Conn {
		t.Helper()
		c, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "https://"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	for range 2 {
		silent = append(silent, dial())
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	third := tls.Client(dial(), &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"})
	waiting, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := third.HandshakeContext(waiting); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a third connection was taken beside two that say nothing: %v", err)
	}
	_ = silent[0].Close()
	fourth := tls.Client(dial(), &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"})
	if err := fourth.HandshakeContext(t.Context()); err != nil {
		t.Errorf("once a connection is closed another is taken: %v", err)
	}
}

func TestWhatIsWrongWithTheEdge(t *testing.T) {
	dir := t.TempDir()
	cert, key := newAuthority(t).issue(t, dir, 1)
	empty := filepath.Join(dir, "empty")
	writeFile(t, empty, nil)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--addr", "0.0.0.0:0"}, "--insecure"},
		{[]string{"--addr", ":0"}, "--insecure"},
		{[]string{"--addr", "[::]:0"}, "--insecure"},
		{[]string{"--addr", "192.0.2.1:0", "--tls-cert", cert, "--tls-key", key}, "--insecure"}, // TLS alone keeps nobody out
		{[]string{"--addr", "127.0.0.1:0", "--grpc-addr", "0.0.0.0:0"}, "--grpc-addr"},
		// Who reaches its NATS needs no key.
		{[]string{"--addr", "127.0.0.1:0", "--auth", "keys", "--nats-addr", "0.0.0.0:0"}, "--nats-addr"},
		{[]string{"--addr", "127.0.0.1:0", "--tls-cert", cert}, "--tls-key"},
		{[]string{"--addr", "127.0.0.1:0", "--tls-client-ca", cert}, "--tls-cert"},
		{[]string{"--addr", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", filepath.Join(dir, "nowhere")}, "--tls-key"},
		{[]string{"--addr", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", cert}, "--tls-cert"},
		{[]string{"--addr", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", empty}, "--tls-client-ca"},
		{[]string{"--addr", "127.0.0.1:0", "--max-connections", "0"}, "--max-connections"},
		{[]string{"--addr", "127.0.0.1:0", "--cors-origins", "app.example.com"}, "--cors-origins"},
		{[]string{"--addr", "127.0.0.1:0", "--max-header-bytes", "1"}, "--max-header-bytes"},
	} {
		args := append([]string{"dev", "--nats-addr", "127.0.0.1:0"}, c.args...)
		if _, stderr, code := runToEnd(t, "", args...); code != exitUsage || !strings.Contains(stderr, c.want) {
			t.Errorf("sheaf %s: exit code %d: %s", strings.Join(args, " "), code, stderr)
		}
	}
}
