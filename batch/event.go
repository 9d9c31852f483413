package batch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/webhook"
)

// queueWebhook stores the delivery of a batch's end, if it names a webhook.
func (s *Service) queueWebhook(ctx context.Context, r *record) error {
	u, ok := jobID(r.ID)
	if r.Spec.Webhook == "" || !ok {
		return nil
	}
	w := queue.Webhook{Kind: queue.WebhookBatch, Ticket: job.Ticket{ID: u}, Tenant: r.Tenant, Finished: r.Ended}
	if u, err := url.Parse(r.Spec.Webhook); err == nil {
		w.Host = u.Host
	}
	return errors.Join(s.deps.Queue.QueueWebhooks(ctx, []queue.Webhook{w})...)
}

// Event is what a webhook of a batch tells; job.ErrNotFound if the batch is gone. It makes a Service what a sender of
// webhooks asks of batches.
func (s *Service) Event(ctx context.Context, tenant string, id job.ID) (webhook.Event, error) {
	r, _, err := s.records.get(ctx, tenant, idOf(id))
	if err != nil {
		return webhook.Event{}, err
	}
	if r.Spec.Webhook == "" || !r.Status.Final() {
		return webhook.Event{}, job.ErrNotFound
	}
	data, err := json.Marshal(r.view(s.cfg.Retention))
	if err != nil {
		return webhook.Event{}, fmt.Errorf("encode batch %s: %w", r.ID, err)
	}
	return webhook.Event{URL: r.Spec.Webhook, Tenant: r.Tenant, Type: "batch." + string(r.Status), Time: r.Ended, Data: data}, nil
}
