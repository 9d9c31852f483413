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
type batcher struct {
	signature *model.Signature
	maxRows   int
	maxDelay  time.Duration
	reserve   float64 // the share of rows that bulk gets while both lanes have work
	single    bool    // one job a batch
	// canceled reports whether a job is known to be canceled; nil if none is.
	canceled func(job.ID) bool

	lanes  [2]taskList
	groups map[uint64]*group // those with waiting jobs, and the one used last
	last   *group            // most jobs are of the same group as the one before
	seed   maphash.Seed
	full   int     // groups that have a whole batch of rows
	credit float64 // rows that bulk has saved up

	alone     soloQueue
	aloneNext bool // whose turn it is, if both kinds wait
}

// taskList is the waiting tasks of one lane in the order of arrival.
type taskList struct {
	oldest, newest *task
	rows           int // not yet in a batch
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
	left     [2]int // rows that left the buffer of each lane
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
	t.group = g
	wasFull := g.rows() >= b.maxRows
	g.push(t.job.Lane, t)
	if !wasFull && g.rows() >= b.maxRows {
		b.full++
	}
	b.lanes[t.job.Lane].push(t)
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
	if b.alone.ready() {
		return true
	}
	_, _, ok := b.choose(now)
	return ok
}

// wakeAt returns when ready may become true by the passing of time alone.
func (b *batcher) wakeAt() (at time.Time, ok bool) {
	for _, l := range &b.lanes {
		if l.oldest == nil {
			continue
		}
		if t := l.oldest.message.taken.Add(b.maxDelay); !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	return at, ok
}

// choose returns the lane and the group that the next batch starts with.
func (b *batcher) choose(now time.Time) (job.Lane, *group, bool) {
	lead, other := job.Interactive, job.Bulk
	if b.bulkFirst() {
		lead, other = other, lead
	}
	for _, lane := range [...]job.Lane{lead, other} {
		t := b.lanes[lane].oldest
		if t == nil {
			continue
		}
		if b.maxDelay == 0 || t.group.rows() >= b.maxRows || now.Sub(t.message.taken) >= b.maxDelay {
			return lane, t.group, true
		}
	}
	if b.full == 0 {
		return 0, nil, false
	}
	return b.chooseFull(lead, other)
}

// chooseFull finds a full group behind jobs that still wait for company. This is rare, so a walk will do.
func (b *batcher) chooseFull(lanes ...job.Lane) (job.Lane, *group, bool) {
	for _, lane := range lanes {
		for t := b.lanes[lane].oldest; t != nil; t = t.later {
			if t.group.rows() >= b.maxRows {
				return lane, t.group, true
			}
		}
	}
	return 0, nil, false
}

// bulkFirst reports whether the next batch starts with bulk: there is nothing else, or bulk has saved up the rows.
func (b *batcher) bulkFirst() bool {
	bulk := b.lanes[job.Bulk].oldest
	if bulk == nil {
		return false
	}
	if b.lanes[job.Interactive].oldest == nil {
		return true
	}
	return b.credit >= float64(min(b.maxRows, bulk.group.lanes[job.Bulk].rows))
}

// fill closes a batch into dst, which keeps its memory. It must only be called when ready says so.
func (b *batcher) fill(now time.Time, dst *batch) {
	*dst = batch{parts: dst.parts[:0], expired: dst.expired[:0], canceled: dst.canceled[:0], closed: now}
	lane, g, ok := b.choose(now)
	if b.alone.ready() && (b.aloneNext || !ok) {
		b.aloneNext = false
		b.fillAlone(now, dst)
		return
	}
	b.aloneNext = true
	if !ok {
		return
	}
	dst.outputs = g.outputs
	bulkWaits := b.lanes[job.Bulk].oldest != nil && b.lanes[job.Interactive].oldest != nil
	bulkRows := 0
	if lane == job.Bulk {
		bulkRows = b.take(g, job.Bulk, b.maxRows, now, dst)
		b.take(g, job.Interactive, b.maxRows-dst.rows, now, dst)
	} else {
		// The rows that bulk has saved up are kept free for it, as far as bulk of this group is there to use them.
		reserved := max(0, min(int(b.credit), g.lanes[job.Bulk].rows, b.maxRows-1))
		b.take(g, job.Interactive, b.maxRows-reserved, now, dst)
		bulkRows = b.take(g, job.Bulk, b.maxRows-dst.rows, now, dst)
		b.take(g, job.Interactive, b.maxRows-dst.rows, now, dst)
	}
	b.account(bulkWaits, dst.rows, bulkRows)
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
	b.credit = max(0, min(b.credit+b.reserve*float64(rows)-float64(bulkRows), float64(b.maxRows)))
}

// take moves rows of the group's lane into the batch, in the order of arrival, and returns how many. A job of at most
// maxRows rows is never cut, a larger one wherever the batch is full. A first job is always taken.
func (b *batcher) take(g *group, lane job.Lane, room int, now time.Time, dst *batch) int {
	taken := 0
	for room > 0 {
		t := g.lanes[lane].head
		if t == nil || b.single && len(dst.parts) > 0 {
			break
		}
		left := t.rows - t.next
		switch {
		case t.abandoned():
			b.leave(g, lane, left, dst)
			t.next = t.rows
		case t.next == 0 && t.expired(now):
			dst.expired = append(dst.expired, t)
			b.leave(g, lane, left, dst)
			t.next = t.rows
		case b.canceled != nil && b.canceled(t.job.ID):
			dst.canceled = append(dst.canceled, t)
			b.leave(g, lane, left, dst)
			t.next = t.rows
		case left > room && t.rows <= b.maxRows && dst.rows > 0:
			return taken
		default:
			n := left
			if t.rows > b.maxRows {
				n = min(left, room)
			}
			dst.parts = append(dst.parts, part{task: t, from: t.next, rows: n})
			dst.rows += n
			room -= n
			taken += n
			t.next += n
			b.leave(g, lane, n, dst)
		}
		if t.next == t.rows {
			g.pop(lane)
			b.lanes[lane].remove(t)
			t.group = nil
		}
	}
	return taken
}

// leave counts rows that no longer wait.
func (b *batcher) leave(g *group, lane job.Lane, rows int, dst *batch) {
	wasFull := g.rows() >= b.maxRows
	g.lanes[lane].rows -= rows
	b.lanes[lane].rows -= rows
	dst.left[lane] += rows
	if wasFull && g.rows() < b.maxRows {
		b.full--
	}
}

// fillAlone makes a batch of one redelivered job, or of a piece of it if it is larger than a batch.
func (b *batcher) fillAlone(now time.Time, dst *batch) {
	dst.solo = true
	t := b.alone.current()
	left := t.rows - t.next
	n := min(left, b.maxRows)
	switch {
	case t.abandoned():
		n = left
	case t.next == 0 && t.expired(now):
		dst.expired = append(dst.expired, t)
		n = left
	case b.canceled != nil && b.canceled(t.job.ID):
		dst.canceled = append(dst.canceled, t)
		n = left
	default:
		dst.outputs, _ = b.signature.OutputIndices(t.job.Outputs)
		dst.parts = append(dst.parts, part{task: t, from: t.next, rows: n})
		dst.rows = n
	}
	t.next += n
	dst.left[t.job.Lane] += n
	b.alone.start(t.next == t.rows)
}

// drain gives every task that waits to fn, also those of which some rows are in a batch already, and forgets them.
func (b *batcher) drain(fn func(*task)) {
	for i := range b.lanes {
		for t := b.lanes[i].oldest; t != nil; {
			later := t.later
			t.later, t.earlier, t.sameGroup, t.group = nil, nil, nil, nil
			fn(t)
			t = later
		}
		b.lanes[i] = taskList{}
	}
	b.alone.drain(fn)
	clear(b.groups)
	b.last, b.full, b.credit = nil, 0, 0
}

func (l *taskList) push(t *task) {
	t.earlier, t.later = l.newest, nil
	if l.newest == nil {
		l.oldest = t
	} else {
		l.newest.later = t
	}
	l.newest = t
	l.rows += t.rows - t.next
}

func (l *taskList) remove(t *task) {
	if t.earlier == nil {
		l.oldest = t.later
	} else {
		t.earlier.later = t.later
	}
	if t.later == nil {
		l.newest = t.earlier
	} else {
		t.later.earlier = t.earlier
	}
	t.later, t.earlier = nil, nil
}
