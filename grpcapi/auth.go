package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/gateway"
)

// Authenticator says who shows a bearer token; an *auth.Methods does. Its error is an *auth.Refusal, or
// auth.ErrUnavailable.
type Authenticator interface {
	Authenticate(ctx context.Context, bearer string) (*auth.Principal, error)
}

// anybody is the scope of methods that need none.
const anybody auth.Scope = "anybody"

// authorize returns the context with the caller of a method, or says why the caller may not call it.
func (a *API) authorize(ctx context.Context, method string) (context.Context, error) {
	need, known := a.scopes[method]
	switch {
	case !known: // so that a method that is forgotten in the table is not open
		return nil, &gateway.Problem{Code: gateway.CodeForbidden, Detail: "the method is not served"}
	case a.deps.Auth == nil || need == anybody:
		return ctx, nil
	}
	bearer, err := auth.Bearer(metadata.ValueFromIncomingContext(ctx, "authorization"))
	if err != nil || bearer == "" {
		detail := "expected the metadata authorization: Bearer with an API key or a token"
		if err != nil {
			detail = err.Error()
		}
		return nil, &gateway.Problem{Code: gateway.CodeUnauthorized, Detail: detail}
	}
	p, err := a.deps.Auth.Authenticate(ctx, bearer)
	var refusal *auth.Refusal
	switch {
	case errors.As(err, &refusal):
		return nil, &gateway.Problem{Code: gateway.CodeUnauthorized, Detail: refusal.Reason}
	case errors.Is(err, auth.ErrUnavailable):
		return nil, &gateway.Problem{Code: gateway.CodeUnavailable, Busy: true, Cause: err, Detail: "the token cannot be checked now: its issuer is out of reach; try again later"}
	case err != nil:
		return nil, fmt.Errorf("authenticate: %w", err)
	case p == nil:
		return nil, errors.New("authenticate: neither a caller nor an error")
	case !p.Has(need):
		return nil, &gateway.Problem{Code: gateway.CodeForbidden, Detail: fmt.Sprintf("this %s does not have the scope %s", p.Kind, need)}
	}
	return auth.NewContext(ctx, p), nil
}

// callStream is a stream whose context knows the caller.
type callStream struct {
	grpc.ServerStream
	ctx     context.Context //nolint:containedctx // it is the stream's own, as grpc has it
	api     *API
	method  string
	checked time.Time // when the caller was asked for; of who reads the stream
	idle    *idle
}

// Context implements grpc.ServerStream.
func (s *callStream) Context() context.Context { return s.ctx }

// RecvMsg implements grpc.ServerStream. A stream does not outlive its caller's leave.
func (s *callStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	s.idle.move()
	return s.stillAllowed()
}

// SendMsg implements grpc.ServerStream.
func (s *callStream) SendMsg(m any) error {
	if err := s.ServerStream.SendMsg(m); err != nil {
		return err
	}
	s.idle.move()
	return nil
}

// stillAllowed asks once more whether the caller may call, if that was CallerInterval ago: its key may have been revoked
// since, or its token expired. Where that cannot be known now it is left at what was known.
func (s *callStream) stillAllowed() error {
	if s.api.deps.Auth == nil || time.Since(s.checked) < s.api.cfg.CallerInterval {
		return nil
	}
	s.checked = time.Now()
	_, err := s.api.authorize(s.ctx, s.method)
	if err == nil || gateway.ProblemOf(err).Code == gateway.CodeUnavailable {
		return nil
	}
	return err
}
