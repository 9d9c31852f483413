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
	w := watch{q: q, fn: fn, told: make(map[string]told)}
	_, w.changed = q.link.state()
	if err := w.begin(ctx); err != nil {
		return requestError("watch announcements", err)
	}
	for w.behind {
		select {
		case e, ok := <-w.updates.Updates():
			if !ok {
				return fmt.Errorf("watch announcements: %w", ErrClosed)
			}
			w.take(e)
		case <-ctx.Done():
			_ = w.updates.Stop()
			return fmt.Errorf("watch announcements: %w", ctx.Err())
		}
	}
	if !q.spawn(func() { w.follow(ctx) }) {
		_ = w.updates.Stop()
		return ErrClosed
	}
	return nil
}

// watch follows the bucket. After a lost connection it begins anew, and tells what is new.
type watch struct {
	q       *Queue
	fn      func(key string, value []byte)
	updates jetstream.KeyWatcher
	changed <-chan struct{} // closed when the connection is lost or restored
	behind  bool            // what there was at the beginning has not all been delivered
	told    map[string]told
	round   int // counts the beginnings
}

// told is which entry of a key was told last, or seen again in a later round.
type told struct {
	revision  uint64
	created   time.Time // a bucket that was lost and made again counts revisions from 1
	withdrawn bool
	round     int
}

func (w *watch) begin(ctx context.Context) error {
	kv, err := w.q.js.KeyValue(ctx, bucketModels)
	if err != nil {
		return err
	}
	w.updates, err = kv.WatchAll(ctx)
	w.behind = err == nil
	w.round++
	return err
}

func (w *watch) follow(ctx context.Context) {
	defer func() { _ = w.updates.Stop() }()
	for {
		select {
		case e, ok := <-w.updates.Updates():
			if !ok {
				return
			}
			w.take(e)
		case <-w.changed:
			if !w.resume(ctx) {
				return
			}
		case <-ctx.Done():
			return
		case <-w.q.closed:
			return
		}
	}
}

// resume begins anew if the connection is restored. false if the watch is over.
func (w *watch) resume(ctx context.Context) bool {
	var up bool
	if up, w.changed = w.q.link.state(); !up {
		return true
	}
	_ = w.updates.Stop()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := w.begin(ctx)
		if err == nil {
			return true
		}
		w.q.log.Warn("announcements of models cannot be watched yet", "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		case <-w.q.closed:
			return false
		}
	}
}

// take tells of an entry, if it is new. nil marks the end of what there was at the beginning.
func (w *watch) take(e jetstream.KeyValueEntry) {
	if e == nil {
		w.behind = false
		w.withdrawLost()
		return
	}
	last, known := w.told[e.Key()]
	now := told{e.Revision(), e.Created(), e.Operation() != jetstream.KeyValuePut, w.round}
	if !known && now.withdrawn {
		return // the bucket keeps a mark for what was withdrawn long ago
	}
	w.told[e.Key()] = now
	if known && last.revision == now.revision && last.created.Equal(now.created) {
		return
	}
	key := unescapeKey.Replace(e.Key())
	if now.withdrawn {
		w.fn(key, nil)
		return
	}
	value := e.Value()
	if value == nil {
		value = []byte{}
	}
	w.fn(key, value)
}

// withdrawLost tells of keys that are not in the bucket any more, without a mark: the server has lost them.
func (w *watch) withdrawLost() {
	for key, t := range w.told {
		if t.round == w.round {
			continue
		}
		delete(w.told, key)
		if !t.withdrawn {
			w.fn(unescapeKey.Replace(key), nil)
		}
	}
}
