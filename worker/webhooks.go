package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// newWebhook is the delivery of a job's outcome.
func newWebhook(j *job.Job, lane job.Lane, seq uint64, place int, finished time.Time) queue.Webhook {
	w := queue.Webhook{
		Ticket: job.Ticket{ID: j.ID, Lane: lane, Seq: seq, Index: place, Fingerprint: j.Fingerprint},
		Tenant: j.Tenant, Finished: finished,
	}
	if u, err := url.Parse(j.Webhook); err == nil {
		w.Host = u.Host
	}
	return w
}

// queueWebhooks stores the deliveries of the ledger's jobs that name a webhook, after their records and before their
// messages are acknowledged. A message whose delivery cannot be stored comes again: its job is found finished then, and
// its delivery is stored before anything else.
func (e *engine) queueWebhooks(ctx context.Context, l *ledger) {
	l.hooks, l.hooked = l.hooks[:0], l.hooked[:0]
	for i := range l.lines {
		ln := &l.lines[i]
		if ln.task == nil || ln.task.job.Webhook == "" || ln.task.job.ID.IsZero() {
			continue
		}
		m := ln.task.message
		l.hooks = append(l.hooks, newWebhook(ln.task.job, m.lane, m.delivery.Seq, ln.task.place, ln.finished))
		l.hooked = append(l.hooked, i)
	}
	if len(l.hooks) == 0 {
		return
	}
	errs := e.broker.QueueWebhooks(ctx, l.hooks)
	for i, err := range errs {
		if err == nil {
			continue
		}
		m := l.lines[l.hooked[i]].task.message
		m.needRetry(e.retryDelay(m.delivery.Attempt))
		if errors.Is(err, queue.ErrUnavailable) && ctx.Err() == nil {
			e.nats.fail(err)
		} else {
			e.log.Warn("a webhook could not be queued; its message will come again",
				slog.String("job", l.hooks[i].Ticket.String()), slog.Any("error", err))
		}
	}
	if errs == nil {
		e.reach.Reach(failpoint.WebhookQueued)
	}
}

// queueWebhooks is the reaper's: the jobs have their records, and the message is not removed yet.
func (r *reaper) queueWebhooks(ctx context.Context, s *queue.Stranded, decoded []job.Decoded) error {
	var ids []job.ID
	var places []int
	for i := range decoded {
		if j := &decoded[i].Job; j.Webhook != "" && !j.ID.IsZero() {
			ids, places = append(ids, j.ID), append(places, i)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	records, err := r.results.Get(ctx, ids...)
	if err == nil && len(records) != len(ids) {
		err = errIncomplete
	}
	if err != nil {
		return fmt.Errorf("look for the records of webhooks: %w", err)
	}
	list := make([]queue.Webhook, len(ids))
	for i, place := range places {
		list[i] = newWebhook(&decoded[place].Job, s.Envelope.Lane, s.Seq, place, finishedAt(ids[i], records[i]))
	}
	if err := errors.Join(r.queue.QueueWebhooks(ctx, list)...); err != nil {
		return err
	}
	r.reach.Reach(failpoint.WebhookQueued)
	return nil
}

// finishedAt is when the job of a record was finished; zero if it cannot be read.
func finishedAt(id job.ID, record []byte) time.Time {
	r, err := job.DecodeRecord(id, record)
	if err != nil {
		return time.Time{}
	}
	return r.FinishedAt
}
