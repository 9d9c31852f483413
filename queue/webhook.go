package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sheafml/sheaf/job"
)

// WebhookBatch is the kind of a Webhook that is of a batch.
const WebhookBatch = "batch"

// Webhook says that a job, or a batch, is finished whose outcome a URL is to be sent. It is a pointer to its record and
// carries neither the outcome nor the URL: whoever can write to this stream cannot choose what is sent, nor where.
type Webhook struct {
	// Kind is "" for a job, or WebhookBatch: then the ID of Ticket is the batch's.
	Kind   string
	Ticket job.Ticket
	Tenant string
	// Host is that of the URL, so that the deliveries of one host can be held back without a look at each record.
	Host     string
	Finished time.Time // of the record
	Attempts int       // that were made and failed
	Since    time.Time // when it was first queued; zero: now
	Due      time.Time // when to try; zero: now
	// Hand says that somebody asked for it to be delivered once more.
	Hand bool
}

// webhookBody is a Webhook on the wire, and GivenUpWebhook too.
type webhookBody struct {
	ID       string `json:"id"`
	Kind     string `json:"kind,omitempty"`
	Host     string `json:"host"`
	Finished int64  `json:"finished,omitempty"` // milliseconds, as all times
	Attempts int    `json:"attempts,omitempty"`
	Since    int64  `json:"since"`
	Due      int64  `json:"due,omitempty"`
	Hand     bool   `json:"hand,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

const (
	streamWebhooks     = "webhooks"
	streamWebhooksDead = "webhooks-dead"
	subjectWebhook     = "sheaf.webhook.due."
	subjectWebhookDead = "sheaf.webhook.dead."
)

// webhooksInFlight bounds the unanswered messages of one QueueWebhooks.
const webhooksInFlight = 256

// handEvery is how often a job's webhook can be asked for by hand; more often is the same request.
const handEvery = 10 * time.Second

// QueueWebhooks stores deliveries. Doing it again for the same outcome stores none twice within the duplicate window.
// errs is nil if all are stored, else errs[i] belongs to list[i].
//
// What finds no room is stored among those that were given up: a receiver that is dead for days must not hold up the
// jobs. So the error is never ErrFull.
func (q *Queue) QueueWebhooks(ctx context.Context, list []Webhook) (errs []error) {
	fail := func(i int, err error) {
		if errs == nil {
			errs = make([]error, len(list))
		}
		errs[i] = err
	}
	if !q.enter() {
		for i := range list {
			fail(i, ErrClosed)
		}
		return errs
	}
	defer q.running.Done()
	out := make([]*outgoing, 0, min(len(list), webhooksInFlight))
	for from := 0; from < len(list); from += webhooksInFlight {
		part := list[from:min(from+webhooksInFlight, len(list))]
		out = out[:0]
		for i := range part {
			m, err := part[i].message()
			if err != nil {
				fail(from+i, err)
				out = append(out, nil)
				continue
			}
			out = append(out, q.begin(m))
		}
		for i, o := range out {
			if o == nil {
				continue
			}
			a, err := q.finish(ctx, o)
			if err := q.webhookQueued(ctx, &part[i], a, err); err != nil {
				fail(from+i, fmt.Errorf("queue a webhook: %w", err))
			}
		}
	}
	return errs
}

// RequeueWebhook stores the next attempt of a delivery. ErrTenantFull or ErrFull: there is no room.
func (q *Queue) RequeueWebhook(ctx context.Context, w Webhook) error {
	if !q.enter() {
		return ErrClosed
	}
	defer q.running.Done()
	m, err := w.message()
	if err == nil {
		_, err = q.send(ctx, m)
	}
	if err != nil {
		return fmt.Errorf("queue the next attempt of a webhook: %w", err)
	}
	return nil
}

// webhookQueued counts what became of a delivery, and gives up what finds no room.
func (q *Queue) webhookQueued(ctx context.Context, w *Webhook, a ack, err error) error {
	outcome := "queued"
	switch {
	case errors.Is(err, ErrTenantFull), errors.Is(err, ErrFull), errors.Is(err, ErrTooLarge):
		outcome = "full"
		err = q.GiveUpWebhook(ctx, w, "no room: "+err.Error())
	case err == nil && a.duplicate:
		outcome = "duplicate"
	}
	if err != nil {
		outcome = "error"
	}
	q.metrics.webhooks.WithLabelValues(outcome).Inc()
	return err
}

func (w *Webhook) body(reason string) ([]byte, error) {
	since := w.Since
	if since.IsZero() {
		since = time.Now()
	}
	b, err := json.Marshal(webhookBody{
		ID: w.Ticket.String(), Kind: w.Kind, Host: w.Host, Finished: unixMilli(w.Finished), Attempts: w.Attempts, Since: unixMilli(since), Due: unixMilli(w.Due),
		Hand: w.Hand, Reason: oneLine(reason, maxReason),
	})
	if err != nil {
		return nil, fmt.Errorf("encode a webhook: %w", err)
	}
	return b, nil
}

// message makes the message of a delivery. Its ID is the outcome's and the number of the attempt: whoever finds the
// record, and says once more that the job is finished, says the same.
func (w *Webhook) message() (*nats.Msg, error) {
	if w.Ticket.ID.IsZero() || !job.ValidName(w.Tenant) {
		return nil, job.Invalidf("webhook", "a delivery needs a job and a tenant")
	}
	body, err := w.body("")
	if err != nil {
		return nil, err
	}
	id := w.Ticket.ID.String() + "-" + strconv.FormatInt(unixMilli(w.Finished), 10) + "-" + strconv.Itoa(w.Attempts)
	if w.Hand && w.Attempts == 0 {
		id += "-" + strconv.FormatInt(time.Now().UnixNano()/int64(handEvery), 10)
	} else if w.Hand {
		id += "-" + strconv.FormatInt(unixMilli(w.Since), 10)
	}
	return &nats.Msg{Subject: subjectWebhook + token(w.Tenant), Header: nats.Header{job.HeaderID: {id}}, Data: body}, nil
}

func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMilli(ms int64) time.Time {
	if ms <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// readWebhook reads a message of prefix's subjects. false: it is none of ours.
func readWebhook(prefix, subject string, data []byte) (w Webhook, reason string, ok bool) {
	if len(subject) <= len(prefix) || subject[:len(prefix)] != prefix {
		return w, "", false
	}
	tenant, ok := untoken(subject[len(prefix):])
	if !ok {
		return w, "", false
	}
	var b webhookBody
	if json.Unmarshal(data, &b) != nil {
		return w, "", false
	}
	t, err := job.ParseTicket(b.ID)
	if err != nil {
		return w, "", false
	}
	return Webhook{
		Kind: b.Kind, Ticket: t, Tenant: tenant, Host: b.Host, Finished: fromMilli(b.Finished), Attempts: max(0, b.Attempts),
		Since: fromMilli(b.Since), Due: fromMilli(b.Due), Hand: b.Hand,
	}, b.Reason, true
}
