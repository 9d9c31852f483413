package queue

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/singleflight"
)

// Queue is one connection to JetStream. All methods may be called from many goroutines.
type Queue struct {
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	conn     *nats.Conn
	js       jetstream.JetStream
	api      string // prefix of the JetStream API's subjects, with a dot at the end
	link     *link
	replies  *inbox
	groups   groups
	infos    progressCache
	shares   shareWatch
	holdings holdings
	acks     [2]heldAck // of each lane
	healing  singleflight.Group
	found    foundCache
	payload  atomic.Int64    // the server's max_payload: nats.go has it behind a lock that is in use
	life     context.Context // of what is done for several callers at once; it does not end

	closed    chan struct{} // closed by Close: nothing new starts
	closeOnce sync.Once
	mu        sync.Mutex     // orders running.Add before running.Wait
	running   sync.WaitGroup // goroutines of the Queue, and calls in progress
}

// Connect opens the connection. It fails, with what to do, if no server answers within cfg.ConnectTimeout. Later the
// connection is restored by itself, for as long as it takes.
func Connect(ctx context.Context, cfg Config, options ...Option) (*Queue, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := deps{log: slog.New(slog.DiscardHandler)}
	for _, o := range options {
		o(&d)
	}
	m, err := newMetrics(d.registry)
	if err != nil {
		return nil, err
	}
	q := &Queue{cfg: cfg, log: d.log, metrics: m, link: newLink(), closed: make(chan struct{}), life: context.WithoutCancel(ctx)}
	q.groups.init()
	q.found.init()
	opts, err := q.natsOptions(d.inProcess)
	if err != nil {
		return nil, err
	}
	if q.conn, err = dial(ctx, opts, cfg); err != nil {
		return nil, err
	}
	q.payload.Store(q.conn.MaxPayload())
	q.link.set(true)
	q.metrics.connected.Set(1)
	if err := q.start(); err != nil {
		q.conn.Close()
		return nil, err
	}
	return q, nil
}

func (q *Queue) start() (err error) {
	q.api = "$JS.API."
	if q.cfg.Domain == "" {
		q.js, err = jetstream.New(q.conn)
	} else {
		q.api = "$JS." + q.cfg.Domain + ".API."
		q.js, err = jetstream.NewWithDomain(q.conn, q.cfg.Domain)
	}
	if err != nil {
		return fmt.Errorf("JetStream client: %w", err)
	}
	q.replies, err = newInbox(q.conn)
	return err
}

// dial tries until a server answers, the timeout is over or the answer is a refusal.
func dial(ctx context.Context, opts nats.Options, cfg Config) (*nats.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.ConnectTimeout)
	defer cancel()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		conn, err := opts.Connect()
		if err == nil {
			return conn, nil
		}
		if refusal := refused(err, cfg); refusal != nil {
			return nil, refusal
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return nil, fmt.Errorf("connect to NATS at %s: %w", cfg.address(), ctx.Err())
			}
			return nil, fmt.Errorf("%w: NATS at %s does not answer: start `nats-server -js` or set --nats-url (%w)",
				ErrUnavailable, cfg.address(), err)
		case <-time.After(pause):
		}
	}
}

// refused explains an error that trying again does not cure; nil for any other.
func refused(err error, cfg Config) error {
	var (
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
		record    tls.RecordHeaderError
		remote    *net.OpError
	)
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked),
		errors.Is(err, nats.ErrAccountAuthExpired):
		return fmt.Errorf("NATS at %s refuses the credentials: check user, password, token or credentials file (%w)", cfg.address(), err)
	case errors.Is(err, nats.ErrSecureConnWanted), errors.Is(err, nats.ErrSecureConnRequired):
		return fmt.Errorf("NATS at %s and the settings disagree on TLS: use tls:// only if the server has it (%w)", cfg.address(), err)
	case errors.As(err, &authority), errors.As(err, &host), errors.As(err, &invalid), errors.As(err, &verify),
		errors.As(err, &record), errors.Is(err, nats.ErrTLS), errors.As(err, &remote) && remote.Op == "remote error":
		return fmt.Errorf("TLS with NATS at %s fails: check the CA file and the client certificate (%w)", cfg.address(), err)
	}
	return nil
}

