package httpapi_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/queue"
)

// oracle is what a test wants to be known of the queue.
type oracle struct {
	f  producer.Forecast
	ok bool
}

func (o *oracle) Forecast(job.Lane, string, string) (producer.Forecast, bool) { return o.f, o.ok }

func (o *oracle) ForecastNow(context.Context, job.Lane, string, string) (producer.Forecast, bool) {
	return o.f, o.ok
}

// Clients are told to ask when their job is expected to be finished, within bounds.
func TestRetryAfterOfPolls(t *testing.T) {
	for _, c := range []struct {
		name   string
		f      *oracle
		ahead  int
		state  job.State
		model  string
		after  string // of a poll
		eta    any
		submit string // Retry-After of the submit
	}{
		{"not known", &oracle{}, 3, job.Queued, "digits", "1", nil, "1"},
		{"not known, many ahead", &oracle{}, 4000, job.Queued, "digits", "4", nil, "1"},
		{"no forecaster", nil, 3, job.Queued, "digits", "1", nil, "1"},
		{"soon", &oracle{producer.Forecast{Rate: 1000, Wait: 5 * time.Millisecond}, true}, 3, job.Queued, "digits", "1", 4.0, "1"},
		{"later", &oracle{producer.Forecast{Rate: 10, Running: 20, Wait: 42100 * time.Millisecond}, true}, 199, job.Queued, "digits", "22", 22000.0, "43"},
		{"much later", &oracle{producer.Forecast{Rate: 1, Wait: time.Hour}, true}, 3599, job.Queued, "digits", "60", 3600000.0, "60"},
		{"not before its deadline", &oracle{producer.Forecast{Rate: 1, Wait: time.Hour}, true}, 3599, job.Queued, "hasty", "5", 3600000.0, "5"},
		{"running", &oracle{producer.Forecast{Rate: 1, Wait: time.Hour}, true}, 0, job.Running, "digits", "1", nil, "60"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, func(_ *config, d *deps) {
					d.Queue = &placed{d.Queue, c.ahead}
					d.Forecaster = nil
					if c.f != nil {
						d.Forecaster = c.f
					}
				})
				a := r.call(t, "POST", "/v1/models/"+c.model+"/jobs", oneRow)
				if a.header.Get("Retry-After") != c.submit {
					t.Errorf("Retry-After of the submit is %s, expected %s", a.header.Get("Retry-After"), c.submit)
				}
				r.queue.setState(r.queue.last(t).ticket, c.state)
				a = r.call(t, "GET", "/v1/jobs/"+a.str("id"), "")
				if a.header.Get("Retry-After") != c.after || a.doc["eta_ms"] != c.eta {
					t.Errorf("Retry-After %s, expected %s; eta_ms expected %v: %s", a.header.Get("Retry-After"), c.after, c.eta, a.body)
				}
			})
		})
	}
}

// placed puts every waiting job behind others.
type placed struct {
	gateway.Queue
	ahead int
}

func (q *placed) Locate(ctx context.Context, t job.Ticket) (job.Location, error) {
	loc, err := q.Queue.Locate(ctx, t)
	if loc.State == job.Queued {
		loc.Ahead = q.ahead
	}
	return loc, err
}

// refusing turns every submit away.
type refusing struct {
	gateway.Submitter
	err error
}

func (s refusing) Submit(context.Context, producer.Request) (producer.Submission, error) {
	return producer.Submission{}, fmt.Errorf("submit: %w", s.err)
}

// A crowd that is turned away at one moment does not come back in one second, nor before there is room.
func TestRefusalsAreSpread(t *testing.T) {
	for _, c := range []struct {
		err        error
		status     int
		code       string
		from, to   int
		least, max time.Duration
	}{
		{&producer.Refusal{Err: producer.ErrTooLate, RetryAfter: 19500 * time.Millisecond}, 503, "overloaded", 20, 31, time.Second, time.Minute},
		{&producer.Refusal{Err: producer.ErrTenantFull, RetryAfter: 3 * time.Second}, 429, "tenant-full", 3, 5, time.Second, time.Minute},
		{&producer.Refusal{Err: producer.ErrFull, RetryAfter: time.Hour}, 503, "full", 40, 60, time.Second, time.Minute},
		{&producer.Refusal{Err: producer.ErrBusy}, 503, "busy", 1, 2, time.Second, time.Minute},
		{&producer.Refusal{Err: producer.ErrFull, RetryAfter: time.Hour}, 503, "full", 10, 10, 10 * time.Second, 10 * time.Second},
	} {
		t.Run(fmt.Sprint(c.code, c.max), func(t *testing.T) {
			r := newRig(t, func(cfg *config, d *deps) {
				d.Submitter = refusing{err: c.err}
				cfg.RetryAfter, cfg.RetryAfterMax = c.least, c.max
			})
			seen := map[int]bool{}
			for range 200 {
				a := r.call(t, "POST", "/v1/models/digits/jobs", oneRow)
				a.problem(t, c.status, c.code)
				n, err := strconv.Atoi(a.header.Get("Retry-After"))
				if err != nil || n < c.from || n > c.to {
					t.Fatalf("Retry-After %q, expected %d to %d", a.header.Get("Retry-After"), c.from, c.to)
				}
				seen[n] = true
			}
			if c.to > c.from && len(seen) < 2 {
				t.Error("all are told to come back in the same second")
			}
		})
	}
}

// A lone client that polls now and then is told when its job will be finished each time.
func TestPollOfALoneClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.queue.load = queue.Load{Waiting: 100, Running: 9, Rate: 10}
		ticket := r.submit(t)
		for range 3 {
			<-time.After(10 * time.Second)
			if a := r.call(t, "GET", "/v1/jobs/"+ticket.String(), ""); a.doc["eta_ms"] != 1000.0 || a.doc["position"] != 0.0 {
				t.Errorf("expected a second, for the nine that run and itself: %s", a.body)
			}
		}
	})
}

// Through the real producer: a queue that works off slowly refuses what it cannot do in time, counts it, and takes what
// it can.
func TestOverloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.queue.load = queue.Load{Waiting: 1000, Rate: 10}
		r.submitTo(t, "hasty") // has the load looked at
		synctest.Wait()
		a := r.call(t, "POST", "/v1/models/hasty/jobs", oneRow)
		a.problem(t, 503, "overloaded")
		if n, _ := strconv.Atoi(a.header.Get("Retry-After")); n < 40 || n > 60 {
			t.Errorf("Retry-After %d, expected a long time", n)
		}
		r.call(t, "POST", "/v1/models/hasty/predict", oneRow).problem(t, 503, "overloaded")
		r.submitTo(t, "digits/versions/1") // has no deadline
		if m := r.call(t, "GET", "/metrics", ""); !strings.Contains(m.body, `sheaf_gateway_submits_total{outcome="too_late"} 2`) {
			t.Error("the metrics do not count it")
		}
	})
}
