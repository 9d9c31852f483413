package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// DeadFilter says which dead letters are meant: those that match all of what is set.
type DeadFilter struct {
	Lane   string // "interactive" or "bulk"
	Model  string
	Tenant string
	// Reason is a part of the reason, in letters of either case.
	Reason string
	// Code is the code of the jobs' error, where the reason says it.
	Code job.Code
	// OlderThan and NewerThan bound when the letter was written: before the one, after the other.
	OlderThan, NewerThan time.Time
	// Job is a job that the letter is about.
	Job job.ID
	// Seqs are sequences in the dead stream.
	Seqs []uint64
	// MaxSeq leaves out what has a higher sequence, so that an action covers what was counted before and nothing that
	// came later. It is no criterion of its own: see All.
	MaxSeq uint64
}

// All reports whether nothing is set that leaves a letter out, but for MaxSeq.
func (f *DeadFilter) All() bool {
	return f.Lane == "" && f.Model == "" && f.Tenant == "" && f.Reason == "" && f.Code == "" && f.OlderThan.IsZero() &&
		f.NewerThan.IsZero() && f.Job.IsZero() && len(f.Seqs) == 0
}

// Validate names every fault of the filter.
func (f *DeadFilter) Validate() error {
	var faults []error
	if f.Lane != "" {
		if _, err := job.ParseLane(f.Lane); err != nil {
			faults = append(faults, job.Invalidf("lane", "expected interactive or bulk"))
		}
	}
	if f.Model != "" && !job.ValidName(f.Model) {
		faults = append(faults, job.Invalidf("model", "not a valid name of a model"))
	}
	if f.Tenant != "" && !job.ValidName(f.Tenant) {
		faults = append(faults, job.Invalidf("tenant", "not a valid name of a tenant"))
	}
	if !f.OlderThan.IsZero() && !f.NewerThan.IsZero() && !f.NewerThan.Before(f.OlderThan) {
		faults = append(faults, job.Invalidf("newer_than", "no time is older than the one bound and newer than the other"))
	}
	return errors.Join(faults...)
}

// subject is the filter that the server applies.
func (f *DeadFilter) subject() string {
	if f.Lane == "" && f.Model == "" && f.Tenant == "" {
		return subjectDead + ">"
	}
	model, tenant := "*", "*"
	if f.Model != "" {
		model = token(f.Model)
	}
	if f.Tenant != "" {
		tenant = token(f.Tenant)
	}
	return subjectDead + cmp.Or(f.Lane, "*") + "." + model + "." + tenant
}

// match reports whether the letter is meant. The server has applied subject, but not to a letter that was asked for by
// its sequence.
func (f *DeadFilter) match(l *DeadLetter) bool {
	switch {
	case f.MaxSeq > 0 && l.Seq > f.MaxSeq,
		f.Lane != "" && l.Lane != f.Lane,
		f.Model != "" && l.Model != f.Model,
		f.Tenant != "" && l.Tenant != f.Tenant,
		f.Code != "" && l.Code != f.Code,
		f.Reason != "" && !strings.Contains(strings.ToLower(l.Reason), strings.ToLower(f.Reason)),
		!f.OlderThan.IsZero() && !l.Time.Before(f.OlderThan),
		!f.NewerThan.IsZero() && !l.Time.After(f.NewerThan),
		!f.Job.IsZero() && !slices.Contains(l.Jobs, f.Job),
		len(f.Seqs) > 0 && !slices.Contains(f.Seqs, l.Seq):
		return false
	}
	return true
}

// DeadLetter is a message that could not be served, as the dead stream keeps it.
type DeadLetter struct {
	Seq  uint64    // in the dead stream
	Time time.Time // when it was written

	Lane          string
	Model, Tenant string // "" if it is not known
	Subject       string // that it was published under
	Reason        string
	Code          job.Code // of the jobs' error; "" if the reason does not say
	// Jobs are those that the letter is about. None: all that its message has, as far as it can be read.
	Jobs     []job.ID
	Attempts int // deliveries
	// History has an entry for each attempt of which something is known.
	History     []string
	OriginalSeq uint64    // its sequence in the lane
	Published   time.Time // when the lane had it; zero if the letter does not say
	Size        int       // bytes of the body, also if that is not kept
	Truncated   bool      // the body was too large to be kept

	// Header and Body are the message's. They are only there in what DeadLetterAt returns.
	Header map[string][]string
	Body   []byte
}

