package producer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// Errors of a submit that this process turned away by itself: nothing was sent.
var (
	// ErrBusy says that as many submits as Config.MaxSubmits are in flight in this process.
	ErrBusy = errors.New("too many submits are in flight in this process")
	// ErrTooLate says that the job would not be finished before its deadline, going by what waits before it.
	ErrTooLate = errors.New("the job would not be finished before its deadline")
)

// Refusal is the error of a job that is not taken now, and when it may be. It wraps ErrTenantFull, ErrFull, ErrBusy or
// ErrTooLate.
type Refusal struct {
	Err error
	// RetryAfter is when another try is worth while, going by backlog and service rate; 0 if that is not known.
	RetryAfter time.Duration
}

// Error implements error.
func (r *Refusal) Error() string { return r.Err.Error() }

// Unwrap returns the reason.
func (r *Refusal) Unwrap() error { return r.Err }

// Forecast is what is to be expected of the jobs of one tenant, model and lane.
type Forecast struct {
	// Rate is the messages that are finished a second.
	Rate float64
	// Running is the messages that workers have and have not finished.
	Running int
	// Wait is the time until a job that is submitted now is finished.
	Wait time.Duration
}

// After is the time until a waiting job is finished that has this many messages before it.
func (f *Forecast) After(ahead int) time.Duration {
	return seconds(float64(ahead+f.Running+1) / f.Rate)
}

// loader is the part of the queue that knows how much waits.
type loader interface {
	Load(ctx context.Context, lane job.Lane, model, tenant string) (queue.Load, error)
}

// admission decides which jobs are taken. It never waits for the queue: the load of a model is looked at in the
// background while somebody asks for it, and a load that is not known turns nobody away.
//
// Deadlines are compared with this process's clock, as workers compare them with theirs.
type admission struct {
	queue  loader
	models announced
	most   int     // submits in flight
	margin float64 // how often the wait must fit into the time that is left; 0: no job is too late

	mu       sync.Mutex // orders looks.Add before looks.Wait
	closed   bool
	looks    sync.WaitGroup
	life     context.Context // of the looks
	stop     context.CancelFunc
	inFlight int
	gauges   map[destination]*gauge
}

// announced is the part of the catalog that admission needs.
type announced interface{ Versions(name string) []string }

func newAdmission(q loader, models announced, cfg *Config) *admission {
	a := &admission{queue: q, models: models, most: cfg.MaxSubmits, margin: cfg.DeadlineMargin, gauges: map[destination]*gauge{}}
	a.life, a.stop = context.WithCancel(context.Background())
	return a
}

// close ends the looks at the queue.
func (a *admission) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.stop()
	a.looks.Wait()
}

// enter takes one of the places for submits. leave must follow if it returns true.
func (a *admission) enter() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.inFlight >= a.most {
		return false
	}
	a.inFlight++
	return true
}

func (a *admission) leave() {
	a.mu.Lock()
	a.inFlight--
	a.mu.Unlock()
}

// admit refuses a job whose deadline cannot be met. The gauge, which may be nil, is to be told when the job has landed.
func (a *admission) admit(j *job.Job) (*gauge, error) {
	strict := !j.Deadline.IsZero() && a.margin > 0
	g := a.gauge(destination{j.Lane, j.Model, j.Tenant}, strict)
	if g == nil {
		return nil, nil //nolint:nilnil // nobody has asked for the load of this model
	}
	now := time.Now()
	g.mu.Lock()
	wait, idle, known := g.wait(now)
	look := strict && g.begin(now, lookEvery)
	var refusal *Refusal
	if strict && known && !idle {
		left := j.Deadline.Sub(now)
		if need := time.Duration(float64(wait) * a.margin); need > left {
			// As the backlog shrinks by a second a second, a job with as much time as this one fits in after that.
			refusal = &Refusal{ErrTooLate, time.Duration(float64(need-left) / a.margin)}
		}
	}
	if refusal == nil {
		g.flying++
	}
	g.mu.Unlock()
	if look {
		a.look(g, now, destination{j.Lane, j.Model, j.Tenant})
	}
	if refusal != nil {
		return nil, refusal
	}
	return g, nil
}

// mostGauges bounds the gauges. Beyond it all are forgotten, and nothing is known for a moment.
const mostGauges = 4096

// gauge returns the gauge of a model and tenant; nil if there is none, and none is to be made.
func (a *admission) gauge(at destination, create bool) *gauge {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.gauges[at]
	if g == nil && create {
		if len(a.gauges) >= mostGauges {
			clear(a.gauges)
		}
		g = newGauge()
		a.gauges[at] = g
	}
	return g
}

// look asks the queue for the load of a model in the background. The gauge's begin has returned true.
func (a *admission) look(g *gauge, at time.Time, of destination) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	a.looks.Go(func() { a.lookNow(a.life, g, at, of) })
}

func (a *admission) lookNow(ctx context.Context, g *gauge, at time.Time, of destination) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	load, err := a.queue.Load(ctx, of.lane, of.model, of.tenant)
	g.finish(at, load, err)
}

// known returns the gauge of a model that is announced, nil for any other: the names of those who poll come from
// messages, and may not take memory here.
func (a *admission) known(of destination) *gauge {
	if g := a.gauge(of, false); g != nil || len(a.models.Versions(of.model)) == 0 {
		return g
	}
	return a.gauge(of, true)
}

// forecast is for whoever wants to know; false if it is not known.
func (a *admission) forecast(of destination) (Forecast, bool) {
	g := a.known(of)
	if g == nil {
		return Forecast{}, false
	}
	now := time.Now()
	g.mu.Lock()
	wait, _, known := g.wait(now)
	f := Forecast{Rate: g.load.Rate, Running: g.load.Running, Wait: wait}
	look := g.begin(now, lookLazily)
	g.mu.Unlock()
	if look {
		a.look(g, now, of)
	}
	return f, known
}

// forecastNow is forecast for who can wait until the queue has answered.
func (a *admission) forecastNow(ctx context.Context, of destination) (Forecast, bool) {
	if g := a.known(of); g != nil {
		now := time.Now()
		g.mu.Lock()
		look := g.begin(now, lookEvery)
		g.mu.Unlock()
		if look {
			a.lookNow(ctx, g, now, of)
		}
	}
	return a.forecast(of)
}

// room is the share of a full queue that has to be worked off before it is worth while to come back.
const room = 0.1

// refused says of an error of the queue when to try again.
func (a *admission) refused(j *job.Job, err error) error {
	if !errors.Is(err, ErrTenantFull) && !errors.Is(err, ErrFull) {
		return err
	}
	r := &Refusal{Err: err}
	if f, ok := a.forecast(destination{j.Lane, j.Model, j.Tenant}); ok {
		r.RetryAfter = time.Duration(float64(f.Wait) * room)
	}
	return r
}

// Forecast says what is to be expected of a tenant's jobs for a model in one lane; false if that is not known. It costs no request:
// it goes by what was seen of the queue a moment ago, and has it looked at again in the background.
func (p *Producer) Forecast(lane job.Lane, model, tenant string) (Forecast, bool) {
	return p.admission.forecast(destination{lane, model, tenant})
}

// ForecastNow is Forecast for who can wait for the queue's answer, of which the last one counts as new for 200 ms. It
// waits for a second at most.
func (p *Producer) ForecastNow(ctx context.Context, lane job.Lane, model, tenant string) (Forecast, bool) {
	return p.admission.forecastNow(ctx, destination{lane, model, tenant})
}

func submitError(j *job.Job, err error) error {
	return fmt.Errorf("submit a job for %s: %w", j.Model, err)
}
