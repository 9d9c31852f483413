package auth

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"
)

// keyset is the public keys of an issuer. While it cannot be asked, the keys that were had stay.
type keyset struct {
	fetch   func(context.Context) ([]byte, error)
	every   time.Duration
	pause   time.Duration
	log     *slog.Logger
	flights singleflight.Group

	mu   sync.RWMutex
	keys []jose.JSONWebKey
	last time.Time // when they were asked for
	err  error     // of that
}

// fetchTime bounds one try to get the keys.
const fetchTime = 10 * time.Second

func newKeyset(cfg TokenConfig, logger *slog.Logger) *keyset {
	return &keyset{fetch: sourceOf(cfg), every: cfg.Refresh, pause: cfg.Pause, log: logger}
}

// of returns the keys that may have made a signature.
func (s *keyset) of(kid, algorithm string) []jose.JSONWebKey {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []jose.JSONWebKey
	for _, k := range s.keys {
		if (kid == "" || k.KeyID == kid) && (k.Algorithm == "" || k.Algorithm == algorithm) {
			list = append(list, k)
		}
	}
	return list
}

// refresh asks for the keys. Who comes while they are asked for waits for the same answer.
func (s *keyset) refresh(ctx context.Context) error {
	flight := s.flights.DoChan("", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime)
		defer cancel()
		var keys []jose.JSONWebKey
		raw, err := s.fetch(ctx)
		if err == nil {
			keys, err = parseKeys(raw)
		}
		s.keep(keys, err)
		return nil, err
	})
	select {
	case r := <-flight:
		return r.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// keep takes the keys over, or notes why there are none.
func (s *keyset) keep(keys []jose.JSONWebKey, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil && s.err == nil && !s.last.IsZero():
		s.log.Warn("the keys of the JWT issuer cannot be had; those that are known go on working", "error", err)
	case err == nil && s.err != nil:
		s.log.Info("the keys of the JWT issuer are had again")
	}
	s.last, s.err = time.Now(), err
	if err == nil {
		s.keys = keys
	}
}

// renew is refresh for a token whose key is not known, but not too often: anybody can make up such tokens.
func (s *keyset) renew(ctx context.Context) error {
	s.mu.RLock()
	last, err := s.last, s.err
	s.mu.RUnlock()
	if time.Since(last) < s.pause {
		return err
	}
	return s.refresh(ctx)
}

// follow asks for the keys from time to time, so that one that the issuer took back is not taken any more.
func (s *keyset) follow(ctx context.Context) {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = s.refresh(ctx) // it is logged there
		}
	}
}

// parseKeys reads a JWKS. A key that is of no use here is passed over.
func parseKeys(raw []byte) ([]jose.JSONWebKey, error) {
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, errors.New("what was found is not a JWKS")
	}
	var keys []jose.JSONWebKey
	for _, text := range doc.Keys {
		var k jose.JSONWebKey
		if err := k.UnmarshalJSON(text); err != nil || k.Use != "" && k.Use != "sig" {
			continue
		}
		if public := k.Public(); usable(public.Key) {
			keys = append(keys, public)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the JWKS has no public key for signatures: expected RSA of 2048 bits or more, EC or Ed25519")
	}
	return keys, nil
}

// usable refuses keys that are no public ones, such as those of HMAC, or are weak.
func usable(key any) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return k.N.BitLen() >= 2048
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return true
	}
	return false
}
