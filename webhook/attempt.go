package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// newClient makes the client of all attempts. It uses no proxy of the environment, follows no redirect and keeps no
// cookies. What it connects to is asked of the policy at each connection.
func newClient(cfg *Config, p *Policy, resolver *net.Resolver, roots *x509.CertPool) *http.Client {
	d := &net.Dialer{Timeout: cfg.Timeout, Control: p.control, Resolver: resolver}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            d.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
			TLSHandshakeTimeout:    cfg.Timeout,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true,
			MaxIdleConns:           cfg.Concurrency,
			MaxIdleConnsPerHost:    cfg.PerHost,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 16 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       cfg.Timeout,
	}
}

// maxAnswer is how much of an answer is read, so that its connection can be used again.
const maxAnswer = 16 << 10

// attempt is what came of one.
type attempt struct {
	outcome string // as the metrics have it
	err     error  // nil: delivered. It does not repeat the URL.
	after   time.Duration
}

// attempt sends the payload once.
func (s *Sender) attempt(ctx context.Context, target, id string, body []byte, keys [][]byte) attempt {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return attempt{outcome: "error", err: errors.New("the URL cannot be called")}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "sheaf")
	now := time.Now()
	sign(req.Header, id, now, body, keys)
	resp, err := s.client.Do(req)
	if err != nil {
		return failed(err)
	}
	defer func() {
		_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // its end, or the connection, is of no interest
		_ = resp.Body.Close()
	}()
	switch code := resp.StatusCode; {
	case code >= 200 && code < 300:
		return attempt{outcome: "delivered"}
	case code == http.StatusGone:
		return attempt{outcome: "gone", err: errGone}
	case code >= 300 && code < 400:
		return attempt{outcome: "status", err: fmt.Errorf("the receiver answers %d: redirects are not followed, name the URL that it leads to", code)}
	default:
		return attempt{outcome: "status", err: fmt.Errorf("the receiver answers %d", code), after: retryAfter(resp.Header, now)}
	}
}

// failed says what came of an attempt without an answer.
func failed(err error) attempt {
	var timeout net.Error
	plain := err
	if of, ok := errors.AsType[*url.Error](err); ok {
		plain = of.Err // without the URL
	}
	switch {
	case errors.Is(err, errRefused):
		return attempt{outcome: "refused", err: fmt.Errorf("the host leads to an address that is %w", plain)}
	case errors.As(err, &timeout) && timeout.Timeout():
		return attempt{outcome: "timeout", err: errors.New("no answer in time")}
	}
	return attempt{outcome: "error", err: errors.New(strings.ToValidUTF8(plain.Error(), ""))}
}
