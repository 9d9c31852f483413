package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// GivenUpWebhook is a delivery that will not be tried again.
type GivenUpWebhook struct {
	Webhook

	Seq    uint64
	Time   time.Time
	Reason string
}

// GiveUpWebhook keeps a delivery that will not be tried again, with the reason; the oldest make room. Doing it again
// within the duplicate window keeps one.
func (q *Queue) GiveUpWebhook(ctx context.Context, w *Webhook, reason string) error {
	body, err := w.body(reason)
	if err != nil {
		return err
	}
	id := w.Ticket.ID.String() + "-" + strconv.FormatInt(unixMilli(w.Finished), 10) + "-" + strconv.FormatInt(unixMilli(w.Since), 10)
	m := &nats.Msg{Subject: subjectWebhookDead + token(w.Tenant), Header: nats.Header{job.HeaderID: {id}}, Data: body}
	if _, err := q.send(ctx, m); err != nil {
		return fmt.Errorf("keep a webhook that is given up: %w", err)
	}
	return nil
}

// GivenUpWebhooks calls fn for each that was given up, oldest first: those of one tenant, or of all if it is "". What is
// written while it runs is left out. An error of fn ends it and is returned.
func (q *Queue) GivenUpWebhooks(ctx context.Context, tenant string, fn func(*GivenUpWebhook) error) error {
	s, err := q.stream(ctx, streamWebhooksDead)
	if err != nil {
		return err
	}
	filter := subjectWebhookDead + "*"
	if tenant != "" {
		if !job.ValidName(tenant) {
			return job.Invalidf("tenant", "not a valid name of a tenant")
		}
		filter = subjectWebhookDead + token(tenant)
	}
	last := s.CachedInfo().State.LastSeq
	for next := uint64(1); next <= last; {
		m, err := q.messageAt(ctx, streamWebhooksDead, next, filter)
		if errors.Is(err, job.ErrNotFound) || err == nil && m.Sequence > last {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the webhooks that were given up: %w", err)
		}
		next = m.Sequence + 1
		if g, ok := readGivenUp(m); ok {
			if err := fn(g); err != nil {
				return err
			}
		}
	}
	return nil
}

func readGivenUp(m *jetstream.RawStreamMsg) (*GivenUpWebhook, bool) {
	w, reason, ok := readWebhook(subjectWebhookDead, m.Subject, m.Data)
	return &GivenUpWebhook{Webhook: w, Seq: m.Sequence, Time: m.Time, Reason: reason}, ok
}

// WebhookBacklog is how many deliveries wait, and how many that were given up are kept.
func (q *Queue) WebhookBacklog(ctx context.Context) (waiting, givenUp uint64, err error) {
	var counts [2]uint64
	for i, name := range []string{streamWebhooks, streamWebhooksDead} {
		s, err := q.stream(ctx, name)
		if err != nil {
			return 0, 0, err
		}
		counts[i] = s.CachedInfo().State.Msgs
	}
	return counts[0], counts[1], nil
}
