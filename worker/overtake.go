package worker

import (
	"math"
	"time"

	"github.com/sheafml/sheaf/job"
)

// Nothing ends a run that has begun, and with a heavy model a full one takes long. So that nobody waits for a run in
// which others have their way, a model has express instances besides its own: an interactive job overtakes a run that is
// mostly bulk, and one that is mostly of a tenant who has more waiting, unless it is that tenant's. The run that is
// overtaken goes on beside it, and yields the CPU (see yield.go); nothing of it is lost.
//
// A tenant floods who has more rows here than others have and a run takes, and runs' more waiting. With a heavy model such have runs of their
// own, and get into those of the others no more than bulk does; else a job of another tenant would wait for the rows that
// it is run with.

// heavy is how long a full run takes, in nanoseconds, with a model for which it matters who is in it.
const heavy = float64(2 * time.Millisecond)

// crew is the instances of one kind and those who run them.
type crew struct {
	free    chan Instance // instances that compute nothing
	idle    chan *runner  // runners that hold an instance and want a batch
	runners []*runner
	over    []owner // memory of overtakable
}

func newCrew(instances int) crew {
	return crew{free: make(chan Instance, instances), idle: make(chan *runner)}
}

// recruit makes the runners: more than instances, as some write results meanwhile.
func (c *crew) recruit(e *engine) {
	if cap(c.free) == 0 {
		return
	}
	for range cap(c.free) + e.cfg.Settlers {
		c.runners = append(c.runners, newRunner(e, c))
	}
}

// overtakable returns the owners of the crew's batches that may be overtaken. The batch loop calls it, to which the
// owners belong.
func (c *crew) overtakable() []owner {
	c.over = c.over[:0]
	for _, r := range c.runners {
		if r.busy.Load() && r.batch.owner.overtakable() {
			c.over = append(c.over, r.batch.owner)
		}
	}
	return c.over
}

// owner is who has most of a batch.
type owner struct {
	bulk   bool    // more than half of the rows are of the bulk lane
	tenant *tenant // more than half of the rows are this one's, of the interactive lane; nil is nobody
	yields bool    // nobody has a row in it who should not wait for others

	bulkRows, quietRows int // the latter of interactive tenants who do not flood
}

// stake is a tenant's part of a batch.
type stake struct {
	batch uint64 // its number
	rows  int
}

// count enters rows of a tenant into the batch of that number.
func (o *owner) count(lane job.Lane, of *tenant, floods bool, rows int, batch uint64) {
	if lane == job.Bulk {
		o.bulkRows += rows
		return
	}
	if !floods {
		o.quietRows += rows
	}
	if of.part.batch != batch {
		of.part = stake{batch: batch}
	}
	of.part.rows += rows
	if o.tenant == nil || of.part.rows > o.tenant.part.rows {
		o.tenant = of
	}
}

// decide is called when the batch is complete. Someone who floods has to yield only if there are others.
func (o *owner) decide(rows int, others bool) {
	o.bulk = 2*o.bulkRows > rows
	o.yields = o.bulkRows == rows || o.quietRows == 0 && others
	if o.tenant != nil && 2*o.tenant.part.rows <= rows {
		o.tenant = nil
	}
}

// overtakable reports whether anybody may overtake the batch while it is run.
func (o *owner) overtakable() bool { return o.bulk || o.tenant != nil && o.tenant.strands > 0 }

const (
	// floodMemory is for how many batches a tenant who flooded is taken to go on: between two of its messages it may have
	// little waiting.
	floodMemory = 16
	// quietMemory is how long after the last rows of a tenant who does not flood more of them are expected.
	quietMemory = 10 * time.Second
	// crowdRuns is for how many runs a flood has rows, here and in the queue.
	crowdRuns = 4
	// fewRows are no flood, however small the runs are.
	fewRows = 4
)

// flooding reports whether a tenant of the interactive lane has more here than others have and a run takes, and a crowd
// in all: a few that came together are no flood.
func (b *batcher) flooding(t *tenant) bool {
	q, run := &b.lanes[job.Interactive], max(b.maxRows, fewRows)
	return t.rows >= run && t.rows+t.behind >= crowdRuns*run && t.rows*q.waiting >= q.rows
}

