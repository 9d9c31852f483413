package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// Bucket keeps what is configuration rather than a job's state, in a key-value bucket: the models that are announced,
// API keys. A key is names of letters, digits, '-', '_' and '.', separated by '/'.
type Bucket struct {
	q    *Queue
	name string // as the server knows it
	tree bool   // see TreeBucket
	age  time.Duration
}

// Bucket returns the bucket of a name such as "keys", which the server knows as "sheaf-keys". It asks nobody.
func (q *Queue) Bucket(name string) *Bucket { return &Bucket{q: q, name: bucketPrefix + name} }

// Keys of the bucket are subjects, in which a '.' separates tokens; a name may have one anywhere.
var (
	escapeKey   = strings.NewReplacer(".", "=2E")
	unescapeKey = strings.NewReplacer("=2E", ".")
)

// Ensure creates the bucket if there is none, safely in many processes at once. While JetStream is still getting ready
// it tries again, for the connect timeout.
func (b *Bucket) Ensure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.q.cfg.ConnectTimeout)
	defer cancel()
	return requestError("prepare bucket "+b.name, b.q.patiently(ctx, b.ensure))
}

func (b *Bucket) ensure(ctx context.Context) error {
	_, err := b.q.js.KeyValue(ctx, b.name)
	if !errors.Is(err, jetstream.ErrBucketNotFound) {
		return err
	}
	_, err = b.q.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket:      b.name,
		Description: "Sheaf: " + strings.TrimPrefix(b.name, bucketPrefix),
		History:     1,
		Storage:     jetstream.FileStorage,
		Replicas:    b.q.cfg.Replicas,
		TTL:         b.age,
	})
	if errors.Is(err, jetstream.ErrBucketExists) {
		return nil
	}
	return err
}

// Put stores a value under key. Nothing is written if it stands there already.
func (b *Bucket) Put(ctx context.Context, key string, value []byte) error {
	return b.with(ctx, "write", key, func(ctx context.Context, kv jetstream.KeyValue) error {
		e, err := kv.Get(ctx, b.escape(key))
		if err == nil && bytes.Equal(e.Value(), value) {
			return nil
		}
		if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
			return err
		}
		_, err = kv.Put(ctx, b.escape(key), value)
		return err
	})
}

// Create stores a value under a key that has none; ErrExists if it has.
func (b *Bucket) Create(ctx context.Context, key string, value []byte) error {
	return b.with(ctx, "create", key, func(ctx context.Context, kv jetstream.KeyValue) error {
		_, err := kv.Create(ctx, b.escape(key), value)
		if errors.Is(err, jetstream.ErrKeyExists) {
			return ErrExists
		}
		return err
	})
}

// Get returns the value under key; job.ErrNotFound if there is none, or no bucket.
func (b *Bucket) Get(ctx context.Context, key string) (value []byte, err error) {
	err = b.with(ctx, "read", key, func(ctx context.Context, kv jetstream.KeyValue) error {
		e, err := kv.Get(ctx, b.escape(key))
		if err == nil {
			value = e.Value()
		}
		return err
	})
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, job.ErrNotFound
	}
	return value, err
}

// Delete removes the value under key. It is no error if there is none.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	return b.with(ctx, "delete", key, func(ctx context.Context, kv jetstream.KeyValue) error {
		_, err := kv.Get(ctx, b.escape(key))
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if b.tree {
			return b.forget(ctx, key)
		}
		return kv.Delete(ctx, b.escape(key))
	})
}

// Watch calls fn for each key there is and each change (value nil: deleted), one call at a time. It returns when all
// that there were at the call have been delivered; changes go on until ctx ends. After a lost connection it begins
// anew, and tells what is new.
func (b *Bucket) Watch(ctx context.Context, fn func(key string, value []byte)) error {
	w := watch{b: b, fn: fn, told: make(map[string]told)}
	_, w.changed = b.q.link.state()
	what := "watch bucket " + b.name
	if err := w.begin(ctx); err != nil {
		return requestError(what, err)
	}
	for w.behind {
		select {
		case e, ok := <-w.updates.Updates():
			if !ok {
				return fmt.Errorf("%s: %w", what, ErrClosed)
			}
			w.take(e)
		case <-ctx.Done():
			_ = w.updates.Stop()
			return fmt.Errorf("%s: %w", what, ctx.Err())
		}
	}
	if !b.q.spawn(func() { w.follow(ctx) }) {
		_ = w.updates.Stop()
		return ErrClosed
	}
	return nil
}

func (b *Bucket) with(ctx context.Context, what, key string, f func(context.Context, jetstream.KeyValue) error) error {
	for name := range strings.SplitSeq(key, "/") {
		if !job.ValidName(name) {
			return job.Invalidf("key", "expected names of letters, digits, '-', '_' and '.', separated by '/'")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, b.q.cfg.RequestTimeout)
	defer cancel()
	kv, err := b.q.js.KeyValue(ctx, b.name)
	if err == nil {
		err = f(ctx, kv)
	}
	return requestError(what+" "+key+" of bucket "+b.name, err)
}
