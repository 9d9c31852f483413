package worker

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// sleeper is a model whose runs take as many seconds as the largest number in them.
type sleeper struct {
	mu   sync.Mutex
	runs [][]float32
}

func (s *sleeper) model(maxRows, instances int) Model {
	m := doublerModel(1, func(_ *model.Batch, values []float32) error {
		s.mu.Lock()
		s.runs = append(s.runs, slices.Clone(values))
		s.mu.Unlock()
		takes(seconds(slices.Max(values)))
		return nil
	})
	m.MaxRows, m.Instances = maxRows, instances
	return m
}

// warm has the worker learn what a run costs: nobody overtakes before it is known.
func (r *rig) warm(s *sleeper) {
	r.t.Helper()
	r.publish(job.Bulk, doubleJob(r.t, 1))
	r.pass(10 * time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs = nil
}

func seconds(n float32) time.Duration { return time.Duration(n) * time.Second }

// computed returns the numbers of all runs so far, in order.
func (s *sleeper) computed() []float32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(slices.Values(slices.Concat(s.runs...)))
}

// send publishes jobs of a tenant.
func (r *rig) send(lane job.Lane, tenant string, jobs ...job.Job) *fakeMessage {
	m := r.broker.publishMessage(&fakeMessage{
		lane: lane, tenant: tenant, header: map[string]string{job.HeaderContentType: job.ContentTypeSheaf}, body: sheafOf(jobs...),
	})
	synctest.Wait()
	return m
}

func (r *rig) wantExpressRuns(n int) {
	r.t.Helper()
	const name = "sheaf_worker_express_runs_total"
	want := fmt.Sprintf("# HELP %[1]s Runs of a model that overtook another one on an express instance.\n# TYPE %[1]s counter\n%[1]s{model=\"double\"} %[2]d\n", name, n)
	if err := testutil.GatherAndCompare(r.registry, strings.NewReader(want), name); err != nil {
		r.t.Error(err)
	}
}

