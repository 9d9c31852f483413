package worker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sheafml/sheaf/job"
)

// slowBatcher says which rows the batcher has to put into a batch, without a heap, a list or a cache: it looks at every
// job that waits each time, and forgets no tenant.
type slowBatcher struct {
	maxRows  int
	quantum  int64
	fixed    int // rows that a run costs whatever its rows
	delay    time.Duration
	reserve  float64
	credit   float64
	lanes    [2]slowLane
	canceled map[job.ID]bool
}

type slowLane struct {
	jobs                            []*task // in the order of arrival
	accounts                        map[string]*slowAccount
	clock, partial, highest, joined int64
}

type slowAccount struct{ served, number int64 }

func (l *slowLane) tenants(group string) int {
	names := make(map[string]bool)
	for _, t := range l.jobs {
		if group == "" || slowGroup(t) == group {
			names[t.job.Tenant] = true
		}
	}
	return len(names)
}

func slowGroup(t *task) string { return fmt.Sprint(t.job.Inputs[0].Shape[1:]) }

func (b *slowBatcher) add(t *task) {
	l := &b.lanes[t.job.Lane]
	if l.accounts == nil {
		l.accounts = make(map[string]*slowAccount)
	}
	a := l.accounts[t.job.Tenant]
	if a == nil {
		a = &slowAccount{}
		l.accounts[t.job.Tenant] = a
	}
	if !slices.ContainsFunc(l.jobs, func(u *task) bool { return u.job.Tenant == t.job.Tenant }) {
		l.joined++
		a.number, a.served = l.joined, max(a.served, l.clock-b.quantum)
	}
	l.jobs = append(l.jobs, t)
}

// first returns the job whose turn it is among those that ok accepts.
func (b *slowBatcher) first(l *slowLane, ok func(*task) bool) *task {
	var best *task
	for _, t := range l.jobs {
		if !ok(t) {
			continue
		}
		if best == nil {
			best = t
			continue
		}
		x, y := l.accounts[t.job.Tenant], l.accounts[best.job.Tenant]
		if d := x.served/b.quantum - y.served/b.quantum; d < 0 || d == 0 && x.number < y.number {
			best = t
		}
	}
	return best
}

func (b *slowBatcher) rows(group string, lanes ...job.Lane) (rows int) {
	for _, lane := range lanes {
		for _, t := range b.lanes[lane].jobs {
			if slowGroup(t) == group {
				rows += t.rows - t.next
			}
		}
	}
	return rows
}

// due is asked of the first job of its tenant and group.
func (b *slowBatcher) due(t *task, now time.Time) bool {
	return b.delay == 0 || now.Sub(t.message.taken) >= b.delay || b.rows(slowGroup(t), job.Interactive, job.Bulk) >= b.maxRows
}

func (b *slowBatcher) lead(lane job.Lane) *task {
	l := &b.lanes[lane]
	t := b.first(l, func(*task) bool { return true })
	if t != nil {
		served := l.accounts[t.job.Tenant].served
		l.clock = min(max(l.clock, served), served+b.quantum)
	}
	return t
}

func (b *slowBatcher) choose(now time.Time) *task {
	order := []job.Lane{job.Interactive, job.Bulk}
	if t := b.lead(job.Bulk); t != nil {
		rows := min(b.maxRows, b.rows(slowGroup(t), job.Bulk))
		if len(b.lanes[job.Interactive].jobs) == 0 || b.credit >= float64(rows) {
			slices.Reverse(order)
		}
	}
	for _, lane := range order {
		t := b.lead(lane)
		if t != nil && !b.due(t, now) {
			seen := make(map[string]bool)
			t = b.first(&b.lanes[lane], func(t *task) bool {
				key := t.job.Tenant + slowGroup(t)
				isFirst := !seen[key]
				seen[key] = true
				return isFirst && b.due(t, now)
			})
		}
		if t != nil {
			return t
		}
	}
	return nil
}

