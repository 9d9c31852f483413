package worker

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sheafml/sheaf/job"
)

// who says whose rows a batch has: "a a bulk" is a row of tenant a twice, and one of bulk.
func who(out *batch) string {
	var rows []string
	for _, p := range out.parts {
		name := p.task.job.Tenant
		if p.task.job.Lane == job.Bulk {
			name = "bulk"
		}
		for range p.rows {
			rows = append(rows, name)
		}
	}
	slices.Sort(rows)
	return strings.Join(rows, " ")
}

// crewOf is a crew that is computing the batches.
func crewOf(batches ...batch) *crew {
	c := &crew{}
	for _, b := range batches {
		r := &runner{batch: b}
		r.busy.Store(true)
		c.runners = append(c.runners, r)
	}
	return c
}

// times repeats a job of one row.
func times(n int, tenant string) []*task {
	var all []*task
	for range n {
		all = append(all, of(tenant, 1, 1))
	}
	return all
}

// crowd is times, with many more behind each in the queue.
func crowd(n int, tenant string) []*task {
	all := times(n, tenant)
	for _, t := range all {
		t.message.delivery.Behind = 1000
	}
	return all
}

func TestWhoOvertakesWhom(t *testing.T) {
	tests := []struct {
		name string
		runs [][]*task // each is one batch of at most 4 rows
		wait []*task
		want string // whose rows the express batch has, nothing if nobody overtakes
	}{
		{name: "a job overtakes bulk", runs: [][]*task{{bulk(4)}}, wait: times(1, "a"), want: "a"},
		{name: "bulk overtakes nothing", runs: [][]*task{{bulk(4)}, {of("a", 4, 1)}}, wait: []*task{bulk(1)}},
		{name: "bulk does not come along", runs: [][]*task{{bulk(4)}}, wait: []*task{of("a", 1, 1), bulk(1)}, want: "a"},
		{name: "all tenants share the run", runs: [][]*task{{bulk(4)}}, wait: slices.Concat(times(1, "a"), times(2, "b")), want: "a b b"},
		{name: "half of the run is bulk", runs: [][]*task{{of("a", 2, 1), bulk(2)}}, wait: times(1, "b")},
		{name: "more than half is", runs: [][]*task{{of("a", 1, 1), bulk(3)}}, wait: times(1, "b"), want: "b"},
		{name: "a tenant with more waiting is overtaken", runs: [][]*task{{of("a", 4, 1)}}, wait: slices.Concat(times(1, "a"), times(1, "b")), want: "b"},
		{name: "one with nothing more is not", runs: [][]*task{{of("a", 4, 1)}}, wait: times(1, "b")},
		{name: "nobody overtakes itself", runs: [][]*task{{of("a", 4, 1)}}, wait: times(3, "a")},
		{name: "but it overtakes another", runs: [][]*task{{of("a", 4, 1)}, {bulk(4)}}, wait: times(3, "a"), want: "a a a"},
		{name: "a run that nobody has most of", runs: [][]*task{slices.Concat(times(2, "a"), times(2, "b"))}, wait: slices.Concat(times(1, "a"), times(1, "b"), times(1, "c"))},
		{
			name: "the overtaken has no rows in it", runs: [][]*task{{of("a", 4, 1)}},
			wait: []*task{of("a", 1, 1), of("b", 1, 1), of("a", 1, 1), of("c", 1, 1)}, want: "b c",
		},
		{name: "a job that does not fit waits", runs: [][]*task{{bulk(4)}}, wait: []*task{of("a", 3, 1), of("a", 2, 1)}, want: "a a a"},
		{name: "a large job is cut", runs: [][]*task{{bulk(4)}}, wait: []*task{of("a", 7, 1)}, want: "a a a a"},
		{name: "shapes do not mix", runs: [][]*task{{bulk(4)}}, wait: []*task{of("a", 1, 1), of("b", 1, 2)}, want: "a"},
		{name: "who floods overtakes bulk while it is alone", runs: [][]*task{{bulk(4)}}, wait: crowd(8, "flood"), want: "flood flood flood flood"},
		{name: "and does not while others wait", runs: [][]*task{{bulk(4)}}, wait: slices.Concat(crowd(8, "flood"), times(1, "a")), want: "a"},
		{name: "it overtakes no tenant", runs: [][]*task{{of("a", 4, 1)}}, wait: slices.Concat(times(1, "a"), crowd(8, "flood"))},
		{name: "one row less is no flood", runs: [][]*task{{of("a", 4, 1)}}, wait: slices.Concat(times(1, "a"), crowd(3, "b")), want: "b b b"},
		{name: "nor are a few that came together", runs: [][]*task{{of("a", 4, 1)}}, wait: slices.Concat(times(1, "a"), times(15, "b")), want: "b b b b"},
		{name: "four runs are one, with nothing behind them", runs: [][]*task{{of("a", 4, 1)}}, wait: slices.Concat(times(1, "a"), times(16, "b"))},
		{
			name: "nor is as much as others have", runs: [][]*task{{of("a", 4, 1)}},
			wait: slices.Concat(times(20, "a"), crowd(8, "b")), want: "b b b b",
		},
		{name: "there is nothing to overtake", wait: times(1, "a")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := testBatcher(4, 0, 0.1)
			var batches []batch
			for _, tasks := range tt.runs {
				for _, task := range tasks {
					b.add(task)
				}
				_, out := closeBatch(t, b, start)
				batches = append(batches, out)
			}
			for _, task := range tt.wait {
				b.add(task)
			}
			c := crewOf(batches...)
			var out batch
			if b.overtaker(start, c.overtakable()) != nil {
				b.fillExpress(start, c.over, &out)
			}
			if got := who(&out); got != tt.want {
				t.Errorf("%q overtake, want %q", got, tt.want)
			}
			for _, r := range c.runners {
				r.busy.Store(false)
			}
			if len(c.overtakable()) > 0 || b.overtaker(start, c.over) != nil {
				t.Error("a batch that is over can be overtaken")
			}
		})
	}
}

