package producer_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/queue"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func exampleDir() string {
	dir, err := os.MkdirTemp("", "sheaf-example-")
	if err != nil {
		log.Fatal(err)
	}
	return dir
}

func removeDir(dir string) { _ = os.RemoveAll(dir) }

// setup starts a server, announces the doubler and connects a producer and a queue of the test's own.
func setup(t *testing.T, change func(*producer.Config)) (*producer.Producer, *queue.Queue) {
	t.Helper()
	cfg := producer.DefaultConfig()
	cfg.Queue.URL = testserver.NATS(t)
	if change != nil {
		change(&cfg)
	}
	p, err := producer.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	q, err := queue.Connect(t.Context(), cfg.Queue)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	announce(t, q, p, doubler())
	return p, q
}

func announce(t *testing.T, q *queue.Queue, p *producer.Producer, info model.Info) {
	t.Helper()
	value, err := info.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Announce(t.Context(), info.Key(), value); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the announcement", func() bool { _, ok := p.Models().Get(info.Name, info.Version); return ok })
	for _, lane := range job.Lanes() {
		if err := q.EnsureConsumer(t.Context(), lane, info.Name); err != nil {
			t.Fatal(err)
		}
	}
}

func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s did not come", what)
		case <-tick.C:
		}
	}
}

func request(row ...byte) producer.Request {
	return producer.Request{
		Model:  "doubler",
		Inputs: []job.Tensor{{Name: "x", Datatype: job.Uint8, Shape: []int64{1, int64(len(row))}, Data: row}},
	}
}

// collect fetches n jobs of the doubler, of whatever tenants, and acknowledges their messages.
func collect(t *testing.T, q *queue.Queue, lane job.Lane, n int) []job.Job {
	t.Helper()
	return collectOf(t, q, lane, "doubler", n)
}

func collectOf(t *testing.T, q *queue.Queue, lane job.Lane, name string, n int) []job.Job {
	t.Helper()
	shares, err := q.Sources(t.Context(), lane, name)
	if err != nil {
		t.Fatal(err)
	}
	var jobs []job.Job
	take := func(d *queue.Delivery) {
		decoded, err := job.DecodeMessage(&d.Envelope, job.DefaultLimits())
		if err != nil {
			t.Error(err)
		}
		for _, one := range decoded {
			if one.Err != nil {
				t.Error(one.Err)
			}
			jobs = append(jobs, one.Job)
		}
		if err := d.Ack(); err != nil {
			t.Error(err)
		}
	}
	waitFor(t, fmt.Sprintf("%d jobs", n), func() bool {
		for _, share := range shares {
			_, _ = share.Fetch(t.Context(), 100, 10*time.Millisecond, take) // an outage of a moment is tried again
		}
		return len(jobs) >= n
	})
	return jobs
}