// fill returns the rows of the next batch.
func (b *slowBatcher) fill(now time.Time) (parts []part) {
	clocks := [2]int64{b.lanes[0].clock, b.lanes[1].clock}
	lead := b.choose(now)
	if lead == nil {
		b.lanes[0].clock, b.lanes[1].clock = clocks[0], clocks[1] // nobody asked for a batch
		return nil
	}
	group, lane, tenant := slowGroup(lead), lead.job.Lane, lead.job.Tenant
	both := len(b.lanes[0].jobs) > 0 && len(b.lanes[1].jobs) > 0
	total, bulk := 0, 0
	take := func(lane job.Lane, room int) int {
		more := b.take(lane, group, room, now, &parts)
		for _, p := range more {
			total += p.rows
			if lane == job.Bulk {
				bulk += p.rows
			}
		}
		return total
	}
	if lane == job.Bulk {
		take(job.Bulk, b.maxRows)
	} else {
		take(job.Interactive, b.maxRows-max(0, min(int(b.credit), b.rows(group, job.Bulk), b.maxRows-1)))
		take(job.Bulk, b.maxRows-total)
	}
	take(job.Interactive, b.maxRows-total)
	b.credit = max(0, min(b.credit+b.reserve*float64(total)-float64(bulk), 2*float64(b.maxRows)))
	if !both {
		b.credit = 0
	}
	if total > 0 {
		l := &b.lanes[lane]
		b.charge(l, tenant, min(b.fixed, b.maxRows-total), l.tenants(""))
	}
	return parts
}

func (b *slowBatcher) take(lane job.Lane, group string, room int, now time.Time, dst *[]part) (got []part) {
	l := &b.lanes[lane]
	for taken, closed := 0, false; taken < room && !closed; {
		t := b.first(l, func(t *task) bool { return slowGroup(t) == group })
		if t == nil {
			break
		}
		name, waiting := t.job.Tenant, l.tenants("")
		end := room
		if l.tenants(group) > 1 {
			end = min(room, taken+int(b.quantum-l.accounts[name].served%b.quantum))
		}
		had := taken
		for taken < end {
			i := slices.IndexFunc(l.jobs, func(t *task) bool { return t.job.Tenant == name && slowGroup(t) == group })
			if i < 0 {
				break
			}
			t := l.jobs[i]
			n := t.rows - t.next
			switch {
			case t.next == 0 && t.expired(now), b.canceled[t.job.ID]:
				t.next = t.rows
			case n > room-taken && t.rows <= b.maxRows && len(*dst) > 0:
				closed = true
			default:
				if t.rows > b.maxRows {
					n = min(n, room-taken)
				}
				p := part{task: t, from: t.next, rows: n}
				*dst, got = append(*dst, p), append(got, p)
				taken += n
				t.next += n
			}
			if closed {
				break
			}
			if t.next == t.rows {
				l.jobs = slices.Delete(l.jobs, i, i+1)
			}
		}
		b.charge(l, name, taken-had, waiting)
		if len(l.jobs) == 0 && waiting > 0 {
			l.clock, l.partial = l.highest+b.quantum, 0
		}
	}
	return got
}

func (b *slowBatcher) charge(l *slowLane, name string, rows, waiting int) {
	if rows == 0 || waiting == 0 {
		return
	}
	a := l.accounts[name]
	a.served = min(a.served+int64(rows), max(a.served, l.clock+mostAhead*quanta*b.quantum))
	l.highest = max(l.highest, a.served)
	l.partial += int64(rows)
	l.clock += l.partial / int64(waiting)
	l.partial %= int64(waiting)
}

