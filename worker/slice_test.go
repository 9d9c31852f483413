package worker

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
)

func TestCostOfRuns(t *testing.T) {
	const (
		fixed = 2 * time.Millisecond
		row   = 500 * time.Microsecond
	)
	takes := func(rows int) time.Duration { return fixed + time.Duration(rows)*row }
	tests := []struct {
		name       string
		run        func(m *costMeter)
		fixed, row time.Duration
	}{
		{name: "nothing is known", run: func(*costMeter) {}},
		{
			name: "runs of all sizes", fixed: fixed, row: row,
			run: func(m *costMeter) {
				for i := range 200 {
					m.observe(1+i%64, takes(1+i%64))
				}
			},
		},
		{
			name: "all runs have the same size: the rows are taken to be all of it", row: 10 * time.Millisecond / 16,
			run: func(m *costMeter) {
				for range 200 {
					m.observe(16, takes(16))
				}
			},
		},
		{
			name: "held up now and then", fixed: fixed, row: row,
			run: func(m *costMeter) {
				for i := range 2000 {
					took := takes(1 + i%64)
					if i%300 == 100 {
						took += 10 * time.Second
					}
					m.observe(1+i%64, took)
				}
			},
		},
		{
			name: "slower from some time on", fixed: 50 * fixed, row: 50 * row,
			run: func(m *costMeter) {
				for i := range 200 {
					m.observe(1+i%64, takes(1+i%64))
				}
				for i := range 1000 {
					m.observe(1+i%64, 50*takes(1+i%64))
				}
			},
		},
		{
			name: "rows cost nothing", fixed: fixed,
			run: func(m *costMeter) {
				for i := range 200 {
					m.observe(1+i%64, fixed)
				}
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m costMeter
			tt.run(&m)
			got := m.load()
			// What the line says of a full run is to be right within a tenth, and each part of it in proportion.
			tenth := float64(tt.fixed+64*tt.row) / 10
			if math.Abs(got.fixed-float64(tt.fixed)) > tenth || 64*math.Abs(got.row-float64(tt.row)) > tenth {
				t.Errorf("a run costs %v and %v a row, want %v and %v",
					time.Duration(got.fixed), time.Duration(got.row), tt.fixed, tt.row)
			}
		})
	}
}

func TestCostOfRunsIsRightAmongNoise(t *testing.T) {
	var m costMeter
	rng := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		rows := 1 + rng.IntN(64)
		m.observe(rows, time.Duration((5+0.28*float64(rows))*(0.7+0.6*rng.Float64())*1000))
	}
	if got := m.load().of(64) / 1000; got < 18 || got > 28 {
		t.Errorf("64 rows are said to take %.1f µs, want about 23", got)
	}
}

func TestBulkSlice(t *testing.T) {
	const maxRows = 8
	heavy := cost{fixed: 2e6, row: 1e6} // nanoseconds
	tests := []struct {
		name  string
		slice time.Duration
		cost  cost
		tasks []*task
		want  []int // rows of the parts of the next batch
	}{
		{name: "bulk rows added fit the slice", slice: 3 * time.Millisecond, cost: heavy, tasks: []*task{interactive(2), bulk(2), bulk(1), bulk(1)}, want: []int{2, 2, 1}},
		{name: "or none is added", slice: time.Millisecond, cost: heavy, tasks: []*task{interactive(2), bulk(2)}, want: []int{2}},
		{name: "one row of a job that is cut anyhow", slice: time.Millisecond, cost: heavy, tasks: []*task{interactive(2), bulk(20)}, want: []int{2, 1}},
		{name: "interactive rows are not counted", slice: time.Millisecond, cost: heavy, tasks: []*task{interactive(4), interactive(4)}, want: []int{4, 4}},
		{name: "nobody waits for a run of bulk alone", slice: time.Millisecond, cost: heavy, tasks: []*task{bulk(4), bulk(4)}, want: []int{4, 4}},
		{name: "no bound", cost: heavy, tasks: []*task{interactive(4), bulk(4)}, want: []int{4, 4}},
		{name: "a cost that is not known", slice: time.Millisecond, tasks: []*task{interactive(4), bulk(4)}, want: []int{4, 4}},
		{name: "a model that is quick", slice: time.Millisecond, cost: cost{fixed: 5e3, row: 280}, tasks: []*task{interactive(4), bulk(4)}, want: []int{4, 4}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := testBatcher(maxRows, 0, 0.1)
			b.slice.most, b.slice.cost = tt.slice, tt.cost
			for _, task := range tt.tasks {
				b.add(task)
			}
			if got, _ := closeBatch(t, b, start); !slices.Equal(got, tt.want) {
				t.Errorf("parts of %v rows, want %v", got, tt.want)
			}
		})
	}
}

func TestBulkSliceDoesNotStarveBulk(t *testing.T) {
	for _, rows := range []int{1, 8} {
		b := testBatcher(8, 0, 0.1)
		b.slice.most, b.slice.cost = time.Millisecond, cost{fixed: 1e6, row: 1e6}
		var got [2]int
		for range 400 {
			for lane := range got {
				for b.lanes[lane].rows < 16 {
					size := 1
					if job.Lane(lane) == job.Bulk {
						size = rows
					}
					b.add(waiting(job.Lane(lane), size, start))
				}
			}
			_, out := closeBatch(t, b, start)
			for _, p := range out.parts {
				got[p.task.job.Lane] += p.rows
			}
		}
		if share := float64(got[job.Bulk]) / float64(got[0]+got[1]); share < 0.09 || share > 0.14 {
			t.Errorf("bulk jobs of %d rows got %.3f of the rows, want the reserve of 0.1, or what is added in the slice", rows, share)
		}
	}
}
