package grpcapi

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// metrics counts what the API does. Without a registerer it counts for nobody. Every label has few values, whatever
// clients send: a method that is served, a code of gRPC.
type metrics struct {
	calls    *prometheus.CounterVec   // method, code
	seconds  *prometheus.HistogramVec // method
	running  *prometheus.GaugeVec     // method
	streamed *prometheus.CounterVec   // method, code
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	name := func(n string) string { return prometheus.BuildFQName("sheaf", "grpc", n) }
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("calls_total"), Help: "Calls answered, streams included, by method and status code.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name("call_seconds"), Help: "Time from a call's message to its answer, waits for results included. Streams are left out.",
			Buckets:                     []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 40, 80},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}, []string{"method"}),
		running: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: name("running_calls"), Help: "Calls that are being answered, streams included.",
		}, []string{"method"}),
		streamed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("stream_requests_total"), Help: "Requests answered within streams, by method and status code.",
		}, []string{"method", "code"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.calls, m.seconds, m.running, m.streamed} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the gRPC API's metrics: %w", err)
		}
	}
	return m, nil
}

// begin counts a call that begins; what it returns counts its end.
func (m *metrics) begin(method string, stream bool) func(code codes.Code) {
	start, running := time.Now(), m.running.WithLabelValues(method)
	running.Inc()
	return func(code codes.Code) {
		running.Dec()
		m.calls.WithLabelValues(method, code.String()).Inc()
		if !stream {
			m.seconds.WithLabelValues(method).Observe(time.Since(start).Seconds())
		}
	}
}
