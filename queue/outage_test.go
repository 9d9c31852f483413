package queue_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// onProcess connects to a nats-server process and makes the streams.
func onProcess(t *testing.T, change func(*queue.Config)) (*testserver.NATSServer, *queue.Queue) {
	t.Helper()
	server := testserver.StartNATS(t, "")
	cfg := testConfig(server.URL())
	cfg.Publish.Timeout = patience
	if change != nil {
		change(&cfg)
	}
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	return server, q
}

func TestNothingIsLostOrDoubledWhenTheServerIsKilledMidPublish(t *testing.T) {
	server, q := onProcess(t, nil)
	const callers, each = 16, 150
	var (
		mu       sync.Mutex
		accepted = map[job.ID]job.Ticket{}
		count    atomic.Int64
		wg       sync.WaitGroup
	)
	accept := func(tickets ...job.Ticket) {
		mu.Lock()
		defer mu.Unlock()
		for _, ticket := range tickets {
			accepted[ticket.ID] = ticket
		}
		count.Add(int64(len(tickets)))
	}
	for caller := range callers {
		jobs := newJobs(t, each, func(j *job.Job) { j.Idempotent = caller%4 == 1 })
		wg.Go(func() {
			if caller%4 == 0 {
				tickets, err := q.PublishSheaf(t.Context(), jobs)
				if err != nil {
					t.Errorf("PublishSheaf: %v", err)
				}
				accept(tickets...)
				return
			}
			for _, j := range jobs {
				ticket, _, err := q.Publish(t.Context(), j)
				if err != nil {
					t.Errorf("Publish: %v", err)
					return
				}
				accept(ticket)
			}
		})
	}
	for kills := range int64(3) {
		eventually(t, "some jobs are accepted", func() bool { return count.Load() > 400*(kills+1) })
		server.Kill()
		server.Start()
	}
	wg.Wait()
	if len(accepted) != callers*each {
		t.Fatalf("expected %d jobs accepted, got %d", callers*each, len(accepted))
	}

	s := source(t, q, job.Interactive, "digits")
	seen := map[job.ID]bool{}
	for n := 1; n > 0; {
		var err error
		n, err = s.Fetch(t.Context(), 500, time.Second, func(d *queue.Delivery) {
			for place, id := range decode(t, d) {
				if seen[id] {
					t.Errorf("job %v is stored twice", id)
				}
				seen[id] = true
				if ticket := accepted[id]; ticket.Seq != d.Seq || ticket.Index != place {
					t.Errorf("job %v is at message %d, place %d; its ticket says %v", id, d.Seq, place, ticket)
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != callers*each {
		t.Errorf("expected %d jobs in the stream, got %d", callers*each, len(seen))
	}
}

func TestPublishGivesUpAfterItsTimeout(t *testing.T) {
	server, q := onProcess(t, func(c *queue.Config) { c.Publish.Timeout = 300 * time.Millisecond })
	server.Pause()
	eventually(t, "a publish to a server that is silent is unavailable and uncertain", func() bool {
		_, _, err := q.Publish(t.Context(), newJob(t, nil))
		return errors.Is(err, queue.ErrUnavailable) && errors.Is(err, queue.ErrUncertain)
	})
	server.Kill()
	eventually(t, "the connection is seen to be lost", func() bool {
		return errors.Is(q.Ready(t.Context()), queue.ErrUnavailable)
	})
	j := newJob(t, nil)
	_, _, err := q.Publish(t.Context(), j)
	if !errors.Is(err, queue.ErrUnavailable) || errors.Is(err, queue.ErrUncertain) {
		t.Errorf("no connection: expected ErrUnavailable, and nothing sent, got %v", err)
	}
	if _, err := q.PublishSheaf(t.Context(), newJobs(t, 100, nil)); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("a sheaf: expected ErrUnavailable, got %v", err)
	}
	if _, err := q.Locate(t.Context(), job.Ticket{ID: j.ID, Seq: 1}); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("locate: expected ErrUnavailable, got %v", err)
	}
	if _, err := q.Load(t.Context(), job.Interactive, "digits", ""); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("load: expected ErrUnavailable, got %v", err)
	}
	if err := q.NotifyDone([]job.ID{j.ID}); !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("notify: expected ErrUnavailable, got %v", err)
	}
	server.Start()
	eventually(t, "publishing works again", func() bool {
		_, _, err := q.Publish(t.Context(), newJob(t, nil))
		return err == nil
	})
}

func TestFetchSurvivesARestartOfTheServer(t *testing.T) {
	for name, end := range map[string]func(*testserver.NATSServer){
		"killed": (*testserver.NATSServer).Kill, "stopped": (*testserver.NATSServer).Stop,
	} {
		t.Run(name, func(t *testing.T) {
			server, q := onProcess(t, func(c *queue.Config) { c.Interactive.AckWait = time.Second })
			s := source(t, q, job.Interactive, "digits")
			ticket := publish(t, q, newJob(t, nil))
			fetch(t, s, 1)
			waiting := make(chan error, 1)
			go func() {
				_, err := s.Fetch(t.Context(), 1, time.Hour, func(*queue.Delivery) {})
				waiting <- err
			}()
			_, js := operator(t, server.URL())
			eventually(t, "the fetch waits", func() bool {
				c, err := js.Consumer(t.Context(), "interactive", consumerOf("digits"))
				return err == nil && c.CachedInfo().NumWaiting > 0
			})
			end(server)
			if err := <-waiting; !errors.Is(err, queue.ErrUnavailable) {
				t.Errorf("a waiting fetch: expected ErrUnavailable, got %v", err)
			}
			if n, err := s.Fetch(t.Context(), 1, 10*time.Millisecond, nil); n != 0 || !errors.Is(err, queue.ErrUnavailable) {
				t.Errorf("a fetch without a connection: expected ErrUnavailable, got %d, %v", n, err)
			}
			server.Start()
			var again *queue.Delivery
			eventually(t, "the message comes again", func() bool {
				_, err := s.Fetch(t.Context(), 1, time.Second, func(d *queue.Delivery) { again = d })
				if err != nil && !errors.Is(err, queue.ErrUnavailable) {
					t.Fatal(err)
				}
				return again != nil
			})
			if again.Seq != ticket.Seq { // a server that is killed may forget how often it was delivered
				t.Errorf("expected message %d again, got %d", ticket.Seq, again.Seq)
			}
			if err := again.Ack(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestFetchNoticesASilentServer(t *testing.T) {
	server, q := onProcess(t, nil)
	s := source(t, q, job.Interactive, "digits")
	for name, wait := range map[string]time.Duration{"a short fetch": 50 * time.Millisecond, "a long fetch": time.Hour} {
		server.Pause()
		_, err := s.Fetch(t.Context(), 1, wait, func(*queue.Delivery) {})
		server.Resume()
		if !errors.Is(err, queue.ErrUnavailable) {
			t.Errorf("%s: expected ErrUnavailable, got %v", name, err)
		}
	}
	publish(t, q, newJob(t, nil))
	eventually(t, "messages come again", func() bool {
		n, err := s.Fetch(t.Context(), 1, time.Second, func(*queue.Delivery) {})
		return err == nil && n == 1
	})
}

func TestCloseEndsFetchesAndWaitsForPublishes(t *testing.T) {
	server, q := onProcess(t, nil)
	s := source(t, q, job.Interactive, "another")
	fetched := make(chan error, 1)
	go func() {
		_, err := s.Fetch(context.Background(), 1, time.Hour, func(*queue.Delivery) {})
		fetched <- err
	}()
	server.Pause()
	jobs := newJobs(t, 50, nil)
	tickets, errs, wait := publishAtOnce(t.Context(), q, jobs)
	server.Resume()
	wait()
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-fetched; !errors.Is(err, queue.ErrClosed) {
		t.Errorf("fetch: expected ErrClosed, got %v", err)
	}
	other := connect(t, testConfig(server.URL()))
	for i := range jobs {
		if errs[i] != nil {
			t.Errorf("job %d: %v", i, errs[i])
		} else if _, err := other.Locate(t.Context(), tickets[i]); err != nil {
			t.Errorf("job %d: %v", i, err)
		}
	}
}

// In an outage what has waited for longer than its callers were promised is dropped at once, not sent in its turn.
func TestGroupsDoNotPileUpInAnOutage(t *testing.T) {
	server, q := onProcess(t, func(c *queue.Config) { c.Publish.Timeout, c.Publish.MaxInFlight = 500*time.Millisecond, 1 })
	server.Kill()
	eventually(t, "the connection is seen to be lost", func() bool {
		return errors.Is(q.Ready(t.Context()), queue.ErrUnavailable)
	})
	const groups = 200
	var publishers sync.WaitGroup
	errs := make([]error, groups*64)
	begin := time.Now()
	for i := range errs {
		publishers.Go(func() { _, _, errs[i] = q.Publish(t.Context(), newJob(t, nil)) })
	}
	publishers.Wait()
	for _, err := range errs {
		if !errors.Is(err, queue.ErrUnavailable) {
			t.Fatalf("expected ErrUnavailable, got %v", err)
		}
	}
	// One after the other, each with its own timeout, they would take 100 s.
	if took := time.Since(begin); took > 50*time.Second {
		t.Errorf("%d messages were waited for one after the other: %v", groups, took)
	}
}

// A server that is silent, without an error of the connection, holds up nobody for longer than the request timeout,
// however many ask.
func TestLookUpsDoNotHangAtASilentServer(t *testing.T) {
	server, q := onProcess(t, func(c *queue.Config) { c.RequestTimeout = 300 * time.Millisecond })
	// A publish looks at the consumers; what it sees must not be what answers here.
	ticket := publish(t, q, newJob(t, func(j *job.Job) { j.Model = "other" }))
	server.Pause()
	calls := map[string]func(context.Context) error{
		"Locate": func(ctx context.Context) error { _, err := q.Locate(ctx, ticket); return err },
		"Remove": func(ctx context.Context) error { _, err := q.Remove(ctx, ticket); return err },
		"Load":   func(ctx context.Context) error { _, err := q.Load(ctx, job.Interactive, "digits", ""); return err },
		"Backlog": func(ctx context.Context) error {
			_, _, err := q.Backlog(ctx, job.Bulk, "digits")
			return err
		},
		"Shares":  func(ctx context.Context) error { _, err := q.Shares(ctx, job.Interactive); return err },
		"Sources": func(ctx context.Context) error { _, err := q.Sources(ctx, job.Interactive, "digits"); return err },
		"Ready":   q.Ready,
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	var callers sync.WaitGroup
	begin := time.Now()
	for name, call := range calls {
		for range 20 {
			callers.Go(func() {
				if err := call(t.Context()); !errors.Is(err, queue.ErrUnavailable) {
					t.Errorf("%s: expected ErrUnavailable, got %v", name, err)
				}
			})
			callers.Go(func() {
				if err := call(canceled); !errors.Is(err, context.Canceled) && !errors.Is(err, queue.ErrUnavailable) {
					t.Errorf("%s with an ended context: got %v", name, err)
				}
			})
		}
	}
	callers.Wait()
	if took := time.Since(begin); took > patience { // one after the other they would take longer
		t.Errorf("they were held up for %v", took)
	}
	server.Resume()
	for name, call := range calls {
		if name == "Sources" || name == "Remove" {
			continue // there is no consumer; and the job is still looked for
		}
		eventually(t, name+" works again", func() bool { return call(t.Context()) == nil })
	}
}

// While one caller waits for a slow server, the others make do with what was seen a moment ago.
func TestASlowServerHoldsUpOneCallerOfLoad(t *testing.T) {
	server, q := onProcess(t, nil)
	publish(t, q, newJob(t, nil))
	for try := range 100 {
		if _, err := q.Load(t.Context(), job.Interactive, "digits", ""); err != nil {
			t.Fatal(err)
		}
		server.Pause()
		eventually(t, "one has to ask, since what was seen is too old, and gets no answer", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			_, err := q.Load(ctx, job.Interactive, "digits", "")
			return err != nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		l, err := q.Load(ctx, job.Interactive, "digits", "")
		cancel()
		server.Resume()
		if err == nil && l.Waiting == 1 {
			return
		}
		t.Logf("try %d: %+v, %v", try, l, err) // this machine took more than two seconds for it
	}
	t.Error("the others are held up too")
}
