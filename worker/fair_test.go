package worker

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sheafml/sheaf/job"
)

// of makes a task of a tenant. Jobs of another width are of another group.
func of(tenant string, rows int, width int64) *task {
	t := interactive(rows)
	t.job.Tenant, t.job.Inputs[0].Shape[1] = tenant, width
	return t
}

// addJobs adds n jobs of one row.
func addJobs(b *batcher, n int, tenant string, width int64) {
	for range n {
		b.add(of(tenant, 1, width))
	}
}

// served closes n batches and counts the rows of each tenant.
func served(t *testing.T, b *batcher, n int) map[string]int {
	t.Helper()
	rows := make(map[string]int)
	for range n {
		_, out := closeBatch(t, b, start)
		for _, p := range out.parts {
			rows[p.task.job.Tenant] += p.rows
		}
	}
	return rows
}

func TestNewTenantIsNext(t *testing.T) {
	for _, width := range []int64{1, 2} {
		t.Run(fmt.Sprintf("width %d", width), func(t *testing.T) {
			b := testBatcher(64, 0, 0.1)
			for i := range 5 {
				addJobs(b, 2000, fmt.Sprint("flood", i), 1)
			}
			served(t, b, 7)
			b.add(of("new", 1, width))
			_, out := closeBatch(t, b, start)
			if got := out.parts[0].task.job.Tenant; got != "new" {
				t.Errorf("the next row is of %s, want of the tenant that came new", got)
			}
		})
	}
}

func TestTenantsShareTheRows(t *testing.T) {
	tests := []struct {
		name string
		fill func(b *batcher, backlog func(tenant string, width int64))
		want map[string]float64 // share of the rows
	}{
		{
			name: "one has many more jobs",
			fill: func(b *batcher, backlog func(string, int64)) {
				addJobs(b, 5000, "a", 1)
				backlog("a", 1)
				backlog("b", 1)
			},
			want: map[string]float64{"a": 0.5, "b": 0.5},
		},
		{
			name: "in groups of their own",
			fill: func(_ *batcher, backlog func(string, int64)) {
				backlog("a", 1)
				backlog("b", 2)
				backlog("c", 3)
			},
			want: map[string]float64{"a": 1. / 3, "b": 1. / 3, "c": 1. / 3},
		},
		{
			name: "two share a group",
			fill: func(_ *batcher, backlog func(string, int64)) {
				backlog("a", 1)
				backlog("b", 2)
				backlog("c", 1)
			},
			want: map[string]float64{"a": 1. / 3, "b": 1. / 3, "c": 1. / 3},
		},
		{
			name: "one is in every group",
			fill: func(_ *batcher, backlog func(string, int64)) {
				for width := range int64(4) {
					backlog("a", width+1)
				}
				backlog("b", 1)
				backlog("c", 2)
			},
			want: map[string]float64{"a": 1. / 3, "b": 1. / 3, "c": 1. / 3},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := testBatcher(64, 0, 0.1)
			var refill []func()
			tt.fill(b, func(tenant string, width int64) {
				refill = append(refill, func() { addJobs(b, 128, tenant, width) })
			})
			rows, total := make(map[string]int), 0
			for range 300 {
				if b.lanes[job.Interactive].rows < 20000 {
					for _, fn := range refill {
						fn()
					}
				}
				for tenant, n := range served(t, b, 1) {
					rows[tenant] += n
					total += n
				}
			}
			for tenant, want := range tt.want {
				if got := float64(rows[tenant]) / float64(total); got < want-0.02 || got > want+0.02 {
					t.Errorf("%s got %.3f of the rows, want %.3f", tenant, got, want)
				}
			}
		})
	}
}

// A run of one row takes nearly as long as one of many, so jobs that share no batch must not be counted by their rows.
func TestJobsThatShareNoBatchPayForTheirRuns(t *testing.T) {
	b := testBatcher(64, 0, 0.1)
	b.slice.cost = cost{fixed: 63, row: 1}
	for i := range 1000 {
		b.add(of("odd", 1, int64(i+2)))
	}
	addJobs(b, 64*20, "even", 1)
	if got := served(t, b, 40)["even"]; got < 64*19 {
		t.Errorf("the other tenant got %d rows in 40 runs, want those of 20 full ones", got)
	}
}

func TestNothingIsGainedByLeaving(t *testing.T) {
	b := testBatcher(64, 0, 0.1)
	addJobs(b, 10000, "stays", 1)
	b.add(of("leaves", 60, 1))
	rows := served(t, b, 1)
	for range 50 {
		// It comes whenever it has been served, with all that a batch takes.
		if b.lanes[job.Interactive].tenants["leaves"].strands == 0 {
			b.add(of("leaves", 60, 1))
		}
		for tenant, n := range served(t, b, 1) {
			rows[tenant] += n
		}
	}
	if got := float64(rows["leaves"]) / float64(rows["leaves"]+rows["stays"]); got > 0.52 {
		t.Errorf("a tenant that leaves and comes back has %.3f of the rows, want half at most", got)
	}
}

func TestEverNewTenantsDoNotKeepOutTheOld(t *testing.T) {
	b := testBatcher(64, 0, 0.1)
	addJobs(b, 5000, "old", 1)
	rows := 0
	for i := range 100 {
		for k := range 64 { // as many as a batch has rows
			b.add(of(fmt.Sprint(i, "-", k), 1, 1))
		}
		rows += served(t, b, 1)["old"]
	}
	if rows < 50 {
		t.Errorf("the tenant that stayed got %d rows of 100 batches, want half of its share at least, which is one of each", rows)
	}
}