// TestAnExpressRunIsLean: it takes no more rows than make its fixed cost a small part, since the first would wait for the
// last; a job is not cut for that.
func TestAnExpressRunIsLean(t *testing.T) {
	for _, tt := range []struct {
		cost cost
		wait []*task
		want string
	}{
		{cost{}, times(4, "a"), "a a a a"}, // not known yet
		{cost{fixed: 0, row: 100}, times(4, "a"), "a"},
		{cost{fixed: 25, row: 100}, times(4, "a"), "a"},
		{cost{fixed: 26, row: 100}, times(4, "a"), "a a"},
		{cost{fixed: 900, row: 100}, times(4, "a"), "a a a a"},
		{cost{fixed: 900, row: 0}, times(4, "a"), "a a a a"},
		{cost{fixed: 0, row: 100}, []*task{of("a", 3, 1), of("a", 1, 1)}, "a a a"},
		{cost{fixed: 0, row: 100}, []*task{of("a", 6, 1)}, "a a a a"}, // larger than a run: cut as always
	} {
		b := testBatcher(4, 0, 0.1)
		b.add(bulk(4))
		_, run := closeBatch(t, b, start)
		b.slice.cost = tt.cost
		for _, task := range tt.wait {
			b.add(task)
		}
		var out batch
		b.fillExpress(start, crewOf(run).overtakable(), &out)
		if got := who(&out); got != tt.want {
			t.Errorf("of a model of cost %+v, an express run has the rows %q, want %q", tt.cost, got, tt.want)
		}
	}
}

func TestOvertakingIsAccountedFor(t *testing.T) {
	b := testBatcher(4, 0, 0.1)
	b.slice.cost = cost{fixed: 2, row: 1}
	b.add(bulk(4))
	_, run := closeBatch(t, b, start)
	b.add(of("a", 1, 1))
	b.add(of("b", 1, 2)) // nobody is charged while nobody waits
	tenant := b.lanes[job.Interactive].tenants["a"]
	served := tenant.served
	var out batch
	b.fillExpress(start, crewOf(run).overtakable(), &out)
	if got := tenant.served - served; got != 3 {
		t.Errorf("the tenant is charged with %d rows, want its own and the 2 that a run costs whatever its rows", got)
	}
	if out.left[0] != 1 {
		t.Errorf("%d rows left the buffer, want 1", out.left[0])
	}
}

