package queue_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// leased publishes one job and fetches it under a lease of ackWait.
func leased(t *testing.T, ackWait time.Duration) (*queue.Queue, *queue.Source, *queue.Delivery) {
	t.Helper()
	q := ready(t, func(c *queue.Config) { c.Interactive.AckWait = ackWait })
	s := source(t, q, job.Interactive, "digits")
	publish(t, q, newJob(t, nil))
	return q, s, fetch(t, s, 1)[0]
}

func TestAMessageThatIsNotAcknowledgedComesAgain(t *testing.T) {
	_, s, first := leased(t, time.Second)
	again := fetch(t, s, 1)[0]
	if again.Seq != first.Seq || again.Attempt != 2 {
		t.Errorf("expected message %d, attempt 2, got %d, attempt %d", first.Seq, again.Seq, again.Attempt)
	}
	if !first.Lapsed() {
		t.Error("the first lease still holds although the message was delivered again")
	}
	for name, call := range map[string]func() error{
		"Retry":  func() error { return first.Retry(0) },
		"Reject": func() error { return first.Reject("why") },
		"Extend": first.Extend,
	} {
		if err := call(); !errors.Is(err, queue.ErrLapsed) {
			t.Errorf("%s with a lapsed lease: expected ErrLapsed, got %v", name, err)
		}
	}
	// The records are written, says the first: then the second need not come a third time.
	if err := first.Ack(); err != nil {
		t.Errorf("Ack with a lapsed lease: %v", err)
	}
}

func TestRetryGivesTheMessageBack(t *testing.T) {
	_, s, d := leased(t, time.Minute)
	if err := d.Retry(0); err != nil {
		t.Fatal(err)
	}
	again := fetch(t, s, 1)[0]
	if again.Attempt != 2 {
		t.Errorf("expected attempt 2, got %d", again.Attempt)
	}
	if err := d.Extend(); !errors.Is(err, queue.ErrLapsed) {
		t.Errorf("Extend after Retry: expected ErrLapsed, got %v", err)
	}
	const delay = 700 * time.Millisecond
	begin := time.Now()
	if err := again.Retry(delay); err != nil {
		t.Fatal(err)
	}
	third := fetch(t, s, 1)[0]
	if took := time.Since(begin); took < delay*9/10 || third.Attempt != 3 {
		t.Errorf("attempt %d came after %v, and the delay is %v", third.Attempt, took, delay)
	}
}

func TestRejectEndsTheMessage(t *testing.T) {
	q, s, d := leased(t, time.Minute)
	if err := d.Reject("not a picture\r\nof a digit"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the message is gone", func() bool {
		_, err := q.Locate(t.Context(), job.Ticket{ID: decode(t, d)[0], Seq: d.Seq})
		return errors.Is(err, job.ErrNotFound)
	})
	fetchNone(t, s)
}

func TestExtendKeepsTheLeaseBeyondAckWait(t *testing.T) {
	const ackWait = 600 * time.Millisecond
	_, s, d := leased(t, ackWait)
	end := time.Now().Add(4 * ackWait)
	ctx, cancel := context.WithDeadline(t.Context(), end)
	defer cancel()
	again := make(chan int, 1)
	go func() {
		n, _ := s.Fetch(ctx, 1, 4*ackWait, func(*queue.Delivery) {})
		again <- n
	}()
	tick := time.NewTicker(ackWait / 6)
	defer tick.Stop()
	for time.Now().Before(end) {
		<-tick.C
		if err := d.Extend(); err != nil {
			t.Fatalf("extend: %v", err)
		}
	}
	if n := <-again; n != 0 {
		t.Error("the message was delivered again although its lease was extended")
	}
	if err := d.Ack(); err != nil {
		t.Error(err)
	}
}

