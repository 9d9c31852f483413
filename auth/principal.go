package auth

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sheafml/sheaf/job"
)

// Scope is a kind of thing that a caller may do. None implies another.
type Scope string

// The scopes.
const (
	Submit Scope = "submit" // submit and cancel jobs
	Read   Scope = "read"   // see models, and the jobs of the tenant
	Admin  Scope = "admin"  // operate the queue; see metrics
)

// Scopes lists them.
func Scopes() []Scope { return []Scope{Submit, Read, Admin} }

// Kind says what a caller showed.
type Kind string

// The kinds.
const (
	KindKey   Kind = "key"
	KindToken Kind = "token"
)

// Principal is a caller. Nil stands for everybody, where no authentication is configured: it may do everything, and has
// the default tenant.
type Principal struct {
	Kind   Kind
	ID     string // of the key, or the subject of the token
	Tenant string // whose jobs it submits and sees
	Scopes []Scope
	Models []string // that it may use and see; empty: all
	Rate   *Rate    // of its own; nil: the default
}

// Has reports whether the caller has a scope.
func (p *Principal) Has(s Scope) bool { return p == nil || slices.Contains(p.Scopes, s) }

// Sees reports whether the caller may use and see a model.
func (p *Principal) Sees(model string) bool {
	return p == nil || len(p.Models) == 0 || slices.Contains(p.Models, model)
}

// Owner is the tenant whose jobs the caller submits.
func (p *Principal) Owner() string {
	if p == nil {
		return job.DefaultTenant
	}
	return p.Tenant
}

// View is the tenant whose jobs the caller sees and cancels; "" is everybody's.
func (p *Principal) View() string {
	if p == nil {
		return ""
	}
	return p.Tenant
}

// String names the caller for logs, such as "key 7k2m".
func (p *Principal) String() string {
	if p == nil {
		return "anybody"
	}
	return string(p.Kind) + " " + p.ID
}

// contextKey is that of the principal in a context.
type contextKey struct{}

// NewContext returns a context that carries the caller.
func NewContext(ctx context.Context, p *Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// FromContext returns the caller; nil if no authentication is configured.
func FromContext(ctx context.Context) *Principal {
	p, _ := ctx.Value(contextKey{}).(*Principal)
	return p
}

// ParseScopes reads names of scopes. Each fault is named.
func ParseScopes(names []string) ([]Scope, error) {
	var list []Scope
	for _, name := range names {
		s := Scope(strings.TrimSpace(name))
		if !slices.Contains(Scopes(), s) {
			return nil, fmt.Errorf("scope %q: expected submit, read or admin", name)
		}
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list, nil
}
