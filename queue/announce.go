package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// Keys of the bucket are subjects, in which a '.' separates tokens; a name may have one anywhere.
var (
	escapeKey   = strings.NewReplacer(".", "=2E")
	unescapeKey = strings.NewReplacer("=2E", ".")
)

// Announce stores a model's announcement under key, e.g. "digits/1". Nothing is written if it stands there already.
func (q *Queue) Announce(ctx context.Context, key string, value []byte) error {
	return q.withBucket(ctx, "announce "+key, key, func(ctx context.Context, kv jetstream.KeyValue) error {
		e, err := kv.Get(ctx, escapeKey.Replace(key))
		if err == nil && bytes.Equal(e.Value(), value) {
			return nil
		}
		if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) {
			return err
		}
		_, err = kv.Put(ctx, escapeKey.Replace(key), value)
		return err
	})
}

// Withdraw deletes an announcement. It is no error if there is none.
func (q *Queue) Withdraw(ctx context.Context, key string) error {
	return q.withBucket(ctx, "withdraw "+key, key, func(ctx context.Context, kv jetstream.KeyValue) error {
		_, err := kv.Get(ctx, escapeKey.Replace(key))
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return kv.Delete(ctx, escapeKey.Replace(key))
	})
}

func (q *Queue) withBucket(ctx context.Context, what, key string, f func(context.Context, jetstream.KeyValue) error) error {
	for name := range strings.SplitSeq(key, "/") {
		if !job.ValidName(name) {
			return job.Invalidf("key", "expected names of letters, digits, '-', '_' and '.', separated by '/'")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	kv, err := q.js.KeyValue(ctx, bucketModels)
	if err == nil {
		err = f(ctx, kv)
	}
	return requestError(what, err)
}

// WatchAnnouncements calls fn for each announcement there is and each change (value nil: withdrawn), one call at a
// time. It returns when all that there were at the call have been delivered; changes go on until ctx ends.
func (q *Queue) WatchAnnouncements(ctx context.Context, fn func(key string, value []byte)) error {
	kv, err := q.js.KeyValue(ctx, bucketModels)
	if err != nil {
		return requestError("watch announcements", err)
	}
	w, err := kv.WatchAll(ctx)
	if err != nil {
		return requestError("watch announcements", err)
	}
	told := make(map[string]bool)
	for {
		select {
		case e, ok := <-w.Updates():
			if !ok {
				return fmt.Errorf("watch announcements: %w", ErrClosed)
			}
			if e != nil {
				// The bucket keeps a mark for what was withdrawn long ago.
				if e.Operation() == jetstream.KeyValuePut || told[e.Key()] {
					told[e.Key()] = true
					tell(fn, e)
				}
				continue
			}
			if !q.spawn(func() { q.follow(ctx, w, fn) }) {
				_ = w.Stop()
				return ErrClosed
			}
			return nil
		case <-ctx.Done():
			_ = w.Stop()
			return fmt.Errorf("watch announcements: %w", ctx.Err())
		}
	}
}

func (q *Queue) follow(ctx context.Context, w jetstream.KeyWatcher, fn func(string, []byte)) {
	for {
		select {
		case e, ok := <-w.Updates():
			if !ok {
				return
			}
			if e != nil {
				tell(fn, e)
			}
		case <-ctx.Done():
			_ = w.Stop()
			return
		case <-q.closed:
			_ = w.Stop()
			return
		}
	}
}

func tell(fn func(string, []byte), e jetstream.KeyValueEntry) {
	key := unescapeKey.Replace(e.Key())
	if e.Operation() != jetstream.KeyValuePut {
		fn(key, nil)
		return
	}
	value := e.Value()
	if value == nil {
		value = []byte{}
	}
	fn(key, value)
}
