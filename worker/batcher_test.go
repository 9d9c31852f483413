package worker

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// waiting makes a task of so many rows that came at the time given.
func waiting(lane job.Lane, rows int, taken time.Time) *task {
	m := &message{taken: taken, lane: lane, delivery: &queue.Delivery{Attempt: 1}, tasks: make([]task, 1)}
	m.pending.Store(1)
	j := &job.Job{Lane: lane, Inputs: []job.Tensor{{Name: "x", Datatype: job.FP32, Shape: []int64{int64(rows), 1}}}}
	return &task{job: j, message: m, rows: rows}
}

func interactive(rows int) *task { return waiting(job.Interactive, rows, start) }
func bulk(rows int) *task        { return waiting(job.Bulk, rows, start) }

func testBatcher(maxRows int, maxDelay time.Duration, reserve float64) *batcher {
	info := doublerInfo(1)
	return newBatcher(&info, maxRows, maxDelay, reserve)
}

// closeBatch returns the rows of each part of the next batch.
func closeBatch(t *testing.T, b *batcher, now time.Time) (rows []int, out batch) {
	t.Helper()
	if !b.ready(now) {
		t.Fatal("no batch is ready")
	}
	b.fill(now, &out)
	for _, p := range out.parts {
		rows = append(rows, p.rows)
	}
	return rows, out
}

func TestBatcherCloses(t *testing.T) {
	const maxRows = 8
	tests := []struct {
		name  string
		delay time.Duration
		tasks []*task
		after time.Duration
		want  [][]int // rows of the parts of each batch that is ready, in turn
	}{
		{name: "nothing waits"},
		{name: "one job at once", tasks: []*task{interactive(1)}, want: [][]int{{1}}},
		{name: "all that waits", tasks: []*task{interactive(1), interactive(3), interactive(2)}, want: [][]int{{1, 3, 2}}},
		{name: "rows count, not jobs", tasks: []*task{interactive(5), interactive(3), interactive(1)}, want: [][]int{{5, 3}, {1}}},
		{name: "a job that does not fit is not cut", tasks: []*task{interactive(5), interactive(4)}, want: [][]int{{5}, {4}}},
		{name: "a job larger than a batch is cut", tasks: []*task{interactive(20)}, want: [][]int{{8}, {8}, {4}}},
		{name: "the pieces share their batches", tasks: []*task{interactive(3), interactive(10), interactive(2)}, want: [][]int{{3, 5}, {5, 2}}},
		{name: "bulk fills what is free", tasks: []*task{bulk(2), interactive(3), bulk(2), bulk(4)}, want: [][]int{{3, 2, 2}, {4}}},
		{name: "bulk alone", tasks: []*task{bulk(2), bulk(3)}, want: [][]int{{2, 3}}},
		{name: "with a delay nothing is ready before it", delay: time.Second, tasks: []*task{interactive(1)}, after: time.Second - 1},
		{name: "with a delay it is ready when it is over", delay: time.Second, tasks: []*task{interactive(1)}, after: time.Second, want: [][]int{{1}}},
		{name: "a full batch does not wait for the delay", delay: time.Second, tasks: []*task{interactive(7), bulk(1)}, want: [][]int{{7, 1}}},
		{
			name: "the delay counts from the oldest, in either lane", delay: time.Second, after: time.Second,
			tasks: []*task{waiting(job.Interactive, 1, start.Add(time.Second)), bulk(1)}, want: [][]int{{1, 1}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := testBatcher(maxRows, tt.delay, 0.1)
			for _, task := range tt.tasks {
				b.add(task)
			}
			now := start.Add(tt.after)
			for i, want := range tt.want {
				if got, _ := closeBatch(t, b, now); !slices.Equal(got, want) {
					t.Fatalf("batch %d has parts of %v rows, want %v", i, got, want)
				}
			}
			if b.ready(now) {
				t.Error("one more batch is ready")
			}
		})
	}
}

func TestBatcherFullGroupOvertakesOneThatWaits(t *testing.T) {
	b := testBatcher(4, time.Second, 0.1)
	lonely := interactive(1)
	lonely.job.Outputs = []string{"y"}
	b.add(lonely)
	b.add(interactive(2))
	if b.ready(start) {
		t.Fatal("a batch is ready although none is full and none has waited")
	}
	b.add(interactive(2))
	if got, _ := closeBatch(t, b, start); !slices.Equal(got, []int{2, 2}) {
		t.Fatalf("got parts of %v rows, want the full group", got)
	}
	if at, ok := b.wakeAt(); !ok || !at.Equal(start.Add(time.Second)) {
		t.Errorf("wake at %v, %v; want when the lonely job has waited a second", at, ok)
	}
	if got, _ := closeBatch(t, b, start.Add(time.Second)); !slices.Equal(got, []int{1}) {
		t.Errorf("got parts of %v rows, want the lonely job", got)
	}
}