// readDeadLetter reads what the headers say. A stranger may have written them: what makes no sense is left out.
func readDeadLetter(seq uint64, stored time.Time, subject string, h nats.Header, size int) *DeadLetter {
	l := &DeadLetter{Seq: seq, Time: stored, Reason: h.Get(HeaderDeadReason), Subject: h.Get(HeaderDeadSubject), Size: size}
	if t, ok := strings.CutPrefix(subject, subjectDead); ok {
		if parts := strings.Split(t, "."); len(parts) == 3 {
			l.Lane = parts[0]
			l.Model, _ = untoken(parts[1])
			l.Tenant, _ = untoken(parts[2])
		}
	}
	if _, _, tenant, ok := parseSubject(l.Subject); !ok || tenant != l.Tenant {
		l.Tenant = "" // the letter is filed under a stand-in
	}
	l.Code = codeOf(l.Reason)
	for name := range strings.SplitSeq(h.Get(HeaderDeadJobs), ",") {
		if id, err := job.ParseID(name); err == nil {
			l.Jobs = append(l.Jobs, id)
		}
	}
	if id, err := job.ParseID(h.Get(HeaderDeadID)); err == nil && len(l.Jobs) == 0 {
		l.Jobs = []job.ID{id} // the message's own; a message of several jobs has one that is nobody's
	}
	if s := h.Get(HeaderDeadHistory); s != "" {
		for entry := range strings.SplitSeq(s, historySeparator) {
			l.History = append(l.History, strings.TrimSpace(entry))
		}
	}
	l.Attempts, _ = strconv.Atoi(h.Get(HeaderDeadAttempts))
	l.OriginalSeq, _ = strconv.ParseUint(h.Get(HeaderDeadSequence), 10, 64)
	l.Published, _ = time.Parse(time.RFC3339Nano, h.Get(HeaderDeadPublished))
	if s := h.Get(HeaderDeadTruncated); s != "" {
		l.Truncated = true
		l.Size, _ = strconv.Atoi(s)
	}
	return l
}

// codeOf is the code that a reason begins with, "" if it begins with none.
func codeOf(reason string) job.Code {
	head, _, ok := strings.Cut(reason, ":")
	if !ok {
		return ""
	}
	switch c := job.Code(head); c {
	case job.CodeMalformed, job.CodeInvalid, job.CodeTooLarge, job.CodeUnknownModel, job.CodeInference, job.CodeExhausted,
		job.CodeExpired, job.CodeCanceled, job.CodeInternal:
		return c
	}
	return ""
}

// Decode reads the jobs of a letter that DeadLetterAt has returned: those that it is about, if it names them. The error
// says why some of it cannot be read, or that it is not there.
func (l *DeadLetter) Decode() ([]job.Decoded, error) {
	if l.Truncated {
		return nil, fmt.Errorf("its body of %d bytes was too large to be kept", l.Size)
	}
	lane, err := job.ParseLane(l.Lane)
	if err != nil || l.Model == "" || l.Tenant == "" {
		return nil, fmt.Errorf("its subject %q is not sheaf.<lane>.<model>.<tenant> with valid names", l.Subject)
	}
	h := nats.Header(l.Header)
	env := job.Envelope{
		Lane: lane, Model: l.Model, Tenant: l.Tenant, Published: l.Published, Body: l.Body,
		Header: func(key string) string {
			if key == job.HeaderID {
				key = HeaderDeadID // the letter has an ID of its own
			}
			return h.Get(key)
		},
	}
	decoded, err := job.DecodeMessage(&env, wideLimits(&env))
	if h.Get(HeaderDeadJobs) != "" {
		decoded = slices.DeleteFunc(decoded, func(d job.Decoded) bool { return !slices.Contains(l.Jobs, d.Job.ID) })
	}
	return decoded, err
}

// DeadLetterAt returns the dead letter of a sequence, with its headers and its body. It returns job.ErrNotFound if
// there is none.
func (q *Queue) DeadLetterAt(ctx context.Context, seq uint64) (*DeadLetter, error) {
	m, err := q.messageAt(ctx, streamDead, seq, "")
	if err != nil {
		return nil, fmt.Errorf("look up dead letter %d: %w", seq, err)
	}
	l := readDeadLetter(m.Sequence, m.Time, m.Subject, m.Header, len(m.Data))
	l.Header, l.Body = m.Header, m.Data
	return l, nil
}

// RemoveDead deletes the dead letter of a sequence; false if it is gone.
func (q *Queue) RemoveDead(ctx context.Context, seq uint64) (bool, error) {
	gone, err := q.removeAt(ctx, streamDead, seq)
	if err != nil {
		return false, fmt.Errorf("remove dead letter %d: %w", seq, err)
	}
	return gone, nil
}

// stream returns the handle of a stream, with what it is now.
func (q *Queue) stream(ctx context.Context, name string) (jetstream.Stream, error) {
	s, err := askAgain(ctx, func(ctx context.Context) (jetstream.Stream, error) { return q.js.Stream(ctx, name) })
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("stream %s does not exist: start a worker or `sheaf serve`, which make it", name)
	}
	return s, requestError("look at stream "+name, err)
}
