package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// WebhookConfig bounds the deliveries of webhooks. The limits of existing streams are raised to these, never lowered.
type WebhookConfig struct {
	// AckWait is how long one attempt is another's affair: the recovery time after a sender dies in the middle of it.
	AckWait time.Duration
	// MaxMsgs and MaxBytes bound the deliveries that wait, and MaxMsgsPerTenant those of one tenant; -1 is no limit. What
	// finds no room is given up. The server reserves MaxBytes of its storage, and GivenUpBytes.
	MaxMsgs          int64
	MaxMsgsPerTenant int64
	MaxBytes         int64
	// GivenUpAge and GivenUpBytes bound those that were given up; the oldest make room.
	GivenUpAge   time.Duration
	GivenUpBytes int64
}

func defaultWebhookConfig() WebhookConfig {
	return WebhookConfig{
		AckWait: time.Minute, MaxMsgs: 400_000, MaxMsgsPerTenant: 100_000, MaxBytes: 256 << 20,
		GivenUpAge: 14 * 24 * time.Hour, GivenUpBytes: 64 << 20,
	}
}

func (c *WebhookConfig) validate() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf("webhooks: "+format, args...)) }
	if c.AckWait < 100*time.Millisecond {
		bad("ack wait %v: at least 100ms are expected", c.AckWait)
	}
	if c.GivenUpAge < 0 {
		bad("maximum age of those given up %v: 0 (for ever) or more is expected", c.GivenUpAge)
	}
	for _, l := range []struct {
		what string
		n    int64
	}{
		{"maximum of messages", c.MaxMsgs},
		{"maximum of messages a tenant", c.MaxMsgsPerTenant},
		{"maximum bytes", c.MaxBytes},
		{"maximum bytes of those given up", c.GivenUpBytes},
	} {
		if l.n == 0 || l.n < -1 {
			bad("%s %d: more than 0 is expected, or -1 for no limit", l.what, l.n)
		}
	}
	return errors.Join(faults...)
}

// webhookStreams are the streams of the deliveries that wait, and of those that were given up.
func (q *Queue) webhookStreams() []jetstream.StreamConfig {
	cfg := &q.cfg.Webhook
	return []jetstream.StreamConfig{{
		Name:                 streamWebhooks,
		Description:          "Sheaf: webhooks to be delivered",
		Subjects:             []string{subjectWebhook + "*"},
		Retention:            jetstream.WorkQueuePolicy,
		Storage:              jetstream.FileStorage,
		Discard:              jetstream.DiscardNew,
		DiscardNewPerSubject: true,
		MaxMsgs:              cfg.MaxMsgs,
		MaxBytes:             cfg.MaxBytes,
		MaxMsgsPerSubject:    cfg.MaxMsgsPerTenant,
		Replicas:             q.cfg.Replicas,
		Duplicates:           q.cfg.DuplicateWindow,
		AllowDirect:          true,
	}, {
		Name:        streamWebhooksDead,
		Description: "Sheaf: webhooks that were given up",
		Subjects:    []string{subjectWebhookDead + "*"},
		Retention:   jetstream.LimitsPolicy,
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardOld,
		MaxAge:      cfg.GivenUpAge,
		MaxBytes:    cfg.GivenUpBytes,
		Replicas:    q.cfg.Replicas,
		Duplicates:  q.cfg.DuplicateWindow,
		AllowDirect: true,
	}}
}

// consumerWebhooks is the one consumer of the deliveries, which all senders share.
const consumerWebhooks = "senders"

// ensureWebhookConsumer makes the consumer, or raises its lease to the setting. It has no bound of deliveries nor of
// what is pending: most of what it holds waits for its time.
func (q *Queue) ensureWebhookConsumer(ctx context.Context) (jetstream.Consumer, error) {
	s, err := q.js.Stream(ctx, streamWebhooks)
	if err != nil {
		return nil, err
	}
	c, err := s.Consumer(ctx, consumerWebhooks)
	if err == nil && c.CachedInfo().Config.AckWait >= q.cfg.Webhook.AckWait {
		return c, nil
	}
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, err
	}
	return s.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       consumerWebhooks,
		Description:   "Sheaf: senders of webhooks",
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       q.cfg.Webhook.AckWait,
		MaxDeliver:    -1,
		MaxAckPending: -1,
		DeliverPolicy: jetstream.DeliverAllPolicy,
	})
}
