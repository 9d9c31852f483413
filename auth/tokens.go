package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Tokens checks JWTs. Its methods may be called from many goroutines.
type Tokens struct {
	cfg  TokenConfig
	keys *keyset
}

// algorithms are all that a token may be signed with. None has a secret that the server would share.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	}
}

// NewTokens takes the issuer's keys, and takes them anew until ctx ends. It fails, with what to do, if they cannot be
// had. A nil logger is silent.
func NewTokens(ctx context.Context, cfg TokenConfig, logger *slog.Logger) (*Tokens, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	t := &Tokens{cfg: cfg, keys: newKeyset(cfg, logger)}
	if err := t.keys.refresh(ctx); err != nil {
		return nil, fmt.Errorf("the keys of the issuer %s cannot be had: check JWT.Issuer, or JWT.JWKS if it is set, and that this machine reaches it: %w",
			cfg.Issuer, err)
	}
	go t.keys.follow(ctx)
	return t, nil
}

// claims of a token.
type claims struct {
	jwt.Claims
	all map[string]any
}

// Authenticate returns whom the issuer says that the token is of; a *Refusal, or ErrUnavailable.
func (t *Tokens) Authenticate(ctx context.Context, text string) (*Principal, error) {
	token, err := jwt.ParseSigned(text, algorithms())
	if err != nil || len(token.Headers) != 1 {
		return nil, refuse("the token is no JWT, or is signed with an algorithm that is not taken: expected RS, PS or ES 256 to 512, or EdDSA")
	}
	// What is not for us is refused before its key is looked for: a forged token must cost no request to the issuer.
	var c claims
	if err := token.UnsafeClaimsWithoutVerification(&c.Claims, &c.all); err != nil {
		return nil, refuse("the claims of the token cannot be read")
	}
	if err := t.check(&c); err != nil {
		return nil, err
	}
	if err := t.verify(ctx, token); err != nil {
		return nil, err
	}
	return t.principal(&c)
}

// verify checks the signature.
func (t *Tokens) verify(ctx context.Context, token *jwt.JSONWebToken) error {
	header := &token.Headers[0]
	verified := func() (known, ok bool) {
		for _, k := range t.keys.of(header.KeyID, header.Algorithm) {
			known = true
			if token.Claims(k.Key) == nil {
				return true, true
			}
		}
		return known, false
	}
	known, ok := verified()
	if ok {
		return nil
	}
	if known && header.KeyID != "" {
		return refuse("the signature of the token is wrong")
	}
	// The issuer may have a new key.
	err := t.keys.renew(ctx)
	if _, ok = verified(); ok {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: the issuer's keys cannot be had: %w", ErrUnavailable, err)
	}
	return refuse("the token is signed with a key that the issuer does not have")
}

// check looks at what every token has to have.
func (t *Tokens) check(c *claims) error {
	err := c.ValidateWithLeeway(jwt.Expected{Issuer: t.cfg.Issuer, AnyAudience: jwt.Audience{t.cfg.Audience}, Time: time.Now()}, t.cfg.Leeway)
	switch {
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return refuse("the token is of another issuer")
	case errors.Is(err, jwt.ErrInvalidAudience):
		return refuse("the token is for another audience")
	case errors.Is(err, jwt.ErrExpired):
		return refuse("the token is expired")
	case errors.Is(err, jwt.ErrNotValidYet), errors.Is(err, jwt.ErrIssuedInTheFuture):
		return refuse("the token is not valid yet")
	case err != nil:
		return refuse("the claims of the token are not what is expected")
	case c.Expiry == nil:
		return refuse("the token never expires: expected the claim exp")
	}
	return nil
}
