package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // messages may come so, and are then answered so
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// jobs submits, looks up and cancels jobs, and knows the models; a *gateway.Gateway does.
type jobs interface {
	Submit(ctx context.Context, s *gateway.Submission, wait time.Duration) (v *gateway.Job, waited bool, err error)
	Ask(ctx context.Context, s *gateway.Submission, wait time.Duration) (*gateway.Job, error)
	Refused(err error)
	Find(ctx context.Context, scope string, t job.Ticket, wait time.Duration) (*gateway.Job, error)
	Watch(scope string, tickets []job.Ticket) (*gateway.Watch, error)
	Foresee(ctx context.Context, v *gateway.Job)
	Cancel(ctx context.Context, scope string, t job.Ticket) (*gateway.Job, error)
	ModelFor(ctx context.Context, name, version string) (model.Info, error)
	ModelsFor(ctx context.Context) []model.Info
	Models() gateway.Models
	MaxWait() time.Duration
	Ready(ctx context.Context) gateway.Readiness
}

// Deps is what an API stands on. Jobs is needed.
type Deps struct {
	Jobs *gateway.Gateway
	// Auth says who is calling. Nil: whoever calls may do everything.
	Auth Authenticator
	// Logger gets calls at debug level and faults at error level. Nil is silent.
	Logger *slog.Logger
	// Registerer takes the API's own metrics. Nil is none.
	Registerer prometheus.Registerer
}

// API answers gRPC calls. It is safe for concurrent use.
type API struct {
	cfg     Config
	deps    Deps
	jobs    jobs // deps.Jobs
	log     *slog.Logger
	metrics *metrics
	scopes  map[string]auth.Scope // by full name of the method
	single  map[string]bool       // methods whose client sends one message
	server  *grpc.Server
	closing chan struct{} // closed when the server is going down
	close   func()
	bulks   chan struct{} // one for each BulkSubmit
}

// New returns an API that serves nothing until Serve.
func New(cfg Config, deps Deps) (*API, error) {
	err := cfg.Validate()
	if deps.Jobs == nil {
		err = errors.Join(err, errors.New("Jobs is nil: the API needs it"))
	}
	if err != nil {
		return nil, fmt.Errorf("gRPC API settings: %w", err)
	}
	return newAPI(cfg, deps, deps.Jobs)
}

// newAPI is New; of the gateway only bulk submits are made past jobs.
func newAPI(cfg Config, deps Deps, jobs jobs) (_ *API, err error) {
	cfg.Limits.MaxBytes = cfg.MaxMessageBytes
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	a := &API{
		cfg: cfg, deps: deps, jobs: jobs, log: deps.Logger, scopes: make(map[string]auth.Scope), single: make(map[string]bool), closing: make(chan struct{}), bulks: make(chan struct{}, cfg.MaxBulkStreams),
	}
	a.close = sync.OnceFunc(func() { close(a.closing) })
	if a.metrics, err = newMetrics(deps.Registerer); err != nil {
		return nil, err
	}
	a.server = grpc.NewServer(a.options()...)
	for _, d := range a.services() {
		a.server.RegisterService(d, a)
	}
	healthpb.RegisterHealthServer(a.server, &health{api: a})
	reflection.Register(a.server)
	return a, nil
}

func (a *API) options() []grpc.ServerOption {
	c := &a.cfg
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(newCodec()),
		grpc.UnaryInterceptor(a.interceptUnary),
		grpc.StreamInterceptor(a.interceptStream),
		grpc.InTapHandle(a.startReading),
		grpc.MaxRecvMsgSize(c.MaxMessageBytes),
		grpc.MaxConcurrentStreams(uint32(c.MaxConcurrentStreams)), //nolint:gosec // Validate bounds it
		grpc.MaxHeaderListSize(32 << 10),
		grpc.ConnectionTimeout(c.ConnectionTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: c.KeepaliveMinTime, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: c.KeepaliveTime, Timeout: c.KeepaliveTimeout,
			MaxConnectionAge: c.MaxConnectionAge, MaxConnectionIdle: c.MaxConnectionIdle,
		}),
		grpc.WaitForHandlers(true),
	}
	if c.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(c.TLS)))
	}
	return options
}

// Serve answers the calls that come by a listener until Shutdown, which it takes for no error.
func (a *API) Serve(l net.Listener) error {
	if err := a.server.Serve(l); err != nil {
		return fmt.Errorf("serve gRPC on %s: %w", l.Addr(), err)
	}
	return nil
}

// Shutdown takes no more calls, ends streams when what they have in hand is answered, and waits until all calls are
// answered or ctx ends: then they are cut off, and the error is that of ctx. Calls that wait for a result are answered
// when the gateway is closed, which is for the caller to do meanwhile.
func (a *API) Shutdown(ctx context.Context) error {
	a.close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.server.GracefulStop()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		a.server.Stop()
		<-done
		return ctx.Err()
	}
}
