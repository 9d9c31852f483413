package resultstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// endpoint is what a URL names.
type endpoint struct {
	addr               string // host:port, or the path of a socket
	username, password string
	db                 int
	tls                bool
}

// parseURL reads a redis://, rediss:// or unix:// URL. Its errors do not repeat the URL, which may hold a password.
func parseURL(s string) (endpoint, error) {
	const like = "expected something like redis://user:password@host:6379/0"
	if s == "" {
		return endpoint{}, errors.New("the URL is empty: " + like)
	}
	u, err := url.Parse(s)
	if err != nil {
		return endpoint{}, errors.New("the URL cannot be read (special characters in a password are written %XX): " + like)
	}
	var e endpoint
	if u.User != nil {
		e.username = u.User.Username()
		e.password, _ = u.User.Password()
	}
	db := ""
	switch u.Scheme {
	case "redis", "rediss":
		if u.Hostname() == "" {
			return e, errors.New("the URL has no host: " + like)
		}
		port := u.Port()
		if port == "" {
			port = "6379"
		}
		e.addr, e.tls = net.JoinHostPort(u.Hostname(), port), u.Scheme == "rediss"
		db = strings.Trim(u.Path, "/")
	case "unix":
		if e.addr = u.Path; e.addr == "" {
			return e, errors.New("the URL has no path: expected something like unix:///run/redis/redis.sock")
		}
	default:
		return e, errors.New("the URL has a scheme that is not redis, rediss or unix: " + like)
	}
	for name, values := range u.Query() {
		if name != "db" || db != "" {
			return e, errors.New("the URL has parameters: only db= is read from it, once; for all else there are settings")
		}
		db = values[0]
	}
	if db != "" {
		if e.db, err = strconv.Atoi(db); err != nil || e.db < 0 {
			return e, errors.New("the URL's database is not a number: " + like)
		}
	}
	return e, nil
}

// client makes the client that the settings ask for. It connects to nothing yet.
func (c *Config) client() (redis.UniversalClient, error) {
	e := endpoint{username: c.Username, password: c.Password, db: c.DB}
	addrs := c.Addrs
	if len(addrs) == 0 {
		var err error
		if e, err = parseURL(c.URL); err != nil {
			return nil, err
		}
		addrs = []string{e.addr}
		if c.Username != "" {
			e.username = c.Username
		}
		if c.Password != "" {
			e.password = c.Password
		}
		if e.db == 0 {
			e.db = c.DB
		}
	}
	secure, err := c.TLS.load(e.tls)
	if err != nil {
		return nil, err
	}
	return redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: addrs, MasterName: c.MasterName, IsClusterMode: c.clustered(),
		SentinelUsername: c.SentinelUsername, SentinelPassword: c.SentinelPassword,
		Username: e.username, Password: e.password, DB: e.db, TLSConfig: secure,
		IdentitySuffix: "sheaf",

		// Nothing here needs RESP3: its only use for a store of plain strings would be push messages.
		Protocol:                 2,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},

		ContextTimeoutEnabled: true,
		DialTimeout:           c.ConnectTimeout, ReadTimeout: c.ReadTimeout, WriteTimeout: c.WriteTimeout,
		// A retry dials again; retries inside the dialer would only multiply.
		MaxRetries: noneIsMinusOne(c.MaxRetries), DialerRetries: 1,

		// Nearly all is pipelines, so they need no pool of their own beside a bored one. A batch of a few hundred
		// small records fits the buffer, so it is one write.
		PoolSize: c.PoolSize, PipelinePoolSize: -1,
		ReadBufferSize: 32 << 10, WriteBufferSize: 128 << 10,
	}), nil
}

// noneIsMinusOne turns 0, which to go-redis is its default of 3, into its word for none.
func noneIsMinusOne(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// load reads the files; nil means no TLS.
func (t *TLSConfig) load(enabled bool) (*tls.Config, error) {
	if !enabled && !t.on() {
		return nil, nil //nolint:nilnil // nil is go-redis's word for no TLS
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("TLS CA file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("TLS CA file %s: no PEM certificate found in it", t.CAFile)
		}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("TLS client certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// address is the servers for people: hosts and ports only.
func (c *Config) address() string {
	if len(c.Addrs) == 0 {
		e, _ := parseURL(c.URL)
		return e.addr
	}
	return strings.Join(c.Addrs, ", ")
}
