package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// Vault keeps small secrets for all processes; a *queue.Bucket does. GetRevision returns job.ErrNotFound for what is not
// there, Create queue.ErrExists and Update queue.ErrChanged if somebody else was faster.
type Vault interface {
	Ensure(ctx context.Context) error
	GetRevision(ctx context.Context, key string) (value []byte, revision uint64, err error)
	Create(ctx context.Context, key string, value []byte) error
	Update(ctx context.Context, key string, value []byte, revision uint64) error
}

// BucketName is the bucket that all processes keep them in.
const BucketName = "webhooks"

// Secrets are what webhooks are signed with: one for each tenant, derived from a master secret that is made when it is
// first needed.
type Secrets struct {
	vault   Vault
	overlap time.Duration

	mu    sync.Mutex
	known map[string]knownKeys // for signing, see keys
}

type knownKeys struct {
	keys  [][]byte
	until time.Time
}

const (
	masterKey = "master"
	tenantKey = "tenant/" // and the tenant
	keyBytes  = 32
	// keysFor is how long a process signs without looking whether the secret was rotated. Until then it signs with the old
	// one, which a receiver accepts for far longer.
	keysFor = 10 * time.Second
	// knownMost bounds the tenants whose keys are remembered.
	knownMost = 10_000
	// oldMost bounds how many rotated secrets sign beside the new one.
	oldMost = 3
)

// NewSecrets returns the secrets that the vault keeps. overlap is how long a rotated one goes on to sign.
func NewSecrets(vault Vault, overlap time.Duration) *Secrets {
	return &Secrets{vault: vault, overlap: overlap, known: make(map[string]knownKeys)}
}

// rotation is what the vault says of a tenant.
type rotation struct {
	Generation int          `json:"generation"`
	Old        []generation `json:"old,omitempty"`
}

// generation is a rotated secret that still signs.
type generation struct {
	Number int       `json:"generation"`
	Until  time.Time `json:"until"`
}

// Secret returns the tenant's secret as receivers are given it: "whsec_" and base64.
func (s *Secrets) Secret(ctx context.Context, tenant string) (string, error) {
	master, r, _, err := s.read(ctx, tenant)
	if err != nil {
		return "", err
	}
	return format(derive(master, tenant, r.Generation)), nil
}

// Rotate makes a new secret for the tenant and returns it. The old one signs beside it for the time of the overlap.
func (s *Secrets) Rotate(ctx context.Context, tenant string) (string, error) {
	for {
		master, r, revision, err := s.read(ctx, tenant)
		if err != nil {
			return "", err
		}
		now := time.Now()
		next := rotation{Generation: r.Generation + 1, Old: []generation{{r.Generation, now.Add(s.overlap).UTC()}}}
		for _, g := range r.Old {
			if now.Before(g.Until) && len(next.Old) < oldMost {
				next.Old = append(next.Old, g)
			}
		}
		value, err := json.Marshal(next)
		if err != nil {
			return "", fmt.Errorf("encode a rotation: %w", err)
		}
		if revision == 0 {
			err = s.vault.Create(ctx, tenantKey+tenant, value)
		} else {
			err = s.vault.Update(ctx, tenantKey+tenant, value, revision)
		}
		if (errors.Is(err, queue.ErrExists) || errors.Is(err, queue.ErrChanged)) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return "", err
		}
		s.mu.Lock()
		delete(s.known, tenant)
		s.mu.Unlock()
		return format(derive(master, tenant, next.Generation)), nil
	}
}

// keys are what a message to the tenant is signed with now, the newest first.
func (s *Secrets) keys(ctx context.Context, tenant string) ([][]byte, error) {
	now := time.Now()
	s.mu.Lock()
	k, ok := s.known[tenant]
	s.mu.Unlock()
	if ok && now.Before(k.until) {
		return k.keys, nil
	}
	master, r, _, err := s.read(ctx, tenant)
	if err != nil {
		return nil, err
	}
	k = knownKeys{keys: [][]byte{derive(master, tenant, r.Generation)}, until: now.Add(keysFor)}
	for _, g := range r.Old {
		if now.Before(g.Until) {
			k.keys = append(k.keys, derive(master, tenant, g.Number))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= knownMost {
		clear(s.known)
	}
	s.known[tenant] = k
	return k.keys, nil
}

// read returns the master secret and what is said of the tenant; revision is 0 if nothing is.
func (s *Secrets) read(ctx context.Context, tenant string) (master []byte, r rotation, revision uint64, err error) {
	if !job.ValidName(tenant) {
		return nil, r, 0, job.Invalidf("tenant", "not a valid name of a tenant")
	}
	if master, err = s.master(ctx); err != nil {
		return nil, r, 0, err
	}
	value, revision, err := s.vault.GetRevision(ctx, tenantKey+tenant)
	if errors.Is(err, job.ErrNotFound) {
		return master, r, 0, nil
	}
	if err != nil {
		return nil, r, 0, err
	}
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, r, 0, fmt.Errorf("what is kept of the webhook secret of tenant %s cannot be read: %w", tenant, err)
	}
	return master, r, revision, nil
}

// master reads the master secret, and makes it if there is none: whoever is first makes it for all.
func (s *Secrets) master(ctx context.Context) ([]byte, error) {
	for {
		value, _, err := s.vault.GetRevision(ctx, masterKey)
		if err == nil && len(value) != keyBytes {
			return nil, fmt.Errorf("the master secret of webhooks has %d bytes, expected %d", len(value), keyBytes)
		}
		if !errors.Is(err, job.ErrNotFound) {
			return value, err
		}
		fresh := make([]byte, keyBytes)
		if _, err := rand.Read(fresh); err != nil {
			return nil, fmt.Errorf("make the master secret of webhooks: %w", err)
		}
		if err := s.vault.Ensure(ctx); err != nil {
			return nil, err
		}
		err = s.vault.Create(ctx, masterKey, fresh)
		if err == nil {
			return fresh, nil
		}
		if !errors.Is(err, queue.ErrExists) || ctx.Err() != nil {
			return nil, err
		}
	}
}

func derive(master []byte, tenant string, generation int) []byte {
	mac := hmac.New(sha256.New, master)
	mac.Write([]byte("sheaf webhook\x00" + tenant + "\x00" + strconv.Itoa(generation))) // no name of a tenant has a NUL
	return mac.Sum(nil)
}

func format(key []byte) string { return secretPrefix + base64.StdEncoding.EncodeToString(key) }