// What a worker gets is what was submitted, and the ticket finds it.
func TestSubmitDelivers(t *testing.T) {
	p, q := setup(t, nil)
	deadline := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	r := request(1, 2, 3)
	r.Tenant, r.Lane, r.Deadline, r.RequestID, r.Version = "acme", job.Bulk, deadline, "my-1", "1"
	sub, err := p.Submit(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if where, err := q.Locate(t.Context(), sub.Ticket); err != nil || where.State != job.Queued {
		t.Errorf("the ticket finds %v, %v; expected a queued job", where, err)
	}
	got := collect(t, q, job.Bulk, 1)[0]
	if got.ID != sub.Ticket.ID || got.Tenant != "acme" || got.Model != "doubler" || got.Version != "1" ||
		got.RequestID != "my-1" || !got.Deadline.Equal(deadline) || string(got.Inputs[0].Data) != "\x01\x02\x03" {
		t.Errorf("delivered %+v", got)
	}
}

// A model's default deadline counts for requests that name none.
func TestDefaultDeadline(t *testing.T) {
	p, q := setup(t, nil)
	info := doubler()
	info.Name, info.Deadline = "hasty", time.Hour
	announce(t, q, p, info)
	r := request(1, 2, 3)
	r.Model = "hasty"
	sub, err := p.Submit(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	got := collectOf(t, q, job.Interactive, "hasty", 1)[0].Deadline
	if want := sub.CreatedAt.Add(time.Hour).Truncate(time.Millisecond); !got.Equal(want) || !sub.Deadline.Truncate(time.Millisecond).Equal(want) {
		t.Errorf("deadline %v, the submission says %v, expected %v", got, sub.Deadline, want)
	}
}

func TestSubmitRefuses(t *testing.T) {
	p, _ := setup(t, nil)
	wrongType := request(1, 2, 3)
	wrongType.Inputs[0].Datatype = job.Int8
	for name, c := range map[string]struct {
		r    producer.Request
		code job.Code
		says string
	}{
		"unknown model":   {producer.Request{Model: "nonsense"}, job.CodeUnknownModel, "model_name"},
		"unknown version": {producer.Request{Model: "doubler", Version: "9"}, job.CodeUnknownModel, "version"},
		"no input":        {producer.Request{Model: "doubler"}, job.CodeInvalid, "inputs"},
		"wrong shape":     {request(1, 2), job.CodeInvalid, "[-1,3]"},
		"wrong datatype":  {wrongType, job.CodeInvalid, "UINT8"},
		"bad tenant":      {func() producer.Request { r := request(1, 2, 3); r.Tenant = "a.>"; return r }(), job.CodeInvalid, "tenant"},
		"reply to all":    {func() producer.Request { r := request(1, 2, 3); r.Reply = "foo.*"; return r }(), job.CodeInvalid, ""},
		"line in the id":  {func() producer.Request { r := request(1, 2, 3); r.RequestID = "a\nb"; return r }(), job.CodeMalformed, "request_id"},
		"parameter of another type": {func() producer.Request {
			r := request(1, 2, 3)
			r.Parameters = []job.Parameter{{Name: "k", Value: 5}}
			return r
		}(), job.CodeInvalid, "parameters.k"},
		"unknown output": {func() producer.Request { r := request(1, 2, 3); r.Outputs = []string{"z"}; return r }(), job.CodeInvalid, "outputs"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := p.Submit(t.Context(), c.r)
			var fault *job.Error
			if !errors.As(err, &fault) || fault.Code != c.code || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, expected a %s error that says %q", err, c.code, c.says)
			}
		})
	}
}

// The tenant's limit and the lane's are told apart.
func TestSubmitFull(t *testing.T) {
	p, _ := setup(t, func(c *producer.Config) {
		c.Queue.Interactive.MaxMsgs, c.Queue.Interactive.MaxMsgsPerSubject = 3, 2
	})
	submit := func(tenant string) error {
		r := request(1, 2, 3)
		r.Tenant = tenant
		_, err := p.Submit(t.Context(), r)
		return err
	}
	if err := errors.Join(submit("a"), submit("a")); err != nil {
		t.Fatal(err)
	}
	if err := submit("a"); !errors.Is(err, producer.ErrTenantFull) {
		t.Errorf("a third job of a tenant: %v", err)
	}
	if err := submit("b"); err != nil {
		t.Errorf("another tenant's job: %v", err)
	}
	if err := submit("b"); !errors.Is(err, producer.ErrFull) {
		t.Errorf("a job over the lane's limit: %v", err)
	}
}

func sequence(n int, at func(i int) producer.Request) iter.Seq[producer.Request] {
	return func(yield func(producer.Request) bool) {
		for i := range n {
			if !yield(at(i)) {
				return
			}
		}
	}
}

