package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

// metrics counts what the API does. Without a registerer it counts for nobody. Every label has few values, whatever
// clients send: the route's pattern, a known method, a class of status.
type metrics struct {
	requests *prometheus.CounterVec   // route, method, status
	seconds  *prometheus.HistogramVec // route, method
	submits  *prometheus.CounterVec   // outcome
	waiters  prometheus.Gauge
	wakeups  *prometheus.CounterVec // by
	// concluded counts the records that the API has written: canceled, and expired without a worker's doing.
	concluded   *prometheus.CounterVec // outcome
	unreachable *prometheus.GaugeVec   // what
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
		submits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("submits_total"), Help: "Jobs submitted, by outcome: accepted, duplicate, refused, unknown_model, too_large, tenant_full, full, busy, too_late, unavailable, gone, error.",
		}, []string{"outcome"}),
		waiters: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: name("waiters"), Help: "Requests that wait for a result.",
		}),
		wakeups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("wakeups_total"), Help: "Waiters that were given a result, by what found it: notice, or poll where the notice did not come.",
		}, []string{"by"}),
		concluded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("concluded_jobs_total"), Help: "Jobs that the API itself has ended, by outcome: canceled, expired.",
		}, []string{"outcome"}),
		unreachable: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: name("unreachable"), Help: "1 while a dependency counts as out of reach and calls of it are refused at once.",
		}, []string{"what"}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.submits, m.waiters, m.wakeups, m.concluded, m.unreachable} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the HTTP API's metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) request(route, method string, status int, took time.Duration) {
	method = knownMethod(method)
	m.requests.WithLabelValues(route, method, statusClass(status)).Inc()
	m.seconds.WithLabelValues(route, method).Observe(took.Seconds())
}

func (m *metrics) submitted(duplicate bool, err error) {
	outcome := "error"
	var e *job.Error
	var p *problem
	switch {
	case err == nil && duplicate:
		outcome = "duplicate"
	case err == nil:
		outcome = "accepted"
	case errors.As(err, &e):
		outcome = submitOutcome(e.Code)
	case errors.As(err, &p):
		outcome = submitOutcome(p.code)
	case errors.Is(err, errClientGone):
		outcome = "gone"
	case errors.Is(err, producer.ErrBusy):
		outcome = "busy"
	case errors.Is(err, producer.ErrTooLate):
		outcome = "too_late"
	case errors.Is(err, producer.ErrTenantFull):
		outcome = "tenant_full"
	case errors.Is(err, producer.ErrTooLarge):
		outcome = "too_large"
	case errors.Is(err, producer.ErrFull):
		outcome = "full"
	case outOfReach(err):
		outcome = "unavailable"
	}
	m.submits.WithLabelValues(outcome).Inc()
}

func submitOutcome(code job.Code) string {
	switch code {
	case job.CodeMalformed, job.CodeInvalid, codeMediaType, codeSlowBody, codeUnsupported:
		return "refused"
	case job.CodeUnknownModel:
		return "unknown_model"
	case job.CodeTooLarge:
		return "too_large"
	case codeUnavailable, codeTooManyWaiters:
		return "unavailable"
	default:
		return "error"
	}
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
