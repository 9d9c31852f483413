package queue

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

const (
	streamBatches    = "batches"
	subjectBatch     = "sheaf.batch.due."
	consumerBatches  = "runners"
	maxBatchMessages = 1 << 20 // bytes of all messages for each thousand of them
)

// BatchLimits bounds the batches that are not finished. The limits of an existing stream are raised to these, never
// lowered.
type BatchLimits struct {
	// Lease is how long a batch is this process's own without being extended: the recovery time after a runner dies.
	Lease time.Duration
	// Max bounds the batches of all tenants (ErrFull), MaxPerTenant those of one (ErrTenantFull).
	Max, MaxPerTenant int64
}

// EnsureBatches creates the stream of the batches and its consumer, safely in many processes at once.
func (q *Queue) EnsureBatches(ctx context.Context, limits BatchLimits) error {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.ConnectTimeout)
	defer cancel()
	want := jetstream.StreamConfig{
		Name:                 streamBatches,
		Description:          "Sheaf: batches that are not finished",
		Subjects:             []string{subjectBatch + "*"},
		Retention:            jetstream.WorkQueuePolicy,
		Storage:              jetstream.FileStorage,
		Discard:              jetstream.DiscardNew,
		DiscardNewPerSubject: true,
		MaxMsgs:              limits.Max,
		MaxBytes:             max(16, limits.Max/16) * maxBatchMessages,
		MaxMsgsPerSubject:    limits.MaxPerTenant,
		Replicas:             q.cfg.Replicas,
		Duplicates:           q.cfg.DuplicateWindow,
		AllowDirect:          true,
	}
	err := q.patiently(ctx, func(ctx context.Context) error {
		if err := q.ensureStream(ctx, want); err != nil {
			return err
		}
		_, err := q.ensureBatchConsumer(ctx, limits.Lease)
		return err
	})
	return q.noRoom(want, requestError("prepare the stream of batches", err))
}

// ensureBatchConsumer makes the consumer that all runners share, or raises its lease to the setting. It has no bound of
// deliveries: a batch that cannot be run is ended by whoever takes it up.
func (q *Queue) ensureBatchConsumer(ctx context.Context, lease time.Duration) (jetstream.Consumer, error) {
	s, err := q.js.Stream(ctx, streamBatches)
	if err != nil {
		return nil, err
	}
	c, err := s.Consumer(ctx, consumerBatches)
	if err == nil && c.CachedInfo().Config.AckWait >= lease {
		return c, nil
	}
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, err
	}
	return s.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable:       consumerBatches,
		Description:   "Sheaf: runners of batches",
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       lease,
		MaxDeliver:    -1,
		MaxAckPending: -1,
		DeliverPolicy: jetstream.DeliverAllPolicy,
	})
}

// PublishBatch stores a batch that is not finished: with its answer the batch is accepted. Doing it again with the same
// id within the duplicate window stores none twice.
func (q *Queue) PublishBatch(ctx context.Context, tenant, id string, body []byte) error {
	if !q.enter() {
		return ErrClosed
	}
	defer q.running.Done()
	if !job.ValidName(tenant) || !job.ValidName(id) {
		return job.Invalidf("batch", "a batch needs a tenant and an ID")
	}
	if err := q.checkSize(len(body)); err != nil {
		return err
	}
	if _, err := q.send(ctx, &nats.Msg{Subject: subjectBatch + token(tenant), Header: nats.Header{job.HeaderID: {id}}, Data: body}); err != nil {
		return fmt.Errorf("publish a batch: %w", err)
	}
	return nil
}

// BatchBacklog is how many batches are not finished.
func (q *Queue) BatchBacklog(ctx context.Context) (uint64, error) {
	s, err := q.stream(ctx, streamBatches)
	if err != nil {
		return 0, err
	}
	return s.CachedInfo().State.Msgs, nil
}

// BatchSource fetches batches. Any number of processes share them.
type BatchSource struct {
	q        *Queue
	limits   BatchLimits
	consumer jetstream.Consumer
	lease    time.Duration
}

// Batches returns the source of the batches, and makes what is not there of the stream and its consumer.
func (q *Queue) Batches(ctx context.Context, limits BatchLimits) (*BatchSource, error) {
	s := &BatchSource{q: q, limits: limits}
	return s, s.open(ctx)
}

