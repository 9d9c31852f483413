package backfill_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/sheafml/sheaf/backfill"
	"github.com/sheafml/sheaf/job"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// numbers is a task over the numbers below units; the answer to a number is its double. Those that refuse says are not asked.
type numbers struct {
	units, part int
	skip        func(part int64) bool
	refuse      func(n int) bool
	spread      bool // a group for each unit
	failWrite   error

	mu        sync.Mutex
	next      int
	written   []int // numbers, as they were written
	bad       map[int]string
	parts     []int64
	committed int // of written
	commits   int
}

func (t *numbers) Next(context.Context) (backfill.Part, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.next*t.part < t.units {
		index := int64(t.next)
		t.next++
		if t.skip == nil || !t.skip(index) {
			return backfill.Part{Index: index, Units: min(t.part, t.units-int(index)*t.part), Bytes: 8 * t.part}, nil
		}
	}
	return backfill.Part{}, io.EOF
}

func (t *numbers) Decode(p backfill.Part) (groups []backfill.Group, refused []backfill.Answer) {
	var all backfill.Group
	var data []byte
	flush := func() {
		if len(all.Units) > 0 {
			all.Inputs = []job.Tensor{{Name: "x", Datatype: job.Int64, Shape: []int64{int64(len(all.Units))}, Data: data}}
			groups, all, data = append(groups, all), backfill.Group{}, nil
		}
	}
	for i := range p.Units {
		n := int(p.Index)*t.part + i
		if t.refuse != nil && t.refuse(n) {
			refused = append(refused, backfill.Answer{Unit: i, Rows: 1, Err: job.Invalidf("x", "%d is refused", n)})
			continue
		}
		all.Units = append(all.Units, backfill.Unit{Index: i, Rows: 1})
		data = binary.LittleEndian.AppendUint64(data, uint64(n))
		if t.spread {
			flush()
		}
	}
	flush()
	return groups, refused
}

func (*numbers) Encode(_ backfill.Part, answers []backfill.Answer) (any, error) {
	for i := range answers {
		if answers[i].Unit != i {
			return nil, fmt.Errorf("answer %d is that of unit %d", i, answers[i].Unit)
		}
	}
	return answers, nil
}

func (t *numbers) Write(_ context.Context, p backfill.Part, encoded any) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failWrite != nil {
		return t.failWrite
	}
	t.parts = append(t.parts, p.Index)
	for _, a := range encoded.([]backfill.Answer) {
		n := int(p.Index)*t.part + a.Unit
		t.written = append(t.written, n)
		if a.Err != nil {
			if t.bad == nil {
				t.bad = map[int]string{}
			}
			t.bad[n] = a.Err.Detail
			continue
		}
		if got := binary.LittleEndian.Uint64(a.Outputs[0].Data[8*a.At:]); got != uint64(2*n) {
			return fmt.Errorf("the answer to %d is %d", n, got)
		}
	}
	return nil
}

func (t *numbers) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.written)
}

func (t *numbers) Commit(context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.committed = len(t.written)
	t.commits++
	return nil
}

// doubler computes. hold, if any, is called for each job before it is answered.
type doubler struct {
	hold func(ctx context.Context, key string, values []int) error
	bad  func(n int) bool

	mu         sync.Mutex
	asked      map[string][]int
	forgotten  []string
	flight     int
	mostFlight int
}

func (d *doubler) Do(ctx context.Context, key string, inputs []job.Tensor) (job.Result, error) {
	var values []int
	for data := inputs[0].Data; len(data) > 0; data = data[8:] {
		values = append(values, int(binary.LittleEndian.Uint64(data)))
	}
	d.mu.Lock()
	if d.asked == nil {
		d.asked = map[string][]int{}
	}
	d.asked[key] = values
	d.flight++
	d.mostFlight = max(d.mostFlight, d.flight)
	d.mu.Unlock()
	defer func() { d.mu.Lock(); d.flight--; d.mu.Unlock() }()
	if d.hold != nil {
		if err := d.hold(ctx, key, values); err != nil {
			return job.Result{}, err
		}
	}
	out := job.Tensor{Name: "y", Datatype: job.Int64, Shape: []int64{int64(len(values))}}
	for _, n := range values {
		if d.bad != nil && d.bad(n) {
			return job.Result{State: job.Failed, Error: job.Errorf(job.CodeInference, "", "%d in it", n)}, nil
		}
		out.Data = binary.LittleEndian.AppendUint64(out.Data, uint64(2*n))
	}
	return job.Result{State: job.Succeeded, Outputs: []job.Tensor{out}}, nil
}

func (d *doubler) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.asked)
}

func (d *doubler) Forget(_ context.Context, keys []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forgotten = append(d.forgotten, keys...)
}

