package gateway

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

// metrics counts what the gateway does. Without a registerer it counts for nobody. Every label has few values, whatever
// clients send.
type metrics struct {
	submits *prometheus.CounterVec // outcome
	fresh   prometheus.Counter     // of them, the jobs that were accepted
	waiters prometheus.Gauge
	wakeups *prometheus.CounterVec // by
	// concluded counts the records that the gateway has written: canceled, and expired without a worker's doing.
	concluded   *prometheus.CounterVec // outcome
	unreachable *prometheus.GaugeVec   // what
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	name := func(n string) string { return prometheus.BuildFQName("sheaf", "gateway", n) }
	m := &metrics{
		submits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: name("submits_total"), Help: "Jobs submitted, by outcome: accepted, duplicate, refused, unknown_model, too_large, tenant_full, full, rate_limited, busy, too_late, unavailable, gone, error.",
		}, []string{"outcome"}),
		waiters: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: name("waiters"), Help: "Jobs that requests wait for; a stream of events waits for several.",
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
	m.fresh = m.submits.WithLabelValues("accepted")
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.submits, m.waiters, m.wakeups, m.concluded, m.unreachable} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register the gateway's metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) submitted(duplicate bool, err error) {
	if err == nil && !duplicate {
		m.fresh.Inc()
		return
	}
	m.submits.WithLabelValues(outcomeOf(err)).Inc()
}

// outcomeOf names what became of a submit that is not a job of its own; no error is a duplicate.
func outcomeOf(err error) string {
	outcome := "error"
	var e *job.Error
	var p *Problem
	switch {
	case err == nil:
		outcome = "duplicate"
	case errors.As(err, &e):
		outcome = submitOutcome(e.Code)
	case errors.As(err, &p):
		outcome = submitOutcome(p.Code)
	case errors.Is(err, ErrClientGone):
		outcome = "gone"
	case errors.Is(err, producer.ErrKeyReused):
		outcome = submitOutcome(CodeKeyReused)
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
	return outcome
}

// accepted counts jobs that were accepted in bulk.
func (m *metrics) accepted(fresh, duplicate int) {
	m.fresh.Add(float64(fresh))
	m.submits.WithLabelValues("duplicate").Add(float64(duplicate))
}

func submitOutcome(code job.Code) string {
	switch code {
	case job.CodeMalformed, job.CodeInvalid, CodeKeyReused, CodeMediaType, CodeSlowBody, CodeUnsupported:
		return "refused"
	case job.CodeUnknownModel:
		return "unknown_model"
	case job.CodeTooLarge:
		return "too_large"
	case CodeRateLimited:
		return "rate_limited"
	case CodeUnavailable, CodeTooManyWaiters:
		return "unavailable"
	default:
		return "error"
	}
}
