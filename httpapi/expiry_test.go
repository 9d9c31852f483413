package httpapi_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/resultstore"
)

// submitTo submits one row for a model, under headers.
func (r *rig) submitTo(t *testing.T, name string, header ...string) job.Ticket {
	t.Helper()
	a := r.call(t, "POST", "/v1/models/"+name+"/jobs", oneRow, header...)
	if a.status != 202 {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	ticket, err := job.ParseTicket(a.str("id"))
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

// Whoever looks at a job after its deadline ends it, with no worker alive; its message goes and nobody else's record
// counts any more. The model hasty gives its jobs five seconds.
func TestOverdueJobExpiresWhenSeen(t *testing.T) {
	for _, c := range []struct {
		name  string
		state job.State
		look  func(t *testing.T, r *rig, ticket job.Ticket) reply
		check func(t *testing.T, a reply)
	}{
		{"a poll", job.Queued, func(t *testing.T, r *rig, ticket job.Ticket) reply {
			t.Helper()
			return r.call(t, "GET", "/v1/jobs/"+ticket.String(), "")
		}, nil},
		{"a poll of a running job", job.Running, func(t *testing.T, r *rig, ticket job.Ticket) reply {
			t.Helper()
			return r.call(t, "GET", "/v1/jobs/"+ticket.String(), "")
		}, nil},
		{"a poll that waits", job.Queued, func(t *testing.T, r *rig, ticket job.Ticket) reply {
			t.Helper()
			return r.call(t, "GET", "/v1/jobs/"+ticket.String()+"?wait=30s", "")
		}, nil},
		{"the same request again", job.Queued, func(t *testing.T, r *rig, _ job.Ticket) reply {
			t.Helper()
			return r.call(t, "POST", "/v1/models/hasty/jobs", oneRow, "Idempotency-Key", "k")
		}, func(t *testing.T, a reply) {
			t.Helper()
			if a.status != 202 || a.str("status") != "expired" {
				t.Errorf("status %d: %s", a.status, a.body)
			}
		}},
		{"a cancel", job.Queued, func(t *testing.T, r *rig, ticket job.Ticket) reply {
			t.Helper()
			return r.call(t, "DELETE", "/v1/jobs/"+ticket.String(), "")
		}, func(t *testing.T, a reply) {
			t.Helper()
			a.problem(t, 409, "finished")
			if a.str("job_status") != "expired" {
				t.Error(a.body)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				ticket := r.submitTo(t, "hasty", "Idempotency-Key", "k")
				r.queue.setState(ticket, c.state)
				<-time.After(5*time.Second - time.Millisecond)
				if a := r.call(t, "GET", "/v1/jobs/"+ticket.String(), ""); a.str("status") != c.state.String() {
					t.Fatalf("a moment before its deadline the job is %s", a.body)
				}
				<-time.After(time.Millisecond)
				start := time.Now()
				a := c.look(t, r, ticket)
				if time.Since(start) != 0 {
					t.Errorf("it took %s", time.Since(start))
				}
				if c.check != nil {
					c.check(t, a)
				} else if a.status != 200 || a.str("status") != "expired" || a.str("finished_at") == "" || !strings.Contains(a.body, `"type":"/problems/expired"`) {
					t.Errorf("status %d: %s", a.status, a.body)
				}
				if len(r.queue.waiting) != 0 || len(r.queue.canceled) != 0 {
					t.Errorf("%d messages are left; workers were told of %d cancels", len(r.queue.waiting), len(r.queue.canceled))
				}
				if r.settle(t, ticket, job.Result{State: job.Succeeded}) {
					t.Error("a worker's record took the place of the expiry")
				}
				if m := r.call(t, "GET", "/metrics", ""); !strings.Contains(m.body, `sheaf_gateway_concluded_jobs_total{outcome="expired"} 1`) {
					t.Error("the metrics do not count it once")
				}
			})
		})
	}
}

// Who waits is told at the deadline, not at the end of the wait. Everybody is: the notice goes to every replica.
func TestWaitsEndAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(c *config, _ *deps) { c.PollInterval = time.Hour }
		r := newRig(t, slow)
		ticket := r.submitTo(t, "hasty")
		start := time.Now()
		polled := r.longPoll(t, t.Context(), ticket, "30s")
		predicted, preferred := make(chan reply, 1), make(chan reply, 1)
		go func() { predicted <- r.call(t, "POST", "/v1/models/hasty/predict", oneRow) }()
		go func() {
			preferred <- r.call(t, "POST", "/v1/models/hasty/jobs", oneRow, "Prefer", "wait=30",
				"Sheaf-Deadline", time.Now().Add(7*time.Second).Format(time.RFC3339Nano))
		}()
		if a := <-polled; a.status != 200 || a.str("status") != "expired" || time.Since(start) != 5*time.Second {
			t.Errorf("a poll after %s: %s", time.Since(start), a.body)
		}
		a := <-predicted
		a.problem(t, 504, "expired")
		if a.str("job_status") != "expired" || time.Since(start) != 5*time.Second {
			t.Errorf("a predict after %s: %s", time.Since(start), a.body)
		}
		if a := <-preferred; a.status != 200 || a.str("status") != "expired" || time.Since(start) != 7*time.Second {
			t.Errorf("a submit that waits after %s: %d %s", time.Since(start), a.status, a.body)
		}
	})
}

