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
// been written for age (0: never). A Watch does not tell of those that are deleted.
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

// list asks the stream for its subjects, all at one moment. A watch would miss a key that is written while it begins: of its
// value only the last is kept.
func (b *Bucket) list(ctx context.Context, below string) ([]string, error) {
	stream, err := b.stream(ctx)
	if err != nil {
		return nil, err
	}
	filter := ">"
	if below != "" {
		filter = b.escape(below) + ".>"
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(b.subject(filter)))
	if err != nil {
		return nil, err
	}
	keys := make([]string, 0, len(info.State.Subjects))
	for subject := range info.State.Subjects {
		keys = append(keys, b.unescape(strings.TrimPrefix(subject, b.subject(""))))
	}
	slices.Sort(keys)
	return keys, nil
}

// forget deletes a key of a TreeBucket and leaves no mark, which would be listed.
func (b *Bucket) forget(ctx context.Context, key string) error {
	stream, err := b.stream(ctx)
	if err != nil {
		return err
	}
	return stream.Purge(ctx, jetstream.WithPurgeSubject(b.subject(b.escape(key))))
}

// stream is what the bucket is made of, as NATS' ADR-8 has it.
func (b *Bucket) stream(ctx context.Context) (jetstream.Stream, error) {
	s, err := b.q.js.Stream(ctx, "KV_"+b.name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, jetstream.ErrBucketNotFound
	}
	return s, err
}

func (b *Bucket) subject(token string) string { return "$KV." + b.name + "." + token }
