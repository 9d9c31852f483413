package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"log/slog"
	"sync"
	"time"
)

// Keyring knows the keys that are stored. Its methods may be called from many goroutines.
type Keyring struct{ ring *ring }

// NewKeyring reads the keys of a bucket and follows it until ctx ends. A nil logger is silent.
func NewKeyring(ctx context.Context, b Watcher, logger *slog.Logger) (*Keyring, error) {
	k := &Keyring{ring: newRing()}
	if logger != nil {
		k.ring.log = logger
	}
	if err := b.Watch(ctx, k.ring.take); err != nil {
		return nil, err
	}
	return k, nil
}

// Authenticate returns the holder of a key, or a *Refusal. The context is not used: the keys are at hand.
func (k *Keyring) Authenticate(_ context.Context, text string) (*Principal, error) {
	id, secret, ok := splitKey(text)
	if !ok {
		return nil, refuse("the API key is malformed: expected sheaf_, its id, '_' and its secret")
	}
	e := k.ring.get(id)
	sum := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(sum[:], e.sum[:]) != 1 || e.principal == nil {
		return nil, refuse("the API key is not known")
	}
	switch e.key.State(time.Now()) {
	case "revoked":
		return nil, refuse("the API key is revoked")
	case "expired":
		return nil, refuse("the API key is expired")
	}
	return e.principal, nil
}

// ring is the keys by id.
type ring struct {
	log  *slog.Logger
	mu   sync.RWMutex
	keys map[string]entry
	none entry // in place of a key that is not there; its sum is that of no secret
}

// entry is a key that can be read, or why it cannot.
type entry struct {
	key       *Key
	principal *Principal
	sum       [sha256.Size]byte
	fault     error
}

func newRing() *ring {
	return &ring{log: slog.New(slog.DiscardHandler), keys: make(map[string]entry)}
}

func (r *ring) get(id string) entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, ok := r.keys[id]
	if !ok {
		return r.none
	}
	return e
}

// take is told what stands under an id. What cannot be read is a key that nobody has.
func (r *ring) take(id string, value []byte) {
	var e entry
	if value != nil {
		if e.key, e.fault = decodeKey(id, value); e.fault != nil {
			r.log.Warn("an API key cannot be read, and is refused", "key", id, "error", e.fault)
		} else {
			k := e.key
			_, _ = hex.Decode(e.sum[:], []byte(k.SHA256)) // decodeKey has seen that it is one
			e.principal = &Principal{Kind: KindKey, ID: k.ID, Tenant: k.Tenant, Scopes: k.Scopes, Models: k.Models, Rate: k.Rate}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if value == nil {
		delete(r.keys, id)
		return
	}
	r.keys[id] = e
}