// watch notes of a task that came what waits behind it, and whether its tenant floods.
func (b *batcher) watch(t *task) {
	of, rows := t.strand.tenant, max(t.rows, 1)*len(t.message.tasks)
	of.behind = int(min(t.message.delivery.Behind, math.MaxInt32)) * rows
	if b.flooding(of) {
		of.flooded = b.filled + 1
	}
}

// floods reports whether the strand's tenant floods, or has of late.
func (b *batcher) floods(s *strand) bool {
	t := s.tenant
	return t.flooded > 0 && (b.filled < t.flooded+floodMemory || b.flooding(t))
}

// othersThan reports whether somebody who does not flood waits, or had rows in a batch of late.
func (b *batcher) othersThan(o *owner, now time.Time) bool {
	if o.tenant == nil || o.quietRows > 0 {
		return false // does not matter
	}
	return now.Sub(b.quietAt) < quietMemory ||
		b.lanes[job.Interactive].turns.firstOf(func(s *strand) bool { return !b.floods(s) }) != nil
}

// sides returns who may share the run of the strand that leads it, and who may only add a little. A nil function is
// everybody for the first, and nobody for the second.
func (b *batcher) sides(lead *strand) (alike, others func(*strand) bool) {
	if !b.apart {
		return nil, nil
	}
	if b.floods(lead) {
		return b.floods, nil
	}
	return func(s *strand) bool { return !b.floods(s) }, b.floods
}

// mayOvertake reports whether a strand of the interactive lane may overtake one of the batches, all of them
// overtakable. Someone who floods overtakes bulk only.
func (b *batcher) mayOvertake(s *strand, over []owner) bool {
	floods := b.floods(s)
	for i := range over {
		if over[i].bulk || !floods && over[i].tenant != s.tenant {
			return true
		}
	}
	return false
}

// overtaker returns the first strand that may overtake one of the batches, nil if there is none. Those who flood come
// after those who do not.
func (b *batcher) overtaker(now time.Time, over []owner) *strand {
	if len(over) == 0 {
		return nil
	}
	order := &b.lanes[job.Interactive].turns
	ok := func(s *strand) bool { return b.mayOvertake(s, over) && b.due(s, now) }
	quiet := func(s *strand) bool { return !b.floods(s) && ok(s) }
	s := order.first()
	if s == nil || quiet(s) {
		return s
	}
	if s := order.firstOf(quiet); s != nil {
		return s
	}
	return order.firstOf(ok)
}

// overtakeAt returns when a job that waits for company will have waited long enough to overtake one of the batches.
func (b *batcher) overtakeAt(now time.Time, over []owner) (at time.Time, ok bool) {
	if b.maxDelay == 0 || len(over) == 0 {
		return at, false
	}
	for i := range b.lanes[job.Interactive].turns.list {
		s := b.lanes[job.Interactive].turns.list[i].strand
		if t := s.head.message.taken.Add(b.maxDelay); t.After(now) && (!ok || t.Before(at)) && b.mayOvertake(s, over) {
			at, ok = t, true
		}
	}
	return at, ok
}

// fillExpress closes a batch into dst of those who may overtake one of the batches. It must only be called when there
// is an overtaker. Nothing overtakes an express run, so it has no more rows than make it efficient, and someone who
// floods gets a short one.
func (b *batcher) fillExpress(now time.Time, over []owner, dst *batch) {
	b.begin(now, dst)
	lead := b.overtaker(now, over)
	if lead == nil {
		return
	}
	g, of, floods, room := lead.group, lead.tenant, b.floods(lead), b.maxRows
	if floods {
		room = max(1, min(room, b.slice.cost.rowsIn(heavy)))
	} else if lead.head.rows <= b.maxRows { // what has to be cut is not cut smaller than it must be
		room = b.slice.cost.lean(room)
	}
	dst.outputs = g.outputs
	bulkWaits := b.lanes[job.Bulk].oldest != nil
	// While it fills, who waited with the lead may be left alone: that makes nobody like it.
	b.take(g, job.Interactive, room, now, dst, func(s *strand) bool { return b.floods(s) == floods && b.mayOvertake(s, over) })
	b.account(bulkWaits, dst.rows, 0)
	b.end(g, job.Interactive, of, dst)
}
