package auth

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/sheafml/sheaf/job"
)

// TokenConfig says which JWTs are taken. Start from [DefaultTokenConfig].
type TokenConfig struct {
	// Issuer is what the claim iss of each token has to be. Without JWKS it is asked for its keys by OpenID Connect
	// discovery.
	Issuer string
	// JWKS is where the issuer's public keys are, in place of discovery: a URL, or a file.
	JWKS string
	// Audience is what the claim aud has to name.
	Audience string
	// TenantClaim names the claim with the tenant; DefaultTenant is that of a token that has none. Empty: such a token is
	// refused.
	TenantClaim   string
	DefaultTenant string
	// ScopeClaim names the claim with the scopes: a list, or text with spaces between them. What is none of ours is
	// passed over.
	ScopeClaim string
	// ModelsClaim names the claim with the models that a token is for. A token without it is for all.
	ModelsClaim string
	// Leeway is how far the clocks of issuer and server may be apart.
	Leeway time.Duration
	// Refresh is how often the issuer's keys are taken anew. A token with a key that is not known yet asks for them at
	// once, but not more often than every Pause.
	Refresh, Pause time.Duration
}

// DefaultTokenConfig returns the defaults; Issuer and Audience are still needed.
func DefaultTokenConfig() TokenConfig {
	return TokenConfig{
		TenantClaim: "tenant", ScopeClaim: "scope", ModelsClaim: "models",
		Leeway: 30 * time.Second, Refresh: 5 * time.Minute, Pause: 5 * time.Second,
	}
}

// Validate names every fault of the settings.
func (c *TokenConfig) Validate() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Issuer == "" {
		bad("JWT.Issuer is missing: expected what the claim iss of the tokens is, such as https://login.example.com/")
	} else if c.JWKS == "" {
		if err := checkURL(c.Issuer); err != nil {
			bad("JWT.Issuer: %w", err)
		}
	}
	if isURL(c.JWKS) {
		if err := checkURL(c.JWKS); err != nil {
			bad("JWT.JWKS: %w", err)
		}
	}
	if c.Audience == "" {
		bad("JWT.Audience is missing: a token that is meant for another service must not be taken here")
	}
	if c.TenantClaim == "" && c.DefaultTenant == "" {
		bad("JWT.TenantClaim is missing: without it JWT.DefaultTenant is needed")
	}
	if c.DefaultTenant != "" && !job.ValidName(c.DefaultTenant) {
		bad("JWT.DefaultTenant %q: expected letters, digits, '-', '_' and '.', at most 128", c.DefaultTenant)
	}
	if c.ScopeClaim == "" {
		bad("JWT.ScopeClaim is missing: without scopes a token may do nothing")
	}
	if c.Leeway < 0 || c.Leeway > 5*time.Minute {
		bad("JWT.Leeway is %s: expected 0 to 5m", c.Leeway)
	}
	if c.Refresh < time.Second || c.Pause <= 0 {
		bad("JWT.Refresh is %s and JWT.Pause %s: at least a second, and more than 0", c.Refresh, c.Pause)
	}
	return errors.Join(faults...)
}

func isURL(s string) bool { return strings.Contains(s, "://") }

// checkURL refuses a URL from which keys could be had that somebody on the way has put there.
func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("%q: expected a URL such as https://login.example.com/", text)
	}
	if u.User != nil {
		return errors.New("expected a URL without user and password")
	}
	addr, err := netip.ParseAddr(u.Hostname())
	if u.Scheme == "http" && u.Hostname() != "localhost" && (err != nil || !addr.IsLoopback()) {
		return fmt.Errorf("%q: expected https; http is for this machine alone", text)
	}
	return nil
}