func TestOvertakingWaitsForTheDelay(t *testing.T) {
	b := testBatcher(4, time.Second, 0.1)
	b.add(bulk(4))
	_, run := closeBatch(t, b, start)
	over := crewOf(run).overtakable()
	b.add(of("a", 1, 1))
	if b.overtaker(start.Add(time.Second-1), over) != nil {
		t.Error("a job that may wait for company overtakes")
	}
	if b.overtaker(start.Add(time.Second), over) == nil {
		t.Error("a job that has waited overtakes nothing")
	}
	b.add(of("b", 4, 2))
	s := b.overtaker(start, over)
	if s == nil || s.tenant.name != "b" {
		t.Fatal("a full group overtakes nothing while another waits for company")
	}
	var out batch
	b.fillExpress(start, over, &out)
	if got := who(&out); got != "b b b b" {
		t.Errorf("%q overtake, want the full group", got)
	}
}

func TestExpressBatchHasOnlyWhatIsWanted(t *testing.T) {
	b := testBatcher(4, 0, 0.1)
	b.add(bulk(4))
	_, run := closeBatch(t, b, start)
	late, canceled, wanted := of("a", 1, 1), of("a", 2, 1), of("a", 3, 1)
	late.job.Deadline = start
	canceled.job.ID = newID(t)
	for _, task := range []*task{late, canceled, wanted} {
		b.add(task)
	}
	b.canceled = func(id job.ID) bool { return id == canceled.job.ID }
	var out batch
	b.fillExpress(start, crewOf(run).overtakable(), &out)
	if !slices.Equal(out.expired, []*task{late}) || !slices.Equal(out.canceled, []*task{canceled}) || len(out.parts) != 1 || out.parts[0].task != wanted {
		t.Errorf("%d expired, %d canceled, %d to run; want one each", len(out.expired), len(out.canceled), len(out.parts))
	}
	if !b.empty() || b.lanes[job.Interactive].rows != 0 {
		t.Error("something still waits")
	}
}

// rows repeats whose they are, as who has it.
func rows(n int, name string) string { return strings.TrimSpace(strings.Repeat(name+" ", n)) }

func TestThoseWhoFloodHaveRunsApart(t *testing.T) {
	quiet2 := func() []*task { return slices.Concat(crowd(20, "flood"), times(2, "quiet")) }
	tests := []struct {
		name   string
		mixed  bool
		slice  time.Duration // a row takes a millisecond
		tasks  []*task
		want   []string
		yields []bool
	}{
		{
			name: "a light model", mixed: true, slice: 2 * time.Millisecond, tasks: quiet2(),
			want: []string{rows(6, "flood") + " quiet quiet", rows(8, "flood")}, yields: []bool{false, true},
		},
		{
			name: "a heavy one", slice: 2 * time.Millisecond, tasks: quiet2(),
			want: []string{rows(8, "flood"), "flood flood quiet quiet", rows(8, "flood")}, yields: []bool{true, false, true},
		},
		{
			name: "no bound for what is added", tasks: quiet2(),
			want: []string{rows(8, "flood"), rows(6, "flood") + " quiet quiet"}, yields: []bool{true, false},
		},
		{
			name: "bulk has its part of the slice first", slice: 2 * time.Millisecond, tasks: append(quiet2(), bulk(1), bulk(4)),
			want: []string{rows(8, "flood"), "bulk flood quiet quiet"}, yields: []bool{true, false},
		},
		{
			name: "tenants who do not flood share", slice: 2 * time.Millisecond, tasks: slices.Concat(times(6, "a"), times(6, "b")),
			want: []string{rows(4, "a") + " " + rows(4, "b")}, yields: []bool{false},
		},
		{
			name: "so do those who do", slice: 2 * time.Millisecond, tasks: slices.Concat(crowd(20, "a"), crowd(20, "b")),
			want: []string{rows(4, "a") + " " + rows(4, "b")}, yields: []bool{false},
		},
		{
			name: "a tenant alone does not yield", slice: 2 * time.Millisecond, tasks: crowd(20, "flood"),
			want: []string{rows(8, "flood")}, yields: []bool{false},
		},
		{
			name: "nor does one with bulk", slice: 2 * time.Millisecond, tasks: append(times(4, "a"), bulk(2)),
			want: []string{"a a a a bulk bulk"}, yields: []bool{false},
		},
		{name: "bulk does", tasks: []*task{bulk(3)}, want: []string{"bulk bulk bulk"}, yields: []bool{true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := testBatcher(8, 0, 0.1)
			b.apart = !tt.mixed
			b.slice = bulkSlice{most: tt.slice, cost: cost{row: float64(time.Millisecond)}}
			for _, task := range tt.tasks {
				b.add(task)
			}
			for i, want := range tt.want {
				_, out := closeBatch(t, b, start)
				if got := who(&out); got != want {
					t.Fatalf("batch %d has rows of %q, want of %q", i, got, want)
				}
				if out.owner.yields != tt.yields[i] {
					t.Errorf("batch %d yields: %v", i, out.owner.yields)
				}
			}
		})
	}
}

