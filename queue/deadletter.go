package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sheafml/sheaf/job"
)

// Headers of a dead letter, beside those of the message that it is a copy of.
const (
	HeaderDeadReason   = "Sheaf-Dead-Reason"   // why, one line
	HeaderDeadJobs     = "Sheaf-Dead-Jobs"     // IDs of the jobs that are meant, separated by commas; absent: all
	HeaderDeadLane     = "Sheaf-Dead-Lane"     // the lane it was in
	HeaderDeadSubject  = "Sheaf-Dead-Subject"  // the subject it was published under
	HeaderDeadSequence = "Sheaf-Dead-Sequence" // its stream sequence
	HeaderDeadAttempts = "Sheaf-Dead-Attempts" // how often it was delivered
	HeaderDeadID       = "Sheaf-Dead-ID"       // its Nats-Msg-Id, if it had one
	HeaderDeadTime     = "Sheaf-Dead-Time"     // when, RFC 3339
	// HeaderDeadPublished is when JetStream had stored the message, RFC 3339.
	HeaderDeadPublished = "Sheaf-Dead-Published"
	// HeaderDeadHistory has an entry for each attempt of which something is known, separated by semicolons.
	HeaderDeadHistory = "Sheaf-Dead-History"
	// HeaderDeadTruncated is on a dead letter that had no room for the body: the bytes that it had.
	HeaderDeadTruncated = "Sheaf-Dead-Truncated"
)

// DeadLetter copies the message to the dead stream with the reason and what is known of its attempts, one entry each;
// ids are the jobs of it that are meant (nil: all). If those can be read, the copy has them alone, in the form of a
// sheaf; else it is the whole message as it came. Doing it again, after a crash, makes no second copy within the
// duplicate window.
func (q *Queue) DeadLetter(ctx context.Context, d *Delivery, ids []job.ID, reason string, history ...string) error {
	return q.bury(ctx, &corpse{
		env: &d.Envelope, subject: d.subject(), header: d.msg.Header, seq: d.Seq, attempts: d.Attempt,
		ids: ids, reason: reason, history: history,
	})
}

// corpse is a message that becomes a dead letter.
type corpse struct {
	env      *job.Envelope
	subject  string // that it was published under
	header   nats.Header
	seq      uint64
	attempts int
	ids      []job.ID // of the jobs that are meant; nil: all
	reason   string
	history  []string
}

// bury writes the dead letter.
func (q *Queue) bury(ctx context.Context, c *corpse) error {
	m := &nats.Msg{Subject: deadSubject(c.env), Header: make(nats.Header), Data: c.env.Body}
	for k, v := range c.header {
		// Headers of JetStream's own are commands to the stream that the copy goes to.
		if !strings.HasPrefix(strings.ToLower(k), "nats-") {
			m.Header[k] = v
		}
	}
	id := fmt.Sprintf("%s-%d-%d", c.env.Lane, c.seq, c.env.Published.UnixNano())
	if len(c.ids) > 0 {
		if body, ok := only(c.env, c.ids); ok {
			m.Data = body
			m.Header.Set(job.HeaderContentType, job.ContentTypeSheaf)
		}
		names := make([]string, len(c.ids))
		for i := range c.ids {
			names[i] = c.ids[i].String()
		}
		m.Header.Set(HeaderDeadJobs, strings.Join(names, ","))
		id += "-" + names[0] + "-" + strconv.Itoa(len(c.ids))
	}
	m.Header.Set(job.HeaderID, id)
	m.Header.Set(HeaderDeadReason, oneLine(c.reason, maxReason))
	m.Header.Set(HeaderDeadLane, c.env.Lane.String())
	m.Header.Set(HeaderDeadSubject, c.subject)
	m.Header.Set(HeaderDeadSequence, strconv.FormatUint(c.seq, 10))
	m.Header.Set(HeaderDeadAttempts, strconv.Itoa(c.attempts))
	m.Header.Set(HeaderDeadTime, time.Now().UTC().Format(time.RFC3339Nano))
	m.Header.Set(HeaderDeadPublished, c.env.Published.UTC().Format(time.RFC3339Nano))
	if len(c.history) > 0 {
		m.Header.Set(HeaderDeadHistory, joinHistory(c.history))
	}
	if orig := c.header.Get(job.HeaderID); orig != "" {
		m.Header.Set(HeaderDeadID, orig)
	}
	_, err := q.send(ctx, m)
	if errors.Is(err, ErrTooLarge) {
		// A message of nearly the server's limit has no room for what a dead letter adds: keep the fact, if not the body.
		m.Header = shortened(m.Header)
		m.Header.Set(HeaderDeadTruncated, strconv.Itoa(len(m.Data)))
		m.Data = nil
		_, err = q.send(ctx, m)
	}
	if err != nil {
		return fmt.Errorf("write a dead letter: %w", err)
	}
	q.metrics.deadLetters.Inc()
	return nil
}

