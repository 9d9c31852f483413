package main

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/net/netutil"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/grpcapi"
)

// What --grpc-addr may be besides an address.
const (
	grpcOff  = "off"
	grpcNext = "" // of sheaf dev: the port after the HTTP API's on loopback, or any free one if that is taken
)

// grpcFlag adds --grpc-addr. byDefault is what it is if nobody says.
func grpcFlag(cmd *cobra.Command, addr *string, byDefault, about string) {
	cmd.Flags().StringVar(addr, "grpc-addr", byDefault, "`HOST:PORT` of the gRPC API, or \"off\"; default: "+about)
	asSettings(cmd.Flags(), "grpc-addr")
}

// grpcFlags adds the other settings of the gRPC API.
func grpcFlags(fs *pflag.FlagSet, cfg *grpcapi.Config) {
	fs.IntVar(&cfg.MaxBulkStreams, "max-bulk-streams", cfg.MaxBulkStreams, "streams of BulkSubmit over gRPC at the same time; those beyond are answered UNAVAILABLE at once")
	fs.DurationVar(&cfg.StreamIdle, "grpc-stream-idle", cfg.StreamIdle, "how long a client that streams over gRPC may send nothing and read nothing while nothing is in hand")
	asSettings(fs, "max-bulk-streams", "grpc-stream-idle")
}

// grpcServer is the gRPC side of the shim, put together. A nil one is off.
type grpcServer struct {
	api      *grpcapi.API
	listener net.Listener
}

// letIn is what decides who is let in, of which each may be nil.
type letIn struct {
	who *auth.Methods
	tls *tls.Config
}

// newGRPC makes the gRPC side and starts to listen. httpAPI is where the HTTP side listens.
func newGRPC(ctx context.Context, jobs *gateway.Gateway, cfg *apiSettings, let letIn, httpAPI net.Listener, on plant) (*grpcServer, error) {
	if cfg.grpcAddr == grpcOff {
		return nil, nil //nolint:nilnil // off is no error
	}
	c := cfg.grpc
	c.Version, c.Limits, c.MaxMessageBytes = version, on.limits, on.limits.MaxBytes
	c.MessageTimeout, c.BulkPatience = cfg.http.BodyTimeout, cfg.http.Streams.BulkPatience
	c.InferTimeout, c.RetryAfter, c.RetryAfterMax = cfg.http.PredictTimeout, cfg.http.RetryAfter, cfg.http.RetryAfterMax
	deps := grpcapi.Deps{Jobs: jobs, Logger: on.logger, Registerer: on.registry}
	if let.who != nil {
		deps.Auth = let.who
	}
	c.TLS = let.tls
	a, err := grpcapi.New(c, deps)
	if err != nil {
		return nil, withCode(exitUsage, byFlag(err))
	}
	l, err := listenGRPC(ctx, cfg.grpcAddr, httpAPI)
	if err != nil {
		return nil, err
	}
	return &grpcServer{a, netutil.LimitListener(l, cfg.maxConnections)}, nil
}

// listenGRPC opens the address of the gRPC API.
func listenGRPC(ctx context.Context, addr string, httpAPI net.Listener) (net.Listener, error) {
	if addr != grpcNext {
		return listen(ctx, "grpc-addr", addr)
	}
	if tcp, ok := httpAPI.Addr().(*net.TCPAddr); ok && tcp.Port < 65535 {
		l, err := listen(ctx, "grpc-addr", net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port+1)))
		if err == nil {
			return l, nil
		}
	}
	return listen(ctx, "grpc-addr", "127.0.0.1:0")
}

// address is how a client on this machine reaches the server.
func (g *grpcServer) address() string {
	host, port, err := net.SplitHostPort(g.listener.Addr().String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return g.listener.Addr().String()
}

// run serves until ctx ends, then gives calls in flight the drain time.
func (g *grpcServer) run(ctx context.Context, drain time.Duration, logger *slog.Logger) error {
	failed := make(chan error, 1)
	go func() { failed <- g.api.Serve(g.listener) }()
	select {
	case err := <-failed:
		if err == nil {
			err = errors.New("the gRPC server ended by itself")
		}
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := g.api.Shutdown(stop); err != nil {
		logger.Warn("gRPC calls were still in flight at the end of the drain time", "error", err)
	}
	return <-failed
}
