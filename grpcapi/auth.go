package grpcapi

import (
	"context"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/sheafml/sheaf/gateway"
)

// Scope is what a caller must be allowed to do before a method is served to it.
type Scope string

// The scopes of methods.
const (
	ScopeOpen   Scope = ""       // anybody
	ScopeRead   Scope = "read"   // look at models and jobs
	ScopeSubmit Scope = "submit" // submit and cancel jobs
)

// Caller is who calls.
type Caller struct {
	// Tenant is whose jobs the caller submits, sees and cancels. Empty: it submits the default tenant's and sees
	// everybody's.
	Tenant string
	// Allows reports whether the caller may use a model. Nil: any.
	Allows func(model string) bool
}

// Authenticator says who is calling. bearer is the credential of the metadata "authorization: Bearer …", empty if there
// is none. The error is told as a *gateway.Problem is: unauthorized where it is not known who calls, forbidden where the
// caller has not the scope.
type Authenticator interface {
	Authenticate(ctx context.Context, bearer string, needs Scope) (Caller, error)
}

// callerKey is what the Caller stands under in a context.
type callerKey struct{}

// callerOf returns who calls: nobody in particular where there is no authentication.
func callerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// authenticate returns ctx with the caller in it, if the caller may call the method.
func (a *API) authenticate(ctx context.Context, method string) (context.Context, error) {
	scope, known := a.scopes[method]
	switch {
	case !known: // so that a method that is forgotten in the table is not open
		return nil, &gateway.Problem{Code: gateway.CodeForbidden, Detail: "the method is not served"}
	case scope == ScopeOpen || a.deps.Authenticator == nil:
		return ctx, nil
	}
	bearer, err := bearerOf(ctx)
	if err != nil {
		return nil, err
	}
	caller, err := a.deps.Authenticator.Authenticate(ctx, bearer, scope)
	if err != nil {
		return nil, err
	}
	return context.WithValue(ctx, callerKey{}, caller), nil
}

// bearerOf reads the credential of a call.
func bearerOf(ctx context.Context) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) == 0 {
		return "", nil
	}
	kind, bearer, _ := strings.Cut(values[0], " ")
	bearer = strings.TrimSpace(bearer)
	if len(values) > 1 || !strings.EqualFold(kind, "Bearer") || bearer == "" {
		return "", &gateway.Problem{Code: gateway.CodeUnauthorized, Field: "authorization", Detail: "expected one metadata entry: authorization: Bearer and an API key or a token"}
	}
	return bearer, nil
}
