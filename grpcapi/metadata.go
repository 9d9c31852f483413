package grpcapi

import (
	"context"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/sheafml/sheaf/job"
)

// Metadata that calls may have, named as the headers of HTTP are.
const (
	metaKey         = "idempotency-key"
	metaDeadline    = "sheaf-deadline"
	metaLane        = "sheaf-lane"
	metaTraceParent = "traceparent"
)

// takeMetadata reads what ModelInfer is told besides its message. place is that of the request in its stream.
func (q *inference) takeMetadata(ctx context.Context, place string) error {
	r := &q.Request
	r.TraceParent = traceParent(ctx)
	key, err := one(ctx, metaKey)
	if err == nil && key != "" {
		r.IdempotencyKey, err = parseKey(metaKey, key+place)
	}
	if err != nil {
		return err
	}
	lane, err := one(ctx, metaLane)
	if err == nil && lane != "" {
		if r.Lane, err = job.ParseLane(lane); err != nil {
			return job.Invalidf(metaLane, `expected "interactive" or "bulk"`)
		}
	}
	if err != nil {
		return err
	}
	text, err := one(ctx, metaDeadline)
	if err != nil || text == "" {
		return err
	}
	deadline, err := time.Parse(time.RFC3339, text)
	if ms, numErr := strconv.ParseInt(text, 10, 64); numErr == nil {
		deadline, err = time.UnixMilli(ms), nil
	}
	if err != nil {
		return job.Errorf(job.CodeMalformed, metaDeadline, "expected RFC 3339, such as 2026-01-02T15:04:05Z, or milliseconds since the Unix epoch")
	}
	if err := checkDeadline(metaDeadline, deadline); err != nil {
		return err
	}
	r.Deadline = deadline
	return nil
}

// one returns the value of a metadata entry that may be given once, "" if there is none.
func one(ctx context.Context, key string) (string, error) {
	values := metadata.ValueFromIncomingContext(ctx, key)
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	}
	return "", job.Errorf(job.CodeMalformed, key, "expected one entry, got several")
}

// maxKey bounds an idempotency key, in bytes.
const maxKey = 255

// parseKey reads an idempotency key. One that is quoted, as HTTP's draft has it, is the same key as the bare one.
func parseKey(field, key string) (string, error) {
	if n := len(key); n > 1 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	if key == "" || len(key) > maxKey || strings.ContainsFunc(key, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return "", job.Errorf(job.CodeMalformed, field, "expected 1 to %d printable ASCII characters", maxKey)
	}
	return key, nil
}

func checkDeadline(field string, t time.Time) error {
	switch {
	case t.Year() > 9999:
		return job.Errorf(job.CodeMalformed, field, "expected a time before the year 10000")
	case !t.After(time.Now()):
		return job.Invalidf(field, "expected a time in the future")
	}
	return nil
}

// traceParent returns the W3C trace context of a call, "" if it has none or a broken one: the standard says to go on
// without.
func traceParent(ctx context.Context) string {
	s, _ := one(ctx, metaTraceParent)
	if len(s) < 55 || len(s) > 128 || s[2] != '-' || s[35] != '-' || s[52] != '-' || strings.Trim(s, "0123456789abcdef-") != "" {
		return ""
	}
	return s
}
