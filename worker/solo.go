package worker

import "github.com/sheafml/sheaf/job"

// soloQueue holds the redelivered jobs, which are run alone and one at a time: one of them may have killed the process
// that ran it before. Those that have been run alone already, and have no record nevertheless, are the suspects: they
// come last, so that a killer takes as few others with it as can be.
type soloQueue struct {
	waiting [3][]*task // interactive, bulk, suspects
	busy    bool       // one is being run
	now     int        // the queue of the one being run, if pieces of it are left
	partial bool
}

const suspects = 2

func (q *soloQueue) push(t *task) {
	i := int(t.job.Lane)
	if t.suspect {
		i = suspects
	}
	q.waiting[i] = append(q.waiting[i], t)
}

func (q *soloQueue) empty() bool {
	for i := range q.waiting {
		if len(q.waiting[i]) > 0 {
			return false
		}
	}
	return true
}

// ready reports whether one may be run now.
func (q *soloQueue) ready() bool { return !q.busy && !q.empty() }

// current returns the task to run next. There must be one.
func (q *soloQueue) current() *task {
	if !q.partial {
		for i := range q.waiting {
			if len(q.waiting[i]) > 0 {
				q.now = i
				break
			}
		}
	}
	return q.waiting[q.now][0]
}

// start notes that the current task, or a piece of it, is being run until done is called.
func (q *soloQueue) start(whole bool) {
	q.busy, q.partial = true, !whole
	if whole {
		q.waiting[q.now][0] = nil
		q.waiting[q.now] = q.waiting[q.now][1:]
	}
}

// done says that what was started has been settled.
func (q *soloQueue) done() { q.busy = false }

func (q *soloQueue) drain(fn func(*task)) {
	for i := range q.waiting {
		for _, t := range q.waiting[i] {
			fn(t)
		}
		q.waiting[i] = nil
	}
	q.partial = false
}

// attemptNote is the key under which it stands that a job has been run alone. No tenant can have this name, so no
// Idempotency-Key leads to it.
func attemptNote(id job.ID) job.ID { return job.DerivedID("\x00attempt", string(id[:])) }
