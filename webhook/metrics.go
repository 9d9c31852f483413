package webhook

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics has no label that a stranger chooses: neither URLs nor tenants.
type metrics struct {
	attempts *prometheus.CounterVec // outcome
	seconds  prometheus.Histogram
	ended    *prometheus.CounterVec // outcome
	putOff   prometheus.Counter
	waiting  prometheus.Gauge
	kept     prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	name := func(n string) string { return prometheus.BuildFQName("sheaf", "webhook", n) }
	m := &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("attempts_total"), Help: "Attempts to deliver a webhook, by outcome: delivered, status (not 2xx), gone (410), timeout, refused (not a public address), error.",
		}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name("attempt_seconds"), Help: "Time that an attempt took.",
			Buckets:                     prometheus.ExponentialBuckets(0.001, 2, 15),
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("ended_total"), Help: "Deliveries that are over, by outcome: delivered, given_up, record_gone (the result was deleted before).",
		}, []string{"outcome"}),
		putOff: prometheus.NewCounter(prometheus.CounterOpts{
			Name: name("put_off_total"), Help: "Deliveries put off without an attempt: the receiver or the tenant had as many in hand as it may, or something of ours did not answer.",
		}),
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: name("waiting"), Help: "Deliveries in the queue, of all processes: those that wait for an attempt too.",
		}),
		kept: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: name("given_up"), Help: "Deliveries that were given up and are kept, of all processes.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.attempts, m.seconds, m.ended, m.putOff, m.waiting, m.kept} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of webhooks: %w", err)
		}
	}
	return m, nil
}
