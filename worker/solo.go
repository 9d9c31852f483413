package worker

import "github.com/sheafml/sheaf/job"

// soloQueue holds the redelivered jobs, which are run alone and one at a time: one of them may have killed the process
// that ran it before. Tenants take turns in each lane. Those that have been run alone already, and have no record
// nevertheless, are the suspects: they come last, so that a killer takes as few others with it as can be.
type soloQueue struct {
	lanes    [2]soloLine
	suspects []*task
	busy     bool // one is being run
}

func (q *soloQueue) push(t *task) {
	if !t.suspect {
		q.lanes[t.job.Lane].push(t)
		return
	}
	at := len(q.suspects)
	q.suspects = append(q.suspects, t)
	// Those that were tried least come first, so that many killers in one message do not wait for each other's last
	// attempt.
	for line := q.suspects; at > 0 && line[at-1].attempts > t.attempts; at-- {
		line[at-1], line[at] = line[at], line[at-1]
	}
}

func (q *soloQueue) empty() bool {
	return len(q.lanes[job.Interactive].tenants) == 0 && len(q.lanes[job.Bulk].tenants) == 0 && len(q.suspects) == 0
}

// ready reports whether one may be run now.
func (q *soloQueue) ready() bool { return !q.busy && !q.empty() }

// start takes the task to run next, which is being run until done is called. There must be one.
func (q *soloQueue) start() *task {
	q.busy = true
	for i := range q.lanes {
		if len(q.lanes[i].tenants) > 0 {
			return q.lanes[i].pop()
		}
	}
	t := q.suspects[0]
	q.suspects[0] = nil
	q.suspects = q.suspects[1:]
	return t
}

// done says that what was started has been settled.
func (q *soloQueue) done() { q.busy = false }

func (q *soloQueue) drain(fn func(*task)) {
	for i := range q.lanes {
		for _, of := range q.lanes[i].tenants {
			for _, t := range of.tasks {
				fn(t)
			}
		}
		q.lanes[i] = soloLine{}
	}
	for _, t := range q.suspects {
		fn(t)
	}
	q.suspects = nil
}

// soloLine is the jobs of one lane, of each tenant in turn.
type soloLine struct {
	tenants []*soloTenant // the first is next
	byName  map[string]*soloTenant
}

type soloTenant struct {
	name  string
	tasks []*task
}

func (l *soloLine) push(t *task) {
	of := l.byName[t.job.Tenant]
	if of == nil {
		if l.byName == nil {
			l.byName = make(map[string]*soloTenant)
		}
		of = &soloTenant{name: t.job.Tenant}
		l.byName[of.name] = of
		l.tenants = append(l.tenants, of)
	}
	of.tasks = append(of.tasks, t)
}

// pop takes the first task; its tenant's next one waits for all others' turn.
func (l *soloLine) pop() *task {
	of := l.tenants[0]
	l.tenants[0] = nil
	l.tenants = l.tenants[1:]
	t := of.tasks[0]
	of.tasks[0] = nil
	if of.tasks = of.tasks[1:]; len(of.tasks) == 0 {
		delete(l.byName, of.name)
	} else {
		l.tenants = append(l.tenants, of)
	}
	return t
}
