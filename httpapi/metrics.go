package httpapi

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts what the API does. Without a registerer it counts for nobody. Every label has few values, whatever
// clients send: the route's pattern, a known method, a class of status.
type metrics struct {
	requests *prometheus.CounterVec   // route, method, status
	seconds  *prometheus.HistogramVec // route, method
	outside  *prometheus.CounterVec   // reason
	known    sync.Map                 // *observers by observed
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	name := func(n string) string { return prometheus.BuildFQName("sheaf", "http", n) }
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("requests_total"), Help: "Requests answered, by route, method and class of status; gone: the client left first.",
		}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name("request_seconds"), Help: "Time from a request's headers to its answer, waits for results included.",
			Buckets:                     []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 40, 80},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}, []string{"route", "method"}),
		outside: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("unauthorized_total"), Help: "Requests that were not let in, by reason: missing, invalid, scope, issuer.",
		}, []string{"reason"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.outside} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the HTTP API's metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) request(route, method string, status int, took time.Duration) {
	key := observed{route, knownMethod(method), statusClass(status)}
	found, ok := m.known.Load(key)
	if !ok {
		found, _ = m.known.LoadOrStore(key, &observers{
			m.requests.WithLabelValues(key.route, key.method, key.class), m.seconds.WithLabelValues(key.route, key.method),
		})
	}
	o, _ := found.(*observers)
	o.count.Inc()
	o.seconds.Observe(took.Seconds())
}

// observed are the labels of a request, and observers what they stand for: to find that by its labels takes longer.
type observed struct{ route, method, class string }

type observers struct {
	count   prometheus.Counter
	seconds prometheus.Observer
}

func statusClass(status int) string {
	switch {
	case status == statusClientGone:
		return "gone"
	case status >= 500:
		return "5xx"
	case status >= 400:
		return "4xx"
	case status >= 300:
		return "3xx"
	default:
		return "2xx"
	}
}

// knownMethod keeps invented methods out of labels.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "other"
	}
}
