package webhook

import (
	"context"
	"errors"
	"time"

	"github.com/sheafml/sheaf/queue"
)

// jetStream is the deliveries of a *queue.Queue.
type jetStream struct{ q *queue.Queue }

func (j jetStream) open(ctx context.Context) (source, error) {
	s, err := j.q.Webhooks(ctx)
	if err != nil {
		return nil, err
	}
	return jetStreamSource{s}, nil
}

func (j jetStream) again(ctx context.Context, w queue.Webhook) error {
	return j.q.RequeueWebhook(ctx, w)
}

func (j jetStream) giveUp(ctx context.Context, w *queue.Webhook, reason string) error {
	return j.q.GiveUpWebhook(ctx, w, reason)
}

func (j jetStream) backlog(ctx context.Context) (waiting, givenUp uint64, err error) {
	return j.q.WebhookBacklog(ctx)
}

type jetStreamSource struct{ s *queue.WebhookSource }

func (j jetStreamSource) fetch(ctx context.Context, limit int, wait time.Duration, fn func(queue.Webhook, lease)) error {
	err := j.s.Fetch(ctx, limit, wait, func(d *queue.WebhookDelivery) { fn(d.Webhook, d) })
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return nil
	}
	return err
}