func TestTenantsAreForgotten(t *testing.T) {
	b := testBatcher(64, 0, 0.1)
	addJobs(b, 20000, "stays", 1)
	for i := range 10000 {
		b.add(of(fmt.Sprint(i), 1, 1))
		if i%8 == 0 {
			served(t, b, 1)
		}
	}
	q := &b.lanes[job.Interactive]
	if len(q.tenants) > 100 || len(q.strands) > q.waiting+1 || len(q.turns.list) != q.waiting {
		t.Errorf("%d tenants, %d strands and %d turns are remembered, %d tenants wait", len(q.tenants), len(q.strands), len(q.turns.list), q.waiting)
	}
}

func TestTenantThatWaitsForCompanyHoldsUpNobody(t *testing.T) {
	b := testBatcher(4, time.Second, 0.1)
	b.add(of("waits", 1, 2)) // came first, and is not due
	addJobs(b, 8, "flood", 1)
	addJobs(b, 4, "full", 3)
	if got := served(t, b, 3); got["flood"] != 8 || got["full"] != 4 {
		t.Errorf("rows served %v, want those of the full groups", got)
	}
	if b.ready(start) {
		t.Error("a batch is ready although none is full and none has waited")
	}
	if rows, _ := closeBatch(t, b, start.Add(time.Second)); len(rows) != 1 {
		t.Errorf("parts %v, want the one that has waited", rows)
	}
}

func TestDueTenantIsServedBeforeTheFlood(t *testing.T) {
	b := testBatcher(4, time.Second, 0.1)
	addJobs(b, 100, "flood", 1)
	served(t, b, 3)
	b.add(of("due", 1, 2))
	if _, out := closeBatch(t, b, start.Add(time.Second-1)); out.parts[0].task.job.Tenant != "flood" {
		t.Error("a job that may wait for company was run before a full batch")
	}
	if _, out := closeBatch(t, b, start.Add(time.Second)); out.parts[0].task.job.Tenant != "due" {
		t.Error("the flood was served before a tenant whose job has waited long enough")
	}
}

func TestRedeliveredJobsOfTenantsTakeTurns(t *testing.T) {
	b := testBatcher(8, 0, 0.1)
	for _, tenant := range []string{"a", "a", "a", "b", "c", "b"} {
		task := of(tenant, 1, 1)
		task.solo = true
		b.add(task)
	}
	order := ""
	for !b.empty() {
		_, out := closeBatch(t, b, start)
		order += out.parts[0].task.job.Tenant
		b.alone.done()
	}
	if order != "abcaba" {
		t.Errorf("the tenants were served in the order %s, want abcaba", order)
	}
}

// TestShareIsKeptAtAllTimes: of tenants that always wait, none gets more rows than another in any stretch of time than
// a quantum and a job.
func TestShareIsKeptAtAllTimes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maxRows := rapid.SampledFrom([]int{1, 8, 64}).Draw(t, "maxRows")
		rows := rapid.IntRange(1, maxRows).Draw(t, "rows")
		tenants := rapid.IntRange(2, 20).Draw(t, "tenants")
		b := testBatcher(maxRows, 0, 0.1)
		names := make([]string, tenants)
		have := make(map[string]int)
		for i := range names {
			names[i] = fmt.Sprint("tenant", i)
		}
		backlog := func() {
			for _, name := range names {
				for have[name] < 3*maxRows {
					b.add(of(name, rows, 1))
					have[name] += rows
				}
			}
		}
		bound := int(b.lanes[0].quantum) + rows - 1
		got := make(map[string]int)
		low, high := make(map[[2]string]int), make(map[[2]string]int) // of the lead of one over the other
		var out batch
		for range 60 {
			backlog()
			b.fill(start, &out)
			for _, p := range out.parts {
				mine := p.task.job.Tenant
				got[mine] += p.rows
				have[mine] -= p.rows
				for _, other := range names {
					for _, pair := range [...][2]string{{mine, other}, {other, mine}} {
						lead := got[pair[0]] - got[pair[1]]
						low[pair], high[pair] = min(low[pair], lead), max(high[pair], lead)
						if high[pair]-low[pair] > bound {
							t.Fatalf("%s got %d rows more than %s in some stretch of time, want %d at most", pair[0], high[pair]-low[pair], pair[1], bound)
						}
					}
				}
			}
		}
	})
}

// TestInteractiveComesFirst: while both lanes have more than a batch, bulk gets its reserve and no more, whatever its
// tenants and groups.
func TestInteractiveComesFirst(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maxRows := rapid.SampledFrom([]int{1, 8, 64}).Draw(t, "maxRows")
		reserve := rapid.Float64Range(0, 0.5).Draw(t, "reserve")
		tenants := rapid.IntRange(1, 5).Draw(t, "tenants")
		groups := rapid.Int64Range(1, 3).Draw(t, "groups")
		b := testBatcher(maxRows, 0, reserve)
		var got, next [2]int
		var out batch
		for range 100 {
			for lane := range got {
				for b.lanes[lane].rows < 4*maxRows*int(groups) {
					task := waiting(job.Lane(lane), 1, start)
					task.job.Tenant = fmt.Sprint(next[lane] % tenants)
					task.job.Inputs[0].Shape[1] = int64(next[lane]/tenants)%groups + 1
					next[lane]++
					b.add(task)
				}
			}
			b.fill(start, &out)
			for _, p := range out.parts {
				got[p.task.job.Lane] += p.rows
			}
		}
		want := reserve * float64(got[0]+got[1])
		if bulk := float64(got[job.Bulk]); bulk < want-2*float64(maxRows) || bulk > want+2*float64(maxRows) {
			t.Fatalf("bulk got %v rows, its reserve is %v", bulk, want)
		}
	})
}
