package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/queue"
)

// bucketKeys is the bucket that the API keys are in.
const bucketKeys = "keys"

// authSettings say who may call the API, and how often.
type authSettings struct {
	methods []string
	tokens  auth.TokenConfig
	rate    auth.Rate
}

// authFlags adds the settings of who may call.
func authFlags(cmd *cobra.Command) *authSettings {
	s := &authSettings{tokens: auth.DefaultTokenConfig()}
	fs := cmd.Flags()
	fs.StringSliceVar(&s.methods, "auth", nil, "how callers say who they are: `LIST` of keys (see sheaf key) and jwt; default: not at all")
	fs.StringVar(&s.tokens.Issuer, "jwt-issuer", "", "`URL` of the OpenID Connect issuer of the JWTs: what their claim iss is")
	fs.StringVar(&s.tokens.JWKS, "jwt-jwks", "", "`URL` or file of the issuer's keys (JWKS); default: found by discovery")
	fs.StringVar(&s.tokens.Audience, "jwt-audience", "", "what the claim aud of a JWT has to name")
	fs.StringVar(&s.tokens.TenantClaim, "jwt-tenant-claim", s.tokens.TenantClaim, "claim with the tenant; a.b is b in a")
	fs.StringVar(&s.tokens.DefaultTenant, "jwt-default-tenant", "", "tenant of JWTs without that claim; default: they are refused")
	fs.StringVar(&s.tokens.ScopeClaim, "jwt-scope-claim", s.tokens.ScopeClaim, "claim with the scopes submit, read and admin: a list, or text with spaces between")
	fs.StringVar(&s.tokens.ModelsClaim, "jwt-models-claim", s.tokens.ModelsClaim, "claim with the models that a JWT is for; a JWT without it is for all")
	fs.DurationVar(&s.tokens.Leeway, "jwt-leeway", s.tokens.Leeway, "how far the clocks of issuer and server may be apart")
	fs.Float64Var(&s.rate.PerSecond, "rate-limit", 0, "jobs a second that a key, or the subject of a JWT, may submit to this process; 0 is no limit. A key may have a limit of its own")
	fs.IntVar(&s.rate.Burst, "rate-burst", 0, "jobs that it may submit at once; 0 is a second's worth")
	asSettings(fs, "auth", "jwt-issuer", "jwt-jwks", "jwt-audience", "jwt-tenant-claim", "jwt-default-tenant", "jwt-scope-claim",
		"jwt-models-claim", "jwt-leeway", "rate-limit", "rate-burst")
	return s
}

// enabled reports whether callers have to say who they are.
func (s *authSettings) enabled() bool { return len(s.methods) > 0 }

func (s *authSettings) has(method string) bool { return slices.Contains(s.methods, method) }

// validate names every fault. A setting that would have no effect is one: who set it believes that it protects.
func (s *authSettings) validate() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	for _, m := range s.methods {
		if m != "keys" && m != "jwt" {
			bad("--auth %q: expected keys, jwt or both, as keys,jwt", m)
		}
	}
	t := &s.tokens
	if s.has("jwt") {
		faults = append(faults, t.Validate())
	} else {
		for flag, value := range map[string]string{
			"jwt-issuer": t.Issuer, "jwt-jwks": t.JWKS, "jwt-audience": t.Audience, "jwt-default-tenant": t.DefaultTenant,
		} {
			if value != "" {
				bad("--%s is set, but --auth does not name jwt", flag)
			}
		}
	}
	if err := s.rate.Validate(); err != nil {
		bad("--rate-limit, --rate-burst: %w", err)
	}
	if s.rate != (auth.Rate{}) && !s.enabled() {
		bad("--rate-limit needs --auth: without it nobody knows whose jobs they are")
	}
	if s.rate.Burst > 0 && s.rate.PerSecond == 0 {
		bad("--rate-burst needs --rate-limit")
	}
	return errors.Join(faults...)
}

// check is validate with its exit code.
func (s *authSettings) check() error { return withCode(exitUsage, byFlag(s.validate())) }

// open returns what tells callers apart, until ctx ends; nil if they are not told apart. The settings were checked.
func (s *authSettings) open(ctx context.Context, q *queue.Queue, logger *slog.Logger) (*auth.Methods, error) {
	if !s.enabled() {
		return nil, nil //nolint:nilnil // it says that nobody is asked
	}
	m := &auth.Methods{}
	if s.has("keys") {
		bucket := q.Bucket(bucketKeys)
		err := bucket.Ensure(ctx)
		if err == nil {
			m.Keys, err = auth.NewKeyring(ctx, bucket, logger)
		}
		if err != nil {
			return nil, withCode(exitUnreachable, err)
		}
	}
	if s.has("jwt") {
		var err error
		if m.Tokens, err = auth.NewTokens(ctx, s.tokens, logger); err != nil {
			return nil, withCode(exitUnreachable, byFlag(err))
		}
	}
	return m, m.Validate()
}
