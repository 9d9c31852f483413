package queue

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// watch follows the bucket. After a lost connection it begins anew, and tells what is new.
type watch struct {
	b       *Bucket
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
	kv, err := w.b.q.js.KeyValue(ctx, w.b.name)
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
		case <-w.b.q.closed:
			return
		}
	}
}

// resume begins anew if the connection is restored. false if the watch is over.
func (w *watch) resume(ctx context.Context) bool {
	var up bool
	if up, w.changed = w.b.q.link.state(); !up {
		return true
	}
	_ = w.updates.Stop()
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := w.begin(ctx)
		if err == nil {
			return true
		}
		w.b.q.log.Warn("a bucket cannot be watched yet", "bucket", w.b.name, "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		case <-w.b.q.closed:
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
	key := w.b.unescape(e.Key())
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
			w.fn(w.b.unescape(key), nil)
		}
	}
}
