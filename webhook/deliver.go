package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// lookTime bounds each of the things that are asked of NATS and Redis about one delivery.
const lookTime = 5 * time.Second

// troubleDelay is when a delivery comes again that something of ours stood in the way of.
const troubleDelay = 5 * time.Second

// deliver makes one attempt, and does what follows from it. It returns how long the receiver took, 0 if it was not asked.
func (s *Sender) deliver(ctx context.Context, w queue.Webhook, l lease) time.Duration {
	e, err := s.event(ctx, &w)
	if ctx.Err() != nil {
		s.putOff(l, 0) // this process ends
		return 0
	}
	if err != nil {
		s.log.Debug("a webhook waits for what it tells", slog.String("job", w.Ticket.String()), slog.Any("error", err))
		s.putOff(l, jitter(troubleDelay))
		return 0
	}
	if e == nil {
		s.log.Info("a webhook is dropped: the result of its job is gone, or names none", slog.String("job", w.Ticket.String()))
		s.end(ctx, l, "record_gone")
		return 0
	}
	if err := s.policy.Check("webhook", e.URL); err != nil {
		s.metrics.attempts.WithLabelValues("refused").Inc()
		s.giveUp(ctx, w, l, "refused: "+err.Error())
		return 0
	}
	keys, err := s.keys(ctx, e.Tenant)
	if err != nil {
		s.log.Debug("a webhook waits for its secret", slog.String("job", w.Ticket.String()), slog.Any("error", err))
		s.putOff(l, jitter(troubleDelay))
		return 0
	}
	start := time.Now()
	a := s.attempt(ctx, e.URL, messageID(w.Ticket.ID, e.Time), envelope(e), keys)
	took := time.Since(start)
	if a.err != nil && ctx.Err() != nil {
		s.putOff(l, 0) // as above: it is no fault of the receiver's
		return 0
	}
	s.metrics.attempts.WithLabelValues(a.outcome).Inc()
	s.metrics.seconds.Observe(took.Seconds())
	w.Attempts++
	switch {
	case a.err == nil:
		s.deps.Reach.Reach(failpoint.WebhookSent)
		s.end(ctx, l, "delivered")
		s.deps.Reach.Reach(failpoint.WebhookSettled)
	case a.outcome == "gone":
		s.giveUp(ctx, w, l, a.err.Error())
	case w.Attempts > len(s.cfg.Schedule), !w.Since.IsZero() && time.Since(w.Since) > s.cfg.patience():
		s.giveUp(ctx, w, l, fmt.Sprintf("given up after %d attempts, the last of which failed: %v", w.Attempts, a.err))
	default:
		s.retry(ctx, w, l, &a)
	}
	return took
}

// event reads what is to be told, nil if there is nothing.
func (s *Sender) event(ctx context.Context, w *queue.Webhook) (*Event, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	switch w.Kind {
	case "":
		return s.jobEvent(ctx, w)
	case queue.WebhookBatch:
		if s.deps.Batches == nil {
			return nil, errors.New("this process knows no batches")
		}
		e, err := s.deps.Batches.Event(ctx, w.Tenant, w.Ticket.ID)
		if errors.Is(err, job.ErrNotFound) {
			return nil, nil //nolint:nilnil // nothing to tell is no error
		}
		return &e, err
	}
	return nil, fmt.Errorf("this process knows no webhooks of kind %q", w.Kind)
}

// jobEvent reads the job's record.
func (s *Sender) jobEvent(ctx context.Context, w *queue.Webhook) (*Event, error) {
	records, err := s.deps.Results.Get(ctx, w.Ticket.ID)
	if err != nil {
		return nil, err
	}
	if len(records) != 1 || records[0] == nil {
		return nil, nil //nolint:nilnil // no record is no error
	}
	r, err := job.DecodeRecord(w.Ticket.ID, records[0])
	if err != nil || r.Webhook == "" {
		return nil, err
	}
	e := &Event{URL: r.Webhook, Tenant: r.Tenant, Type: "job." + r.State.String(), Time: r.FinishedAt}
	e.Data = s.data(w.Ticket, &r, e)
	return e, nil
}

