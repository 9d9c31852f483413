package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sheafml/sheaf/httpapi"
	"github.com/sheafml/sheaf/job"
)

// countTime is how long the server may take to count dead letters, beyond the timeout of an answer.
const countTime = time.Minute

// httpAdmin asks the HTTP API.
type httpAdmin struct{ client *client }

func (h *httpAdmin) close() {}

func (h *httpAdmin) header() http.Header {
	return http.Header{"Content-Type": {"application/json"}}
}

// do sends a request and decodes the answer; a nil into is not decoded.
func (h *httpAdmin) do(ctx context.Context, method, path string, body, into any) error {
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return err
		}
	}
	a, err := h.client.do(ctx, method, path, h.header(), raw, countTime)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK {
		return a.problem()
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(a.body, into); err != nil {
		return fmt.Errorf("the server's answer is not understood: %w", err)
	}
	return nil
}

// pageSize is the most that a page of the server has.
const pageSize = 1000

func (h *httpAdmin) list(ctx context.Context, s httpapi.DeadSelection, limit int, fn func(*httpapi.DeadLetter)) (count int, maxSeq uint64, err error) {
	query := queryOf(&s)
	for first := true; first || limit > 0; first = false {
		query.Set("limit", strconv.Itoa(min(limit, pageSize)))
		var page httpapi.DeadList
		if err := h.do(ctx, http.MethodGet, "/v1/admin/dead?"+query.Encode(), nil, &page); err != nil {
			return 0, 0, err
		}
		if first {
			count, maxSeq = page.Count, page.MaxSeq
		}
		for i := range page.Letters {
			fn(&page.Letters[i])
		}
		if limit -= len(page.Letters); page.Cursor == "" || len(page.Letters) == 0 {
			break
		}
		query.Set("cursor", page.Cursor)
		query.Set("max_seq", strconv.FormatUint(maxSeq, 10))
	}
	return count, maxSeq, nil
}

func queryOf(s *httpapi.DeadSelection) url.Values {
	q := url.Values{}
	for name, value := range map[string]string{
		"lane": s.Lane, "model": s.Model, "tenant": s.Tenant, "reason": s.Reason, "code": s.Code,
		"older_than": s.OlderThan, "newer_than": s.NewerThan, "job": s.Job,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	for _, seq := range s.Seqs {
		q.Add("seqs", strconv.FormatUint(seq, 10))
	}
	if s.MaxSeq > 0 {
		q.Set("max_seq", strconv.FormatUint(s.MaxSeq, 10))
	}
	return q
}

func (h *httpAdmin) show(ctx context.Context, seq uint64, data bool) (*httpapi.DeadLetter, error) {
	var l httpapi.DeadLetter
	path := fmt.Sprintf("/v1/admin/dead/%d?data=%v", seq, data)
	if err := h.do(ctx, http.MethodGet, path, nil, &l); err != nil {
		return nil, err
	}
	return &l, nil
}

func (h *httpAdmin) act(ctx context.Context, done string, s httpapi.DeadSelection, count int, deadline string, fn func(*httpapi.DeadEvent)) error {
	path := "/v1/admin/dead/requeue"
	if done == httpapi.DeadPurged {
		path = "/v1/admin/dead/purge"
	}
	raw, err := json.Marshal(struct {
		httpapi.DeadSelection
		Confirm  int    `json:"confirm"`
		Deadline string `json:"deadline,omitempty"`
	}{s, count, deadline})
	if err != nil {
		return err
	}
	return h.stream(ctx, path, raw, fn)
}

// stream reads an answer that comes a line at a time, for as long as lines come.
func (h *httpAdmin) stream(parent context.Context, path string, body []byte, fn func(*httpapi.DeadEvent)) error {
	silence := h.client.timeout + countTime
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	silent := withCode(exitUnreachable, fmt.Errorf("%s did not answer within %s", h.client.server, silence))
	timer := time.AfterFunc(silence, func() { cancel(silent) })
	defer timer.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(h.client.server, "/")+path, bytes.NewReader(body))
	if err != nil {
		return withCode(exitUsage, err)
	}
	req.Header = h.header()
	h.client.authorize(req)
	if err := h.client.tls.apply(h.client.http); err != nil {
		return err
	}
	resp, err := h.client.http.Do(req)
	if err != nil {
		return h.lost(parent, ctx, err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusOK {
		raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		return (&answer{status: resp.StatusCode, header: resp.Header, body: raw}).problem()
	}
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return h.lost(parent, ctx, err)
		}
		timer.Reset(silence)
		var e httpapi.DeadEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("the server's answer is not understood: %w", err)
		}
		if e.Done == nil {
			fn(&e)
			continue
		}
		if e.Done.Error != "" {
			return fmt.Errorf("the server ended before all was done: %s", e.Done.Error)
		}
		return nil
	}
}

// lost is the error of an answer that broke off.
func (h *httpAdmin) lost(parent, ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case parent.Err() != nil:
		return parent.Err()
	case cause != nil:
		return cause
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return withCode(exitUnreachable, fmt.Errorf("the answer of %s broke off before its end", h.client.server))
	}
	return withCode(exitUnreachable, fmt.Errorf("cannot reach %s (is `sheaf dev` or `sheaf serve` running? --server names another): %w", h.client.server, err))
}

func (h *httpAdmin) lanes(ctx context.Context) ([]httpapi.Lane, error) {
	var answer struct {
		Lanes []httpapi.Lane `json:"lanes"`
	}
	err := h.do(ctx, http.MethodGet, "/v1/admin/queues", nil, &answer)
	return answer.Lanes, err
}

func (h *httpAdmin) setPause(ctx context.Context, lane job.Lane, model, until string, resume bool) error {
	verb, body := "pause", map[string]string{}
	if resume {
		verb = "resume"
	}
	for name, value := range map[string]string{"model": model, "until": until} {
		if value != "" {
			body[name] = value
		}
	}
	return h.do(ctx, http.MethodPost, "/v1/admin/queues/"+lane.String()+"/"+verb, body, nil)
}
