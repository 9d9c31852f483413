package queue

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// ErrChanged says that a value is not the one that was read any more: look again.
var ErrChanged = errors.New("the value was changed meanwhile")

// GetRevision is Get, with the revision for Update.
func (b *Bucket) GetRevision(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	err = b.with(ctx, "read", key, func(ctx context.Context, kv jetstream.KeyValue) error {
		e, err := kv.Get(ctx, b.escape(key))
		if err == nil {
			value, revision = e.Value(), e.Revision()
		}
		return err
	})
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, 0, job.ErrNotFound
	}
	return value, revision, err
}

// Update replaces the value that has this revision; ErrChanged if it has another.
func (b *Bucket) Update(ctx context.Context, key string, value []byte, revision uint64) error {
	_, err := b.Replace(ctx, key, value, revision)
	return err
}

// Replace is Update, with the new revision. After ErrUnavailable the value may have been replaced all the same.
func (b *Bucket) Replace(ctx context.Context, key string, value []byte, revision uint64) (next uint64, err error) {
	err = b.with(ctx, "update", key, func(ctx context.Context, kv jetstream.KeyValue) (err error) {
		next, err = kv.Update(ctx, b.escape(key), value, revision)
		if errors.Is(err, jetstream.ErrKeyExists) {
			return ErrChanged
		}
		return err
	})
	return next, err
}