func TestFetchReturnsWhatIsThere(t *testing.T) {
	q := ready(t, nil)
	s := source(t, q, job.Interactive, "digits")
	if n, err := s.Fetch(t.Context(), 0, time.Hour, nil); n != 0 || err != nil {
		t.Errorf("a fetch of nothing: %d, %v", n, err)
	}
	fetchNone(t, s)
	for range 3 {
		publish(t, q, newJob(t, nil))
	}
	// The server has acknowledged them; on a busy machine its consumer may not have seen them yet.
	for came := 0; came < 3; {
		n, err := s.Fetch(t.Context(), 10, 0, func(*queue.Delivery) {})
		if err != nil || came+n > 3 || t.Context().Err() != nil {
			t.Fatalf("without waiting: expected 3 messages, got %d, %v", came+n, err)
		}
		came += n
	}
	n, err := s.Fetch(t.Context(), 10, 50*time.Millisecond, func(*queue.Delivery) {})
	if n != 0 || err != nil {
		t.Errorf("expected nothing more, got %d, %v", n, err)
	}
	// A waiting fetch is given what comes later, at once, and ends with its limit.
	began := make(chan struct{})
	came := make(chan uint64, 2)
	go func() {
		close(began)
		_, err := s.Fetch(t.Context(), 2, time.Hour, func(d *queue.Delivery) { came <- d.Seq })
		if err != nil {
			t.Error(err)
		}
		close(came)
	}()
	<-began
	for range 2 {
		ticket := publish(t, q, newJob(t, nil))
		if seq := <-came; seq != ticket.Seq {
			t.Errorf("expected message %d, got %d", ticket.Seq, seq)
		}
	}
	if _, more := <-came; more {
		t.Error("more than the limit came")
	}
}

