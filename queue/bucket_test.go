package queue_test

import (
	"context"
	"errors"
	"testing"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

func TestABucketKeepsWhatIsPutIntoIt(t *testing.T) {
	q := connect(t, testConfig(testserver.NATS(t)))
	b, other := q.Bucket("keys"), q.Bucket("others")
	if _, err := b.Get(t.Context(), "a"); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("of a bucket that is not there: %v", err)
	}
	for range 2 { // the second time it is there
		if err := errors.Join(b.Ensure(t.Context()), other.Ensure(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Create(t.Context(), "a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), "a", []byte("2")); !errors.Is(err, queue.ErrExists) {
		t.Errorf("created twice: %v", err)
	}
	if v, err := b.Get(t.Context(), "a"); err != nil || string(v) != "1" {
		t.Errorf("%q, %v", v, err)
	}
	if _, err := other.Get(t.Context(), "a"); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("another bucket has it too: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes := make(chan change, 10)
	err := b.Watch(ctx, func(key string, value []byte) {
		if value == nil {
			value = []byte(withdrawn)
		}
		changes <- change{key, string(value)}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(other.Put(t.Context(), "a", []byte("x")), b.Put(t.Context(), "a", []byte("3")), b.Delete(t.Context(), "a")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []change{{"a", "1"}, {"a", "3"}, {"a", withdrawn}} {
		if got := next(t, changes); got != want {
			t.Errorf("expected %v, got %v", want, got)
		}
	}
	if _, err := b.Get(t.Context(), "a"); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("after the delete: %v", err)
	}
	if _, err := b.Get(t.Context(), "a b"); err == nil || errors.Is(err, job.ErrNotFound) {
		t.Errorf("a key that is none: %v", err)
	}
}
