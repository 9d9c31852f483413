package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// WebhookSource fetches deliveries. Any number of processes share them.
type WebhookSource struct {
	q        *Queue
	consumer jetstream.Consumer
	ackWait  time.Duration
}

// Webhooks returns the source of the deliveries; the streams must exist.
func (q *Queue) Webhooks(ctx context.Context) (*WebhookSource, error) {
	s := &WebhookSource{q: q}
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *WebhookSource) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.q.cfg.RequestTimeout)
	defer cancel()
	err := s.q.patiently(ctx, func(ctx context.Context) (err error) {
		s.consumer, err = s.q.ensureWebhookConsumer(ctx)
		return err
	})
	if err != nil {
		return requestError("prepare the consumer of webhooks", err)
	}
	s.ackWait = s.consumer.CachedInfo().Config.AckWait
	return nil
}

// AckWait is how long a delivery is this process's own.
func (s *WebhookSource) AckWait() time.Duration { return s.ackWait }

// Fetch asks for up to limit deliveries and calls fn for each. It returns when limit have come, wait is over or ctx ends. It is
// for one goroutine. A message that is no delivery of ours is removed.
func (s *WebhookSource) Fetch(ctx context.Context, limit int, wait time.Duration, fn func(*WebhookDelivery)) error {
	if !s.q.enter() {
		return ErrClosed
	}
	defer s.q.running.Done()
	if err := s.q.awaitLink(ctx, time.Now().Add(wait)); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	batch, err := s.consumer.Fetch(limit, jetstream.FetchContext(within))
	if err != nil {
		return requestError("fetch webhooks", err)
	}
	for m := range batch.Messages() {
		w, _, ok := readWebhook(subjectWebhook, m.Subject(), m.Data())
		if !ok {
			s.q.log.Warn("a message that is no webhook was removed from their stream", "subject", m.Subject())
			_ = m.Term() // on failure it comes again, to the same effect
			continue
		}
		fn(&WebhookDelivery{Webhook: w, msg: m, until: time.Now().Add(s.ackWait - s.ackWait/leaseMargin)})
	}
	err = batch.Error()
	if within.Err() != nil && errors.Is(err, within.Err()) {
		return nil // the time is over, or the caller's
	}
	if errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrConsumerNotFound) {
		err = s.heal(ctx, err)
	}
	return requestError("fetch webhooks", err)
}

// heal makes the consumer again that has disappeared, with its stream if need be. It returns an error in any case: the
// fetch brought nothing, and its caller should not hurry.
func (s *WebhookSource) heal(ctx context.Context, cause error) error {
	if err := s.q.EnsureStreams(ctx); err != nil {
		return err
	}
	if err := s.open(ctx); err != nil {
		return err
	}
	return fmt.Errorf("%w: %w; the consumer has been made again", ErrUnavailable, cause)
}

// WebhookDelivery is a leased delivery.
type WebhookDelivery struct {
	Webhook

	msg   jetstream.Msg
	until time.Time
}

// Done removes the delivery: it was made, put off as another message, or given up.
func (d *WebhookDelivery) Done(ctx context.Context) error {
	return requestError("remove a webhook", d.msg.DoubleAck(ctx))
}

// Defer gives the delivery back, to come again after the delay. ErrLapsed, and nothing sent, if it may be another's by
// now: then it comes by itself.
func (d *WebhookDelivery) Defer(delay time.Duration) error {
	if time.Now().After(d.until) {
		return ErrLapsed
	}
	return requestError("put a webhook off", d.msg.NakWithDelay(delay))
}
