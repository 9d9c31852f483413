package batch

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// ErrKeyReused says that another batch was asked for under the key.
var ErrKeyReused = errors.New("the key was used for another batch")

// Once makes Create the same batch however often it is called with it. The zero Once does not.
type Once struct {
	Key string
	// Asked is the digest of what is asked: under a key that is nothing else.
	Asked [sha256.Size]byte
}

// claim is what is kept of a key: whose batch it made, or will make.
type claim struct {
	Batch string    `json:"batch"`
	Asked string    `json:"asked"` // Once.Asked in hex
	At    time.Time `json:"at"`
}

// claims keeps the claims, under tenant and the key's digest.
type claims struct {
	bucket *queue.Bucket
	age    time.Duration // for which they count
}

func (k claims) name(tenant, key string) string {
	sum := sha256.Sum256([]byte(key))
	return tenant + "/" + hex.EncodeToString(sum[:])
}

// get returns the claim of a key, nil if there is none that counts.
func (k claims) get(ctx context.Context, tenant, key string) (*claim, uint64, error) {
	value, revision, err := k.bucket.GetRevision(ctx, k.name(tenant, key))
	if errors.Is(err, job.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	var c claim
	if err := json.Unmarshal(value, &c); err != nil {
		return nil, 0, fmt.Errorf("read what is kept of an Idempotency-Key: %w", err)
	}
	if time.Since(c.At) > k.age {
		return nil, revision, nil
	}
	return &c, revision, nil
}

// take claims a key for a batch, and returns the claim that counts: somebody may have been faster.
func (k claims) take(ctx context.Context, tenant string, once *Once, batch string) (*claim, error) {
	mine := claim{Batch: batch, Asked: hex.EncodeToString(once.Asked[:]), At: time.Now().UTC()}
	value, err := json.Marshal(&mine)
	if err != nil {
		return nil, fmt.Errorf("claim an Idempotency-Key: %w", err)
	}
	for {
		known, revision, err := k.get(ctx, tenant, once.Key)
		if known != nil || err != nil {
			return known, err
		}
		name := k.name(tenant, once.Key)
		if revision == 0 {
			err = k.bucket.Create(ctx, name, value)
		} else {
			err = k.bucket.Update(ctx, name, value, revision)
		}
		if !errors.Is(err, queue.ErrExists) && !errors.Is(err, queue.ErrChanged) {
			return &mine, err
		}
		if err := rest(ctx, changedPause); err != nil {
			return nil, err
		}
	}
}

// made returns the batch of a claim. ok is false while it has no record: it may not have been accepted.
func (s *Service) made(ctx context.Context, tenant string, c *claim, once *Once) (b Batch, ok bool, err error) {
	if c.Asked != hex.EncodeToString(once.Asked[:]) {
		return b, false, ErrKeyReused
	}
	r, _, err := s.records.get(ctx, tenant, c.Batch)
	if errors.Is(err, job.ErrNotFound) {
		return b, false, nil
	}
	if err != nil {
		return b, false, err
	}
	return r.view(s.cfg.Retention), true, nil
}