// A wait that ends before the deadline ends as it did; the job goes on.
func TestWaitShorterThanTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		ticket := r.submitTo(t, "hasty")
		start := time.Now()
		if a := r.call(t, "GET", "/v1/jobs/"+ticket.String()+"?wait=4s", ""); a.str("status") != "queued" || time.Since(start) != 4*time.Second {
			t.Errorf("after %s: %s", time.Since(start), a.body)
		}
		if a := r.call(t, "GET", "/v1/jobs/"+ticket.String(), ""); a.header.Get("Retry-After") != "1" || a.str("status") != "queued" {
			t.Errorf("header %v: %s", a.header, a.body)
		}
	})
}

// The first request under a key has a later deadline than the second: the job's own counts.
func TestRepeatWaitsForTheFirstDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		start := time.Now()
		r.submitTo(t, "hasty", "Idempotency-Key", "k", "Sheaf-Deadline", start.Add(20*time.Second).Format(time.RFC3339Nano))
		a := r.call(t, "POST", "/v1/models/hasty/jobs", oneRow, "Idempotency-Key", "k", "Prefer", "wait=40")
		if a.status != 200 || a.str("status") != "expired" || time.Since(start) != 20*time.Second {
			t.Errorf("after %s: %d %s", time.Since(start), a.status, a.body)
		}
	})
}

// A program that published to NATS named no deadline: the model's counts from when the job was made.
func TestDeadlineOfTheModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		ticket := r.submitTo(t, "hasty")
		r.queue.waiting[0].job.Deadline = time.Time{}
		<-time.After(5 * time.Second)
		if a := r.call(t, "GET", "/v1/jobs/"+ticket.String(), ""); a.str("status") != "expired" {
			t.Error(a.body)
		}
	})
}

// While the end cannot be recorded nobody is told of it; afterwards everybody is.
func TestExpiryThatCannotBeRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store *readOnly
		r := newRig(t, func(_ *config, d *deps) { store = &readOnly{Results: d.Results}; d.Results = store })
		ticket := r.submitTo(t, "hasty")
		store.set(true)
		start := time.Now()
		waiting := r.longPoll(t, t.Context(), ticket, "30s")
		<-time.After(10 * time.Second)
		if a := r.call(t, "GET", "/v1/jobs/"+ticket.String(), ""); a.status != 200 || a.str("status") != "queued" {
			t.Errorf("an end that does not stand is told of: %s", a.body)
		}
		if a := r.call(t, "DELETE", "/v1/jobs/"+ticket.String(), ""); a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Errorf("status %d: %s", a.status, a.body)
		}
		store.set(false)
		if a := <-waiting; a.str("status") != "expired" || time.Since(start) > 15*time.Second {
			t.Errorf("after %s: %s", time.Since(start), a.body)
		}
	})
}

// A worker's record that comes first stands, however late it is.
func TestWorkerWinsAgainstTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		ticket := r.submitTo(t, "hasty")
		<-time.After(6 * time.Second)
		r.queue.onLocate = func() {
			r.queue.onLocate = nil
			record := job.AppendRecord(nil, &job.Result{State: job.Succeeded, Tenant: "default", Model: "hasty"})
			if _, err := r.store.Finish(t.Context(), []resultstore.Entry{{ID: ticket.ID, Record: record}}); err != nil {
				t.Error(err)
			}
		}
		if a := r.call(t, "GET", "/v1/jobs/"+ticket.String(), ""); a.str("status") != "succeeded" || len(r.queue.removed) != 0 {
			t.Error(a.body)
		}
	})
}

// A cancel takes its steps in order: the record, the workers and those who wait, the message. An expiry is no cancel.
func TestStepsOfACancel(t *testing.T) {
	var steps []failpoint.Point
	var r *rig
	r = newRig(t, func(_ *config, d *deps) {
		d.Reach = func(p failpoint.Point) {
			if p == failpoint.Answered {
				return
			}
			steps = append(steps, p)
			records, err := r.store.Get(t.Context(), r.queue.last(t).ticket.ID)
			if p == failpoint.CancelRecorded && (err != nil || records[0] == nil || len(r.queue.canceled) != 0) {
				t.Errorf("at %s: record %v, %v; told of %v", p, records, err, r.queue.canceled)
			}
			if p == failpoint.CancelTold && len(r.queue.canceled) != 1 {
				t.Errorf("at %s workers were told of %v", p, r.queue.canceled)
			}
		}
	})
	r.submit(t)
	ticket := r.submit(t)
	r.submit(t) // so that last is not gone when the message is
	r.queue.waiting[1], r.queue.waiting[2] = r.queue.waiting[2], r.queue.waiting[1]
	if a := r.call(t, "DELETE", "/v1/jobs/"+ticket.String(), ""); a.status != 200 {
		t.Fatal(a.body)
	}
	want := []failpoint.Point{failpoint.CancelRecorded, failpoint.CancelTold, failpoint.CancelRemoved}
	if !slices.Equal(steps, want) || !slices.Equal(r.queue.removed, []job.ID{ticket.ID}) || !slices.Equal(r.queue.canceled, []job.ID{ticket.ID}) {
		t.Errorf("steps %v, removed %v, canceled %v", steps, r.queue.removed, r.queue.canceled)
	}
}