func TestFloodsAreForgotten(t *testing.T) {
	b := testBatcher(8, 0, 0.1)
	for _, task := range crowd(16, "flood") {
		b.add(task)
	}
	served(t, b, 2)
	for batches := 2; batches < floodMemory+4; batches++ {
		task := of("flood", 1, 1)
		b.add(task)
		if got, want := b.floods(task.strand), batches < 1+floodMemory; got != want {
			t.Errorf("after %d batches it is taken to flood: %v", batches, got)
		}
		closeBatch(t, b, start)
	}
}

// TestNothingIsLostByOvertaking adds and closes at random, and checks that each row comes once and in order, that the
// express batches have only those who may overtake, and that what is counted is what waits.
func TestNothingIsLostByOvertaking(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maxRows := rapid.SampledFrom([]int{1, 3, 16}).Draw(t, "maxRows")
		b := testBatcher(maxRows, rapid.SampledFrom([]time.Duration{0, 0, time.Second}).Draw(t, "delay"), 0.1)
		b.apart = rapid.Bool().Draw(t, "apart")
		b.slice = bulkSlice{most: time.Duration(rapid.IntRange(0, 4).Draw(t, "slice")), cost: cost{fixed: 2, row: 1}}
		canceled := make(map[job.ID]bool)
		b.canceled = func(id job.ID) bool { return canceled[id] }
		now := start
		var all []*task
		done := make(map[*task]int) // rows
		running := crewOf(make([]batch, 3)...)
		check := func(out *batch, express []owner) {
			total := 0
			for _, p := range out.parts {
				switch key := newGroupKey(out.parts[0].task.job); {
				case p.from != done[p.task] || p.rows < 1:
					t.Fatalf("%v: %d rows of a job had come before", describe([]part{p}), done[p.task])
				case p.task.rows <= maxRows && p.rows != p.task.rows:
					t.Fatalf("%v: it is cut although a batch has %d rows", describe([]part{p}), maxRows)
				case !key.matches(p.task.job):
					t.Fatalf("jobs that do not agree: %v", describe(out.parts))
				case express != nil && (p.task.job.Lane == job.Bulk || !slices.ContainsFunc(express, func(o owner) bool {
					return o.bulk || o.tenant.name != p.task.job.Tenant
				})):
					t.Fatalf("%v: it may not overtake", describe([]part{p}))
				}
				done[p.task] += p.rows
				total += p.rows
			}
			for _, task := range slices.Concat(out.expired, out.canceled) {
				done[task] = task.rows
			}
			if total != out.rows || total > maxRows {
				t.Fatalf("a batch of %d rows that says %d, at most %d", total, out.rows, maxRows)
			}
			if err := wrongCounts(b); err != "" {
				t.Fatal(err)
			}
		}
		var spare batch
		fill := func() bool {
			if !b.ready(now) {
				return false
			}
			out := &spare
			if i := rapid.IntRange(0, 3).Draw(t, "runner"); i < 3 {
				out = &running.runners[i].batch
			}
			b.fill(now, out)
			check(out, nil)
			return true
		}
		for range rapid.IntRange(1, 150).Draw(t, "steps") {
			switch rapid.IntRange(0, 10).Draw(t, "step") {
			default:
				task := waiting(job.Lane(rapid.IntRange(0, 1).Draw(t, "lane")), rapid.IntRange(1, maxRows+maxRows/2).Draw(t, "rows"), now)
				task.job.ID[0], task.job.ID[1] = byte(len(all)), byte(len(all)>>8)
				task.job.Tenant = rapid.SampledFrom([]string{"a", "a", "a", "b", "c"}).Draw(t, "tenant")
				task.job.Inputs[0].Shape[1] = rapid.Int64Range(1, 2).Draw(t, "group")
				if rapid.IntRange(0, 4).Draw(t, "deadline") == 0 {
					task.job.Deadline = now.Add(2 * time.Second)
				}
				all = append(all, task)
				b.add(task)
			case 6:
				if len(all) > 0 {
					task := all[rapid.IntRange(0, len(all)-1).Draw(t, "canceled")]
					if done[task] == 0 {
						canceled[task.job.ID] = true
					}
				}
			case 7:
				now = now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "pass")) * time.Millisecond)
			case 8:
				fill()
			case 9, 10:
				if over := running.overtakable(); b.overtaker(now, over) != nil {
					b.fillExpress(now, over, &spare)
					check(&spare, over)
				}
			}
		}
		for now = now.Add(time.Second); fill(); {
		}
		for _, task := range all {
			if done[task] != task.rows {
				t.Fatalf("%d rows of a job came, it has %d", done[task], task.rows)
			}
		}
		if !b.empty() || b.full != 0 || len(b.groups) > 1 {
			t.Fatalf("something is left: empty %v, %d full, %d groups", b.empty(), b.full, len(b.groups))
		}
	})
}

