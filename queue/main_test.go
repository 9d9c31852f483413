package queue_test

import (
	"context"
	"hash/fnv"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait for a condition; no test waits for it to pass.
const patience = 30 * time.Second

func testConfig(url string) queue.Config {
	cfg := queue.DefaultConfig()
	cfg.URL = url
	return cfg
}

func connect(t testing.TB, cfg queue.Config, options ...queue.Option) *queue.Queue {
	t.Helper()
	q, err := queue.Connect(t.Context(), cfg, options...)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return q
}

// ready connects and makes the streams, on a server of the test's own.
func ready(t testing.TB, change func(*queue.Config)) *queue.Queue {
	t.Helper()
	cfg := testConfig(testserver.NATS(t))
	if change != nil {
		change(&cfg)
	}
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatalf("ensure streams: %v", err)
	}
	return q
}

// source makes the consumers and returns the source of the default tenant's share.
func source(t testing.TB, q *queue.Queue, lane job.Lane, model string) *queue.Source {
	t.Helper()
	return tenantSource(t, q, lane, model, job.DefaultTenant)
}

// tenantSource is source for another tenant.
func tenantSource(t testing.TB, q *queue.Queue, lane job.Lane, model, tenant string) *queue.Source {
	t.Helper()
	all := sources(t, q, lane, model)
	return all[shareOf(tenant, max(1, len(all)-1))] // the last is the spare one
}

// sources makes the consumers and returns the source of each share.
func sources(t testing.TB, q *queue.Queue, lane job.Lane, model string) []*queue.Source {
	t.Helper()
	if err := q.EnsureConsumer(t.Context(), lane, model); err != nil {
		t.Fatalf("ensure consumer: %v", err)
	}
	all, err := q.Sources(t.Context(), lane, model)
	if err != nil {
		t.Fatalf("sources: %v", err)
	}
	return all
}

// shareOf is the share that the server gives a tenant.
func shareOf(tenant string, shares int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(strings.ReplaceAll(tenant, ".", "%2E")))
	return int(h.Sum32() % uint32(shares))
}

// consumerOf is the name of the consumer of a model for the default tenant.
func consumerOf(model string) string {
	return model + "~" + strconv.Itoa(shareOf(job.DefaultTenant, queue.DefaultConfig().TenantShares))
}

func newJob(t testing.TB, change func(*job.Job)) *job.Job {
	t.Helper()
	id, err := job.NewID()
	if err != nil {
		t.Fatal(err)
	}
	j := &job.Job{
		ID: id, Lane: job.Interactive, Tenant: job.DefaultTenant, Model: "digits", CreatedAt: time.Now(),
		Inputs: []job.Tensor{{Name: "x", Datatype: job.FP32, Shape: []int64{1, 4}, Data: make([]byte, 16)}},
	}
	if change != nil {
		change(j)
	}
	return j
}

func newJobs(t testing.TB, n int, change func(*job.Job)) []*job.Job {
	t.Helper()
	jobs := make([]*job.Job, n)
	for i := range jobs {
		jobs[i] = newJob(t, change)
	}
	return jobs
}

func publish(t testing.TB, q *queue.Queue, j *job.Job) job.Ticket {
	t.Helper()
	ticket, duplicate, err := q.Publish(t.Context(), j)
	if err != nil || duplicate {
		t.Fatalf("publish: duplicate %v, error %v", duplicate, err)
	}
	if ticket.ID != j.ID || ticket.Lane != j.Lane || ticket.Seq == 0 {
		t.Fatalf("publish: the ticket %v is not the job's (%v)", ticket, j.ID)
	}
	return ticket
}

// fetch waits until n messages have come.
func fetch(t testing.TB, s *queue.Source, n int) []*queue.Delivery {
	t.Helper()
	var got []*queue.Delivery
	deadline := time.Now().Add(patience)
	for len(got) < n && time.Now().Before(deadline) {
		if _, err := s.Fetch(t.Context(), n-len(got), time.Second, func(d *queue.Delivery) { got = append(got, d) }); err != nil {
			t.Fatalf("fetch: %v", err)
		}
	}
	if len(got) != n {
		t.Fatalf("fetch: expected %d messages, got %d", n, len(got))
	}
	return got
}

// drain fetches what is there.
func drain(t testing.TB, s *queue.Source, fn func(*queue.Delivery)) {
	t.Helper()
	for n := 1; n > 0; {
		var err error
		if n, err = s.Fetch(t.Context(), 500, 0, fn); err != nil {
			t.Fatalf("fetch: %v", err)
		}
	}
}

// fetchNone checks that nothing is there to be fetched.
func fetchNone(t testing.TB, s *queue.Source) {
	t.Helper()
	n, err := s.Fetch(t.Context(), 10, 0, func(d *queue.Delivery) {
		t.Errorf("an unexpected message: sequence %d, attempt %d", d.Seq, d.Attempt)
	})
	if err != nil || n != 0 {
		t.Errorf("fetch: expected nothing, got %d messages, error %v", n, err)
	}
}

func decode(t testing.TB, d *queue.Delivery) []job.ID {
	t.Helper()
	jobs, err := job.DecodeMessage(&d.Envelope, job.DefaultLimits())
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	ids := make([]job.ID, len(jobs))
	for i := range jobs {
		if jobs[i].Err != nil {
			t.Fatalf("decode job %d: %v", i, jobs[i].Err)
		}
		ids[i] = jobs[i].Job.ID
	}
	return ids
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("did not happen: %s", what)
		}
	}
}
