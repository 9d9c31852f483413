package queue

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// TreeBucket is a Bucket whose keys can be listed by what they begin with. Its values are forgotten when they have not
// been written for age (0: never), which also clears the marks of deleted ones away.
//
// Its keys stand in the server as tokens of a subject; those of a Bucket are one token each, and stay so.
func (q *Queue) TreeBucket(name string, age time.Duration) *Bucket {
	return &Bucket{q: q, name: bucketPrefix + name, tree: true, age: age}
}

// Names are letters, digits, '-', '_' and '.': a '/' is the only one.
var (
	escapeTree   = strings.NewReplacer(".", "=2E", "/", ".")
	unescapeTree = strings.NewReplacer("=2E", ".", ".", "/")
)

func (b *Bucket) escape(key string) string {
	if b.tree {
		return escapeTree.Replace(key)
	}
	return escapeKey.Replace(key)
}

func (b *Bucket) unescape(key string) string {
	if b.tree {
		return unescapeTree.Replace(key)
	}
	return unescapeKey.Replace(key)
}

// Keys lists the keys of a TreeBucket that are below, such as those of tenant "a" below "a", or all if it is "": sorted.
func (b *Bucket) Keys(ctx context.Context, below string) ([]string, error) {
	if below != "" && !job.ValidName(below) {
		return nil, job.Invalidf("key", "expected a name of letters, digits, '-', '_' and '.'")
	}
	ctx, cancel := context.WithTimeout(ctx, b.q.cfg.RequestTimeout)
	defer cancel()
	keys, err := b.list(ctx, below)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, nil
	}
	return keys, requestError("list bucket "+b.name, err)
}

func (b *Bucket) list(ctx context.Context, below string) ([]string, error) {
	kv, err := b.q.js.KeyValue(ctx, b.name)
	if err != nil {
		return nil, err
	}
	filter := ">"
	if below != "" {
		filter = b.escape(below) + ".>"
	}
	lister, err := kv.ListKeysFiltered(ctx, filter)
	if err != nil {
		return nil, err
	}
	defer func() { _ = lister.Stop() }()
	var keys []string
	for {
		select {
		case key, ok := <-lister.Keys():
			if !ok {
				slices.Sort(keys)
				return keys, ctx.Err()
			}
			keys = append(keys, b.unescape(key))
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