func begin(t *testing.T, cfg backfill.Config, jobs backfill.Jobs, task backfill.Task) *backfill.Run {
	t.Helper()
	r, err := backfill.New(cfg, backfill.Deps{Jobs: jobs, Task: task, Key: "k"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func upTo(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// Every unit is answered once, with its own answer; the bad ones alone, whoever finds them bad; nothing is in flight beyond
// what is allowed, and the results of what is committed are dropped.
func TestEveryUnitOnce(t *testing.T) {
	t.Parallel()
	for _, ordered := range []bool{false, true} {
		for _, spread := range []bool{false, true} {
			t.Run(fmt.Sprintf("ordered %v, spread %v", ordered, spread), func(t *testing.T) {
				t.Parallel()
				task := &numbers{units: 1003, part: 17, spread: spread, refuse: func(n int) bool { return n%100 == 7 }}
				jobs := &doubler{bad: func(n int) bool { return n%250 == 3 }}
				cfg := backfill.DefaultConfig()
				cfg.Ordered, cfg.Flight = ordered, 5
				r := begin(t, cfg, jobs, task)
				if err := r.Run(t.Context()); err != nil {
					t.Fatal(err)
				}
				if ordered && !slices.Equal(task.written, upTo(1003)) {
					t.Error("not in order")
				}
				slices.Sort(task.written)
				if !slices.Equal(task.written, upTo(1003)) {
					t.Errorf("%d units written", len(task.written))
				}
				for n := range 1003 {
					_, bad := task.bad[n]
					if want := n%100 == 7 || n%250 == 3; bad != want {
						t.Errorf("%d: bad %v", n, bad)
					}
				}
				if task.bad[253] != "253 in it" || task.bad[107] != "107 is refused" {
					t.Errorf("reasons %q, %q", task.bad[253], task.bad[107])
				}
				p := r.Progress()
				if p.Units != 1003 || p.Failed != 14 || p.InFlight != 0 {
					t.Errorf("progress %+v", p)
				}
				if task.committed != 1003 || jobs.mostFlight > 5 {
					t.Errorf("%d committed, %d in flight at most", task.committed, jobs.mostFlight)
				}
				slices.Sort(jobs.forgotten)
				if len(slices.Compact(slices.Clone(jobs.forgotten))) != len(jobs.asked) || len(jobs.forgotten) != len(jobs.asked) {
					t.Errorf("%d of %d keys forgotten", len(jobs.forgotten), len(jobs.asked))
				}
			})
		}
	}
}

// The keys of a part, and of its halves, are the same in every run.
func TestKeysStay(t *testing.T) {
	t.Parallel()
	asked := func(skip func(int64) bool) map[string][]int {
		jobs := &doubler{bad: func(n int) bool { return n == 21 }}
		if err := begin(t, backfill.DefaultConfig(), jobs, &numbers{units: 60, part: 10, skip: skip}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		return jobs.asked
	}
	first := asked(nil)
	second := asked(func(part int64) bool { return part%2 == 1 })
	if len(first) != 6+6 || len(second) != 3+6 {
		t.Errorf("%d and %d jobs", len(first), len(second))
	}
	for key, values := range second {
		if !slices.Equal(first[key], values) {
			t.Errorf("%s asked for %v, then for %v", key, first[key], values)
		}
	}
}

// A part that is late holds up the order, but not the others, until as much is in hand as allowed.
func TestAHeadThatIsLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		task := &numbers{units: 1000, part: 10}
		jobs := &doubler{hold: func(ctx context.Context, _ string, values []int) error {
			if values[0] == 0 {
				select {
				case <-time.After(time.Hour):
				case <-ctx.Done():
				}
			}
			return ctx.Err()
		}}
		cfg := backfill.DefaultConfig()
		cfg.Ordered, cfg.Flight, cfg.MaxAhead = true, 4, 30*80
		r := begin(t, cfg, jobs, task)
		over := make(chan error, 1)
		go func() { over <- r.Run(t.Context()) }()
		synctest.Wait()
		if asked, written := jobs.count(), task.count(); asked != 30 || written != 0 {
			t.Errorf("%d jobs asked behind a late one, %d units written", asked, written)
		}
		if err := <-over; err != nil {
			t.Error(err)
		}
		if !slices.Equal(task.written, upTo(1000)) {
			t.Error("not in order")
		}
	})
}

// A run that is stopped commits what is written, and says why it stopped.
func TestStopped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		task := &numbers{units: 1000, part: 10}
		jobs := &doubler{hold: func(ctx context.Context, _ string, values []int) error {
			if values[0] >= 200 {
				<-ctx.Done()
			}
			return ctx.Err()
		}}
		r := begin(t, backfill.DefaultConfig(), jobs, task)
		over := make(chan error, 1)
		go func() { over <- r.Run(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-over; !errors.Is(err, context.Canceled) {
			t.Errorf("stopped with %v", err)
		}
		if len(task.written) != 200 || task.committed != 200 {
			t.Errorf("%d written, %d committed", len(task.written), task.committed)
		}
	})
}

func TestWhatEndsARun(t *testing.T) {
	t.Parallel()
	broken := errors.New("the disk is full")
	gone := errors.New("no such model")
	for name, c := range map[string]*struct {
		task      numbers
		jobs      doubler
		maxErrors int64
		want      error
		committed bool
	}{
		"too many errors":   {numbers{refuse: func(n int) bool { return n%2 == 0 }}, doubler{}, 20, backfill.ErrTooManyErrors, true},
		"no errors allowed": {numbers{refuse: func(n int) bool { return n == 999 }}, doubler{}, 0, backfill.ErrTooManyErrors, true},
		"a write":           {numbers{failWrite: broken}, doubler{}, -1, broken, false},
		"a job":             {numbers{}, doubler{hold: func(context.Context, string, []int) error { return gone }}, -1, gone, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.task.units, c.task.part = 1000, 10
			cfg := backfill.DefaultConfig()
			cfg.MaxErrors = c.maxErrors
			if err := begin(t, cfg, &c.jobs, &c.task).Run(t.Context()); !errors.Is(err, c.want) {
				t.Errorf("ended with %v", err)
			}
			if c.committed && (c.task.committed == 0 || c.task.committed != len(c.task.written)) {
				t.Errorf("%d of %d written are committed", c.task.committed, len(c.task.written))
			}
		})
	}
}

