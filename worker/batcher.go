package worker

import (
	"hash/maphash"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// batcher decides which rows are run together. It is a plain data structure: no goroutine, no I/O, and the time is an
// argument. It knows nothing of instances either: who has a free one asks ready, and then fill closes a batch.
//
// A batch is closed when it is full, or when there is no reason to wait: without a maxDelay at once, else when the
// oldest job in it has waited so long. While no instance is free nothing is closed, and the next batch forms by itself.
//
// Whose rows are next within a lane is for its fairQueue to say, how many bulk rows a run may have for its slice.
type batcher struct {
	signature *model.Signature
	maxRows   int
	maxDelay  time.Duration
	reserve   float64 // the share of rows that bulk gets while both lanes have work
	single    bool    // one job a batch
	apart     bool    // the model is heavy and has express instances, see overtake.go
	// canceled reports whether a job is known to be canceled; nil if none is.
	canceled func(job.ID) bool

	lanes   [2]fairQueue
	slice   bulkSlice
	groups  map[uint64]*group // those with waiting jobs, and the one used last
	last    *group            // most jobs are of the same group as the one before
	seed    maphash.Seed
	full    int       // groups that have a whole batch of rows
	batches uint64    // closed
	filled  uint64    // those that were not express
	quietAt time.Time // a tenant who does not flood had rows in a batch
	credit  float64   // rows that bulk has saved up

	alone     soloQueue
	aloneNext bool // whose turn it is, if both kinds wait
}

// batch is what is run at once: a closed batch belongs to one runner.
type batch struct {
	parts    []part
	rows     int
	outputs  []int   // the wanted outputs as places in the signature; nil is all
	expired  []*task // found past their deadline when the batch was closed
	canceled []*task // found canceled then
	solo     bool
	closed   time.Time
	left     []int // rows that left the buffer of each fetcher
	owner    owner
}

// part is the rows of one job that are in a batch: all of them unless the job is split.
type part struct {
	task *task
	from int
	rows int
}

func newBatcher(info *model.Info, maxRows int, maxDelay time.Duration, reserve float64) *batcher {
	if !info.Signature.Batchable {
		maxRows = 1
	}
	return &batcher{
		signature: &info.Signature, maxRows: maxRows, maxDelay: maxDelay, reserve: reserve,
		lanes:  [2]fairQueue{newFairQueue(maxRows), newFairQueue(maxRows)},
		groups: make(map[uint64]*group), seed: maphash.MakeSeed(),
	}
}

// add takes a job that fits the signature.
func (b *batcher) add(t *task) {
	if t.rows > b.maxRows {
		t.asm = &assembly{rows: t.rows}
	}
	if t.solo {
		b.alone.push(t)
		return
	}
	g := b.groupOf(t.job)
	wasFull := g.rows() >= b.maxRows
	g.lanes[t.job.Lane].rows += t.rows
	if !wasFull && g.rows() >= b.maxRows {
		b.full++
	}
	b.lanes[t.job.Lane].add(t, g)
	if t.job.Lane == job.Interactive {
		b.watch(t)
	}
}

// groupOf finds the group of a job, or makes it.
func (b *batcher) groupOf(j *job.Job) *group {
	if b.last != nil && b.last.key.matches(j) {
		return b.last
	}
	previous := b.last
	hash := hashJob(b.seed, j)
	g := b.groups[hash]
	for g != nil && !g.key.matches(j) {
		g = g.chain
	}
	if g == nil {
		// The signature has been checked, so the outputs are known.
		outputs, _ := b.signature.OutputIndices(j.Outputs)
		g = &group{key: newGroupKey(j), hash: hash, chain: b.groups[hash], outputs: outputs}
		b.groups[hash] = g
	}
	b.last = g
	if previous != nil && previous.rows() == 0 {
		b.forget(previous)
	}
	return g
}

// forget removes a group that nothing waits in.
func (b *batcher) forget(g *group) {
	at := b.groups[g.hash]
	if at == g {
		if g.chain == nil {
			delete(b.groups, g.hash)
		} else {
			b.groups[g.hash] = g.chain
		}
		return
	}
	for ; at != nil; at = at.chain {
		if at.chain == g {
			at.chain = g.chain
			return
		}
	}
}

// empty reports whether nothing waits.
func (b *batcher) empty() bool {
	return b.alone.empty() && b.lanes[job.Interactive].oldest == nil && b.lanes[job.Bulk].oldest == nil
}

// ready reports whether a free instance should be given a batch now. Once true it stays true until fill.
func (b *batcher) ready(now time.Time) bool {
	if b.alone.ready() || b.full > 0 {
		return true
	}
	for i := range b.lanes {
		if t := b.lanes[i].oldest; t != nil && (b.maxDelay == 0 || now.Sub(t.message.taken) >= b.maxDelay) {
			return true
		}
	}
	return false
}

// wakeAt returns when ready may become true by the passing of time alone.
func (b *batcher) wakeAt() (at time.Time, ok bool) {
	for i := range b.lanes {
		oldest := b.lanes[i].oldest
		if oldest == nil {
			continue
		}
		if t := oldest.message.taken.Add(b.maxDelay); !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	return at, ok
}

// choose returns the lane and the strand that the next batch starts with.
func (b *batcher) choose(now time.Time) (job.Lane, *strand) {
	lead, other := job.Interactive, job.Bulk
	if b.bulkFirst() {
		lead, other = other, lead
	}
	for _, lane := range [...]job.Lane{lead, other} {
		s := b.lanes[lane].lead()
		if s != nil && !b.due(s, now) {
			// Jobs that may wait for company do not hold up those that have waited, or have found theirs.
			s = b.lanes[lane].turns.firstOf(func(s *strand) bool { return b.due(s, now) })
		}
		if s != nil {
			return lane, s
		}
	}
	return 0, nil
}

// due reports whether the strand has no reason to wait.
func (b *batcher) due(s *strand, now time.Time) bool {
	return b.maxDelay == 0 || s.group.rows() >= b.maxRows || now.Sub(s.head.message.taken) >= b.maxDelay
}

// bulkFirst reports whether the next batch starts with bulk: there is nothing else, or bulk has saved up the rows.
func (b *batcher) bulkFirst() bool {
	bulk := b.lanes[job.Bulk].lead()
	if bulk == nil {
		return false
	}
	if b.lanes[job.Interactive].oldest == nil {
		return true
	}
	rows := min(b.maxRows, bulk.group.lanes[job.Bulk].rows)
	return b.credit >= float64(rows)
}

// fill closes a batch into dst, which keeps its memory. It must only be called when ready says so.
func (b *batcher) fill(now time.Time, dst *batch) {
	b.begin(now, dst)
	lane, lead := b.choose(now)
	if b.alone.ready() && (b.aloneNext || lead == nil) {
		b.aloneNext = false
		b.fillAlone(now, dst)
		return
	}
	b.aloneNext = true
	if lead == nil {
		return
	}
	g, of := lead.group, lead.tenant
	dst.outputs = g.outputs
	bulkWaits := b.lanes[job.Bulk].oldest != nil && b.lanes[job.Interactive].oldest != nil
	bulkRows := 0
	if lane == job.Bulk {
		bulkRows = b.take(g, job.Bulk, b.maxRows, now, dst, nil)
		if !b.apart || bulkRows <= b.slice.rows(b.maxRows) {
			b.take(g, job.Interactive, b.maxRows-dst.rows, now, dst, nil)
		}
	} else {
		// The rows that bulk has saved up are kept free for it, as far as bulk of this group is there to use them.
		more := b.slice.rows(b.maxRows)
		reserved := max(0, min(int(b.credit), g.lanes[job.Bulk].rows, b.maxRows-1, more))
		alike, others := b.sides(lead)
		b.take(g, job.Interactive, b.maxRows-reserved, now, dst, alike)
		bulkRows = b.take(g, job.Bulk, min(b.maxRows-dst.rows, more), now, dst, nil)
		b.take(g, job.Interactive, b.maxRows-dst.rows, now, dst, alike)
		if others != nil {
			b.take(g, job.Interactive, min(b.maxRows-dst.rows, more-bulkRows), now, dst, others)
		}
	}
	b.account(bulkWaits, dst.rows, bulkRows)
	b.end(g, lane, of, dst)
	if lane == job.Bulk && bulkWaits {
		dst.owner.yields = false // it is its reserve that bulk gets here, not what is left
	}
	b.filled++
}

// begin empties dst, which keeps its memory.
func (b *batcher) begin(now time.Time, dst *batch) {
	clear(dst.left)
	*dst = batch{parts: dst.parts[:0], expired: dst.expired[:0], canceled: dst.canceled[:0], left: dst.left, closed: now}
	b.batches++
}

// end settles what a batch of the group costs the tenant that it was closed for.
func (b *batcher) end(g *group, lane job.Lane, of *tenant, dst *batch) {
	// A run has a price whatever its rows. Who has it for few rows pays for free places too, or jobs of ever other
	// groups would win the instances with a run each.
	if dst.owner.quietRows > 0 {
		b.quietAt = dst.closed
	}
	dst.owner.decide(dst.rows, b.othersThan(&dst.owner, dst.closed))
	if dst.rows > 0 {
		b.lanes[lane].charge(of, min(b.slice.fixedRows(b.maxRows), b.maxRows-dst.rows))
	}
	if g != b.last && g.rows() == 0 {
		b.forget(g)
	}
}

// account credits bulk with its share of the batch and takes off what it got.
func (b *batcher) account(bulkWaits bool, rows, bulkRows int) {
	if !bulkWaits {
		b.credit = 0
		return
	}
	b.credit = max(0, min(b.credit+b.reserve*float64(rows)-float64(bulkRows), 2*float64(b.maxRows)))
}

// take moves rows of the group's lane into the batch, of each tenant in turn, and returns how many. A job of at most
// maxRows rows is never cut, a larger one wherever the batch is full. A first job is always taken. With ok, only the
// strands that it accepts are.
func (b *batcher) take(g *group, lane job.Lane, room int, now time.Time, dst *batch, ok func(*strand) bool) (taken int) {
	q, order := &b.lanes[lane], &g.lanes[lane].turns
	for taken < room {
		s := order.first()
		if s != nil && ok != nil && !ok(s) {
			s = order.firstOf(ok)
		}
		if s == nil {
			break
		}
		end := room
		if len(order.list) > 1 {
			end = min(room, taken+q.turn(s.tenant))
		}
		floods := b.floods(s)
		rows, closed := b.takeTurn(s, lane, room-taken, end-taken, now, dst)
		taken += rows
		q.charge(s.tenant, rows)
		dst.owner.count(lane, s.tenant, floods, rows, b.batches)
		if s.head == nil {
			q.retire(s, lane)
		}
		if closed {
			break
		}
	}
	return taken
}

// takeTurn moves rows of one strand, in the order of arrival, until it has given as many as its turn has or is empty.
// It reports whether nothing more must come to the batch.
func (b *batcher) takeTurn(s *strand, lane job.Lane, room, turn int, now time.Time, dst *batch) (taken int, closed bool) {
	q, gone := &b.lanes[lane], 0
	for taken < turn && s.head != nil && !closed {
		t := s.head
		n := t.rows - t.next
		switch {
		case b.single && len(dst.parts) > 0:
			closed = true
			continue
		case t.abandoned():
		case t.next == 0 && t.expired(now):
			dst.expired = append(dst.expired, t)
		case b.canceled != nil && b.canceled(t.job.ID):
			dst.canceled = append(dst.canceled, t)
		case n > room-taken && t.rows <= b.maxRows && dst.rows > 0:
			closed = true
			continue
		default:
			if t.rows > b.maxRows {
				n = min(n, room-taken)
			}
			dst.parts = append(dst.parts, part{task: t, from: t.next, rows: n})
			dst.rows += n
			taken += n
		}
		gone += n
		dst.leave(t, n)
		if t.next += n; t.next == t.rows {
			q.pop(s)
		}
	}
	s.tenant.rows -= gone
	b.leave(s.group, lane, gone)
	return taken, closed
}

// leave counts rows that no longer wait.
func (b *batcher) leave(g *group, lane job.Lane, rows int) {
	wasFull := g.rows() >= b.maxRows
	g.lanes[lane].rows -= rows
	b.lanes[lane].rows -= rows
	if wasFull && g.rows() < b.maxRows {
		b.full--
	}
}

// leave counts rows that left the buffer of the fetcher that the task came from.
func (d *batch) leave(t *task, rows int) {
	from := t.message.from
	for len(d.left) <= from {
		d.left = append(d.left, 0)
	}
	d.left[from] += rows
}

// fillAlone makes a batch of one redelivered job. One that is larger than a batch has several parts, which are run one
// after the other: nobody else's rows come between them.
func (b *batcher) fillAlone(now time.Time, dst *batch) {
	dst.solo = true
	t := b.alone.start()
	dst.owner.bulk = t.job.Lane == job.Bulk
	switch {
	case t.expired(now):
		dst.expired = append(dst.expired, t)
	case b.canceled != nil && b.canceled(t.job.ID):
		dst.canceled = append(dst.canceled, t)
	default:
		dst.outputs, _ = b.signature.OutputIndices(t.job.Outputs)
		for from := 0; from < t.rows; from += b.maxRows {
			dst.parts = append(dst.parts, part{task: t, from: from, rows: min(t.rows-from, b.maxRows)})
		}
		dst.rows = t.rows
	}
	t.next = t.rows
	dst.leave(t, t.rows)
}

// drain gives every task that waits to fn, also those of which some rows are in a batch already, and forgets them.
func (b *batcher) drain(fn func(*task)) {
	for i := range b.lanes {
		b.lanes[i].drain(b.maxRows, fn)
	}
	b.alone.drain(fn)
	clear(b.groups)
	b.last, b.full, b.credit = nil, 0, 0
}
