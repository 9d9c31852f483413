package queue_test

import (
	"errors"
	"testing"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// Of two who change what they have read only the first one does.
func TestBucketUpdate(t *testing.T) {
	t.Parallel()
	b := ready(t, nil).Bucket("test")
	ctx := t.Context()
	if _, _, err := b.GetRevision(ctx, "a/b.c"); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("in no bucket: %v", err)
	}
	if err := b.Ensure(ctx); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.GetRevision(ctx, "a/b.c"); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("a value that is not there: %v", err)
	}
	if err := b.Create(ctx, "a/b.c", []byte("one")); err != nil {
		t.Fatal(err)
	}
	value, revision, err := b.GetRevision(ctx, "a/b.c")
	if err != nil || string(value) != "one" {
		t.Fatalf("got %q, %v", value, err)
	}
	if err := b.Update(ctx, "a/b.c", []byte("two"), revision); err != nil {
		t.Fatal(err)
	}
	if err := b.Update(ctx, "a/b.c", []byte("three"), revision); !errors.Is(err, queue.ErrChanged) {
		t.Errorf("changed twice: %v", err)
	}
	if value, err = b.Get(ctx, "a/b.c"); err != nil || string(value) != "two" {
		t.Errorf("got %q, %v", value, err)
	}
}