// natsOptions translates the settings. The errors name files, never their content.
func (q *Queue) natsOptions(server InProcess) (nats.Options, error) {
	cfg := &q.cfg
	o := nats.GetDefaultOptions()
	set := []nats.Option{
		nats.Name(cfg.Name),
		nats.Timeout(min(2*time.Second, cfg.ConnectTimeout)),
		nats.RetryOnFailedConnect(false),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, 500*time.Millisecond),
		// What cannot be sent now is an error: the publisher tries again, and knows.
		nats.ReconnectBufSize(-1),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(3),
		nats.DisconnectErrHandler(q.onDisconnect),
		nats.ReconnectHandler(q.onReconnect),
		nats.ClosedHandler(func(*nats.Conn) { q.link.set(false) }),
		nats.ErrorHandler(q.onAsyncError),
	}
	if server != nil {
		set = append(set, nats.InProcessServer(server))
	} else {
		o.Servers = cfg.servers()
	}
	switch {
	case cfg.User != "":
		set = append(set, nats.UserInfo(cfg.User, cfg.Password))
	case cfg.Token != "":
		set = append(set, nats.Token(cfg.Token))
	case cfg.CredsFile != "":
		set = append(set, nats.UserCredentials(cfg.CredsFile))
	case cfg.NKeyFile != "":
		nkey, err := nats.NkeyOptionFromSeed(cfg.NKeyFile)
		if err != nil {
			return o, fmt.Errorf("nkey file %s: %w", cfg.NKeyFile, err)
		}
		set = append(set, nkey)
	}
	if cfg.TLS.CAFile != "" {
		set = append(set, nats.RootCAs(cfg.TLS.CAFile))
	}
	if cfg.TLS.CertFile != "" {
		set = append(set, nats.ClientCert(cfg.TLS.CertFile, cfg.TLS.KeyFile))
	}
	for _, opt := range set {
		if err := opt(&o); err != nil {
			return o, fmt.Errorf("NATS settings: %w", err)
		}
	}
	return o, nil
}

func (q *Queue) onDisconnect(_ *nats.Conn, err error) {
	q.link.set(false)
	q.metrics.connected.Set(0)
	if q.isClosed() {
		return
	}
	q.log.Warn("the connection to NATS is lost; it will be restored when a server answers", "error", err)
}

func (q *Queue) onReconnect(c *nats.Conn) {
	q.link.set(true)
	q.metrics.connected.Set(1)
	q.metrics.reconnects.Inc()
	q.log.Info("the connection to NATS is restored", "server", c.ConnectedAddr())
}

func (q *Queue) onAsyncError(_ *nats.Conn, sub *nats.Subscription, err error) {
	args := []any{"error", err}
	if sub != nil {
		args = append(args, "subject", sub.Subject)
	}
	q.log.Warn("NATS reports an error", args...)
}

func (q *Queue) isClosed() bool {
	select {
	case <-q.closed:
		return true
	default:
		return false
	}
}

// enter marks a call that Close waits for, until running.Done. false if the Queue is closed.
func (q *Queue) enter() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.isClosed() {
		return false
	}
	q.running.Add(1)
	return true
}

// spawn runs f in a goroutine that Close waits for. false if the Queue is closed.
func (q *Queue) spawn(f func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.isClosed() {
		return false
	}
	q.running.Go(f)
	return true
}

// Close lets what is being published finish or fail, sends what is buffered and closes the connection. It may be
// called more than once.
func (q *Queue) Close() error {
	var err error
	q.closeOnce.Do(func() {
		q.mu.Lock()
		close(q.closed)
		q.mu.Unlock()
		q.running.Wait()
		for i := range q.acks {
			q.acks[i].flush()
		}
		if q.conn.IsConnected() {
			err = q.conn.FlushTimeout(q.cfg.RequestTimeout)
		}
		q.conn.Close()
		if err != nil {
			err = fmt.Errorf("close the connection to NATS: %w", err)
		}
	})
	return err
}

// Ready reports nil when JetStream answers and the streams exist.
func (q *Queue) Ready(ctx context.Context) error {
	if up, _ := q.link.state(); !up {
		return fmt.Errorf("%w: the connection is being restored", ErrUnavailable)
	}
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	for _, s := range q.streams() {
		if _, err := q.js.Stream(ctx, s.Name); err != nil {
			if errors.Is(err, jetstream.ErrStreamNotFound) {
				return fmt.Errorf("stream %s does not exist: start a worker or `sheaf serve`, which make it", s.Name)
			}
			return requestError("look at stream "+s.Name, err)
		}
	}
	return nil
}

// Connected reports whether the connection to NATS stands, whatever its streams do.
func (q *Queue) Connected() bool {
	up, _ := q.link.state()
	return up
}

// link is the state of the connection, and a channel that is closed when it changes.
type link struct {
	mu      sync.Mutex
	up      bool
	changed chan struct{}
}

func newLink() *link { return &link{changed: make(chan struct{})} }

func (l *link) set(up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up == up {
		return
	}
	l.up = up
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *link) state() (up bool, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up, l.changed
}
