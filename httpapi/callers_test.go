package httpapi_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/httpapi"
	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// shelf is a bucket of keys in memory.
type shelf struct {
	mu     sync.Mutex
	values map[string][]byte
	tell   func(string, []byte)
}

func (s *shelf) Put(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[key] = value
	s.tell(key, value)
	return nil
}

func (s *shelf) Create(ctx context.Context, key string, value []byte) error {
	return s.Put(ctx, key, value)
}

func (s *shelf) Get(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values[key], nil
}

func (s *shelf) Watch(_ context.Context, fn func(string, []byte)) error {
	s.tell = fn
	return nil
}

// callers are those whom an API knows: holders of keys, and of tokens of an issuer.
type callers struct {
	methods *auth.Methods
	shelf   *shelf
	issuer  *testserver.Issuer
}

func newCallers(t testing.TB) *callers {
	t.Helper()
	c := &callers{shelf: &shelf{values: make(map[string][]byte)}, issuer: testserver.NewIssuer(t)}
	ring, err := auth.NewKeyring(t.Context(), c.shelf, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := auth.DefaultTokenConfig()
	cfg.Issuer, cfg.Audience, cfg.Pause = c.issuer.URL(), testserver.Audience, time.Nanosecond
	tokens, err := auth.NewTokens(t.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.methods = &auth.Methods{Keys: ring, Tokens: tokens}
	return c
}

// key makes a key; its tenant is the default one and its scopes are submit and read, unless k says others.
func (c *callers) key(t testing.TB, k auth.Key) string {
	t.Helper()
	if k.Tenant == "" {
		k.Tenant = job.DefaultTenant
	}
	if k.Scopes == nil {
		k.Scopes = []auth.Scope{auth.Submit, auth.Read}
	}
	text, _, err := auth.Issue(t.Context(), c.shelf, k, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// guarded is a rig whose callers have to say who they are, with every route there is.
func guarded(t testing.TB, change func(*config, *deps)) (*rig, *callers) {
	t.Helper()
	who := newCallers(t)
	return newRig(t, func(c *config, d *deps) {
		d.Auth, d.Operator, d.Batches, c.AdminLocal = who.methods, nobody{}, noBatches{}, true
		if change != nil {
			change(c, d)
		}
	}), who
}

// nobody is an Operator of a queue without anything in it.
type nobody struct{ httpapi.Operator }

func (nobody) Lanes(context.Context) ([]queue.LaneState, error) { return nil, nil }
func (nobody) DeadLetters(context.Context, queue.DeadFilter, func(*queue.DeadLetter) error) error {
	return nil
}

func (nobody) DeadLetterAt(context.Context, uint64) (*queue.DeadLetter, error) {
	return nil, job.ErrNotFound
}
func (nobody) Pause(context.Context, job.Lane, string, time.Time) error { return nil }
func (nobody) Resume(context.Context, job.Lane, string) error           { return nil }

func as(key string) []string { return []string{"Authorization", "Bearer " + key} }
