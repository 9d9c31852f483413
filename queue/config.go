package queue

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/sheafml/sheaf/job"
)

// Config says how to reach JetStream and how the streams are made. Start from [DefaultConfig].
type Config struct {
	// URL is one server or a comma-separated list of a cluster's servers: nats://, tls://, ws:// or wss://.
	URL string
	// Name is the name of this client as the server shows it.
	Name string
	// Domain is the JetStream domain, for a server behind a leaf node. Empty: none.
	Domain string

	// At most one way to authenticate: User and Password, Token, a credentials file, or a file with an nkey seed.
	// User and password, or a token, may also stand in the URL.
	User, Password string
	Token          string
	CredsFile      string
	NKeyFile       string
	TLS            TLSConfig

	// ConnectTimeout bounds Connect, and how long EnsureStreams waits for JetStream to get ready.
	ConnectTimeout time.Duration
	// RequestTimeout bounds one request to JetStream, other than a publish, if the caller's context does not.
	RequestTimeout time.Duration

	// Replicas is how many servers of a cluster keep each stream: 1, 3 or 5. An existing stream is never lowered.
	Replicas    int
	Interactive LaneConfig
	Bulk        LaneConfig
	Dead        DeadConfig
	Webhook     WebhookConfig
	// TenantShares is over how many shares the tenants of a lane are spread, 1 to 64. Workers take the shares in turn, so a
	// tenant that floods delays only those of its own share, and those go past it through a spare share; each costs a
	// consumer for every lane and model. What counts is the stream's number: a process that serves raises it to its setting,
	// and nobody lowers it.
	TenantShares int
	// DuplicateWindow is how long the server remembers message IDs, to store a repeated publish only once.
	DuplicateWindow time.Duration
	Publish         PublishConfig
}

// TLSConfig names PEM files. Any of them, or a tls:// URL, switches TLS on.
type TLSConfig struct {
	CAFile   string // authorities to trust instead of the system's
	CertFile string // client certificate; needs KeyFile
	KeyFile  string
}

// LaneConfig bounds one lane. A limit of -1 is none. The limits of an existing stream are raised to these, never
// lowered: what an operator gave it with other tools stays.
type LaneConfig struct {
	// AckWait is how long a lease lasts without being extended: the recovery time after a worker dies.
	AckWait time.Duration
	// MaxAckPending is how many messages of one model may be leased at once, over all workers.
	MaxAckPending int
	// MaxDeliver is the backstop against a message that is delivered for ever. The worker is to decide long before.
	MaxDeliver int
	// MaxMsgs and MaxBytes bound the whole lane; what does not fit is refused with ErrFull. The server reserves
	// MaxBytes of its storage.
	MaxMsgs  int64
	MaxBytes int64
	// MaxMsgsPerSubject bounds what one tenant may have waiting for one model; beyond it is ErrTenantFull.
	MaxMsgsPerSubject int64
}

// DeadConfig bounds the dead letters; the oldest make room.
type DeadConfig struct {
	MaxAge   time.Duration
	MaxBytes int64
}

// PublishConfig bounds the group commit.
type PublishConfig struct {
	// MaxJobs and MaxBytes bound one message. A job that alone is larger travels alone.
	MaxJobs  int
	MaxBytes int
	// MaxInFlight bounds the unanswered messages of one lane, model and tenant. More than one are in flight only
	// when they are full.
	MaxInFlight int
	// Linger is how long a message may wait for more jobs after one that carried lingerFrom or more: the cost of a
	// message is then shared by more of those that come together anyway. 0: not at all.
	Linger time.Duration
	// Timeout is how long a publish is tried, over disconnects and restarts of the server.
	Timeout time.Duration
}

// DefaultConfig returns the settings for a server on this machine.
func DefaultConfig() Config {
	return Config{
		URL:            "nats://127.0.0.1:4222",
		Name:           "sheaf",
		ConnectTimeout: 5 * time.Second,
		RequestTimeout: 5 * time.Second,
		Replicas:       1,
		Interactive: LaneConfig{
			AckWait: 10 * time.Second, MaxAckPending: 20_000, MaxDeliver: 100,
			MaxMsgs: 250_000, MaxBytes: 1 << 30, MaxMsgsPerSubject: 50_000,
		},
		Bulk: LaneConfig{
			AckWait: time.Minute, MaxAckPending: 20_000, MaxDeliver: 100,
			MaxMsgs: 2_000_000, MaxBytes: 4 << 30, MaxMsgsPerSubject: 500_000,
		},
		TenantShares:    8,
		Dead:            DeadConfig{MaxAge: 14 * 24 * time.Hour, MaxBytes: 512 << 20},
		Webhook:         defaultWebhookConfig(),
		DuplicateWindow: 2 * time.Minute,
		Publish:         PublishConfig{MaxJobs: 64, MaxBytes: 256 << 10, MaxInFlight: 8, Linger: 2 * time.Millisecond, Timeout: 5 * time.Second},
	}
}

func (c *Config) lane(l job.Lane) *LaneConfig {
	if l == job.Bulk {
		return &c.Bulk
	}
	return &c.Interactive
}

