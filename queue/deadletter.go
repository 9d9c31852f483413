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
	// HeaderDeadTruncated is on a dead letter that had no room for the body: the bytes that it had.
	HeaderDeadTruncated = "Sheaf-Dead-Truncated"
)

// DeadLetter copies the message to the dead stream with the reason; ids are the jobs of it that are meant (nil: all).
// If those can be read, the copy has them alone, in the form of a sheaf; else it is the whole message as it came.
// Doing it again, after a crash, makes no second copy within the duplicate window.
func (q *Queue) DeadLetter(ctx context.Context, d *Delivery, ids []job.ID, reason string) error {
	m := &nats.Msg{Subject: deadSubject(d), Header: make(nats.Header), Data: d.msg.Data}
	for k, v := range d.msg.Header {
		// Headers of JetStream's own are commands to the stream that the copy goes to.
		if !strings.HasPrefix(strings.ToLower(k), "nats-") {
			m.Header[k] = v
		}
	}
	id := fmt.Sprintf("%s-%d-%d", d.Envelope.Lane, d.Seq, d.Envelope.Published.UnixNano())
	if len(ids) > 0 {
		if body, ok := d.only(ids); ok {
			m.Data = body
			m.Header.Set(job.HeaderContentType, job.ContentTypeSheaf)
		}
		names := make([]string, len(ids))
		for i := range ids {
			names[i] = ids[i].String()
		}
		m.Header.Set(HeaderDeadJobs, strings.Join(names, ","))
		id += "-" + names[0] + "-" + strconv.Itoa(len(ids))
	}
	m.Header.Set(job.HeaderID, id)
	m.Header.Set(HeaderDeadReason, oneLine(reason, maxReason))
	m.Header.Set(HeaderDeadLane, d.Envelope.Lane.String())
	m.Header.Set(HeaderDeadSubject, d.msg.Subject)
	m.Header.Set(HeaderDeadSequence, strconv.FormatUint(d.Seq, 10))
	m.Header.Set(HeaderDeadAttempts, strconv.Itoa(d.Attempt))
	m.Header.Set(HeaderDeadTime, time.Now().UTC().Format(time.RFC3339Nano))
	if orig := d.msg.Header.Get(job.HeaderID); orig != "" {
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

// shortened keeps of the headers what says which message it was, and why it is dead.
func shortened(h nats.Header) nats.Header {
	short := make(nats.Header)
	for _, k := range []string{
		job.HeaderID, HeaderDeadReason, HeaderDeadLane, HeaderDeadSubject, HeaderDeadSequence, HeaderDeadAttempts, HeaderDeadTime,
	} {
		if v := h.Get(k); v != "" {
			short.Set(k, v)
		}
	}
	return short
}

// deadSubject is sheaf.dead.<lane>.<model>.<tenant>, with what cannot be named written as "unknown".
func deadSubject(d *Delivery) string {
	tenant := "unknown"
	if d.Envelope.Tenant != "" {
		tenant = token(d.Envelope.Tenant)
	}
	return subjectDead + d.Envelope.Lane.String() + "." + token(d.Envelope.Model) + "." + tenant
}

// only encodes the jobs of those IDs again; false if one of them cannot be read.
func (d *Delivery) only(ids []job.ID) ([]byte, bool) {
	lim := job.DefaultLimits()
	lim.MaxBytes = max(lim.MaxBytes, len(d.Envelope.Body))
	jobs, _ := job.DecodeMessage(&d.Envelope, lim) // what could be read is returned beside the error
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

// refuseTime bounds how long a fetch is held up by a message that nobody can be told about.
const refuseTime = 2 * time.Second

// refuse ends a message whose subject names no tenant: no worker could write a record for it.
func (q *Queue) refuse(ctx context.Context, d *Delivery) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refuseTime)
	defer cancel()
	const reason = "the subject is not sheaf.<lane>.<model>.<tenant> with valid names"
	if err := q.DeadLetter(ctx, d, nil, reason); err != nil {
		q.log.Error("a message without a tenant could not be put among the dead letters; it will be tried again", "subject", d.msg.Subject, "error", err)
		_ = d.Retry(refuseTime) // on failure its lease lapses, to the same effect
		return
	}
	q.log.Warn("a message was put among the dead letters", "subject", d.msg.Subject, "reason", reason)
	if err := d.Reject(reason); err != nil {
		q.log.Warn("a dead letter's message could not be ended; it will come again", "subject", d.msg.Subject, "error", err)
	}
}
