package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// maxAnswer bounds what a client verb reads of one answer, in bytes.
const maxAnswer = 256 << 20

// client speaks the HTTP API for the client verbs.
type client struct {
	server  string // base URL
	timeout time.Duration
	key     string // API key or token; empty: none
	tls     clientTLS
	http    *http.Client
}

// clientFlags adds --server, --api-key and --timeout.
func clientFlags(cmd *cobra.Command) *client {
	c := &client{http: &http.Client{}}
	fs := cmd.Flags()
	fs.StringVar(&c.server, "server", "http://127.0.0.1:8080", "base `URL` of the HTTP API")
	fs.DurationVar(&c.timeout, "timeout", 10*time.Second, "how long one answer may take beyond what was asked to wait")
	fs.StringVar(&c.key, "api-key", "", "API key, or JWT, to show to the HTTP API; better given by the environment")
	asSettings(fs, "server", "timeout", "api-key")
	c.tls.flags(cmd)
	return c
}

// authorize shows the API key.
func (c *client) authorize(req *http.Request) {
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
}

// answer is one HTTP answer, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// jobView is what the client verbs read of a job; outputs stay raw.
type jobView struct {
	ID           string          `json:"id"`
	Status       string          `json:"status"`
	Model        string          `json:"model"`
	ModelVersion string          `json:"model_version"`
	Attempts     int             `json:"attempts"`
	Outputs      []outputView    `json:"outputs"`
	Error        *problemView    `json:"error"`
	Timings      json.RawMessage `json:"timings"`
	Position     *int            `json:"position"`
}

type outputView struct {
	Name     string          `json:"name"`
	Datatype string          `json:"datatype"`
	Shape    []int64         `json:"shape"`
	Data     json.RawMessage `json:"data"`
}

type problemView struct {
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Field  string `json:"field"`
}

func (p *problemView) String() string {
	parts := []string{}
	for _, s := range []string{p.Title, p.Field, p.Detail} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ": ")
}

// do sends one request and reads the answer. wait is how long the server was asked to hold it.
func (c *client) do(ctx context.Context, method, path string, header http.Header, body []byte, wait time.Duration) (*answer, error) {
	if err := checkPositive("timeout", c.timeout); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout+wait)
	defer cancel()
	resp, err := c.send(ctx, method, path, header, bytes.NewReader(body), c.timeout+wait)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, withCode(exitUnreachable, fmt.Errorf("read the answer of %s: %w", c.server, err))
	}
	return &answer{status: resp.StatusCode, header: resp.Header, body: raw}, nil
}

// send sends one request and returns its answer, to be read. patience is how long ctx lets it take.
func (c *client) send(ctx context.Context, method, path string, header http.Header, body io.Reader, patience time.Duration) (*http.Response, error) {
	base, err := url.Parse(c.server)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" {
		return nil, withCode(exitUsage, fmt.Errorf("--server %q: expected a URL such as http://127.0.0.1:8080", c.server))
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.server, "/")+path, body)
	if err != nil {
		return nil, withCode(exitUsage, err)
	}
	if header != nil {
		req.Header = header
	}
	c.authorize(req)
	if err := c.tls.apply(c.http); err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var netErr net.Error
		switch {
		case errors.Is(err, context.Canceled):
			return nil, context.Canceled
		case errors.As(err, &netErr) && netErr.Timeout():
			return nil, withCode(exitUnreachable, fmt.Errorf("%s did not answer within %s", c.server, patience))
		}
		return nil, withCode(exitUnreachable, fmt.Errorf("cannot reach %s (is `sheaf dev` or `sheaf serve` running? --server names another): %w", c.server, err))
	}
	return resp, nil
}

// problem turns an answer that is not a success into an error with its exit code.
func (a *answer) problem() error {
	var p problemView
	if json.Unmarshal(a.body, &p) != nil || p.Title == "" && p.Detail == "" {
		p.Title = http.StatusText(a.status)
	}
	code := exitFailure
	switch a.status {
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		code = exitUnreachable
	}
	hint := ""
	if a.status == http.StatusUnauthorized {
		hint = " (--api-key or SHEAF_API_KEY gives the key)"
	}
	return withCode(code, fmt.Errorf("the server answered %d: %s%s", a.status, p.String(), hint))
}

func (a *answer) job() (*jobView, error) {
	var j jobView
	if err := json.Unmarshal(a.body, &j); err != nil {
		return nil, fmt.Errorf("the server's answer is not a job: %w", err)
	}
	return &j, nil
}

// terminal reports whether the job is finished.
func (j *jobView) terminal() bool {
	switch j.Status {
	case "succeeded", "failed", "canceled", "expired":
		return true
	}
	return false
}

// pollPause is the pause between two polls of a server that does not hold them.
const pollPause = 250 * time.Millisecond

// await polls until the job is finished or wait is over, and returns the last answer.
func (c *client) await(ctx context.Context, id string, wait time.Duration) (*answer, *jobView, error) {
	deadline := time.Now().Add(wait)
	for {
		left := max(0, time.Until(deadline))
		step := min(left, 20*time.Second)
		path := "/v1/jobs/" + url.PathEscape(id)
		if step > 0 {
			path += "?wait=" + step.Round(time.Millisecond).String()
		}
		asked := time.Now()
		a, err := c.do(ctx, http.MethodGet, path, nil, nil, step)
		if err != nil {
			return nil, nil, err
		}
		if a.status != http.StatusOK {
			return nil, nil, a.problem()
		}
		j, err := a.job()
		if err != nil {
			return nil, nil, err
		}
		if j.terminal() || time.Now().Add(step/100).After(deadline) {
			return a, j, nil
		}
		if time.Since(asked) < step/2 {
			// The server did not wait: it is about to end, or has too many waiters. Asking again at once would help neither.
			select {
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			case <-time.After(min(pollPause, max(0, time.Until(deadline)))):
			}
		}
	}
}