func TestBatcherNeverMixes(t *testing.T) {
	change := map[string]func(*job.Job){
		"another shape":              func(j *job.Job) { j.Inputs[0].Shape = []int64{1, 2} },
		"another rank":               func(j *job.Job) { j.Inputs[0].Shape = []int64{1, 1, 1} },
		"other outputs":              func(j *job.Job) { j.Outputs = []string{"y"} },
		"a parameter":                func(j *job.Job) { j.Parameters = []job.Parameter{{Name: "p", Value: int64(1)}} },
		"another value":              func(j *job.Job) { j.Parameters = []job.Parameter{{Name: "p", Value: int64(2)}} },
		"another type":               func(j *job.Job) { j.Parameters = []job.Parameter{{Name: "p", Value: float64(1)}} },
		"another name":               func(j *job.Job) { j.Parameters = []job.Parameter{{Name: "q", Value: int64(1)}} },
		"a boolean":                  func(j *job.Job) { j.Parameters = []job.Parameter{{Name: "p", Value: true}} },
		"a text":                     func(j *job.Job) { j.Parameters = []job.Parameter{{Name: "p", Value: "1"}} },
		"not a number, as parameter": func(j *job.Job) { j.Parameters = []job.Parameter{{Name: "p", Value: nan()}} },
		"nothing":                    func(*job.Job) {},
	}
	b := testBatcher(64, 0, 0.1)
	for range 3 { // three of each kind, in an order that changes
		for _, fn := range change {
			task := interactive(1)
			fn(task.job)
			b.add(task)
		}
	}
	batches := 0
	for ; b.ready(start); batches++ {
		rows, _ := closeBatch(t, b, start)
		if len(rows) != 3 {
			t.Fatalf("a batch of %d jobs, want the 3 of one kind", len(rows))
		}
	}
	if batches != len(change) {
		t.Errorf("%d batches, want one for each of %d kinds", batches, len(change))
	}
	if len(b.groups) > 1 {
		t.Errorf("%d groups are remembered although nothing waits", len(b.groups))
	}
}

func TestBatcherDropsWhatIsExpired(t *testing.T) {
	b := testBatcher(8, 0, 0.1)
	late, fresh := interactive(2), interactive(3)
	late.job.Deadline = start.Add(time.Second)
	fresh.job.Deadline = start.Add(time.Second + 1)
	b.add(late)
	b.add(fresh)
	rows, out := closeBatch(t, b, start.Add(time.Second))
	if !slices.Equal(rows, []int{3}) || len(out.expired) != 1 || out.expired[0] != late {
		t.Errorf("parts of %v rows and %d expired; want the fresh job to run and the late one to be expired", rows, len(out.expired))
	}
	if out.left[0] != 5 {
		t.Errorf("%d rows left the buffer, want 5", out.left[0])
	}
}

func TestBatcherRunsRedeliveredJobsAlone(t *testing.T) {
	b := testBatcher(8, 0, 0.1)
	suspect, second, first, big := interactive(1), bulk(1), interactive(1), bulk(10)
	suspect.suspect = true
	for _, task := range []*task{suspect, second, first, big} {
		task.solo = true
		b.add(task)
	}
	b.add(interactive(2))
	b.add(interactive(2))
	var order []*task
	var rows []int
	for !b.empty() {
		_, out := closeBatch(t, b, start)
		if !out.solo {
			if len(out.parts) != 2 {
				t.Fatalf("a batch of %d parts, want the two jobs that were not redelivered", len(out.parts))
			}
			continue
		}
		order = append(order, out.parts[0].task)
		for _, p := range out.parts {
			if p.task != out.parts[0].task {
				t.Fatal("a redelivered job runs with others")
			}
			rows = append(rows, p.rows)
		}
		if b.ready(start) && b.alone.ready() {
			t.Fatal("the next redelivered job may run before the last is settled")
		}
		b.alone.done()
	}
	if want := []*task{first, second, big, suspect}; !slices.Equal(order, want) {
		t.Errorf("redelivered jobs in the wrong order, rows %v; want interactive, bulk, suspects", rows)
	}
	if want := []int{1, 1, 8, 2, 1}; !slices.Equal(rows, want) {
		t.Errorf("rows %v, want %v", rows, want)
	}
}