func TestManyFetchesShareTheMessages(t *testing.T) {
	q := ready(t, nil)
	s := source(t, q, job.Interactive, "digits")
	const total = 500
	jobs := newJobs(t, total, func(j *job.Job) { j.Idempotent = true })
	if _, err := q.PublishSheaf(t.Context(), jobs); err != nil {
		t.Fatal(err)
	}
	seqs := make(chan uint64, total)
	done := make(chan error, 4)
	for range 4 {
		go func() {
			for {
				n, err := s.Fetch(t.Context(), 7, 200*time.Millisecond, func(d *queue.Delivery) { seqs <- d.Seq })
				if n == 0 || err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	close(seqs)
	seen := map[uint64]bool{}
	for seq := range seqs {
		if seen[seq] {
			t.Errorf("message %d came twice", seq)
		}
		seen[seq] = true
	}
	if len(seen) != total {
		t.Errorf("expected %d messages, got %d", total, len(seen))
	}
}

func TestAnEndedFetchGivesBackWhatWasOnItsWay(t *testing.T) {
	q := ready(t, func(c *queue.Config) { c.Interactive.AckWait = time.Hour }) // nothing comes back by lapsing
	s := source(t, q, job.Interactive, "digits")
	const total = 400
	if _, err := q.PublishSheaf(t.Context(), newJobs(t, total, func(j *job.Job) { j.Idempotent = true })); err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{}
	for len(seen) < total {
		ctx, cancel := context.WithCancel(t.Context())
		n, err := s.Fetch(ctx, 50, patience, func(d *queue.Delivery) {
			seen[d.Seq] = true
			if len(seen)%20 == 0 {
				cancel() // with some thirty on their way
			}
		})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			t.Fatalf("after %d of %d messages the rest does not come", len(seen), total)
		}
	}
}

func TestAFetchEndsWithItsContext(t *testing.T) {
	q := ready(t, nil)
	s := source(t, q, job.Interactive, "digits")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if n, err := s.Fetch(ctx, 1, time.Hour, func(*queue.Delivery) {}); n != 0 || err != nil {
			t.Errorf("expected nothing and no error, got %d, %v", n, err)
		}
	}()
	cancel()
	<-ended
	if n, err := s.Fetch(ctx, 1, time.Hour, func(*queue.Delivery) {}); n != 0 || err != nil {
		t.Errorf("with an ended context: expected nothing and no error, got %d, %v", n, err)
	}
}

func TestAConsumerThatIsDeletedIsMadeAgain(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := source(t, q, job.Interactive, "digits")
	_, js := operator(t, cfg.URL)
	publish(t, q, newJob(t, nil))
	if err := js.DeleteConsumer(t.Context(), "interactive", consumerOf("digits")); err != nil {
		t.Fatal(err)
	}
	came := 0
	eventually(t, "the message is delivered", func() bool {
		n, err := s.Fetch(t.Context(), 1, time.Second, func(*queue.Delivery) {})
		if err != nil && !errors.Is(err, queue.ErrUnavailable) {
			t.Fatal(err)
		}
		came += n
		return came == 1
	})
	// The same while a fetch waits.
	waiting := make(chan error, 1)
	go func() {
		_, err := s.Fetch(t.Context(), 1, time.Hour, func(*queue.Delivery) {})
		waiting <- err
	}()
	eventually(t, "the fetch waits", func() bool {
		c, err := js.Consumer(t.Context(), "interactive", consumerOf("digits"))
		return err == nil && c.CachedInfo().NumWaiting == 1
	})
	if err := js.DeleteStream(t.Context(), "interactive"); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; !errors.Is(err, queue.ErrUnavailable) {
		t.Errorf("expected ErrUnavailable, got %v", err)
	}
	eventually(t, "stream and consumer are there again", func() bool {
		_, err := s.Fetch(t.Context(), 1, 0, func(*queue.Delivery) {})
		return err == nil
	})
}

// All shares are healed at once, for leases as long as those that the sources were opened with.
func TestALostStreamIsMadeAgainWithAllItsConsumers(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	cfg.Interactive.AckWait = 71 * time.Second
	first := connect(t, cfg)
	if err := first.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	sources(t, first, job.Interactive, "digits")
	q := started(t, cfg.URL, queue.DefaultConfig().TenantShares)
	all := sources(t, q, job.Interactive, "digits")
	_, js := operator(t, cfg.URL)
	if err := js.DeleteStream(t.Context(), "interactive"); err != nil {
		t.Fatal(err)
	}
	var workers sync.WaitGroup
	for share, s := range all {
		workers.Go(func() {
			err := queue.ErrUnavailable
			for begin := time.Now(); errors.Is(err, queue.ErrUnavailable) && time.Since(begin) < patience; {
				_, err = s.Fetch(t.Context(), 1, 50*time.Millisecond, func(*queue.Delivery) {})
			}
			if err != nil {
				t.Errorf("share %d: %v", share, err)
			}
		})
	}
	workers.Wait()
	for share, s := range sources(t, q, job.Interactive, "digits") {
		if s.AckWait() != 71*time.Second {
			t.Errorf("share %d: leases of %v", share, s.AckWait())
		}
	}
	l := ledger{}
	l.publishFor(t, q, "digits", 20)
	l.drainAll(t, all)
}

func TestAMessageWithoutATenantGoesAmongTheDeadLetters(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := sources(t, q, job.Interactive, "digits")
	_, js := operator(t, cfg.URL)
	for _, subject := range []string{"sheaf.interactive.digits", "sheaf.interactive.digits.a.b", "sheaf.interactive.digits.a.0"} {
		if _, err := js.Publish(t.Context(), subject, []byte("garbage")); err == nil {
			t.Errorf("%s: a message that no worker would ever get was accepted", subject)
		}
	}
	subjects := []string{"sheaf.interactive.digits.%2Ea", "sheaf.interactive.digits.a%20"}
	for _, subject := range subjects {
		if _, err := js.Publish(t.Context(), subject, []byte("garbage")); err != nil {
			t.Fatal(err)
		}
	}
	ticket := publish(t, q, newJob(t, nil))
	var came []uint64
	for _, s := range all {
		drain(t, s, func(d *queue.Delivery) { came = append(came, d.Seq) })
	}
	if len(came) != 1 || came[0] != ticket.Seq {
		t.Errorf("expected only the good message %d, got %d", ticket.Seq, came)
	}
	letters := deadLetters(t, js, len(subjects))
	for i := range letters { // the shares decide on the order
		if h := letters[i].Headers(); !slices.Contains(subjects, h.Get(queue.HeaderDeadSubject)) || h.Get(queue.HeaderDeadReason) == "" {
			t.Errorf("dead letter %d: %v", i, h)
		}
	}
	eventually(t, "the bad messages are gone", func() bool {
		s, err := js.Stream(t.Context(), "interactive")
		return err == nil && s.CachedInfo().State.Msgs == 1
	})
}

// What is not sent does not prolong a lease: another worker may hold the message by then.
func TestExtendThatIsNotSentProlongsNothing(t *testing.T) {
	server, q := onProcess(t, func(c *queue.Config) { c.Interactive.AckWait = 500 * time.Millisecond })
	s := source(t, q, job.Interactive, "digits")
	publish(t, q, newJob(t, nil))
	d := fetch(t, s, 1)[0]
	server.Kill()
	eventually(t, "the lease lapses although it is extended in vain", func() bool {
		return errors.Is(d.Extend(), queue.ErrLapsed)
	})
}