// wrongCounts compares what the batcher counts with what waits in it.
func wrongCounts(b *batcher) string {
	full := make(map[*group]int)
	for i := range b.lanes {
		q := &b.lanes[i]
		total, strands, groups, tenants := 0, make(map[*strand]int), make(map[*group]int), make(map[*tenant]int)
		for t := q.oldest; t != nil; t = t.later {
			n := t.rows - t.next
			total += n
			strands[t.strand] += n
			groups[t.strand.group] += n
			full[t.strand.group] += n
			tenants[t.strand.tenant] += n
		}
		if q.rows != total || q.waiting != len(tenants) || len(q.turns.list) != len(strands) {
			return fmt.Sprintf("lane %d counts %d rows, %d tenants, %d turns; it has %d, %d, %d", i, q.rows, q.waiting, len(q.turns.list), total, len(tenants), len(strands))
		}
		for of, n := range tenants {
			if of.rows != n {
				return fmt.Sprintf("lane %d: tenant %s counts %d rows, it has %d", i, of.name, of.rows, n)
			}
		}
		for g, n := range groups {
			if g.lanes[i].rows != n {
				return fmt.Sprintf("lane %d: a group counts %d rows, it has %d", i, g.lanes[i].rows, n)
			}
		}
	}
	n := 0
	for _, rows := range full {
		if rows >= b.maxRows {
			n++
		}
	}
	if b.full != n {
		return fmt.Sprintf("%d groups are counted as full, %d are", b.full, n)
	}
	return ""
}

// What bulk gets as its reserve it gets at once; what is left over is all that steps back.
func TestReserveOfBulkDoesNotYield(t *testing.T) {
	for _, reserve := range []bool{true, false} {
		b := testBatcher(4, 0, 0.1)
		b.apart, b.slice = true, bulkSlice{most: time.Millisecond, cost: cost{row: float64(time.Millisecond)}}
		b.add(bulk(4))
		if reserve {
			b.credit = 4
			b.add(of("a", 1, 1))
		}
		if _, out := closeBatch(t, b, start); who(&out) != rows(4, "bulk") || out.owner.yields == reserve {
			t.Errorf("reserve %v: rows of %q, yields: %v", reserve, who(&out), out.owner.yields)
		}
	}
}