func (s *Sender) keys(ctx context.Context, tenant string) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	return s.deps.Secrets.keys(ctx, tenant)
}

// messageID is the webhook-id: one for each outcome, the same at each attempt. A job ID that derives from an
// Idempotency-Key may come to have another outcome when the first one's time to live is over.
func messageID(id job.ID, finished time.Time) string {
	return id.String() + "_" + strconv.FormatInt(finished.UnixMilli(), 10)
}

// data is what is told of a job. Its outputs are left out if the whole would be too large.
func (s *Sender) data(t job.Ticket, r *job.Result, e *Event) []byte {
	size := 0
	for i := range r.Outputs {
		size += len(r.Outputs[i].Data)
	}
	if size <= s.cfg.MaxPayload {
		whole := *e
		whole.Data = s.deps.Render(t, r, true)
		if len(envelope(&whole)) <= s.cfg.MaxPayload {
			return whole.Data
		}
	}
	return s.deps.Render(t, r, false)
}

func envelope(e *Event) []byte {
	b := make([]byte, 0, len(e.Data)+96)
	b = append(b, `{"type":"`...)
	b = append(b, e.Type...)
	b = append(b, `","timestamp":"`...)
	b = e.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z07:00")
	b = append(b, `","data":`...)
	b = append(b, e.Data...)
	return append(b, '}')
}

// retry stores the next attempt as a message of its own, and removes this one.
func (s *Sender) retry(ctx context.Context, w queue.Webhook, l lease, a *attempt) {
	delay := s.cfg.Schedule[w.Attempts-1]
	if a.after > delay {
		delay = max(delay, min(a.after, s.cfg.RetryAfterMax))
	}
	delay = jitter(delay)
	w.Due = time.Now().Add(delay)
	s.log.Debug("a webhook was not delivered; it is tried again", slog.String("job", w.Ticket.String()),
		slog.Int("attempt", w.Attempts), slog.Duration("after", delay), slog.Any("error", a.err))
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTime)
	defer cancel()
	if err := s.queue.again(limited, w); err != nil {
		// Then it comes again itself, as the attempt that it was.
		s.log.Debug("the next attempt of a webhook could not be stored", slog.String("job", w.Ticket.String()), slog.Any("error", err))
		s.putOff(l, delay)
		return
	}
	s.done(ctx, l)
}

// giveUp keeps the delivery among those that are not tried again.
func (s *Sender) giveUp(ctx context.Context, w queue.Webhook, l lease, reason string) {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTime)
	defer cancel()
	if err := s.queue.giveUp(limited, &w, reason); err != nil {
		s.log.Debug("a webhook could not be given up", slog.String("job", w.Ticket.String()), slog.Any("error", err))
		s.putOff(l, jitter(troubleDelay))
		return
	}
	s.log.Warn("a webhook is given up", slog.String("job", w.Ticket.String()), slog.String("host", w.Host), slog.Int("attempts", w.Attempts), slog.String("reason", reason))
	s.end(ctx, l, "given_up")
}

// end removes a delivery that is over.
func (s *Sender) end(ctx context.Context, l lease, outcome string) {
	s.metrics.ended.WithLabelValues(outcome).Inc()
	s.done(ctx, l)
}

func (s *Sender) done(ctx context.Context, l lease) {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTime)
	defer cancel()
	if err := l.Done(limited); err != nil {
		s.log.Debug("a webhook could not be removed from its queue; it may be delivered again", slog.Any("error", err))
	}
}

// retryAfter reads how long a receiver asks to be left alone.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(v); err == nil && seconds > 0 {
		return min(time.Duration(min(seconds, 1<<31-1))*time.Second, 24*time.Hour)
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(0, at.Sub(now)), 24*time.Hour)
	}
	return 0
}

var errGone = errors.New("the receiver answers 410: it does not want this any more")
