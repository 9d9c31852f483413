package queue

import (
	"strconv"
	"strings"

	"github.com/sheafml/sheaf/job"
)

const (
	subjectRoot     = "sheaf."
	subjectDead     = "sheaf.dead."
	subjectDone     = "sheaf.event.done"
	subjectCanceled = "sheaf.event.canceled"
	streamDead      = "dead"
	bucketPrefix    = "sheaf-"
	bucketModels    = "models"
	escapedDot      = "%2E"
	maxTokenBytes   = 128 * len(escapedDot) // of a valid name, every character a dot
)

// token writes a valid name as one token of a subject.
func token(name string) string {
	if strings.IndexByte(name, '.') < 0 {
		return name
	}
	return strings.ReplaceAll(name, ".", escapedDot)
}

// untoken is the inverse of token; false if no valid name is written so.
func untoken(tok string) (string, bool) {
	if len(tok) > maxTokenBytes || strings.IndexByte(tok, '.') >= 0 {
		return "", false
	}
	name := tok
	if strings.IndexByte(tok, '%') >= 0 {
		name = strings.ReplaceAll(tok, escapedDot, ".")
	}
	return name, job.ValidName(name)
}

func subject(lane job.Lane, model, tenant string) string {
	return subjectRoot + lane.String() + "." + token(model) + "." + token(tenant)
}

// parseSubject is the inverse of subject. It reads the form that is stored too, which has the share at its end.
func parseSubject(s string) (lane job.Lane, model, tenant string, ok bool) {
	s, _ = cutShare(s)
	rest, ok := strings.CutPrefix(s, subjectRoot)
	if !ok {
		return 0, "", "", false
	}
	laneTok, rest, ok := strings.Cut(rest, ".")
	if !ok {
		return 0, "", "", false
	}
	lane, err := job.ParseLane(laneTok)
	if err != nil {
		return 0, "", "", false
	}
	modelTok, tenantTok, ok := strings.Cut(rest, ".")
	if !ok {
		return 0, "", "", false
	}
	if model, ok = untoken(modelTok); !ok {
		return 0, "", "", false
	}
	if tenant, ok = untoken(tenantTok); !ok {
		return 0, "", "", false
	}
	return lane, model, tenant, true
}

// cutShare splits a stored subject into the one that it was published under and its share, which is 0 if it has none.
func cutShare(s string) (published string, share int) {
	if strings.Count(s, ".") != 4 {
		return s, 0
	}
	at := strings.LastIndexByte(s, '.')
	n, err := strconv.Atoi(s[at+1:])
	if err != nil || n < 0 || n > MaxTenantShares || strconv.Itoa(n) != s[at+1:] {
		return s, 0
	}
	return s[:at], n
}
