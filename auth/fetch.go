package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/coreos/go-oidc/v3/oidc"
)

// maxDocument bounds what an issuer may answer, in bytes.
const maxDocument = 1 << 20

// sourceOf returns how the keys are had.
func sourceOf(cfg TokenConfig) func(context.Context) ([]byte, error) {
	client := &http.Client{Transport: bounded{http.DefaultTransport}, CheckRedirect: checkRedirect}
	switch {
	case cfg.JWKS == "":
		return func(ctx context.Context) ([]byte, error) { return discovered(ctx, client, cfg.Issuer) }
	case isURL(cfg.JWKS):
		return func(ctx context.Context) ([]byte, error) { return get(ctx, client, cfg.JWKS) }
	}
	return func(context.Context) ([]byte, error) {
		raw, err := os.ReadFile(cfg.JWKS)
		if err == nil && len(raw) > maxDocument {
			err = fmt.Errorf("%s is larger than %d bytes", cfg.JWKS, maxDocument)
		}
		return raw, err
	}
}

// discovered asks the issuer where its keys are, and gets them.
func discovered(ctx context.Context, client *http.Client, issuer string) ([]byte, error) {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, client), issuer)
	if err != nil {
		const most = 300 // the error may have all of the answer in it
		if text := err.Error(); len(text) > most {
			err = errors.New(text[:most] + "…")
		}
		return nil, fmt.Errorf("OpenID Connect discovery: %w", err)
	}
	var doc struct {
		URI string `json:"jwks_uri"`
	}
	if err := provider.Claims(&doc); err != nil {
		return nil, fmt.Errorf("OpenID Connect discovery: %w", err)
	}
	if err := checkURL(doc.URI); err != nil {
		return nil, fmt.Errorf("OpenID Connect discovery: jwks_uri: %w", err)
	}
	return get(ctx, client, doc.URI)
}

func get(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", url, resp.Status)
	}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", url, err)
	}
	return raw, nil
}

// checkRedirect follows to where an issuer may be, and not for long.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > 3 {
		return errors.New("too many redirects")
	}
	return checkURL(req.URL.String())
}

// bounded ends an answer that is too long with an error.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxDocument)
	}
	return resp, err
}
