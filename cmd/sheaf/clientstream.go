package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// stream sends a request with a body that may be large, or for an answer that may be. No step towards the answer may take
// longer than the timeout; the whole may take any time.
func (c *client) stream(ctx context.Context, method, path string, header http.Header, body io.Reader) (*http.Response, error) {
	if err := checkPositive("timeout", c.timeout); err != nil {
		return nil, err
	}
	step, cancel := context.WithCancelCause(ctx)
	late := fmt.Errorf("%s did not answer within %s", c.server, c.timeout)
	var answered atomic.Bool // a body may be read on then
	timer := time.AfterFunc(c.timeout, func() {
		if !answered.Load() {
			cancel(late)
		}
	})
	defer timer.Stop()
	if body != nil {
		body = &paced{body, timer, c.timeout}
	}
	resp, err := c.send(step, method, path, header, body, c.timeout)
	answered.Store(true)
	if err != nil {
		if errors.Is(context.Cause(step), late) {
			err = withCode(exitUnreachable, late)
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = &cancelled{resp.Body, func() { cancel(nil) }}
	return resp, nil
}

// paced gives a request its time anew with each piece of its body.
type paced struct {
	io.Reader
	timer *time.Timer
	step  time.Duration
}

// Read implements io.Reader.
func (p *paced) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	p.timer.Reset(p.step)
	return n, err
}

// cancelled lets go of a request with its answer.
type cancelled struct {
	io.ReadCloser
	cancel func()
}

// Close implements io.Closer.
func (c *cancelled) Close() error {
	c.cancel()
	return c.ReadCloser.Close()
}

// answerOf reads an answer whole.
func answerOf(resp *http.Response) (*answer, error) {
	defer resp.Body.Close() //nolint:errcheck // only read
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, withCode(exitUnreachable, fmt.Errorf("read the answer: %w", err))
	}
	return &answer{status: resp.StatusCode, header: resp.Header, body: raw}, nil
}

// lineWriter passes on whole lines only, and counts them: what an answer that is cut off has of a line is dropped.
type lineWriter struct {
	to    io.Writer
	rest  []byte
	lines int64
	err   error // of to
}

// Write implements io.Writer.
func (w *lineWriter) Write(b []byte) (int, error) {
	end := bytes.LastIndexByte(b, '\n') + 1
	if end == 0 {
		w.rest = append(w.rest, b...)
		return len(b), nil
	}
	if len(w.rest) > 0 {
		if _, w.err = w.to.Write(w.rest); w.err != nil {
			return 0, w.err
		}
	}
	if _, w.err = w.to.Write(b[:end]); w.err != nil {
		return 0, w.err
	}
	w.lines += int64(bytes.Count(b[:end], []byte{'\n'}))
	w.rest = append(w.rest[:0], b[end:]...)
	return len(b), nil
}