// Validate reports every fault of the settings at once. Passwords are not repeated in it.
func (c *Config) Validate() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	faults = append(faults, c.validateURL())
	ways := 0
	for _, set := range []bool{c.User != "" || c.Password != "", c.Token != "", c.CredsFile != "", c.NKeyFile != ""} {
		if set {
			ways++
		}
	}
	if ways > 1 {
		bad("choose one of user and password, token, credentials file and nkey file: %d are set", ways)
	}
	if c.Password != "" && c.User == "" {
		bad("a password needs a user")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		bad("a TLS client certificate needs both the certificate file and the key file")
	}
	for what, file := range map[string]string{
		"credentials file": c.CredsFile, "nkey file": c.NKeyFile,
		"TLS CA file": c.TLS.CAFile, "TLS certificate file": c.TLS.CertFile, "TLS key file": c.TLS.KeyFile,
	} {
		if file == "" {
			continue
		}
		if _, err := os.Stat(file); err != nil {
			bad("%s: %w", what, err)
		}
	}
	if strings.ContainsAny(c.Domain, " .*>\t\r\n") {
		bad("domain %q: one token without dots, wildcards and spaces is expected", c.Domain)
	}
	if c.ConnectTimeout <= 0 {
		bad("connect timeout %v: more than 0 is expected", c.ConnectTimeout)
	}
	if c.RequestTimeout <= 0 {
		bad("request timeout %v: more than 0 is expected", c.RequestTimeout)
	}
	if c.Replicas < 1 || c.Replicas > 5 {
		bad("replicas %d: 1 to 5 are expected", c.Replicas)
	}
	for _, l := range job.Lanes() {
		faults = append(faults, c.lane(l).validate(l.String()))
	}
	if c.Dead.MaxAge < 0 {
		bad("dead letters: maximum age %v: 0 (for ever) or more is expected", c.Dead.MaxAge)
	}
	if c.Dead.MaxBytes == 0 || c.Dead.MaxBytes < -1 {
		bad("dead letters: maximum bytes %d: more than 0 is expected, or -1 for no limit", c.Dead.MaxBytes)
	}
	if c.TenantShares < 1 || c.TenantShares > MaxTenantShares {
		bad("tenant shares %d: 1 to %d are expected", c.TenantShares, MaxTenantShares)
	}
	if c.DuplicateWindow < 100*time.Millisecond {
		bad("duplicate window %v: at least 100ms are expected", c.DuplicateWindow)
	}
	if c.DuplicateWindow < c.Publish.Timeout {
		bad("duplicate window %v: not less than the publish timeout (%v) is expected, or a publish tried again is stored twice", c.DuplicateWindow, c.Publish.Timeout)
	}
	faults = append(faults, c.Webhook.validate(), c.Publish.validate())
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("NATS settings: %w", err)
	}
	return nil
}

func (l *LaneConfig) validate(name string) error {
	var faults []error
	bad := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("lane "+name+": "+format, args...))
	}
	if l.AckWait < 100*time.Millisecond {
		bad("ack wait %v: at least 100ms are expected", l.AckWait)
	}
	for what, n := range map[string]int64{
		"maximum of unacknowledged messages": int64(l.MaxAckPending), "maximum of deliveries": int64(l.MaxDeliver),
		"maximum of messages": l.MaxMsgs, "maximum bytes": l.MaxBytes, "maximum of messages a subject": l.MaxMsgsPerSubject,
	} {
		if n == 0 || n < -1 {
			bad("%s %d: more than 0 is expected, or -1 for no limit", what, n)
		}
	}
	return errors.Join(faults...)
}

func (p *PublishConfig) validate() error {
	var faults []error
	bad := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("publish: "+format, args...))
	}
	if p.MaxJobs < 1 || p.MaxJobs > job.DefaultLimits().MaxJobs {
		bad("maximum of jobs a message %d: 1 to %d are expected", p.MaxJobs, job.DefaultLimits().MaxJobs)
	}
	if p.MaxBytes < 1 {
		bad("maximum bytes a message %d: more than 0 is expected", p.MaxBytes)
	}
	if p.MaxInFlight < 1 {
		bad("maximum in flight %d: more than 0 is expected", p.MaxInFlight)
	}
	if p.Linger < 0 || p.Linger > time.Second {
		bad("linger %v: 0 to 1s are expected", p.Linger)
	}
	if p.Timeout <= 0 {
		bad("timeout %v: more than 0 is expected", p.Timeout)
	}
	return errors.Join(faults...)
}

// servers splits the URL list, and adds the scheme where it is missing.
func (c *Config) servers() []string {
	var list []string
	for s := range strings.SplitSeq(c.URL, ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		if !strings.Contains(s, "://") {
			s = "nats://" + s
		}
		list = append(list, s)
	}
	return list
}

func (c *Config) validateURL() error {
	servers := c.servers()
	if len(servers) == 0 {
		return errors.New("the URL is empty: expected something like nats://127.0.0.1:4222, or a comma-separated list")
	}
	var faults []error
	for i, s := range servers {
		u, err := url.Parse(s)
		if err != nil || u.Hostname() == "" {
			// The error of url.Parse repeats its input, and there may be a password in it.
			faults = append(faults, fmt.Errorf("URL %d of the list is not one: expected something like nats://127.0.0.1:4222", i+1))
			continue
		}
		switch u.Scheme {
		case "nats", "tls", "ws", "wss":
		default:
			faults = append(faults, fmt.Errorf("URL %d of the list has the scheme %q: expected nats, tls, ws or wss", i+1, u.Scheme))
		}
	}
	return errors.Join(faults...)
}

// address is the URL list for people: hosts and ports only.
func (c *Config) address() string {
	var hosts []string
	for _, s := range c.servers() {
		if u, err := url.Parse(s); err == nil {
			hosts = append(hosts, u.Host)
		}
	}
	return strings.Join(hosts, ", ")
}
