package auth_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/job"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shelf is a bucket in memory, for tests in which time is not real.
type shelf struct {
	mu     sync.Mutex
	values map[string][]byte
	tell   []func(string, []byte)
}

func (s *shelf) Put(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values == nil {
		s.values = make(map[string][]byte)
	}
	s.values[key] = value
	for _, fn := range s.tell {
		fn(key, value)
	}
	return nil
}

func (s *shelf) Create(ctx context.Context, key string, value []byte) error {
	return s.Put(ctx, key, value)
}

func (s *shelf) Get(_ context.Context, key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.values[key]; ok {
		return v, nil
	}
	return nil, job.ErrNotFound
}

func (s *shelf) Watch(_ context.Context, fn func(string, []byte)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, value := range maps.All(s.values) {
		fn(key, value)
	}
	s.tell = append(s.tell, fn)
	return nil
}

// refused fails the test unless err is a refusal that says why, and does not quote the credentials.
func refused(t testing.TB, err error, why, credentials string) {
	t.Helper()
	var r *auth.Refusal
	if !errors.As(err, &r) || !strings.Contains(r.Reason, why) {
		t.Errorf("expected a refusal with %q, got %v", why, err)
	}
	if err != nil && len(credentials) > 8 && strings.Contains(err.Error(), credentials[len(credentials)-8:]) {
		t.Errorf("the refusal has the credentials in it: %v", err)
	}
}
