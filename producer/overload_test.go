package producer_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/queue"
)

// station stands for JetStream and its workers: a line of messages that is served at a fixed rate. Its load is as old
// as the queue's may be. Use it in a synctest bubble.
type station struct {
	rate float64 // messages served a second
	said float64 // what Load says of it
	each int     // jobs that share a message

	mu       sync.Mutex
	free     time.Time // when the last message of the line is finished
	seq      uint64
	riding   int // jobs in the newest message
	finish   map[job.ID]time.Time
	busy     time.Time // since when there has been a backlog
	seen     queue.Load
	seenAt   time.Time
	loads    int // how often the load was asked for
	loadErr  error
	full     error // of every Publish
	blocking bool  // Load never answers
}

func newStation(rate float64, each int) *station {
	return &station{rate: rate, said: rate, each: each, finish: map[job.ID]time.Time{}}
}

func (s *station) Publish(_ context.Context, j *job.Job) (job.Ticket, bool, error) {
	<-time.After(2 * time.Millisecond)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full != nil {
		return job.Ticket{}, false, s.full
	}
	now := time.Now()
	index := 0
	if s.riding > 0 && s.riding < s.each && s.free.After(now) {
		index = s.riding
		s.riding++
	} else {
		if !s.free.After(now) {
			s.free, s.busy = now, now
		}
		s.free = s.free.Add(time.Duration(float64(time.Second) / s.rate))
		s.seq++
		s.riding = 1
	}
	s.finish[j.ID] = s.free
	return job.Ticket{ID: j.ID, Lane: j.Lane, Seq: s.seq, Index: index}, false, nil
}

func (s *station) PublishSheaf(context.Context, []*job.Job) ([]job.Ticket, error) {
	panic("the simulation submits one by one")
}

func (s *station) Load(ctx context.Context, _ job.Lane, _, _ string) (queue.Load, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads++
	if s.blocking {
		s.mu.Unlock()
		<-ctx.Done()
		s.mu.Lock()
		return queue.Load{}, ctx.Err()
	}
	now := time.Now()
	if s.loadErr != nil || now.Sub(s.seenAt) < 200*time.Millisecond {
		return s.seen, s.loadErr
	}
	stands := max(0, int(s.free.Sub(now).Seconds()*s.rate+0.5))
	s.seen, s.seenAt = queue.Load{Waiting: max(0, stands-4), Running: min(4, stands)}, now
	if stands > 4 && now.Sub(s.busy) > 200*time.Millisecond {
		s.seen.Rate = s.said
	}
	return s.seen, nil
}

// catalogOf has the doubler.
func catalogOf() *model.Catalog {
	c := model.NewCatalog()
	c.Put(doubler())
	return c
}

