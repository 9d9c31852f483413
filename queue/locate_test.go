package queue_test

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
)

func TestLocateTellsThePlaceInTheQueue(t *testing.T) {
	q := ready(t, nil)
	jobs := newJobs(t, 4, func(j *job.Job) { j.Idempotent = true })
	jobs[2].Deadline = time.Date(2100, 1, 2, 3, 4, 5, 6e6, time.UTC)
	tickets, err := q.PublishSheaf(t.Context(), jobs)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(i int, want job.Location) {
		t.Helper()
		want.Tenant, want.Model = job.DefaultTenant, "digits"
		want.CreatedAt, want.Deadline = jobs[i].CreatedAt.UTC().Truncate(time.Millisecond), jobs[i].Deadline
		var got job.Location
		eventually(t, "the job is at its place", func() bool {
			var err error
			if got, err = q.Locate(t.Context(), tickets[i]); err != nil {
				t.Fatal(err)
			}
			return got == want
		})
	}
	for i := range tickets {
		// No worker was ever there: every message of the model may be before it.
		if l, err := q.Locate(t.Context(), tickets[i]); err != nil || l.State != job.Queued || l.Ahead < i || l.Ahead > 4 {
			t.Errorf("job %d: %v, %v", i, l, err)
		}
	}
	s := source(t, q, job.Interactive, "digits")
	for i := range tickets {
		expect(i, job.Location{State: job.Queued, Ahead: i})
	}
	fetch(t, s, 2)
	expect(0, job.Location{State: job.Running})
	expect(1, job.Location{State: job.Running})
	expect(2, job.Location{State: job.Queued, Ahead: 0})
	expect(3, job.Location{State: job.Queued, Ahead: 1})
	eventually(t, "the backlog is two and two", func() bool {
		waiting, running, err := q.Backlog(t.Context(), job.Interactive, "digits")
		return err == nil && waiting == 2 && running == 2
	})
}

func TestLocateFindsNothingThatIsNotThere(t *testing.T) {
	q := ready(t, nil)
	ticket := publish(t, q, newJob(t, nil))
	stranger := newJob(t, nil)
	for name, wrong := range map[string]job.Ticket{
		"bare":            {ID: ticket.ID},
		"another job":     {ID: stranger.ID, Lane: ticket.Lane, Seq: ticket.Seq},
		"another place":   {ID: ticket.ID, Lane: ticket.Lane, Seq: ticket.Seq, Index: 1},
		"another message": {ID: ticket.ID, Lane: ticket.Lane, Seq: ticket.Seq + 1},
		"the other lane":  {ID: ticket.ID, Lane: job.Bulk, Seq: ticket.Seq},
		"no lane":         {ID: ticket.ID, Lane: 7, Seq: ticket.Seq},
		"far in the dark": {ID: ticket.ID, Lane: ticket.Lane, Seq: 1<<64 - 1},
	} {
		if l, err := q.Locate(t.Context(), wrong); !errors.Is(err, job.ErrNotFound) {
			t.Errorf("%s: expected ErrNotFound, got %v, %v", name, l, err)
		}
		if removed, err := q.Remove(t.Context(), wrong); removed || err != nil {
			t.Errorf("%s: removed %v, %v", name, removed, err)
		}
	}
	if _, err := q.Locate(t.Context(), ticket); err != nil {
		t.Errorf("the job itself: %v", err)
	}
}

func TestLocateAsksTheLeaderWhenDirectAccessFails(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, js := operator(t, cfg.URL)
	c := streamConfig(t, js, "interactive")
	c.AllowDirect = false // as a replica that has nothing yet
	if _, err := js.UpdateStream(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	j := newJob(t, func(j *job.Job) { j.Deadline = time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC) })
	ticket := publish(t, q, j)
	if l, err := q.Locate(t.Context(), ticket); err != nil || l.State != job.Queued || !l.Deadline.Equal(j.Deadline) {
		t.Errorf("expected it queued, got %v, %v", l, err)
	}
	if removed, err := q.Remove(t.Context(), ticket); !removed || err != nil {
		t.Errorf("removed %v, %v", removed, err)
	}
}

func TestRemove(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := source(t, q, job.Interactive, "digits")
	alone := publish(t, q, newJob(t, nil))
	together, err := q.PublishSheaf(t.Context(), newJobs(t, 2, nil))
	if err != nil {
		t.Fatal(err)
	}
	if removed, err := q.Remove(t.Context(), alone); !removed || err != nil {
		t.Errorf("a job alone: removed %v, %v", removed, err)
	}
	if _, err := q.Locate(t.Context(), alone); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("after that it is still found: %v", err)
	}
	if removed, err := q.Remove(t.Context(), alone); removed || err != nil {
		t.Errorf("again: removed %v, %v", removed, err)
	}
	if removed, err := q.Remove(t.Context(), together[0]); removed || err != nil {
		t.Errorf("a job in company: removed %v, %v", removed, err)
	}
	answered := publish(t, q, newJob(t, func(j *job.Job) { j.Reply = "inbox.1" }))
	if removed, err := q.Remove(t.Context(), answered); removed || err != nil {
		t.Errorf("a job that is to be answered to an inbox, which a worker does: removed %v, %v", removed, err)
	}
	d := fetch(t, s, 2)[0]
	if d.Seq != together[0].Seq {
		t.Errorf("expected the message of two, got %d", d.Seq)
	}
	fetchNone(t, s)
}

// What others publish, without our client, has a ticket too.
func TestAForeignMessageIsLocatedAndRemoved(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, js := operator(t, cfg.URL)
	id := newJob(t, nil).ID
	ack, err := js.PublishMsg(t.Context(), &nats.Msg{
		Subject: "sheaf.bulk.digits.default",
		Header: nats.Header{
			job.HeaderID: {id.String()}, job.HeaderContentType: {job.ContentTypeJSON}, job.HeaderDeadline: {"2100-01-02T03:04:05Z"},
		},
		Data: []byte(`{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[1]}]}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	ticket := job.Ticket{ID: id, Lane: job.Bulk, Seq: ack.Sequence}
	deadline := time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC)
	l, err := q.Locate(t.Context(), ticket)
	if err != nil || l.State != job.Queued || !l.Deadline.Equal(deadline) || time.Since(l.CreatedAt).Abs() > time.Hour {
		t.Errorf("locate: %+v, %v", l, err)
	}
	if removed, err := q.Remove(t.Context(), ticket); !removed || err != nil {
		t.Errorf("removed %v, %v", removed, err)
	}
}

func TestBacklogOfAModelThatNobodyServes(t *testing.T) {
	q := ready(t, nil)
	if waiting, running, err := q.Backlog(t.Context(), job.Bulk, "digits"); waiting != 0 || running != 0 || err != nil {
		t.Errorf("an empty queue: %d, %d, %v", waiting, running, err)
	}
	for _, tenant := range []string{"a", "b"} {
		publish(t, q, newJob(t, func(j *job.Job) { j.Lane, j.Tenant, j.Idempotent = job.Bulk, tenant, true }))
	}
	eventually(t, "two wait", func() bool {
		waiting, running, err := q.Backlog(t.Context(), job.Bulk, "digits")
		return err == nil && waiting == 2 && running == 0
	})
	if _, _, err := q.Backlog(t.Context(), job.Bulk, "a b"); err == nil {
		t.Error("an impossible name is taken")
	}
}