// Every request of a bulk submit is reported once, in its place; bad ones do not hold up the others.
func TestSubmitAll(t *testing.T) {
	p, q := setup(t, nil)
	const n = 1000
	reported := make([]int, n)
	ids := map[job.ID]byte{}
	err := p.SubmitAll(t.Context(), sequence(n, func(i int) producer.Request {
		if i%100 == 7 {
			return request(1) // wrong shape
		}
		r := request(byte(i), 0, byte(i>>8))
		r.Lane = job.Bulk
		return r
	}), func(i int, s producer.Submission, err error) {
		reported[i]++
		if bad := i%100 == 7; bad != (err != nil) {
			t.Errorf("request %d: %v", i, err)
		}
		if err == nil {
			ids[s.Ticket.ID] = byte(i)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, times := range reported {
		if times != 1 {
			t.Errorf("request %d was reported %d times", i, times)
		}
	}
	jobs := collect(t, q, job.Bulk, n-n/100)
	if len(jobs) != len(ids) {
		t.Errorf("%d jobs were delivered, %d accepted", len(jobs), len(ids))
	}
	for _, j := range jobs {
		if first, ok := ids[j.ID]; !ok || j.Inputs[0].Data[0] != first {
			t.Errorf("job %s has the data of another", j.ID)
		}
	}
}

// A bulk submit waits while the queue is full, and goes on when there is room.
func TestSubmitAllWaitsForRoom(t *testing.T) {
	p, q := setup(t, func(c *producer.Config) {
		c.Queue.Bulk.MaxMsgs, c.Queue.Bulk.MaxMsgsPerSubject = 4, 4
		c.Queue.Publish.MaxJobs, c.ChunkJobs, c.RetryMax = 5, 10, 50*time.Millisecond
	})
	const n = 100
	var accepted sync.WaitGroup
	accepted.Add(n)
	ended := make(chan error, 1)
	go func() {
		ended <- p.SubmitAll(t.Context(), sequence(n, func(i int) producer.Request {
			r := request(byte(i), 0, 0)
			r.Lane = job.Bulk
			return r
		}), func(int, producer.Submission, error) { accepted.Done() })
	}()
	seen := map[byte]bool{}
	for len(seen) < n {
		for _, j := range collect(t, q, job.Bulk, 1) {
			seen[j.Inputs[0].Data[0]] = true
		}
	}
	accepted.Wait()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A context that ends leaves a full queue with its error.
func TestSubmitAllEnds(t *testing.T) {
	p, _ := setup(t, func(c *producer.Config) { c.Queue.Bulk.MaxMsgs = 1 })
	ctx, cancel := context.WithCancel(t.Context())
	var once sync.Once
	err := p.SubmitAll(ctx, sequence(10_000, func(int) producer.Request {
		r := request(1, 2, 3)
		r.Lane = job.Bulk
		return r
	}), func(int, producer.Submission, error) { once.Do(cancel) })
	if err == nil {
		t.Error("a bulk submit into a full queue ended without an error")
	}
}

// A job that is too large for a message is refused alone.
func TestTooLarge(t *testing.T) {
	p, q := setup(t, func(c *producer.Config) { c.Limits.MaxElements, c.Limits.MaxRows = 64<<20, 64<<20 })
	info := doubler()
	info.Signature.Inputs[0].Shape = []int64{-1, 1 << 20}
	info.Name = "wide"
	announce(t, q, p, info)
	big := func(rows int) producer.Request {
		return producer.Request{Model: "wide", Inputs: []job.Tensor{{
			Name: "x", Datatype: job.Uint8, Shape: []int64{int64(rows), 1 << 20}, Data: make([]byte, rows<<20),
		}}}
	}
	if _, err := p.Submit(t.Context(), big(9)); !errors.Is(err, producer.ErrTooLarge) {
		t.Errorf("9 MiB in one job: %v", err)
	}
	refused := 0
	err := p.SubmitAll(t.Context(), sequence(3, func(i int) producer.Request { return big(1 + 8*(i%2)) }),
		func(i int, _ producer.Submission, err error) {
			if (i == 1) != errors.Is(err, producer.ErrTooLarge) {
				t.Errorf("request %d: %v", i, err)
			}
			if err != nil {
				refused++
			}
		})
	if err != nil || refused != 1 {
		t.Errorf("%d refused, %v; expected one", refused, err)
	}
}

func TestConfigNamesEveryFault(t *testing.T) {
	var cfg producer.Config
	err := cfg.Validate()
	for _, name := range []string{"ChunkJobs", "MaxInFlight", "MaxSubmits", "RetryMax", "MaxRows"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
}
