package queue

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/job"
)

// metrics counts what the queue does. Without a registerer it counts for nobody.
type metrics struct {
	publishSeconds *prometheus.HistogramVec // lane
	messageJobs    *prometheus.HistogramVec // lane
	published      *prometheus.CounterVec   // lane, outcome
	publishRetries prometheus.Counter
	fetched        *prometheus.CounterVec // lane
	redelivered    *prometheus.CounterVec // lane
	deadLetters    prometheus.Counter
	webhooks       *prometheus.CounterVec // outcome
	reconnects     prometheus.Counter
	connected      prometheus.Gauge

	lanes [2]laneMetrics // the children above, looked up once
}

type laneMetrics struct {
	publishSeconds, messageJobs prometheus.Observer
	fetched, redelivered        prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	name := func(n string) string { return prometheus.BuildFQName("sheaf", "queue", n) }
	m := &metrics{
		publishSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name("publish_seconds"), Help: "Time from sending a message to its acknowledgement by JetStream, retries included.",
			Buckets:                     prometheus.ExponentialBuckets(0.0001, 2, 17),
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}, []string{"lane"}),
		messageJobs: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name("message_jobs"), Help: "Jobs that travel in one published message.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}, []string{"lane"}),
		published: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("published_jobs_total"), Help: "Jobs published, by outcome: accepted, duplicate, tenant_full, full, unavailable, too_large, canceled, error.",
		}, []string{"lane", "outcome"}),
		publishRetries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: name("publish_retries_total"), Help: "Messages sent again because the answer did not come.",
		}),
		fetched: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("fetched_messages_total"), Help: "Messages delivered to this process.",
		}, []string{"lane"}),
		redelivered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("redelivered_messages_total"), Help: "Messages delivered to this process that had been delivered before.",
		}, []string{"lane"}),
		deadLetters: prometheus.NewCounter(prometheus.CounterOpts{
			Name: name("dead_letters_total"), Help: "Copies written to the stream of dead letters.",
		}),
		webhooks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("webhooks_total"), Help: "Deliveries of webhooks that were to be stored, by outcome: queued, duplicate, full (given up at once), error.",
		}, []string{"outcome"}),
		reconnects: prometheus.NewCounter(prometheus.CounterOpts{
			Name: name("reconnects_total"), Help: "Times the connection to NATS was restored.",
		}),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: name("connected"), Help: "1 while the connection to NATS stands.",
		}),
	}
	for _, l := range job.Lanes() {
		m.lanes[l] = laneMetrics{
			publishSeconds: m.publishSeconds.WithLabelValues(l.String()),
			messageJobs:    m.messageJobs.WithLabelValues(l.String()),
			fetched:        m.fetched.WithLabelValues(l.String()),
			redelivered:    m.redelivered.WithLabelValues(l.String()),
		}
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.publishSeconds, m.messageJobs, m.published, m.publishRetries, m.fetched, m.redelivered, m.deadLetters, m.webhooks, m.reconnects, m.connected,
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the queue's metrics: %w", err)
		}
	}
	return m, nil
}

// countPublished counts jobs by what became of their message.
func (m *metrics) countPublished(lane job.Lane, jobs int, duplicate bool, err error) {
	outcome := "error"
	switch {
	case err == nil && duplicate:
		outcome = "duplicate"
	case err == nil:
		outcome = "accepted"
	case errors.Is(err, ErrTenantFull):
		outcome = "tenant_full"
	case errors.Is(err, ErrFull):
		outcome = "full"
	case errors.Is(err, ErrTooLarge):
		outcome = "too_large"
	case errors.Is(err, ErrUnavailable):
		outcome = "unavailable"
	case errors.Is(err, ErrUncertain):
		outcome = "canceled"
	}
	m.published.WithLabelValues(lane.String(), outcome).Add(float64(jobs))
}