func TestBatcherDoesNotStarveBulk(t *testing.T) {
	for _, tt := range []struct {
		name              string
		maxRows, jobRows  int
		reserve, want     float64
		bulkHasOtherShape bool
	}{
		{name: "in the same batches", maxRows: 64, jobRows: 1, reserve: 0.1, want: 0.1},
		{name: "in batches of its own", maxRows: 64, jobRows: 1, reserve: 0.1, want: 0.1, bulkHasOtherShape: true},
		{name: "one job a batch", maxRows: 1, jobRows: 1, reserve: 0.1, want: 0.1},
		{name: "jobs that fill a batch", maxRows: 8, jobRows: 8, reserve: 0.25, want: 0.25},
		{name: "no reserve", maxRows: 64, jobRows: 1, reserve: 0, want: 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := testBatcher(tt.maxRows, 0, tt.reserve)
			var got [2]int
			for total := 0; total < 200*tt.maxRows; {
				for b.lanes[job.Interactive].rows < 2*tt.maxRows {
					b.add(interactive(tt.jobRows))
				}
				for b.lanes[job.Bulk].rows < 2*tt.maxRows {
					task := bulk(tt.jobRows)
					if tt.bulkHasOtherShape {
						task.job.Inputs[0].Shape = []int64{int64(tt.jobRows), 7}
					}
					b.add(task)
				}
				_, out := closeBatch(t, b, start)
				for _, p := range out.parts {
					got[p.task.job.Lane] += p.rows
					total += p.rows
				}
			}
			share := float64(got[job.Bulk]) / float64(got[job.Bulk]+got[job.Interactive])
			if share < tt.want-0.02 || share > tt.want+0.02 {
				t.Errorf("bulk got %.3f of the rows, want %.2f", share, tt.want)
			}
		})
	}
}

// TestBatcherKeepsItsPromises drives the batcher with jobs at random and checks what must hold of any sequence.
func TestBatcherKeepsItsPromises(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		maxRows := 1 + rng.IntN(16)
		b := testBatcher(maxRows, time.Duration(rng.IntN(2))*time.Second, 0.1)
		now := start
		rows := make(map[*task]int) // computed
		var all []*task
		check := func(out *batch) {
			total := 0
			for _, p := range out.parts {
				if rows[p.task] != p.from {
					t.Fatalf("seed %d: rows from %d of a job, want from %d: each row once and in order", seed, p.from, rows[p.task])
				}
				if p.task.rows <= maxRows && p.rows != p.task.rows {
					t.Fatalf("seed %d: a job of %d rows is cut although a batch has %d", seed, p.task.rows, maxRows)
				}
				if p.rows < 1 {
					t.Fatalf("seed %d: a part of %d rows", seed, p.rows)
				}
				key := newGroupKey(out.parts[0].task.job)
				if !key.matches(p.task.job) {
					t.Fatalf("seed %d: a batch mixes jobs that do not agree", seed)
				}
				rows[p.task] += p.rows
				total += p.rows
			}
			if total != out.rows || total > maxRows || total == 0 {
				t.Fatalf("seed %d: a batch of %d rows that says %d, at most %d", seed, total, out.rows, maxRows)
			}
		}
		var out batch
		for range 200 {
			for range rng.IntN(5) {
				task := waiting(job.Lane(rng.IntN(2)), 1+rng.IntN(2*maxRows), now)
				task.job.Inputs[0].Shape[1] = rng.Int64N(3)
				all = append(all, task)
				b.add(task)
			}
			now = now.Add(time.Duration(rng.IntN(1000)) * time.Millisecond)
			if b.ready(now) {
				b.fill(now, &out)
				check(&out)
			}
		}
		for now = now.Add(time.Hour); b.ready(now); {
			b.fill(now, &out)
			check(&out)
		}
		for _, task := range all {
			if rows[task] != task.rows {
				t.Fatalf("seed %d: %d rows of a job were computed, it has %d", seed, rows[task], task.rows)
			}
		}
		if !b.empty() || b.lanes[0].rows != 0 || b.lanes[1].rows != 0 || b.full != 0 || len(b.groups) > 1 {
			t.Fatalf("seed %d: the batcher is not empty: rows %d and %d, %d full, %d groups", seed, b.lanes[0].rows, b.lanes[1].rows, b.full, len(b.groups))
		}
	}
}

func TestBatcherDrain(t *testing.T) {
	b := testBatcher(8, 0, 0.1)
	tasks := []*task{interactive(1), bulk(2), interactive(20), bulk(1)}
	tasks[3].solo = true
	for _, task := range tasks {
		b.add(task)
	}
	closeBatch(t, b, start) // one of the rows of the large job are in a batch now
	var left []*task
	b.drain(func(task *task) { left = append(left, task) })
	if len(left) != 3 || !b.empty() || b.ready(start.Add(time.Hour)) {
		t.Errorf("%d tasks were handed out, want the 3 that were not wholly in a batch; empty: %v", len(left), b.empty())
	}
}

func nan() float64 {
	zero := 0.0
	return zero / zero
}
