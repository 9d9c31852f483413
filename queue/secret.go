package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// bucketSecrets keeps what signs webhooks. Whoever may read JetStream can read it.
const bucketSecrets = "sheaf-secrets"

// ErrConflict says that somebody else was faster: look again.
var ErrConflict = errors.New("the entry was changed meanwhile")

// Secret returns the entry of a key, and its revision for UpdateSecret. job.ErrNotFound: there is none.
func (q *Queue) Secret(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	err = q.withSecrets(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		e, err := kv.Get(ctx, escapeKey.Replace(key))
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

// CreateSecret stores an entry if there is none; ErrConflict if there is one.
func (q *Queue) CreateSecret(ctx context.Context, key string, value []byte) error {
	err := q.withSecrets(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		_, err := kv.Create(ctx, escapeKey.Replace(key), value)
		return err
	})
	if errors.Is(err, jetstream.ErrKeyExists) {
		return ErrConflict
	}
	return err
}

// UpdateSecret replaces the entry that has this revision; ErrConflict if it has another.
func (q *Queue) UpdateSecret(ctx context.Context, key string, value []byte, revision uint64) error {
	err := q.withSecrets(ctx, func(ctx context.Context, kv jetstream.KeyValue) error {
		_, err := kv.Update(ctx, escapeKey.Replace(key), value, revision)
		return err
	})
	if errors.Is(err, jetstream.ErrKeyExists) {
		return ErrConflict
	}
	return err
}

// withSecrets makes the bucket if there is none.
func (q *Queue) withSecrets(ctx context.Context, f func(context.Context, jetstream.KeyValue) error) error {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	kv, err := q.js.KeyValue(ctx, bucketSecrets)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = q.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
			Bucket:      bucketSecrets,
			Description: "Sheaf: what signs webhooks",
			History:     1,
			Storage:     jetstream.FileStorage,
			Replicas:    q.cfg.Replicas,
		})
		if errors.Is(err, jetstream.ErrBucketExists) {
			kv, err = q.js.KeyValue(ctx, bucketSecrets)
		}
	}
	if err == nil {
		err = f(ctx, kv)
	}
	if err != nil {
		return requestError("secrets of webhooks", fmt.Errorf("bucket %s: %w", bucketSecrets, err))
	}
	return nil
}
