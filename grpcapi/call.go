package grpcapi

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
)

// interceptUnary is what every unary call goes through.
func (a *API) interceptUnary(ctx context.Context, q any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (answer any, err error) {
	end := a.metrics.begin(info.FullMethod, false)
	defer func() {
		if v := recover(); v != nil {
			answer, err = nil, a.panicked(ctx, info.FullMethod, v)
		}
		err = a.finish(ctx, info.FullMethod, err, end)
	}()
	known, err := a.authorize(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	return next(known, q)
}

// interceptStream is what every stream goes through.
func (a *API) interceptStream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	end, idle := a.metrics.begin(info.FullMethod, true), idleOf(s.Context())
	defer idle.stop()
	defer func() {
		if v := recover(); v != nil {
			err = a.panicked(s.Context(), info.FullMethod, v)
		}
		err = a.finish(s.Context(), info.FullMethod, err, end)
	}()
	ctx, err := a.authorize(s.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	return next(srv, &callStream{ServerStream: s, ctx: ctx, api: a, method: info.FullMethod, checked: time.Now(), idle: idle})
}

// finish makes a status of a call's error, and logs what is ours to look at.
func (a *API) finish(ctx context.Context, method string, err error, end func(codes.Code)) error {
	s := a.statusOf(ctx, err)
	end(s.Code())
	a.report(ctx, method, s.Code(), err)
	return s.Err()
}

// report logs the outcome of a call, or of one request of a stream.
func (a *API) report(ctx context.Context, method string, code codes.Code, err error) {
	level, what := slog.LevelDebug, "call"
	if err != nil && code == codes.Internal && gateway.ProblemOf(err).Code == job.CodeInternal && !isStatus(err) {
		level, what = slog.LevelError, "a call failed"
	}
	if !a.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.String("method", method), slog.String("code", code.String())}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	a.log.LogAttrs(ctx, level, what, attrs...)
}

func isStatus(err error) bool {
	_, ok := status.FromError(err)
	return ok
}

// panicked logs a panic; the client learns of it no more than that.
func (a *API) panicked(ctx context.Context, method string, v any) error {
	a.log.LogAttrs(ctx, slog.LevelError, "a handler panicked",
		slog.String("method", method), slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
	return status.Error(codes.Internal, "the server failed at this request; its log says why")
}

// errGoingDown ends the streams of a server that is going down.
func errGoingDown() error {
	return &gateway.Problem{Code: gateway.CodeUnavailable, Busy: true, Detail: "the server is going down; connect anew"}
}
