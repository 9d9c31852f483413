package worker

import (
	"strings"

	"github.com/sheafml/sheaf/job"
)

// fairQueue is what waits in one lane of a model. It shares the rows out between tenants, so that one with thousands of
// jobs delays another's by no more than the other's own turn takes.
//
// It is deficit round robin, kept as an account: each tenant is charged with the rows that it is given, a round is a
// quantum of rows for each, and the tenant of the lowest round is next; within a round the order is fixed. A ring of
// turns would do if all jobs could share a batch. They cannot: a batch takes jobs of one group only, and fills what is
// free with whoever has jobs of that group. The account remembers such gifts over all groups.
//
// A tenant that comes new starts one quantum behind the lane's clock, and so is next. The clock moves by the rows given
// divided by the number of tenants that wait: tenants that come and go all the time, under ever new names, cannot keep
// out those that stay. One that leaves is remembered until the clock has caught up with its account, so nothing is
// gained by leaving and coming back.
type fairQueue struct {
	taskList // all that waits

	quantum int64
	turns   turns // the strands
	waiting int   // tenants that wait

	clock   int64 // the account of a tenant that has had its share and no more
	partial int64 // rows that have not moved the clock yet
	highest int64 // of all accounts

	strands  map[strandKey]*strand // those with waiting jobs, and the one used last
	last     *strand               // most jobs are of the same strand as the one before
	tenants  map[string]*tenant    // those that wait or are ahead of the clock, and some more, see sweep
	sweepAt  int
	joined   int64
	arrivals uint64
}

// tenant is the account of one tenant in one lane.
type tenant struct {
	name    string
	number  int64  // its place in each round: they came in this order
	served  int64  // rows
	strands int    // those with waiting jobs
	rows    int    // that wait, not yet in a batch
	behind  int    // about as many wait in its share behind the last message of its that came, others' included
	part    stake  // of the batch that was filled last
	flooded uint64 // the batch that was filled next when it flooded last; 0 is never
}

// strand is the waiting jobs of one tenant and group in one lane, in the order of arrival.
type strand struct {
	tenant     *tenant
	group      *group
	head, tail *task
	at         [2]int // its places in the turns of the lane and of the group
}

type strandKey struct {
	tenant *tenant
	group  *group
}

// taskList is the waiting tasks of one lane in the order of arrival.
type taskList struct {
	oldest, newest *task
	rows           int // not yet in a batch
}

const (
	quanta     = 16 // to a batch: as many tenants share a full one, each with its quantum
	mostAhead  = 4  // batches; no tenant is charged for more, should it be given more than its share
	fewTenants = 8  // worth no sweep
)

// Places in strand.at.
const (
	inLane = iota
	inGroup
)

func newFairQueue(maxRows int) fairQueue {
	quantum := max(1, int64(maxRows/quanta))
	return fairQueue{
		quantum: quantum, turns: turns{which: inLane, quantum: quantum}, sweepAt: fewTenants,
		strands: make(map[strandKey]*strand), tenants: make(map[string]*tenant),
	}
}

// add puts a task of the group behind those that wait.
func (q *fairQueue) add(t *task, g *group) {
	s := q.strandOf(t.job.Tenant, g)
	q.arrivals++
	t.strand, t.arrived = s, q.arrivals
	s.tenant.rows += t.rows
	q.push(t)
	if s.head != nil {
		s.tail.sameStrand, s.tail = t, t
		return
	}
	s.head, s.tail = t, t
	if s.tenant.strands++; s.tenant.strands == 1 {
		q.waiting++
		q.joined++
		s.tenant.number = q.joined
		s.tenant.served = max(s.tenant.served, q.clock-q.quantum)
	}
	q.turns.push(s)
	l := &g.lanes[t.job.Lane]
	l.turns.which, l.turns.quantum = inGroup, q.quantum
	l.turns.push(s)
}

// strandOf finds the strand of a tenant's jobs in a group, or makes it.
func (q *fairQueue) strandOf(name string, g *group) *strand {
	previous := q.last
	if previous != nil && previous.group == g && previous.tenant.name == name {
		return previous
	}
	of := q.tenants[name]
	if of == nil {
		q.sweep()
		of = &tenant{name: strings.Clone(name)} // a copy, or it would keep the message in memory
		q.tenants[of.name] = of
	}
	key := strandKey{of, g}
	s := q.strands[key]
	if s == nil {
		s = &strand{tenant: of, group: g}
		q.strands[key] = s
	}
	q.last = s
	if previous != nil && previous.head == nil {
		delete(q.strands, strandKey{previous.tenant, previous.group})
	}
	return s
}

// sweep forgets the tenants without whom nothing changes, whenever their number has doubled.
func (q *fairQueue) sweep() {
	if len(q.tenants) < q.sweepAt {
		return
	}
	for name, of := range q.tenants {
		if of.strands == 0 && of.served <= q.clock-q.quantum && (q.last == nil || q.last.tenant != of) {
			delete(q.tenants, name)
		}
	}
	q.sweepAt = max(fewTenants, 2*len(q.tenants))
}

// lead returns the strand whose turn it is, nil if nothing waits. The clock is kept within a quantum of its account, so
// that a newcomer is next, and no more than that.
func (q *fairQueue) lead() *strand {
	s := q.turns.first()
	if s != nil {
		q.clock = min(max(q.clock, s.tenant.served), s.tenant.served+q.quantum)
	}
	return s
}

// turn returns how many rows the tenant may take until it is another's turn.
func (q *fairQueue) turn(of *tenant) int { return int(q.quantum - of.served%q.quantum) }

// charge puts rows to the tenant's account.
func (q *fairQueue) charge(of *tenant, rows int) {
	if rows == 0 || q.waiting == 0 {
		return
	}
	most := max(of.served, q.clock+mostAhead*quanta*q.quantum)
	of.served = min(of.served+int64(rows), most)
	q.highest = max(q.highest, of.served)
	q.partial += int64(rows)
	q.clock += q.partial / int64(q.waiting)
	q.partial %= int64(q.waiting)
}

// pop removes the first task of the strand. Who empties a strand has to retire it.
func (q *fairQueue) pop(s *strand) {
	t := s.head
	q.remove(t)
	s.head, t.sameStrand, t.strand = t.sameStrand, nil, nil
	if s.head == nil {
		s.tail = nil
	}
}

// retire takes an empty strand out of the turns.
func (q *fairQueue) retire(s *strand, lane job.Lane) {
	q.turns.remove(s)
	s.group.lanes[lane].turns.remove(s)
	if s != q.last {
		delete(q.strands, strandKey{s.tenant, s.group})
	}
	if s.tenant.strands--; s.tenant.strands > 0 {
		return
	}
	if q.waiting--; q.waiting == 0 {
		// Nobody waits for anybody: all are equal again.
		q.clock, q.partial = q.highest+q.quantum, 0
	}
}

// drain gives every task to fn and forgets all.
func (q *fairQueue) drain(maxRows int, fn func(*task)) {
	for t := q.oldest; t != nil; {
		later := t.later
		t.later, t.earlier, t.sameStrand, t.strand = nil, nil, nil, nil
		fn(t)
		t = later
	}
	*q = newFairQueue(maxRows)
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