func TestShortJobAndALongRun(t *testing.T) {
	tests := []struct {
		name      string
		express   int
		lane      job.Lane // of the run that takes ten seconds
		more      bool     // its tenant has more waiting
		tenant    string   // whose job it is that takes a second; the run is a's
		overtakes bool
	}{
		{name: "bulk", express: 8, lane: job.Bulk, tenant: "a", overtakes: true},
		{name: "bulk, and no express instance", lane: job.Bulk, tenant: "a"},
		{name: "a tenant with more waiting", express: 8, more: true, tenant: "b", overtakes: true},
		{name: "a tenant with more waiting, and no express instance", more: true, tenant: "b"},
		{name: "a tenant with no more waiting", express: 8, tenant: "b"},
		{name: "its own", express: 8, more: true, tenant: "a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inRig(t, func(r *rig) {
				r.registry = prometheus.NewRegistry()
				r.cfg.ExpressInstances = tt.express
				var s sleeper
				r.start(s.model(4, 1))
				r.warm(&s)
				long := []job.Job{doubleJob(t, 10), doubleJob(t, 10), doubleJob(t, 10), doubleJob(t, 10)}
				sent := []*fakeMessage{r.send(tt.lane, "a", long...)}
				want := []float32{10, 10, 10, 10}
				if tt.more {
					more := doubleJob(t, 1)
					sent = append(sent, r.send(tt.lane, "a", more))
					want = append(want, 1)
				}
				express := 0
				var short []job.Job
				for range 2 { // one after the other
					j := doubleJob(t, 1)
					short, want = append(short, j), append(want, 1)
					sent = append(sent, r.send(job.Interactive, tt.tenant, j))
					r.pass(time.Second)
					if got := r.store.record(j.ID) != nil; got != tt.overtakes {
						t.Errorf("after its own time it has a record: %v", got)
					}
					if tt.overtakes {
						express++
					}
				}
				r.pass(time.Minute)
				for _, j := range slices.Concat(long, short) {
					r.wantDoubled(j)
				}
				r.wantAcked(sent...)
				slices.Sort(want)
				if got := s.computed(); !slices.Equal(got, want) {
					t.Errorf("computed %v, want each row once: %v", got, want)
				}
				r.wantExpressRuns(express)
				if err := r.shutdown(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A job that waited for company overtakes when its delay is over, and not when something else happens.
func TestJobOvertakesWhenItsDelayIsOver(t *testing.T) {
	inRig(t, func(r *rig) {
		var s sleeper
		m := s.model(4, 1)
		m.MaxDelay = time.Second
		r.start(m)
		r.warm(&s)
		full := func() (jobs []job.Job) {
			for range 4 {
				jobs = append(jobs, doubleJob(t, 10))
			}
			return jobs
		}
		r.publish(job.Bulk, full()...)
		r.publish(job.Bulk, full()...) // waits for an instance
		j := doubleJob(t, 1)
		j.Parameters = []job.Parameter{{Name: "p", Value: int64(1)}} // no company for bulk
		r.publish(job.Interactive, j)
		r.pass(time.Second)
		if r.store.record(j.ID) != nil {
			t.Error("it did not wait for company")
		}
		r.pass(time.Second)
		if r.store.record(j.ID) == nil {
			t.Error("it did not overtake when it had waited")
		}
		r.pass(time.Minute)
		r.wantDoubled(j)
		_ = r.shutdown()
	})
}

// As many overtake at a time as there are express instances, and no more of them are made than the model has.
func TestExpressInstancesAreBounded(t *testing.T) {
	for _, tt := range []struct{ express, instances, want int }{{8, 1, 1}, {8, 3, 3}, {1, 3, 1}, {0, 3, 0}} {
		inRig(t, func(r *rig) {
			r.cfg.ExpressInstances = tt.express
			var s sleeper
			m := s.model(1, tt.instances)
			made, fresh := 0, m.NewInstance
			m.NewInstance = func() (Instance, error) { made++; return fresh() }
			r.start(m)
			if made != tt.instances+tt.want {
				t.Errorf("%d instances are made, want %d and %d express ones", made, tt.instances, tt.want)
			}
			r.warm(&s)
			for range tt.instances {
				r.publish(job.Bulk, doubleJob(t, 20))
			}
			for range tt.instances + 2 {
				r.publish(job.Interactive, doubleJob(t, 5))
			}
			if got := len(s.computed()) - tt.instances; got != tt.want {
				t.Errorf("%d express runs at a time, want %d", got, tt.want)
			}
			r.pass(time.Minute)
			if err := r.shutdown(); err != nil {
				t.Error(err)
			}
		})
	}
}

// counted notes when it is closed, and fails if a run is stopped.
type counted struct {
	Instance
	closed *atomic.Int32
}

func (c *counted) Run(ctx context.Context, b *model.Batch) ([]job.Tensor, error) {
	out, err := c.Instance.Run(ctx, b)
	return out, cmp.Or(err, context.Cause(ctx))
}

func (c *counted) Close() error {
	c.closed.Add(1)
	return c.Instance.Close()
}

func TestShutdownFinishesAnExpressRun(t *testing.T) {
	inRig(t, func(r *rig) {
		var s sleeper
		m := s.model(4, 1)
		var closed []*atomic.Int32
		fresh := m.NewInstance
		m.NewInstance = func() (Instance, error) {
			inst, err := fresh()
			closed = append(closed, new(atomic.Int32))
			return &counted{inst, closed[len(closed)-1]}, err
		}
		r.start(m)
		r.warm(&s)
		long, short := doubleJob(t, 10), doubleJob(t, 15)
		sent := []*fakeMessage{r.publish(job.Bulk, long), r.publish(job.Interactive, short)}
		r.pass(time.Second)
		if err := r.shutdown(); err != nil {
			t.Error(err)
		}
		r.wantDoubled(long)
		r.wantDoubled(short)
		r.wantAcked(sent...)
		if len(closed) != 2 {
			t.Errorf("%d instances were made, want 2", len(closed))
		}
		for i, c := range closed {
			if n := c.Load(); n != 1 {
				t.Errorf("instance %d was closed %d times, want once", i, n)
			}
		}
	})
}

// A batch of bulk that waits for the suspect to be done is one that may be overtaken, but not beside the suspect.
func TestNothingOvertakesBesideASuspect(t *testing.T) {
	inRig(t, func(r *rig) {
		r.registry = prometheus.NewRegistry()
		var s sleeper
		r.start(s.model(4, 2))
		r.warm(&s)
		suspect := doubleJob(t, 5)
		r.begun(suspect, 2)
		sent := []*fakeMessage{r.redeliver(2, suspect)}
		jobs := []job.Job{suspect, doubleJob(t, 20), doubleJob(t, 1)}
		sent = append(sent, r.publish(job.Bulk, jobs[1]), r.publish(job.Interactive, jobs[2]))
		r.pass(5*time.Second - 1)
		if got := s.computed(); !slices.Equal(got, []float32{5}) {
			t.Errorf("runs of %v, want the suspect to have the process to itself", got)
		}
		r.pass(2 * time.Second)
		r.wantDoubled(jobs[2])
		r.pass(time.Minute)
		for _, j := range jobs {
			r.wantDoubled(j)
		}
		r.wantAcked(sent...)
		r.wantExpressRuns(1)
		_ = r.shutdown()
	})
}

func TestCanceledJobEndsItsExpressRunOnly(t *testing.T) {
	inRig(t, func(r *rig) {
		made := r.obey(obedient{began: func(values []float32) {
			if values[0] == 10 {
				takes(10 * time.Second)
			}
		}}, nil)
		r.publish(job.Bulk, doubleJob(t, 10)) // from here on it is known what a run costs
		r.pass(10 * time.Second)
		long, hangs, next := doubleJob(t, 10), doubleJob(t, 666), doubleJob(t, 1)
		sent := []*fakeMessage{r.publish(job.Bulk, long), r.publish(job.Interactive, hangs)}
		r.pass(time.Second)
		r.broker.cancel(hangs.ID)
		synctest.Wait()
		r.wantCanceled(hangs)
		sent = append(sent, r.publish(job.Interactive, next))
		r.wantDoubled(next)
		if r.store.record(long.ID) != nil {
			t.Error("the run that was overtaken has ended")
		}
		r.pass(10 * time.Second)
		r.wantDoubled(long)
		r.wantAcked(sent...)
		if *made != 2 {
			t.Errorf("%d instances were made, want 2", *made)
		}
		_ = r.shutdown()
	})
}

// An express instance is replaced after a panic as any other is, and the next job overtakes on the new one.
func TestPanicInAnExpressRun(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(func(_ *model.Batch, values []float32) error {
			if values[0] == 666 {
				panic("no more")
			}
			takes(seconds(values[0]))
			return nil
		})
		r.publish(job.Bulk, doubleJob(t, 10)) // from here on it is known what a run costs
		r.pass(10 * time.Second)
		long, bad, next := doubleJob(t, 10), doubleJob(t, 666), doubleJob(t, 1)
		sent := []*fakeMessage{r.publish(job.Bulk, long), r.publish(job.Interactive, bad), r.publish(job.Interactive, next)}
		r.wantFailed(bad, job.CodeInference)
		r.pass(time.Second)
		r.wantDoubled(next)
		r.pass(10 * time.Second)
		r.wantDoubled(long)
		r.wantAcked(sent...)
		_ = r.shutdown()
	})
}

func TestPanicInARunThatYields(t *testing.T) {
	inRig(t, func(r *rig) {
		var made atomic.Int32
		m := doublerModel(1, func(_ *model.Batch, values []float32) error {
			takes(time.Second)
			if slices.Contains(values, 666) {
				panic("no more")
			}
			return nil
		})
		fresh := m.NewInstance
		m.NewInstance = func() (Instance, error) { made.Add(1); return fresh() }
		r.start(m)
		first, bad, good, next := doubleJob(t, 1), doubleJob(t, 666), doubleJob(t, 2), doubleJob(t, 3)
		sent := []*fakeMessage{r.publish(job.Bulk, first)} // from here on it is known what a run costs
		r.pass(time.Second)
		sent = append(sent, r.publish(job.Bulk, bad, good))
		r.pass(3 * time.Second) // both, and each half
		if got := r.wantFailed(bad, job.CodeInference); !strings.Contains(got.Error.Detail, "panicked: no more") {
			t.Errorf("the error is %q, want that the runtime panicked", got.Error.Detail)
		}
		sent = append(sent, r.publish(job.Bulk, next))
		r.pass(time.Second)
		for _, j := range []job.Job{first, good, next} {
			r.wantDoubled(j)
		}
		r.wantAcked(sent...)
		if made.Load() != 4 {
			t.Errorf("%d instances were made, want 2 and a new one after each of the 2 panics", made.Load())
		}
		if err := r.shutdown(); err != nil {
			t.Error(err)
		}
	})
}

func TestRunThatYieldsEndsWhenItsJobIsCanceled(t *testing.T) {
	inRig(t, func(r *rig) {
		r.obey(obedient{began: func([]float32) { takes(time.Second) }}, nil)
		r.publish(job.Bulk, doubleJob(t, 1))
		r.pass(time.Second)
		hangs, next := doubleJob(t, 666), doubleJob(t, 1)
		sent := r.publish(job.Bulk, hangs)
		r.pass(time.Minute)
		r.wantUnacked(sent)
		r.broker.cancel(hangs.ID)
		synctest.Wait()
		r.wantCanceled(hangs)
		r.publish(job.Bulk, next)
		r.pass(time.Second)
		r.wantDoubled(next)
		_ = r.shutdown()
	})
}

func TestDelayBehindOneThatMayNotOvertake(t *testing.T) {
	inRig(t, func(r *rig) {
		var s sleeper
		m := s.model(4, 1)
		m.MaxDelay = time.Second
		r.start(m)
		r.warm(&s)
		r.send(job.Interactive, "a", doubleJob(t, 20), doubleJob(t, 20), doubleJob(t, 20), doubleJob(t, 20))
		r.send(job.Interactive, "a", doubleJob(t, 1)) // due after a second, and overtakes nothing: the run is its own
		r.pass(2 * time.Second)
		j := doubleJob(t, 1)
		j.Parameters = []job.Parameter{{Name: "p", Value: int64(1)}}
		r.send(job.Interactive, "b", j)
		r.pass(2 * time.Second) // its delay and its own time
		if r.store.record(j.ID) == nil {
			t.Error("b did not overtake when it had waited")
		}
		r.pass(time.Minute)
		_ = r.shutdown()
	})
}

// A run that yields may have had no CPU in all its time: its job has not failed.
func TestYieldingRunThatIsStoppedIsTriedAgain(t *testing.T) {
	inRig(t, func(r *rig) {
		r.cfg.RunTimeout = 10 * time.Second
		runs := 0
		r.double(func(_ *model.Batch, _ []float32) error {
			runs++
			if runs == 2 {
				takes(time.Minute)
				return context.DeadlineExceeded
			}
			takes(time.Second)
			return nil
		})
		first, second := doubleJob(t, 1), doubleJob(t, 7)
		r.publish(job.Bulk, first)
		r.pass(2 * time.Second)
		r.publish(job.Bulk, second)
		r.pass(3 * time.Minute)
		r.wantDoubled(second)
		if err := r.shutdown(); err != nil {
			t.Error(err)
		}
	})
}
