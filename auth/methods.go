package auth

import (
	"context"
	"errors"
	"strings"
)

// Methods are the ways in which callers may say who they are, at least one of them.
type Methods struct {
	Keys   *Keyring // nil: API keys are not taken
	Tokens *Tokens  // nil: JWTs are not taken
}

// Validate reports Methods that would let nobody in.
func (m *Methods) Validate() error {
	if m.Keys == nil && m.Tokens == nil {
		return errors.New("no way to authenticate is given: expected keys, jwt or both")
	}
	return nil
}

// maxBearer bounds what is looked at.
const maxBearer = 16 << 10

// Authenticate returns who shows these credentials. An error is a *Refusal, or ErrUnavailable.
func (m *Methods) Authenticate(ctx context.Context, bearer string) (*Principal, error) {
	isKey := strings.HasPrefix(bearer, keyPrefix)
	switch {
	case len(bearer) > maxBearer:
		return nil, refuse("the credentials are too long")
	case isKey && m.Keys != nil:
		return m.Keys.Authenticate(ctx, bearer)
	case isKey:
		return nil, refuse("API keys are not taken here, only tokens of the issuer")
	case m.Tokens != nil:
		return m.Tokens.Authenticate(ctx, bearer)
	}
	return nil, refuse("this is no API key, and tokens are not taken here")
}
