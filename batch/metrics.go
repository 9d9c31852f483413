package batch

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics has no label that a stranger chooses.
type metrics struct {
	running prometheus.Gauge
	taken   prometheus.Counter
	ended   *prometheus.CounterVec // status
	lines   *prometheus.CounterVec // outcome
	commits prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	name := func(n string) string { return prometheus.BuildFQName("sheaf", "batch", n) }
	m := &metrics{
		running: prometheus.NewGauge(prometheus.GaugeOpts{Name: name("running"), Help: "Batches that this process works on."}),
		taken:   prometheus.NewCounter(prometheus.CounterOpts{Name: name("taken_total"), Help: "How often a batch was taken up: new, after a pause, or from another process."}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("ended_total"), Help: "Batches that this process brought to their end, by status: completed, failed, expired, cancelled.",
		}, []string{"status"}),
		lines: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("lines_total"), Help: "Lines that were answered and recorded, by outcome: completed, failed.",
		}, []string{"outcome"}),
		commits: prometheus.NewCounter(prometheus.CounterOpts{Name: name("commits_total"), Help: "How often the answers so far were recorded."}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.running, m.taken, m.ended, m.lines, m.commits} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of batches: %w", err)
		}
	}
	return m, nil
}