func produce(t *testing.T, s *station, change func(*producer.Config)) *producer.Producer {
	t.Helper()
	cfg := producer.DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	p, err := producer.New(s, catalogOf(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// Five times what the workers can do is offered, and every job has two seconds. What is accepted finishes in time, and
// the workers are kept busy with it. With the check switched off nearly everything is late: that is what it is for.
func TestOverloadKeepsItsPromises(t *testing.T) {
	const (
		rate     = 200.0 // messages a second
		overload = 5
		deadline = 2 * time.Second
		lasts    = 20 * time.Second
	)
	for _, c := range []struct {
		name      string
		producers int     // processes, which do not know of each other
		each      int     // jobs that share a message
		said      float64 // the measured rate, as a share of the real one
		late      float64 // share of what is accepted that may be late
		goodput   float64 // share of capacity that must be done in time
	}{
		{"one process", 1, 1, 1, 0.001, 0.97},
		{"four processes", 4, 1, 1, 0.01, 0.95},
		{"twelve processes", 12, 1, 1, 0.02, 0.9},
		{"jobs that share messages", 2, 8, 1, 0.01, 0.9},
		{"a rate that is measured too high", 4, 1, 1.15, 0.02, 0.9},
		{"a rate that is measured too low", 4, 1, 0.7, 0.01, 0.9},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			late, goodput := flood(t, c.producers, c.each, rate, c.said, overload, deadline, lasts, 1.25)
			t.Logf("late %.4f, goodput %.3f of capacity", late, goodput)
			if late > c.late || goodput < c.goodput {
				t.Errorf("%.4f of the accepted jobs were late, expected at most %.4f; goodput is %.3f of capacity, expected at least %.3f", late, c.late, goodput, c.goodput)
			}
		})
	}
	t.Run("without the check", func(t *testing.T) {
		if late, goodput := flood(t, 1, 1, rate, 1, overload, deadline, lasts, 0); late < 0.8 || goodput > 0.2 {
			t.Errorf("late %.3f, goodput %.3f: the simulation does not overload anything", late, goodput)
		}
	})
}

// flood offers overload times the rate, and returns which share of the accepted jobs was late, and what was done in
// time as a share of what could be done.
func flood(t *testing.T, producers, each int, rate, said float64, overload int, deadline, lasts time.Duration, margin float64) (late, goodput float64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newStation(rate, each)
		s.said = rate * said
		var all []*producer.Producer
		for range producers {
			all = append(all, produce(t, s, func(c *producer.Config) { c.DeadlineMargin = margin }))
		}
		var mu sync.Mutex
		due := map[job.ID]time.Time{}
		var submits sync.WaitGroup
		gap := time.Duration(float64(time.Second) / (rate * float64(each*overload)))
		start := time.Now()
		for i := 0; time.Since(start) < lasts; i++ {
			submits.Go(func() {
				r := request(1, 2, 3)
				r.Deadline = time.Now().Add(deadline)
				sub, err := all[i%producers].Submit(t.Context(), r)
				if err != nil {
					if !errors.Is(err, producer.ErrTooLate) {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				defer mu.Unlock()
				due[sub.Ticket.ID] = r.Deadline
			})
			<-time.After(gap)
		}
		submits.Wait()
		inTime, last := 0, start
		for id, until := range due {
			if at := s.finish[id]; !at.After(until) {
				inTime++
			}
			if at := s.finish[id]; at.After(last) {
				last = at
			}
		}
		late = 1 - float64(inTime)/float64(len(due))
		goodput = float64(inTime) / (rate * float64(each) * last.Sub(start).Seconds())
	})
	return late, goodput
}

// full returns a station that has been busy for a while, and a producer that has looked at it.
func full(t *testing.T, waiting int, rate float64) (*station, *producer.Producer) {
	t.Helper()
	s := newStation(rate, 1)
	p := produce(t, s, nil)
	for range waiting {
		if _, err := p.Submit(t.Context(), request(1, 2, 3)); err != nil {
			t.Fatal(err)
		}
	}
	<-time.After(300 * time.Millisecond)
	p.Forecast(job.Interactive, "doubler", job.DefaultTenant)
	synctest.Wait()
	return s, p
}

func hasty(left time.Duration) producer.Request {
	r := request(1, 2, 3)
	r.Deadline = time.Now().Add(left)
	return r
}

// A job that cannot be done in time is refused at once, with when to come back; one that has the time is not, and
// neither is one without a deadline.
func TestTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, p := full(t, 1000, 100) // a message each 2 ms, so about 8 s are left to do
		f, ok := p.Forecast(job.Interactive, "doubler", job.DefaultTenant)
		if !ok || f.Rate != 100 || f.Wait < 6*time.Second || f.Wait > 10*time.Second || f.After(99) > f.Wait {
			t.Fatalf("forecast %+v, %v; expected about 8 s", f, ok)
		}
		start := time.Now()
		_, err := p.Submit(t.Context(), hasty(2*time.Second))
		var r *producer.Refusal
		if !errors.Is(err, producer.ErrTooLate) || !errors.As(err, &r) {
			t.Fatalf("expected the job to be refused: %v", err)
		}
		if r.RetryAfter < 4*time.Second || r.RetryAfter > 8*time.Second || time.Since(start) != 0 {
			t.Errorf("try again after %s, said after %s; expected about 6 s, at once", r.RetryAfter, time.Since(start))
		}
		for _, left := range []time.Duration{15 * time.Second, 0} {
			r := request(1, 2, 3)
			if left > 0 {
				r = hasty(left)
			}
			if _, err := p.Submit(t.Context(), r); err != nil {
				t.Errorf("a job that has %s: %v", left, err)
			}
		}
	})
}

// A queue that is full says when it is worth while to come back: when a tenth of the backlog is worked off.
func TestFullSaysWhen(t *testing.T) {
	for _, full := range []error{producer.ErrTenantFull, producer.ErrFull} {
		synctest.Test(t, func(t *testing.T) {
			s, p := full1000(t, full)
			_, err := p.Submit(t.Context(), request(1, 2, 3))
			var r *producer.Refusal
			if !errors.Is(err, full) || !errors.As(err, &r) || r.RetryAfter < 600*time.Millisecond || r.RetryAfter > time.Second {
				t.Errorf("%v: try again after %+v, expected a tenth of about 8 s", err, r)
			}
			s.mu.Lock()
			s.full = producer.ErrUnavailable
			s.mu.Unlock()
			if _, err := p.Submit(t.Context(), request(1, 2, 3)); errors.As(err, &r) && !errors.Is(err, producer.ErrUnavailable) {
				t.Errorf("an outage is no refusal: %v", err)
			}
		})
	}
}

// full1000 is a station with a long line that takes no more.
func full1000(t *testing.T, err error) (*station, *producer.Producer) {
	t.Helper()
	s, p := full(t, 1000, 100)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full = err
	return s, p
}