// TestBatcherDoesWhatTheSlowOneDoes gives jobs of any lane, tenant, group, size and deadline to both, and compares every
// batch: so no job is lost, computed twice or out of its tenant's order, and none is taken before its turn.
func TestBatcherDoesWhatTheSlowOneDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		maxRows := rapid.SampledFrom([]int{1, 3, 16, 64}).Draw(t, "maxRows")
		delay := rapid.SampledFrom([]time.Duration{0, 0, time.Second}).Draw(t, "delay")
		reserve := rapid.SampledFrom([]float64{0, 0.1, 0.5}).Draw(t, "reserve")
		fast := testBatcher(maxRows, delay, reserve)
		fast.slice.cost = cost{fixed: float64(rapid.IntRange(0, 20).Draw(t, "fixed")), row: 1}
		slow := &slowBatcher{
			maxRows: maxRows, quantum: fast.lanes[0].quantum, fixed: fast.slice.fixedRows(maxRows), delay: delay, reserve: reserve,
			canceled: make(map[job.ID]bool),
		}
		fast.canceled = func(id job.ID) bool { return slow.canceled[id] }
		now := start
		var twins [][2]*task
		var out batch
		fill := func() bool {
			ready := fast.ready(now)
			if ready {
				fast.fill(now, &out)
			} else {
				out.parts = nil
			}
			want := slow.fill(now)
			same := len(out.parts) == len(want)
			for i := 0; same && i < len(want); i++ {
				p := out.parts[i]
				same = p.task.job.ID == want[i].task.job.ID && p.from == want[i].from && p.rows == want[i].rows
			}
			if !same {
				t.Fatalf("a batch of\n%v, want\n%v", describe(out.parts), describe(want))
			}
			return ready
		}
		twin := func(lane job.Lane, rows int) [2]*task {
			var pair [2]*task
			for i := range pair {
				pair[i] = waiting(lane, rows, now)
				pair[i].job.ID[0], pair[i].job.ID[1] = byte(len(twins)), byte(len(twins)>>8)
			}
			return pair
		}
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			default:
				pair := twin(job.Lane(rapid.IntRange(0, 1).Draw(t, "lane")), rapid.IntRange(1, maxRows+maxRows/2).Draw(t, "rows"))
				tenant := rapid.SampledFrom([]string{"a", "a", "a", "b", "c", "d"}).Draw(t, "tenant")
				group := rapid.Int64Range(1, 3).Draw(t, "group")
				deadline := rapid.SampledFrom([]time.Duration{0, 0, 0, 2 * time.Second}).Draw(t, "deadline")
				for _, t := range pair {
					t.job.Tenant, t.job.Inputs[0].Shape[1] = tenant, group
					if deadline > 0 {
						t.job.Deadline = now.Add(deadline)
					}
				}
				twins = append(twins, pair)
				fast.add(pair[0])
				slow.add(pair[1])
			case 6:
				if len(twins) > 0 {
					slow.canceled[twins[rapid.IntRange(0, len(twins)-1).Draw(t, "canceled")][0].job.ID] = true
				}
			case 7:
				now = now.Add(time.Duration(rapid.IntRange(0, 1500).Draw(t, "pass")) * time.Millisecond)
			case 8, 9:
				fill()
			}
		}
		for now = now.Add(delay); fill(); {
		}
		if !fast.empty() || fast.full != 0 || len(fast.groups) > 1 || len(slow.lanes[0].jobs)+len(slow.lanes[1].jobs) > 0 {
			t.Fatalf("something is left: empty %v, %d full, %d groups", fast.empty(), fast.full, len(fast.groups))
		}
		for i := range fast.lanes {
			q := &fast.lanes[i]
			if q.rows != 0 || q.waiting != 0 || len(q.turns.list) != 0 || len(q.strands) > 1 {
				t.Fatalf("lane %d remembers %d rows, %d tenants, %d turns, %d strands", i, q.rows, q.waiting, len(q.turns.list), len(q.strands))
			}
		}
	})
}

func describe(parts []part) []string {
	var all []string
	for _, p := range parts {
		all = append(all, fmt.Sprintf("%v of %s, job %d, from %d, %d rows", p.task.job.Lane, p.task.job.Tenant, p.task.job.ID[0], p.from, p.rows))
	}
	return all
}
