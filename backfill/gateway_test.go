package backfill_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/backfill"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// scripted is a gateway that answers as told, step by step.
type scripted struct {
	mu    sync.Mutex
	steps []func(key string) (*gateway.Job, error)
	asked []string // "submit KEY" or "find"
	subs  []gateway.Submission
}

func (g *scripted) next(what, key string) (*gateway.Job, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = append(g.asked, what)
	if len(g.steps) == 0 {
		return nil, errors.New("asked once more than expected: " + what)
	}
	step := g.steps[0]
	g.steps = g.steps[1:]
	return step(key)
}

func (g *scripted) Submit(_ context.Context, s *gateway.Submission, _ time.Duration) (*gateway.Job, bool, error) {
	g.mu.Lock()
	g.subs = append(g.subs, *s)
	g.mu.Unlock()
	v, err := g.next("submit "+s.Request.IdempotencyKey, s.Request.IdempotencyKey)
	return v, true, err
}

func (g *scripted) Find(context.Context, string, job.Ticket, time.Duration) (*gateway.Job, error) {
	return g.next("find", "")
}

type deleted struct{ ids []job.ID }

func (d *deleted) Delete(_ context.Context, ids ...job.ID) error {
	d.ids = append(d.ids, ids...)
	return nil
}

func state(s job.State) func(string) (*gateway.Job, error) {
	return func(key string) (*gateway.Job, error) {
		v := &gateway.Job{State: s, Ticket: job.Ticket{ID: job.DerivedID("acme", key), Seq: 1}}
		if s.Terminal() {
			v.Result = &job.Result{State: s}
		}
		return v, nil
	}
}

func problem(p gateway.Problem) func(string) (*gateway.Job, error) {
	return func(string) (*gateway.Job, error) { return nil, &p }
}

func TestThroughGateway(t *testing.T) {
	t.Parallel()
	type steps = []func(string) (*gateway.Job, error)
	full := problem(gateway.Problem{Code: gateway.CodeFull, Busy: true, After: time.Second})
	down := problem(gateway.Problem{Code: gateway.CodeUnavailable, Busy: true})
	unknown := problem(gateway.Problem{Code: gateway.CodeUnknownJob})
	for name, c := range map[string]struct {
		steps    steps
		again    bool
		patience time.Duration
		asked    []string
		state    job.State
		err      error
		forgets  string // the key whose record is dropped
	}{
		"done at once":     {steps: steps{state(job.Succeeded)}, asked: []string{"submit k"}, state: job.Succeeded, forgets: "k"},
		"after some looks": {steps: steps{state(job.Queued), state(job.Running), state(job.Failed)}, asked: []string{"submit k", "find", "find"}, state: job.Failed, forgets: "k"},
		"when there is room": {
			steps: steps{full, full, down, state(job.Queued), down, state(job.Succeeded)},
			asked: []string{"submit k", "submit k", "submit k", "submit k", "find", "find"}, state: job.Succeeded, forgets: "k",
		},
		"there already": {steps: steps{state(job.Succeeded)}, again: true, asked: []string{"find"}, state: job.Succeeded, forgets: "k"},
		"not there yet": {steps: steps{unknown, state(job.Succeeded)}, again: true, asked: []string{"find", "submit k"}, state: job.Succeeded, forgets: "k"},
		"gone: its record was dropped, and its key is still known to NATS": {
			steps: steps{state(job.Queued), unknown, state(job.Succeeded)},
			asked: []string{"submit k", "find", "submit k~1"}, state: job.Succeeded, forgets: "k~1",
		},
		"another job under the key": {
			steps: steps{problem(gateway.Problem{Code: gateway.CodeKeyReused}), state(job.Succeeded)},
			asked: []string{"submit k", "submit k~1"}, state: job.Succeeded, forgets: "k~1",
		},
		"a deadline of long ago": {steps: steps{state(job.Expired), state(job.Succeeded)}, asked: []string{"submit k", "submit k~1"}, state: job.Succeeded, forgets: "k~1"},
		"too long out of reach": {
			steps: steps{down, down, down, down, down, down, down, down}, patience: 10 * time.Second,
			asked: slices.Repeat([]string{"submit k"}, 8), err: backfill.ErrUnavailable,
		},
		"what waiting does not mend": {
			steps: steps{problem(gateway.Problem{Code: job.CodeUnknownModel, Detail: "no such model"})},
			asked: []string{"submit k"}, err: &gateway.Problem{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g, records := &scripted{steps: c.steps}, &deleted{}
				jobs := backfill.ThroughGateway(g, records, backfill.GatewayConfig{
					Tenant: "acme", Model: model.Info{Name: "m", Version: "3"}, Again: c.again, Patience: c.patience, Outputs: []string{"y"},
				})
				result, err := jobs.Do(t.Context(), "k", []job.Tensor{{Name: "b"}, {Name: "a"}})
				if !slices.Equal(g.asked, c.asked) {
					t.Errorf("asked %q, expected %q", g.asked, c.asked)
				}
				if c.err != nil {
					var p *gateway.Problem
					if !errors.Is(err, c.err) && !errors.As(err, &p) {
						t.Errorf("ended with %v", err)
					}
					return
				}
				if err != nil || result.State != c.state {
					t.Errorf("%v, %v", result.State, err)
				}
				for i := range g.subs {
					q := &g.subs[i].Request
					if q.Lane != job.Bulk || q.Tenant != "acme" || q.Model != "m" || q.Version != "3" || !slices.Equal(q.Outputs, []string{"y"}) || time.Until(q.Deadline) < 24*time.Hour {
						t.Errorf("submitted %+v", q)
					}
				}
				jobs.Forget(t.Context(), []string{"k"})
				if !slices.Equal(records.ids, []job.ID{job.DerivedID("acme", c.forgets)}) {
					t.Errorf("forgot %v", records.ids)
				}
			})
		})
	}
}

// Nobody waits for a job longer than for the run.
func TestThroughGatewayStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		g := &scripted{steps: slices.Repeat([]func(string) (*gateway.Job, error){problem(gateway.Problem{Code: gateway.CodeFull, Busy: true, After: time.Hour})}, 100)}
		_, err := backfill.ThroughGateway(g, nil, backfill.GatewayConfig{}).Do(ctx, "k", nil)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("ended with %v", err)
		}
	})
}
