package queue

import "github.com/sheafml/sheaf/job"

// NotifyCanceled tells the workers that the jobs are canceled, so that they need not compute them. Best effort: the
// record of each is written before, and decides.
func (q *Queue) NotifyCanceled(ids []job.ID) error { return q.tell(subjectCanceled, ids) }

// OnCanceled calls fn for every NotifyCanceled of any process, one call at a time. fn must not block, and may keep ids.
// stop ends it; a call in progress may still be running then.
func (q *Queue) OnCanceled(fn func(ids []job.ID)) (stop func(), err error) {
	return q.listen(subjectCanceled, "canceled", fn)
}