// What this process publishes between two looks at the queue counts at once.
func TestOwnJobsCountAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := full(t, 300, 100)
		looks := s.loads
		accepted := 0
		for range 1000 { // all at the same moment
			if _, err := p.Submit(t.Context(), hasty(4*time.Second)); err == nil {
				accepted++
			}
			if s.loads > looks+1 {
				break
			}
		}
		// About 2.2 s were left to do, a quarter is margin: room for about one second's worth.
		if accepted > 200 {
			t.Errorf("%d jobs were accepted between two looks, there was room for about 100", accepted)
		}
	})
}

// A load that cannot be had holds nobody up and turns nobody away.
func TestUnknownLoad(t *testing.T) {
	for name, set := range map[string]func(*station){
		"an error":  func(s *station) { s.loadErr = queue.ErrUnavailable },
		"no answer": func(s *station) { s.blocking = true },
		"no rate":   func(*station) {},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStation(1, 1)
				set(s)
				p := produce(t, s, nil)
				for range 50 {
					start := time.Now()
					if _, err := p.Submit(t.Context(), hasty(time.Second)); err != nil || time.Since(start) > 2*time.Millisecond {
						t.Fatalf("after %s: %v", time.Since(start), err)
					}
				}
				if s.loads > 2 {
					t.Errorf("the queue was asked %d times in a tenth of a second", s.loads)
				}
			})
		})
	}
}

// A rate that was seen long ago refuses nobody: nothing may be locked out for ever.
func TestOldLoadDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, p := full(t, 1000, 100)
		if _, err := p.Submit(t.Context(), hasty(time.Second)); !errors.Is(err, producer.ErrTooLate) {
			t.Fatalf("expected the queue to be too long: %v", err)
		}
		synctest.Wait()
		s.mu.Lock()
		s.loadErr = queue.ErrUnavailable
		s.mu.Unlock()
		<-time.After(3 * time.Second)
		if _, err := p.Submit(t.Context(), hasty(time.Second)); err != nil {
			t.Error(err)
		}
	})
}

// quiet is a queue in which nothing waits, whose workers were slow once.
type quiet struct{ *station }

func (quiet) Load(context.Context, job.Lane, string, string) (queue.Load, error) {
	return queue.Load{Running: 50, Rate: 1}, nil
}

// Where nothing waits a job is taken, whatever the rate was: it is refused only for what stands before it.
func TestNothingWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := producer.New(quiet{newStation(100, 1)}, catalogOf(), producer.DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		p.Forecast(job.Interactive, "doubler", job.DefaultTenant)
		synctest.Wait()
		if _, err := p.Submit(t.Context(), hasty(time.Second)); err != nil {
			t.Error(err)
		}
		if _, err := p.Submit(t.Context(), hasty(time.Second)); !errors.Is(err, producer.ErrTooLate) {
			t.Errorf("one waits now and fifty run, at one a second: %v", err)
		}
	})
}

// stuck never answers a publish until it is let go.
type stuck struct {
	*station
	free chan struct{}
}

func (s *stuck) Publish(_ context.Context, j *job.Job) (job.Ticket, bool, error) {
	<-s.free
	return job.Ticket{ID: j.ID, Seq: 1}, false, nil
}

// Submits beyond the bound are refused at once, and a place that is given back is taken again.
func TestMaxSubmits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &stuck{newStation(1, 1), make(chan struct{})}
		cfg := producer.DefaultConfig()
		cfg.MaxSubmits = 2
		p, err := producer.New(q, catalogOf(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		var held sync.WaitGroup
		for range 2 {
			held.Go(func() {
				if _, err := p.Submit(t.Context(), request(1, 2, 3)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if _, err := p.Submit(t.Context(), request(1, 2, 3)); !errors.Is(err, producer.ErrBusy) {
			t.Errorf("expected the third to be refused: %v", err)
		}
		close(q.free)
		held.Wait()
		if _, err := p.Submit(t.Context(), request(1, 2, 3)); err != nil {
			t.Error(err)
		}
		if _, err := p.Submit(t.Context(), request(1)); err == nil { // one that is refused gives its place back too
			t.Error("a job of a wrong shape was accepted")
		}
		if _, err := p.Submit(t.Context(), request(1, 2, 3)); err != nil {
			t.Error(err)
		}
	})
}

// The forecast is asked for models of which nobody has heard, by names that strangers send: they take no memory.
func TestForecastOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStation(1, 1)
		p := produce(t, s, nil)
		if _, ok := p.Forecast(job.Interactive, "nobody", job.DefaultTenant); ok || s.loads != 0 {
			t.Errorf("a forecast for a model that nobody serves, after %d looks", s.loads)
		}
	})
}

func (s *station) Locate(context.Context, job.Ticket) (job.Location, error) {
	return job.Location{}, job.ErrNotFound
}