// Commits come while the run goes on, not only at its end.
func TestCommits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		task := &numbers{units: 100, part: 10}
		jobs := &doubler{hold: func(context.Context, string, []int) error { <-time.After(time.Second); return nil }}
		cfg := backfill.DefaultConfig()
		cfg.Flight, cfg.CommitEvery = 1, 3*time.Second
		if err := begin(t, cfg, jobs, task).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if task.commits < 3 || task.commits > 4 || task.committed != 100 {
			t.Errorf("%d commits in ten seconds, %d committed", task.commits, task.committed)
		}
	})
}

func TestPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		task := &numbers{units: 1000, part: 10}
		jobs := &doubler{hold: func(context.Context, string, []int) error { <-time.After(time.Second); return nil }}
		cfg := backfill.DefaultConfig()
		cfg.Flight = 1
		r := begin(t, cfg, jobs, task)
		over := make(chan error, 1)
		go func() { over <- r.Run(t.Context()) }()
		time.Sleep(10500 * time.Millisecond) //nolint:forbidigo // the bubble's clock
		r.Pause()
		time.Sleep(time.Hour) //nolint:forbidigo // the bubble's clock
		p := r.Progress()
		if p.Units < 100 || p.Units > 120 || !p.Paused || p.Waiting != "paused" {
			t.Errorf("paused: %+v", p)
		}
		begun := time.Now()
		r.Resume()
		if err := <-over; err != nil || time.Since(begun) > 95*time.Second {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
	})
}

func TestRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := backfill.DefaultConfig()
		cfg.MaxRate = 50
		begun := time.Now()
		if err := begin(t, cfg, &doubler{}, &numbers{units: 1000, part: 100}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		// The last part is paid for too.
		if took := time.Since(begun); took < 18*time.Second || took > 21*time.Second {
			t.Errorf("1000 units at 50 a second took %s", took)
		}
	})
}

func TestWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		window, err := backfill.ParseWindow("22:00-06:00")
		if err != nil {
			t.Fatal(err)
		}
		cfg := backfill.DefaultConfig()
		cfg.Windows, cfg.Flight = []backfill.Window{window}, 1
		var mu sync.Mutex
		hours := map[int]int{}
		jobs := &doubler{hold: func(context.Context, string, []int) error {
			mu.Lock()
			hours[time.Now().Hour()]++
			mu.Unlock()
			<-time.After(30 * time.Minute)
			return nil
		}}
		if err := begin(t, cfg, jobs, &numbers{units: 400, part: 10}).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		asked := 0
		for hour, n := range hours {
			// A part may have begun to wait for the job before it just before the end of the window.
			if hour > 6 && hour < 22 {
				t.Errorf("%d jobs asked at %d o'clock", n, hour)
			}
			asked += n
		}
		if asked != 40 {
			t.Errorf("%d jobs", asked)
		}
	})
}

func TestParseWindow(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"22:00-06:00": "22:00-06:00", " 00:00 - 24:00": "00:00-24:00", "7:30-12:00": "07:30-12:00",
		"22:00": "", "22-6": "", "25:00-06:00": "", "06:00-06:00": "", "": "", "24:00-06:00": "",
	} {
		w, err := backfill.ParseWindow(text)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q was taken for %s", text, w)
		case want != "" && (err != nil || w.String() != want):
			t.Errorf("%q: %s, %v", text, w, err)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	cfg := backfill.Config{Flight: 0, MaxAhead: 0, CommitEvery: -1, MaxRate: -1, Windows: []backfill.Window{{}}}
	_, err := backfill.New(cfg, backfill.Deps{})
	if err == nil {
		t.Fatal("taken")
	}
	for _, word := range []string{"in flight 0", "bytes in hand", "commits", "rate", "window", "Jobs", "Task", "Key"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q is not in %q", word, err)
		}
	}
}
