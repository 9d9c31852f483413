package queue_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// sharers returns n tenants of one share.
func sharers(n int) []string {
	var names []string
	for i := 0; len(names) < n; i++ {
		name := fmt.Sprintf("tenant%d", i)
		if shareOf(name, queue.DefaultConfig().TenantShares) == 3 {
			names = append(names, name)
		}
	}
	return names
}

// single publishes one job of the tenant in a message of its own.
func single(t *testing.T, q *queue.Queue, tenant string) job.Ticket {
	t.Helper()
	return publish(t, q, newJob(t, func(j *job.Job) { j.Tenant, j.Idempotent = tenant, true }))
}

// waitsFor waits until so much is seen before the tenant's next message.
func waitsFor(t *testing.T, q *queue.Queue, tenant string, n int) {
	t.Helper()
	eventually(t, "the crowd is seen", func() bool {
		l, err := q.Load(t.Context(), job.Interactive, "digits", tenant)
		return err == nil && l.Waiting >= n
	})
}

// storedIn is the share that a message is stored with, at the end of its subject.
func storedIn(t *testing.T, url string, ticket job.Ticket) string {
	t.Helper()
	_, js := operator(t, url)
	s, err := js.Stream(t.Context(), ticket.Lane.String())
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.GetMsg(t.Context(), ticket.Seq)
	if err != nil {
		t.Fatal(err)
	}
	return m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]
}

// TestAQuietTenantGoesPastACrowd: who has little waiting does not wait behind one of its share who floods, and is told
// so; the one who floods does.
func TestAQuietTenantGoesPastACrowd(t *testing.T) {
	url := testserver.NATS(t)
	q := started(t, url, 8)
	all := sources(t, q, job.Interactive, "digits")
	names := sharers(2)
	flood, quiet := names[0], names[1]
	const n = 50
	for range n {
		if ticket := single(t, q, flood); storedIn(t, url, ticket) != "3" {
			t.Fatal("a tenant is taken for a crowd of others")
		}
	}
	waitsFor(t, q, flood, n)
	var ticket job.Ticket
	eventually(t, "a quiet tenant's message goes past the crowd", func() bool {
		ticket = single(t, q, quiet)
		return storedIn(t, url, ticket) == "8"
	})
	if at := storedIn(t, url, single(t, q, flood)); at != "3" {
		t.Errorf("the crowd's next message is in share %s", at)
	}
	loc, err := q.Locate(t.Context(), ticket)
	if err != nil || loc.State != job.Queued || loc.Tenant != quiet || loc.Ahead > n/2 {
		t.Errorf("where the quiet tenant's job is: %+v, %v", loc, err)
	}
	eventually(t, "the load is what is before the quiet tenant", func() bool {
		l, err := q.Load(t.Context(), job.Interactive, "digits", quiet)
		all, err2 := q.Load(t.Context(), job.Interactive, "digits", flood)
		return err == nil && err2 == nil && l.Waiting <= n/2 && all.Waiting > n
	})
	came := false
	drain(t, all[8], func(d *queue.Delivery) {
		came = came || d.Seq == ticket.Seq && d.Envelope.Tenant == quiet && d.Envelope.Model == "digits"
	})
	if !came {
		t.Error("the message does not come from the spare share")
	}
}

// TestTheSpareShareStaysShort: however many tenants go past a crowd, they do not make another one.
func TestTheSpareShareStaysShort(t *testing.T) {
	url := testserver.NATS(t)
	q := started(t, url, 8)
	all := sources(t, q, job.Bulk, "digits")
	names := sharers(100)
	const n = 60
	for range n {
		publish(t, q, newJob(t, func(j *job.Job) { j.Lane, j.Tenant, j.Idempotent = job.Bulk, names[0], true }))
	}
	eventually(t, "the crowd is seen", func() bool {
		l, err := q.Load(t.Context(), job.Bulk, "digits", names[0])
		return err == nil && l.Waiting >= n
	})
	for _, name := range names[1:] {
		publish(t, q, newJob(t, func(j *job.Job) { j.Lane, j.Tenant = job.Bulk, name }))
	}
	past, home := 0, 0
	drain(t, all[8], func(*queue.Delivery) { past++ })
	drain(t, all[3], func(*queue.Delivery) { home++ })
	if past+home != n+len(names)-1 || past == 0 || past > home {
		t.Errorf("%d messages went past, %d did not", past, home)
	}
}

// TestNobodyGoesPastWithoutAWorker: where nobody serves the spare share, nothing is put there.
func TestNobodyGoesPastWithoutAWorker(t *testing.T) {
	url := testserver.NATS(t)
	q := started(t, url, 8)
	names := sharers(2)
	for range 30 {
		single(t, q, names[0])
	}
	waitsFor(t, q, names[1], 30)
	if at := storedIn(t, url, single(t, q, names[1])); at != "3" {
		t.Errorf("a message is in share %s, which nobody serves", at)
	}
}

// TestAMessageThatTheSpareShareDoesNotTakeGoesHome: as when an operator has written the stream's subjects anew.
func TestAMessageThatTheSpareShareDoesNotTakeGoesHome(t *testing.T) {
	url := testserver.NATS(t)
	q := started(t, url, 8)
	sources(t, q, job.Interactive, "digits")
	names := sharers(2)
	for range 50 {
		single(t, q, names[0])
	}
	waitsFor(t, q, names[0], 50)
	eventually(t, "a quiet tenant's message goes past the crowd", func() bool { return storedIn(t, url, single(t, q, names[1])) == "8" })
	_, js := operator(t, url)
	edited := streamConfig(t, js, "interactive")
	edited.Subjects = []string{"sheaf.interactive.*.*"}
	if _, err := js.UpdateStream(t.Context(), edited); err != nil {
		t.Fatal(err)
	}
	if at := storedIn(t, url, single(t, q, names[1])); at != "3" {
		t.Errorf("the message is in share %s", at)
	}
	// Whoever serves the lane next restores it.
	sources(t, q, job.Interactive, "digits")
	if got := streamConfig(t, js, "interactive").Subjects; !slices.Equal(got, []string{"sheaf.interactive.*.*", "sheaf.interactive.*.*.8"}) {
		t.Errorf("the stream's subjects are %q", got)
	}
}
