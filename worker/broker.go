package worker

import (
	"context"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

// Results is what a worker needs of the result store. Every resultstore.Store is one.
type Results interface {
	// Finish writes terminal records, each if its key is free. It does not keep the records after it returns.
	Finish(ctx context.Context, entries []resultstore.Entry) ([]resultstore.Outcome, error)
	Get(ctx context.Context, ids ...job.ID) ([][]byte, error)
	Ping(ctx context.Context) error
}

// broker is what a worker needs of the queue.
type broker interface {
	EnsureConsumer(ctx context.Context, lane job.Lane, model string) error
	// Open returns the sources of a lane and model, one for each share of its tenants.
	Open(ctx context.Context, lane job.Lane, model string) ([]source, error)
	Announce(ctx context.Context, key string, value []byte) error
	DeadLetter(ctx context.Context, d *queue.Delivery, ids []job.ID, reason string, history ...string) error
	OnCanceled(fn func(ids []job.ID)) (stop func(), err error)
	// QueueWebhooks stores deliveries; errs is nil, or has one for each.
	QueueWebhooks(ctx context.Context, list []queue.Webhook) (errs []error)
	NotifyDone(ids []job.ID) error
	Reply(subject string, header map[string]string, body []byte) error
	Ready(ctx context.Context) error
	// Connected reports whether there is a connection at all.
	Connected() bool
}

// source is where the messages of one lane, model and share come from.
type source interface {
	Fetch(ctx context.Context, limit int, wait time.Duration, fn func(*queue.Delivery, lease)) (int, error)
	AckWait() time.Duration
}

// lease is what may be done with a message that is held.
type lease interface {
	Ack() error
	Retry(delay time.Duration) error
	Extend() error
}

// jetStream is the broker that a *queue.Queue is.
type jetStream struct{ *queue.Queue }

func (j jetStream) Open(ctx context.Context, lane job.Lane, model string) ([]source, error) {
	shares, err := j.Sources(ctx, lane, model)
	if err != nil {
		return nil, err
	}
	sources := make([]source, len(shares))
	for i, s := range shares {
		sources[i] = jetStreamSource{s}
	}
	return sources, nil
}

type jetStreamSource struct{ *queue.Source }

func (s jetStreamSource) Fetch(ctx context.Context, limit int, wait time.Duration, fn func(*queue.Delivery, lease)) (int, error) {
	return s.Source.Fetch(ctx, limit, wait, func(d *queue.Delivery) { fn(d, d) })
}
