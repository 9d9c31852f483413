package queue_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// stranding is a queue whose consumers give a message up after two deliveries.
func stranding(t testing.TB, change func(*queue.Config)) *queue.Queue {
	t.Helper()
	return ready(t, func(c *queue.Config) {
		c.Interactive.MaxDeliver, c.Interactive.AckWait = 2, 200*time.Millisecond
		if change != nil {
			change(c)
		}
	})
}

// advisories collects what JetStream says.
func advisories(t testing.TB, q *queue.Queue) <-chan queue.GivenUp {
	t.Helper()
	heard := make(chan queue.GivenUp, 64)
	stop, err := q.OnGivenUp(func(g queue.GivenUp) { heard <- g })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return heard
}

// exhaust lets the deliveries of n messages lapse until JetStream gives them up, and returns what it says. It does so
// when somebody asks for more.
func exhaust(t testing.TB, s *queue.Source, n int, heard ...<-chan queue.GivenUp) []queue.GivenUp {
	t.Helper()
	var all []queue.GivenUp
	for deadline := time.Now().Add(patience); len(all) < n; {
		if time.Now().After(deadline) {
			t.Fatalf("JetStream has given up %d messages of %d", len(all), n)
		}
		if _, err := s.Fetch(t.Context(), n, 100*time.Millisecond, func(*queue.Delivery) {}); err != nil {
			t.Fatal(err)
		}
		for _, from := range heard {
			for len(from) > 0 {
				all = append(all, <-from)
			}
		}
	}
	return all
}

