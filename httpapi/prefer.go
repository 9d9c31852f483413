package httpapi

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sheafml/sheaf/job"
)

// preference is what of RFC 7240's Prefer the API knows. Preferences that it does not know, or cannot read, are
// ignored, as the RFC asks.
type preference struct {
	async bool // respond-async
	wait  time.Duration
	waits bool // there is a wait
}

// parsePrefer reads the Prefer headers of a request. Of a preference that is given twice the first counts.
func parsePrefer(headers []string) preference {
	var p preference
	for _, header := range headers {
		for _, item := range splitQuoted(header, ',') {
			name, value, valued := strings.Cut(splitQuoted(item, ';')[0], "=")
			name, value = strings.TrimSpace(name), strings.TrimSpace(value)
			switch {
			case strings.EqualFold(name, "respond-async") && (!valued || unquote(value) == ""):
				p.async = true
			case strings.EqualFold(name, "wait") && !p.waits:
				if d, ok := seconds(unquote(value)); ok {
					p.wait, p.waits = d, true
				}
			}
		}
	}
	return p
}

// splitQuoted splits s at sep, but not inside a quoted string. It returns one part at least.
func splitQuoted(s string, sep byte) []string {
	var parts []string
	start, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == sep && !quoted:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

// unquote returns the content of a quoted string, or s if it is none. Escapes stay: no value that we know has any.
func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// seconds reads a whole number of seconds. One too large for a Duration is the largest.
func seconds(s string) (time.Duration, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n > int64(math.MaxInt64/time.Second) {
		return math.MaxInt64, true
	}
	return time.Duration(n) * time.Second, true
}

// applied sets Preference-Applied to what was followed.
func (p preference) applied(h http.Header, async, wait bool, waited time.Duration) {
	var list []string
	if p.async && async {
		list = append(list, "respond-async")
	}
	if wait {
		list = append(list, "wait="+strconv.FormatInt(int64(waited/time.Second), 10))
	}
	if len(list) > 0 {
		h.Set("Preference-Applied", strings.Join(list, ", "))
	}
}

// parseWait reads the query's wait: "20s", "500ms" or whole seconds, "20". It is 0 if there is none.
func parseWait(values []string) (time.Duration, error) {
	if len(values) == 0 {
		return 0, nil
	}
	if d, ok := seconds(values[0]); ok {
		return d, nil
	}
	d, err := time.ParseDuration(values[0])
	if err != nil || d < 0 {
		return 0, malformed("wait", `expected a time to wait such as "20s", or whole seconds such as "20"`)
	}
	return d, nil
}

// parseDeadline reads Sheaf-Deadline: RFC 3339, or milliseconds since the Unix epoch.
func parseDeadline(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if ms, numErr := strconv.ParseInt(s, 10, 64); numErr == nil {
		t, err = time.UnixMilli(ms), nil
	}
	switch {
	case err != nil || t.Year() > 9999:
		return time.Time{}, malformed(job.HeaderDeadline, "expected RFC 3339, such as 2026-01-02T15:04:05Z, or milliseconds since the Unix epoch")
	case !t.After(time.Now()):
		return time.Time{}, job.Invalidf(job.HeaderDeadline, "expected a time in the future")
	}
	return t, nil
}

// maxKey bounds an Idempotency-Key, in bytes.
const maxKey = 255

// headerKey is the header that makes a repeated submit the same job.
const headerKey = "Idempotency-Key"

// parseKey reads an Idempotency-Key: the quoted string of the IETF's draft, or bare as most clients send it.
func parseKey(values []string) (string, error) {
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 {
		return "", malformed(headerKey, "expected one header, got several")
	}
	key := unquote(strings.TrimSpace(values[0]))
	if key == "" || len(key) > maxKey || strings.ContainsFunc(key, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return "", malformed(headerKey, "expected 1 to 255 printable ASCII characters")
	}
	return key, nil
}
