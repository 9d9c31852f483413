package auth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sheafml/sheaf/job"
)

// Bucket keeps the keys, by id; a *queue.Bucket does.
type Bucket interface {
	Create(ctx context.Context, key string, value []byte) error
	Put(ctx context.Context, key string, value []byte) error
	Get(ctx context.Context, key string) ([]byte, error) // job.ErrNotFound if there is none
	Watcher
}

// Watcher calls fn for each key there is, returns, and goes on with changes (value nil: deleted), one call at a time.
type Watcher interface {
	Watch(ctx context.Context, fn func(key string, value []byte)) error
}

// Issue makes a key as k says, stores it, and returns it with the text that its holder sends. The text is nowhere else.
func Issue(ctx context.Context, b Bucket, k Key, now time.Time) (text string, made *Key, err error) {
	k.Created = now.UTC().Truncate(time.Second)
	if err := k.Validate(); err != nil {
		return "", nil, err
	}
	text = k.generate()
	value, err := json.Marshal(&k)
	if err == nil {
		err = b.Create(ctx, k.ID, value)
	}
	if err != nil {
		return "", nil, fmt.Errorf("store the key: %w", err)
	}
	return text, &k, nil
}

// ErrNoKey says that there is no key of an id.
var ErrNoKey = errors.New("there is no such key")

// Revoke marks a key as revoked. A key that is revoked already stays as it is.
func Revoke(ctx context.Context, b Bucket, id, by string, now time.Time) (*Key, error) {
	if !validID(id) {
		return nil, fmt.Errorf("%w: an id has %d characters, as `sheaf key ls` shows it", ErrNoKey, idChars)
	}
	value, err := b.Get(ctx, id)
	if errors.Is(err, job.ErrNotFound) {
		return nil, ErrNoKey
	}
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	k, err := decodeKey(id, value)
	if err != nil {
		return nil, fmt.Errorf("the key %s cannot be read: %w", id, err)
	}
	if k.Revoked != nil {
		return k, nil
	}
	at := now.UTC().Truncate(time.Second)
	k.Revoked, k.Revoker = &at, by
	if value, err = json.Marshal(k); err == nil {
		err = b.Put(ctx, id, value)
	}
	if err != nil {
		return nil, fmt.Errorf("store that the key is revoked: %w", err)
	}
	return k, nil
}

// List returns all keys, the oldest first, and says which cannot be read.
func List(ctx context.Context, b Watcher) (keys []Key, unreadable []string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ring := newRing()
	if err := b.Watch(ctx, ring.take); err != nil {
		return nil, nil, fmt.Errorf("list the keys: %w", err)
	}
	ring.mu.RLock()
	defer ring.mu.RUnlock()
	for id, e := range ring.keys {
		if e.fault != nil {
			unreadable = append(unreadable, fmt.Sprintf("%s: %v", id, e.fault))
			continue
		}
		keys = append(keys, *e.key)
	}
	slices.Sort(unreadable)
	slices.SortFunc(keys, func(a, b Key) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return keys, unreadable, nil
}
