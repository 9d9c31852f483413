package resultstore

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// Config says how to reach Redis and how records are kept. Start from [DefaultConfig].
//
// One server is named by URL. A Sentinel group is Addrs (of the sentinels) and MasterName. A Cluster is Addrs of some
// of its nodes, or URL of one of them, and Cluster; two or more Addrs without MasterName are a Cluster too.
type Config struct {
	// URL is redis://[user[:password]@]host[:port][/database], rediss:// for TLS, or unix:///path/to/socket. It is not
	// looked at when Addrs are given.
	URL string
	// Addrs are host:port of the sentinels, or of some nodes of a Cluster, or of one server.
	Addrs []string
	// MasterName is the name of the group that the sentinels watch. It makes Addrs those of sentinels.
	MasterName string
	// SentinelUsername and SentinelPassword are for the sentinels; Username and Password are for the servers.
	SentinelUsername, SentinelPassword string
	// Cluster says that the server is a node of a Redis Cluster.
	Cluster bool

	// Username (ACL) and Password take the place of those in URL.
	Username, Password string
	// DB is the number of the database, if URL names none. A Cluster has only 0.
	DB  int
	TLS TLSConfig

	// Prefix stands before the job ID in each key. Several installations can share a Redis under different prefixes.
	Prefix string
	// DefaultTTL is how long a record is kept if its Entry does not say.
	DefaultTTL time.Duration

	// PoolSize bounds the connections to each server; 0 is ten for each CPU. One batch uses one connection.
	PoolSize int
	// ConnectTimeout bounds OpenRedis, and each attempt to connect later.
	ConnectTimeout time.Duration
	// ReadTimeout and WriteTimeout bound one round trip, if the caller's context does not.
	ReadTimeout, WriteTimeout time.Duration
	// WaitReplicas is how many replicas must have a record before it counts as written: Finish ends with WAIT, and gives
	// ErrUnavailable if fewer confirm. In a Cluster they are those of each primary. 0 waits for none: then what was
	// acknowledged last is lost if the primary is lost before its replicas have it.
	WaitReplicas int
	// WaitTimeout bounds that wait. It must be less than ReadTimeout.
	WaitTimeout time.Duration
	// MaxRetries is how often go-redis repeats what failed by a broken connection, before the caller hears of it.
	MaxRetries int
}

// TLSConfig says how to secure the connections. Enabled, any of the files, or a rediss:// URL switches TLS on.
type TLSConfig struct {
	Enabled    bool
	CAFile     string // PEM; authorities to trust instead of the system's
	CertFile   string // PEM; client certificate; needs KeyFile
	KeyFile    string // PEM
	ServerName string // the name that the certificate must have; "": the host that was dialed
}

func (t *TLSConfig) on() bool {
	return t.Enabled || t.CAFile != "" || t.CertFile != "" || t.KeyFile != ""
}

// DefaultConfig returns the settings for a Redis on this machine.
func DefaultConfig() Config {
	return Config{
		URL:            "redis://127.0.0.1:6379",
		Prefix:         "sheaf:",
		DefaultTTL:     24 * time.Hour,
		ConnectTimeout: 5 * time.Second,
		ReadTimeout:    3 * time.Second,
		WriteTimeout:   3 * time.Second,
		WaitTimeout:    time.Second,
		MaxRetries:     2,
	}
}

// maxPrefix bounds the prefix in bytes: it is paid for with each key.
const maxPrefix = 64

// Validate reports every fault of the settings at once. Passwords are not repeated in it.
func (c *Config) Validate() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	faults = append(faults, c.validateServers(), c.TLS.validate())
	if c.Username != "" && c.Password == "" && len(c.Addrs) > 0 {
		bad("a user name needs a password")
	}
	if c.SentinelUsername != "" && c.SentinelPassword == "" {
		bad("a user name for the sentinels needs a password for the sentinels")
	}
	if len(c.Prefix) > maxPrefix || strings.ContainsAny(c.Prefix, " \t\r\n{}") {
		bad("key prefix: at most %d bytes without spaces and braces are expected (braces would put all records of a Cluster into one slot)", maxPrefix)
	}
	if c.DefaultTTL < time.Second {
		bad("default time to live %v: at least 1s is expected", c.DefaultTTL)
	}
	if c.PoolSize < 0 {
		bad("pool size %d: 0 (ten for each CPU) or more is expected", c.PoolSize)
	}
	for _, t := range []struct {
		what string
		d    time.Duration
	}{{"connect", c.ConnectTimeout}, {"read", c.ReadTimeout}, {"write", c.WriteTimeout}} {
		if t.d <= 0 {
			bad("%s timeout %v: more than 0 is expected", t.what, t.d)
		}
	}
	if c.WaitReplicas < 0 {
		bad("replicas to wait for %d: 0 (none) or more are expected", c.WaitReplicas)
	}
	if c.WaitReplicas > 0 && (c.WaitTimeout < time.Millisecond || c.WaitTimeout >= c.ReadTimeout) {
		bad("timeout of waiting for replicas %v: at least 1ms and less than the read timeout, %v, is expected", c.WaitTimeout, c.ReadTimeout)
	}
	if c.MaxRetries < 0 || c.MaxRetries > 10 {
		bad("retries %d: 0 to 10 are expected", c.MaxRetries)
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("Redis settings: %w", err)
	}
	return nil
}

func (c *Config) validateServers() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	db := c.DB
	if len(c.Addrs) == 0 {
		e, err := parseURL(c.URL)
		switch {
		case err != nil:
			faults = append(faults, err)
		case c.DB != 0 && e.db != 0 && c.DB != e.db:
			bad("the URL names database %d and the database setting %d: give it once", e.db, c.DB)
		case c.Username != "" && e.password == "" && c.Password == "":
			bad("a user name needs a password")
		case e.username != "" && e.password == "" && c.Password == "":
			bad("the URL has a user and no password: expected redis://user:password@host, or the password as a setting of its own")
		case db == 0:
			db = e.db
		}
		if c.MasterName != "" {
			bad("master name %q: the addresses of the sentinels are expected beside it; a URL names one server", c.MasterName)
		}
	}
	for i, addr := range c.Addrs {
		if host, port, err := net.SplitHostPort(addr); err != nil || host == "" || port == "" {
			bad("address %d of the list: host:port is expected", i+1) // not repeated: a URL put here has a password in it
		}
	}
	if c.MasterName != "" && c.Cluster {
		bad("choose one of master name (Sentinel) and Cluster")
	}
	if c.MasterName == "" && (c.SentinelUsername != "" || c.SentinelPassword != "") {
		bad("credentials for sentinels need a master name")
	}
	if db < 0 {
		bad("database %d: 0 or more is expected", db)
	}
	if c.clustered() && db != 0 {
		bad("database %d: a Redis Cluster has only database 0", db)
	}
	return errors.Join(faults...)
}

// clustered reports whether the settings name a Cluster.
func (c *Config) clustered() bool {
	return c.MasterName == "" && (c.Cluster || len(c.Addrs) > 1)
}

func (t *TLSConfig) validate() error {
	var faults []error
	if (t.CertFile == "") != (t.KeyFile == "") {
		faults = append(faults, errors.New("a TLS client certificate needs both the certificate file and the key file"))
	}
	for _, f := range []struct{ what, name string }{
		{"TLS CA file", t.CAFile}, {"TLS certificate file", t.CertFile}, {"TLS key file", t.KeyFile},
	} {
		if f.name == "" {
			continue
		}
		if _, err := os.Stat(f.name); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", f.what, err))
		}
	}
	return errors.Join(faults...)
}
