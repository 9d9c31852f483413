package worker

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/job"
)

// metrics are the pool's. Labels are the models served, the lanes and the outcomes: nothing that a message says.
type metrics struct {
	jobs        *prometheus.CounterVec   // model, outcome
	late        *prometheus.CounterVec   // model
	returned    *prometheus.CounterVec   // model
	canceled    *prometheus.CounterVec   // model
	redelivered *prometheus.CounterVec   // model, lane
	express     *prometheus.CounterVec   // model
	rows        *prometheus.CounterVec   // model
	batchRows   *prometheus.HistogramVec // model
	queue       *prometheus.HistogramVec // model
	wait        *prometheus.HistogramVec // model
	infer       *prometheus.HistogramVec // model
	write       *prometheus.HistogramVec // model
	buffered    *prometheus.GaugeVec     // model, lane
	inFlight    *prometheus.GaugeVec     // model
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	var all []prometheus.Collector
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "sheaf", Subsystem: "worker", Name: name, Help: help}, labels)
		all = append(all, c)
		return c
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "sheaf", Subsystem: "worker", Name: name, Help: help}, labels)
		all = append(all, g)
		return g
	}
	histogram := func(name, help string, buckets []float64, native float64) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "sheaf", Subsystem: "worker", Name: name, Help: help,
			Buckets: buckets, NativeHistogramBucketFactor: native, NativeHistogramMaxBucketNumber: 100,
		}, []string{"model"})
		all = append(all, h)
		return h
	}
	// Native buckets cost a mutex and a map for each observation, so only what is observed once a batch has them.
	seconds := prometheus.ExponentialBuckets(0.0001, 2.5, 16)
	m := &metrics{
		jobs:        counter("jobs_total", "Jobs whose record this worker wrote, by outcome: succeeded, failed, expired; canceled only where the API had not written it.", "model", "outcome"),
		late:        counter("late_results_total", "Jobs whose record another attempt, or a cancel, had written first.", "model"),
		returned:    counter("returned_jobs_total", "Jobs given back to the queue without an outcome.", "model"),
		canceled:    counter("canceled_runs_total", "Runs of a model that were ended because every job of them was canceled.", "model"),
		redelivered: counter("redelivered_messages_total", "Messages delivered that had been delivered before.", "model", "lane"),
		express:     counter("express_runs_total", "Runs of a model that overtook another one on an express instance.", "model"),
		rows:        counter("rows_total", "Rows computed.", "model"),
		batchRows:   histogram("batch_rows", "Rows of a run of the model.", prometheus.ExponentialBuckets(1, 2, 11), 1.1),
		queue:       histogram("queue_seconds", "Time from submit to the worker, for each job.", seconds, 0),
		wait:        histogram("batch_wait_seconds", "Time in the worker until the batch closed, for each job.", seconds, 0),
		infer:       histogram("inference_seconds", "Time of a run of the model.", prometheus.ExponentialBuckets(0.00001, 2.5, 17), 1.1),
		write:       histogram("result_write_seconds", "Time to write the records of a batch, retries included.", seconds, 1.1),
		buffered:    gauge("buffered_rows", "Rows fetched and not yet in a batch.", "model", "lane"),
		inFlight:    gauge("in_flight_rows", "Rows being computed or written.", "model"),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range all {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the worker's metrics: %w", err)
		}
	}
	return m, nil
}

// modelMetrics are the children of one model, looked up once.
type modelMetrics struct {
	jobs         [job.Expired + 1]prometheus.Counter // by state
	late         prometheus.Counter
	returned     prometheus.Counter
	canceledRuns prometheus.Counter
	redelivered  [2]prometheus.Counter
	express      prometheus.Counter
	rows         prometheus.Counter
	batchRows    prometheus.Observer
	queue        prometheus.Observer
	wait         prometheus.Observer
	infer        prometheus.Observer
	write        prometheus.Observer
	buffered     [2]prometheus.Gauge
	inFlight     prometheus.Gauge
}

func (m *metrics) model(name string) *modelMetrics {
	c := &modelMetrics{
		late: m.late.WithLabelValues(name), returned: m.returned.WithLabelValues(name), canceledRuns: m.canceled.WithLabelValues(name), rows: m.rows.WithLabelValues(name),
		express:   m.express.WithLabelValues(name),
		batchRows: m.batchRows.WithLabelValues(name), queue: m.queue.WithLabelValues(name), wait: m.wait.WithLabelValues(name),
		infer: m.infer.WithLabelValues(name), write: m.write.WithLabelValues(name), inFlight: m.inFlight.WithLabelValues(name),
	}
	for _, s := range [...]job.State{job.Succeeded, job.Failed, job.Canceled, job.Expired} {
		c.jobs[s] = m.jobs.WithLabelValues(name, s.String())
	}
	for _, lane := range job.Lanes() {
		c.redelivered[lane] = m.redelivered.WithLabelValues(name, lane.String())
		c.buffered[lane] = m.buffered.WithLabelValues(name, lane.String())
	}
	return c
}

func (m *modelMetrics) observeRun(rows int, took time.Duration) {
	m.rows.Add(float64(rows))
	m.batchRows.Observe(float64(rows))
	m.infer.Observe(took.Seconds())
}

func (m *modelMetrics) observeWrite(took time.Duration) { m.write.Observe(took.Seconds()) }

// observeLines counts outcomes, adding them up first: most batches have one kind.
func (m *modelMetrics) observeLines(l *ledger) {
	var states [len(m.jobs)]int
	late := 0
	for i := range l.lines {
		ln := &l.lines[i]
		switch {
		case ln.task == nil, ln.found: // given back, or finished before
		case ln.late:
			late++
		default:
			states[ln.state]++
			m.queue.Observe(ln.queue.Seconds())
			m.wait.Observe(ln.wait.Seconds())
		}
	}
	for s, n := range states {
		if n > 0 {
			m.jobs[s].Add(float64(n))
		}
	}
	if late > 0 {
		m.late.Add(float64(late))
	}
	if n := len(l.returned); n > 0 {
		m.returned.Add(float64(n))
	}
}
