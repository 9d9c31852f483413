package resultstore

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what a store does. Without a registerer it counts for nobody.
type metrics struct {
	writes       *prometheus.CounterVec // outcome
	won, lost    prometheus.Counter     // the children of writes
	failed       prometheus.Counter
	errors       *prometheus.CounterVec // kind
	reads        *prometheus.CounterVec // outcome
	found        prometheus.Counter
	missed       prometheus.Counter
	writeSeconds prometheus.Histogram
	writeRecords prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	name := func(n string) string { return prometheus.BuildFQName("sheaf", "resultstore", n) }
	m := &metrics{
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("writes_total"), Help: "Terminal records offered to the store, by outcome: won, lost (another record was first), error.",
		}, []string{"outcome"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("errors_total"), Help: "Records and look-ups that failed, by kind: connection, timeout, readonly, full, loading, failover, replicas, disk, auth, canceled, closed, refused.",
		}, []string{"kind"}),
		reads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("reads_total"), Help: "Records asked for, by outcome: found, missing.",
		}, []string{"outcome"}),
		writeSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name("write_seconds"), Help: "Time of writing one batch of records, retries of the client library included.",
			Buckets:                     prometheus.ExponentialBuckets(0.0001, 2, 16),
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}),
		writeRecords: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name("write_records"), Help: "Records in one batch.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 11),
		}),
	}
	m.won, m.lost = m.writes.WithLabelValues("won"), m.writes.WithLabelValues("lost")
	m.failed = m.writes.WithLabelValues("error")
	m.found, m.missed = m.reads.WithLabelValues("found"), m.reads.WithLabelValues("missing")
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.writes, m.errors, m.reads, m.writeSeconds, m.writeRecords} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the result store's metrics: %w", err)
		}
	}
	return m, nil
}

// wrote counts the outcomes of one batch that took so many seconds.
func (m *metrics) wrote(outcomes []Outcome, seconds float64) {
	var won, lost, failed int
	for i := range outcomes {
		switch o := &outcomes[i]; {
		case o.Err != nil:
			failed++
			m.errors.WithLabelValues(errorKind(o.Err)).Inc()
		case o.Won:
			won++
		default:
			lost++
		}
	}
	m.won.Add(float64(won))
	m.lost.Add(float64(lost))
	m.failed.Add(float64(failed))
	m.writeSeconds.Observe(seconds)
	m.writeRecords.Observe(float64(len(outcomes)))
}

// read counts one look-up.
func (m *metrics) read(records [][]byte, err error) {
	if err != nil {
		m.errors.WithLabelValues(errorKind(err)).Inc()
		return
	}
	found := 0
	for _, r := range records {
		if r != nil {
			found++
		}
	}
	m.found.Add(float64(found))
	m.missed.Add(float64(len(records) - found))
}
