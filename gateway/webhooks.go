package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// Webhooks says which URLs may be called, and what the calls are signed with.
type Webhooks interface {
	// Check says what speaks against a URL, as a *job.Error of the field.
	Check(field, url string) error
	// Secret is the tenant's.
	Secret(ctx context.Context, tenant string) (string, error)
}

// checkWebhook says whether the job may name its webhook.
func (g *Gateway) checkWebhook(s *Submission) error {
	const field = "webhook"
	switch {
	case s.Request.Webhook == "":
		return nil
	case g.deps.Webhooks == nil:
		return job.Invalidf(field, "this server delivers no webhooks: poll, or wait, for the job instead")
	}
	return g.deps.Webhooks.Check(field, s.Request.Webhook)
}

// queueWebhook stores the delivery of a job's outcome.
func (g *Gateway) queueWebhook(ctx context.Context, t job.Ticket, r *job.Result, hand bool) error {
	w := queue.Webhook{Ticket: t, Tenant: r.Tenant, Finished: r.FinishedAt, Hand: hand}
	if hand {
		w.Since = time.Now()
	}
	if u, err := url.Parse(r.Webhook); err == nil {
		w.Host = u.Host
	}
	return errors.Join(g.queue.QueueWebhooks(ctx, []queue.Webhook{w})...)
}

// Redeliver has the outcome of a finished job sent to its webhook once more.
func (g *Gateway) Redeliver(ctx context.Context, scope string, t job.Ticket) error {
	v, err := g.find(ctx, scope, t)
	if err != nil {
		return err
	}
	switch {
	case !v.State.Terminal():
		return &Problem{Code: CodeUnfinished, Ticket: t.String(), State: v.State, Detail: "the job is not finished; its webhook is delivered when it is"}
	case v.Result.Webhook == "":
		return &Problem{Code: CodeNoWebhook, Ticket: t.String(), State: v.State, Detail: "the job was submitted without a webhook"}
	}
	ctx, cancel := context.WithTimeout(ctx, g.cfg.SubmitTimeout)
	defer cancel()
	if err := g.queueWebhook(ctx, t, v.Result, true); err != nil {
		return fmt.Errorf("deliver the webhook of job %s once more: %w", t, err)
	}
	return nil
}

// WebhookSecret is what the tenant's webhooks are signed with.
func (g *Gateway) WebhookSecret(ctx context.Context, tenant string) (string, error) {
	if g.deps.Webhooks == nil {
		return "", &Problem{Code: CodeUnsupported, Detail: "this server delivers no webhooks"}
	}
	ctx, cancel := context.WithTimeout(ctx, g.cfg.LookupTimeout)
	defer cancel()
	secret, err := g.deps.Webhooks.Secret(ctx, tenant)
	if err != nil {
		return "", fmt.Errorf("look up the webhook secret of tenant %s: %w", tenant, err)
	}
	return secret, nil
}