func (s *BatchSource) open(ctx context.Context) error {
	if err := s.q.EnsureBatches(ctx, s.limits); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.q.cfg.RequestTimeout)
	defer cancel()
	c, err := s.q.ensureBatchConsumer(ctx, s.limits.Lease)
	if err != nil {
		return requestError("prepare the consumer of batches", err)
	}
	s.consumer, s.lease = c, c.CachedInfo().Config.AckWait
	return nil
}

// Lease is how long a batch is this process's own.
func (s *BatchSource) Lease() time.Duration { return s.lease }

// Waiting is how many batches no runner has taken up yet.
func (s *BatchSource) Waiting(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, s.q.cfg.RequestTimeout)
	defer cancel()
	info, err := s.consumer.Info(ctx)
	if err != nil {
		return 0, requestError("count the batches that wait", err)
	}
	return info.NumPending, nil
}

// Fetch waits for a batch, for as long as wait says; nil if none has come.
func (s *BatchSource) Fetch(ctx context.Context, wait time.Duration) (*BatchDelivery, error) {
	if !s.q.enter() {
		return nil, ErrClosed
	}
	defer s.q.running.Done()
	if err := s.q.awaitLink(ctx, time.Now().Add(wait)); err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	batch, err := s.consumer.Fetch(1, jetstream.FetchContext(within))
	if err != nil {
		return nil, requestError("fetch a batch", err)
	}
	var d *BatchDelivery
	for m := range batch.Messages() {
		d = s.deliver(m)
	}
	err = batch.Error()
	if d != nil || within.Err() != nil && errors.Is(err, within.Err()) {
		return d, nil
	}
	if errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrConsumerNotFound) {
		if failed := s.open(ctx); failed != nil {
			return nil, failed
		}
		err = fmt.Errorf("%w: %w; the consumer has been made again", ErrUnavailable, err)
	}
	return nil, requestError("fetch a batch", err)
}

// deliver makes the lease of a message; nil if it is none of ours, which is removed.
func (s *BatchSource) deliver(m jetstream.Msg) *BatchDelivery {
	d := &BatchDelivery{Body: m.Data(), ID: m.Headers().Get(job.HeaderID), msg: m, lease: s.lease - s.lease/leaseMargin}
	var ok bool
	subject := m.Subject()
	if len(subject) > len(subjectBatch) {
		d.Tenant, ok = untoken(subject[len(subjectBatch):])
	}
	if !ok || !job.ValidName(d.ID) {
		s.q.log.Warn("a message that is no batch was removed from their stream", "subject", subject)
		_ = m.Term() // on failure it comes again, to the same effect
		return nil
	}
	d.extended()
	return d
}

// BatchDelivery is a leased batch. Its methods may be called from many goroutines.
type BatchDelivery struct {
	Tenant string
	ID     string // that it was published with
	Body   []byte

	msg   jetstream.Msg
	lease time.Duration
	until atomic.Pointer[time.Time]
}

func (d *BatchDelivery) extended() {
	until := time.Now().Add(d.lease)
	d.until.Store(&until)
}

// Until is when the lease is over, unless it is extended.
func (d *BatchDelivery) Until() time.Time { return *d.until.Load() }

// Extend renews the lease. ErrLapsed, and nothing sent, if it is over: the batch may be another's by now.
func (d *BatchDelivery) Extend(ctx context.Context) error {
	if !time.Now().Before(d.Until()) {
		return ErrLapsed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := d.msg.InProgress(); err != nil {
		return requestError("extend the lease of a batch", err)
	}
	d.extended()
	return nil
}

// Done removes the batch: its record says how it has ended.
func (d *BatchDelivery) Done(ctx context.Context) error {
	return requestError("remove a batch", d.msg.DoubleAck(ctx))
}

// Defer gives the batch back, to come again after the delay, here or elsewhere. ErrLapsed, and nothing sent, if it may
// be another's by now.
func (d *BatchDelivery) Defer(delay time.Duration) error {
	if !time.Now().Before(d.Until()) {
		return ErrLapsed
	}
	if delay <= 0 {
		return requestError("give a batch back", d.msg.Nak())
	}
	return requestError("give a batch back", d.msg.NakWithDelay(delay))
}