func sweep(t testing.TB, q *queue.Queue, floors *queue.Floors, limit int) (seqs []uint64, more bool) {
	t.Helper()
	more, err := q.Sweep(t.Context(), floors, limit, func(s *queue.Stranded) error {
		seqs = append(seqs, s.Seq)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return seqs, more
}

// What JetStream does at MaxDeliver: the message stays in the stream, at or below the consumer's floor, and is pending
// no more. The advisory says so, once; a sweep finds it for as long as it is there.
func TestAMessageThatJetStreamGivesUpIsFound(t *testing.T) {
	q := stranding(t, nil)
	heard := advisories(t, q)
	s := source(t, q, job.Interactive, "digits")
	var floors queue.Floors
	sweep(t, q, &floors, 10)
	j := newJob(t, nil)
	ticket := publish(t, q, j)
	g := exhaust(t, s, 1, heard)[0]
	if g.Seq != ticket.Seq || g.Deliveries != 2 || g.Lane != job.Interactive {
		t.Errorf("the advisory says %+v", g)
	}
	found, err := q.StrandedAt(t.Context(), g)
	if err != nil {
		t.Fatal(err)
	}
	if !job.ContainsJob(&found.Envelope, j.ID, 0) || found.Envelope.Tenant != job.DefaultTenant || found.Envelope.Model != "digits" || found.Deliveries != 2 {
		t.Errorf("found %+v", found)
	}
	fetchNone(t, s)
	for i, want := range [][]uint64{nil, {ticket.Seq}, {ticket.Seq}} { // what was not so at the sweep before is left alone
		if got, _ := sweep(t, q, &floors, 10); !slices.Equal(got, want) {
			t.Errorf("sweep %d found %v, expected %v", i+1, got, want)
		}
	}
	for range 2 { // the second is what is done again after a crash
		if err := q.BuryStranded(t.Context(), found, []job.ID{j.ID}, "exhausted: given up"); err != nil {
			t.Fatal(err)
		}
		if err := q.RemoveStranded(t.Context(), found); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := q.StrandedAt(t.Context(), g); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("after its removal: %v", err)
	}
	if got, _ := sweep(t, q, &floors, 10); got != nil {
		t.Errorf("after its removal a sweep found %v", got)
	}
	list := letters(t, q, queue.DeadFilter{Job: j.ID})
	if len(list) != 1 || list[0].Subject != "sheaf.interactive.digits.default" || list[0].Attempts != 2 || list[0].OriginalSeq != ticket.Seq {
		t.Errorf("the dead letters: %+v", list)
	}
}

// A message that a worker holds is never taken from it, nor is one that waits for another delivery, whatever an
// advisory says.
func TestAMessageThatIsHeldIsNotStranded(t *testing.T) {
	q := stranding(t, func(c *queue.Config) { c.Interactive.AckWait = time.Second })
	heard := advisories(t, q)
	s := source(t, q, job.Interactive, "digits")
	var floors queue.Floors
	held := publish(t, q, newJob(t, nil))
	d := fetch(t, s, 1)[0]
	if err := d.Retry(0); err != nil {
		t.Fatal(err)
	}
	d = fetch(t, s, 1)[0] // its last delivery
	lost := publish(t, q, newJob(t, nil))
	forged := queue.GivenUp{Lane: job.Interactive, Consumer: consumerOf("digits"), Seq: held.Seq, Deliveries: 1, Time: time.Now()}
	var g queue.GivenUp
	for deadline := time.Now().Add(patience); g.Seq == 0; {
		if time.Now().After(deadline) {
			t.Fatal("JetStream did not give the message up")
		}
		if err := d.Extend(); err != nil {
			t.Fatalf("the lease could not be kept: %v", err)
		}
		_, err := s.Fetch(t.Context(), 1, 100*time.Millisecond, func(l *queue.Delivery) {
			if l.Seq != lost.Seq {
				t.Errorf("message %d came", l.Seq)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(heard) > 0 {
			g = <-heard
		}
		if got, _ := sweep(t, q, &floors, 10); got != nil {
			t.Fatalf("a sweep found %v while message %d is held", got, held.Seq)
		}
		if _, err := q.StrandedAt(t.Context(), forged); !errors.Is(err, queue.ErrNotStranded) {
			t.Fatalf("the message that is held: %v", err)
		}
	}
	// While the other one is held the sweep cannot tell; the advisory can.
	if _, err := q.StrandedAt(t.Context(), g); g.Seq != lost.Seq || err != nil {
		t.Errorf("message %d beside the one that is held: %v", g.Seq, err)
	}
	if err := d.Ack(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the sweep finds it", func() bool {
		got, _ := sweep(t, q, &floors, 10)
		return slices.Equal(got, []uint64{lost.Seq})
	})
	if _, err := q.StrandedAt(t.Context(), forged); !errors.Is(err, job.ErrNotFound) {
		t.Errorf("the message that was acknowledged: %v", err)
	}
	forged.Consumer = "tumor"
	forged.Seq = lost.Seq
	if err := q.EnsureConsumer(t.Context(), job.Interactive, "tumor"); err != nil {
		t.Fatal(err)
	}
	if _, err := q.StrandedAt(t.Context(), forged); !errors.Is(err, queue.ErrNotStranded) {
		t.Errorf("another model's consumer: %v", err)
	}
}

// A sweep is bounded, and says when there is more.
func TestASweepIsBounded(t *testing.T) {
	q := stranding(t, nil)
	heard := advisories(t, q)
	s := source(t, q, job.Interactive, "digits")
	const n = 5
	for range n {
		publish(t, q, newJob(t, nil))
	}
	exhaust(t, s, n, heard)
	var floors queue.Floors
	sweep(t, q, &floors, 3)
	if got, more := sweep(t, q, &floors, 3); len(got) != 3 || !more {
		t.Errorf("found %v, more %v", got, more)
	}
	if got, more := sweep(t, q, &floors, 10); len(got) != n || more {
		t.Errorf("found %v, more %v", got, more)
	}
}

// One process of all hears of it.
func TestAnAdvisoryIsHeardOnce(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	cfg.Interactive.MaxDeliver, cfg.Interactive.AckWait = 2, 200*time.Millisecond
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	one, two := advisories(t, q), advisories(t, connect(t, cfg))
	s := source(t, q, job.Interactive, "digits")
	const n = 8
	for range n {
		publish(t, q, newJob(t, nil))
	}
	told := exhaust(t, s, n, one, two)
	// Whatever else comes is of another message.
	publish(t, q, newJob(t, nil))
	told = append(told, exhaust(t, s, 1, one, two)...)
	for i := range told {
		if slices.ContainsFunc(told[:i], func(g queue.GivenUp) bool { return g.Seq == told[i].Seq }) {
			t.Errorf("message %d was told of twice", told[i].Seq)
		}
	}
}