// historySeparator stands between the entries of HeaderDeadHistory, and is in none of them.
const historySeparator = ";"

func joinHistory(entries []string) string {
	clean := make([]string, len(entries))
	for i, e := range entries {
		clean[i] = strings.ReplaceAll(oneLine(e, maxReason), historySeparator, ",")
	}
	return oneLine(strings.Join(clean, historySeparator), maxHeader)
}

// shortened keeps of the headers what says which message it was, and why it is dead.
func shortened(h nats.Header) nats.Header {
	short := make(nats.Header)
	for _, k := range []string{
		job.HeaderID, HeaderDeadReason, HeaderDeadLane, HeaderDeadSubject, HeaderDeadSequence, HeaderDeadAttempts, HeaderDeadTime,
		HeaderDeadPublished,
	} {
		if v := h.Get(k); v != "" {
			short.Set(k, v)
		}
	}
	return short
}

// deadSubject is sheaf.dead.<lane>.<model>.<tenant>, with what cannot be named written as "unknown".
func deadSubject(env *job.Envelope) string {
	model, tenant := unknown, unknown
	if env.Model != "" {
		model = token(env.Model)
	}
	if env.Tenant != "" {
		tenant = token(env.Tenant)
	}
	return subjectDead + env.Lane.String() + "." + model + "." + tenant
}

const unknown = "unknown"

// only encodes the jobs of those IDs again; false if one of them cannot be read.
func only(env *job.Envelope, ids []job.ID) ([]byte, bool) {
	jobs, _ := job.DecodeMessage(env, wideLimits(env)) // what could be read is returned beside the error
	var body []byte
	found := 0
	for i := range jobs {
		if !slices.Contains(ids, jobs[i].Job.ID) {
			continue
		}
		if jobs[i].Err != nil {
			return nil, false
		}
		body = job.AppendJob(body, &jobs[i].Job)
		found++
	}
	return body, found == len(ids)
}

// wideLimits are the limits for a message that a stream has taken: its size is the server's affair.
func wideLimits(env *job.Envelope) job.Limits {
	lim := job.DefaultLimits()
	lim.MaxBytes = max(lim.MaxBytes, len(env.Body))
	return lim
}

// refuseTime bounds how long a fetch is held up by a message that nobody can be told about.
const refuseTime = 2 * time.Second

// refuse ends a message whose subject names no tenant: no worker could write a record for it.
func (q *Queue) refuse(ctx context.Context, d *Delivery) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refuseTime)
	defer cancel()
	const reason = "the subject is not sheaf.<lane>.<model>.<tenant> with valid names"
	if err := q.DeadLetter(ctx, d, nil, reason); err != nil {
		q.log.Error("a message without a tenant could not be put among the dead letters; it will be tried again", "subject", d.subject(), "error", err)
		_ = d.Retry(refuseTime) // on failure its lease lapses, to the same effect
		return
	}
	q.log.Warn("a message was put among the dead letters", "subject", d.subject(), "reason", reason)
	if err := d.Reject(reason); err != nil {
		q.log.Warn("a dead letter's message could not be ended; it will come again", "subject", d.subject(), "error", err)
	}
}
