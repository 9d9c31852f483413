package queue

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
)

func TestOneRefreshAtATime(t *testing.T) {
	var c progressCache
	k := progressKey{job.Bulk, "digits"}
	start := time.Unix(1_000_000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	look := func(ms int, waiting uint64, removed uint64) *progress {
		return &progress{at: at(ms), removed: removed, shares: []shareProgress{{served: true, waiting: waiting, deliveries: removed}}}
	}
	_, r, mine := c.get(k, at(0))
	if r == nil || !mine {
		t.Fatal("the first is to refresh")
	}
	if _, again, mine := c.get(k, at(1)); again != r || mine {
		t.Error("the second is to wait for the first")
	}
	if _, other, mine := c.get(progressKey{job.Interactive, "digits"}, at(1)); other == r || !mine {
		t.Error("another lane is another matter")
	}
	c.set(k, r, nil, errors.New("down"))
	select {
	case <-r.done:
	default:
		t.Error("those who wait are not told")
	}
	_, r, mine = c.get(k, at(2))
	if r == nil || !mine {
		t.Fatal("a failure is remembered")
	}
	c.set(k, r, look(10, 100, 0), nil)
	if r.load.waiting() != 100 || r.err != nil {
		t.Errorf("those who waited are told %+v, %v", r.load, r.err)
	}
	if load, r, _ := c.get(k, at(59)); r != nil || load.waiting() != 100 {
		t.Errorf("while it is young it is believed: %+v", load)
	}
	_, r, mine = c.get(k, at(60))
	if r == nil || !mine {
		t.Fatal("it is too old for whoever asks first")
	}
	if load, r, _ := c.get(k, at(2009)); r != nil || load.waiting() != 100 {
		t.Errorf("and good enough for the others: %+v", load)
	}
	if _, waits, mine := c.get(k, at(2010)); waits != r || mine {
		t.Error("when it is two seconds old they wait")
	}
	c.set(k, r, look(1010, 90, 50), nil)
	if r.load.rate != 50 {
		t.Errorf("expected a rate of 50, got %v", r.load.rate)
	}
}

func TestTheProgressOfManyModelsIsBounded(t *testing.T) {
	var c progressCache
	first := progressKey{model: "0"}
	_, r, _ := c.get(first, time.Now())
	for i := range 3 * maxProgress {
		c.get(progressKey{model: string(rune('a' + i))}, time.Now())
	}
	if len(c.seen) > maxProgress {
		t.Errorf("%d are remembered", len(c.seen))
	}
	c.set(first, r, &progress{shares: []shareProgress{{waiting: 7}}}, nil) // forgotten meanwhile
	if r.load.waiting() != 7 {
		t.Error("who waited for it is not told")
	}
}

// The rate of a backlog that is worked off, with messages that are delivered twice: only the clock is fake.
func TestTheRateOfARealBacklog(t *testing.T) {
	cfg := DefaultConfig()
	cfg.URL = testserver.NATS(t)
	q, err := Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if err := errors.Join(q.EnsureStreams(t.Context()), q.EnsureConsumer(t.Context(), job.Bulk, "digits")); err != nil {
		t.Fatal(err)
	}
	sources, err := q.Sources(t.Context(), job.Bulk, "digits")
	if err != nil {
		t.Fatal(err)
	}
	const each = 50
	for _, tenant := range []string{"a", "b", "c", "d"} {
		for range each {
			id, err := job.NewID()
			if err != nil {
				t.Fatal(err)
			}
			j := &job.Job{ID: id, Lane: job.Bulk, Model: "digits", Tenant: tenant, CreatedAt: time.Now()}
			if _, _, err := q.Publish(t.Context(), j); err != nil {
				t.Fatal(err)
			}
		}
	}
	begin := time.Now()
	look := func(second int) *progress {
		t.Helper()
		p, err := q.readProgress(t.Context(), job.Bulk, "digits")
		if err != nil {
			t.Fatal(err)
		}
		p.at = begin.Add(time.Duration(second) * time.Second)
		return p
	}
	before := look(0)
	for until := time.Now().Add(10 * time.Second); before.waiting() < 4*each && time.Now().Before(until); {
		before = look(0) // a message is stored before its consumer knows of it
	}
	if before.waiting() != 4*each || before.running() != 0 {
		t.Fatalf("%d wait, %d run", before.waiting(), before.running())
	}
	// Of each share with messages: 20 are fetched and 5 of them given back, and fetched again; 12 are acknowledged.
	acked := 0
	for _, s := range sources {
		n := 0
		var held []*Delivery
		take := func(d *Delivery) { held = append(held, d) }
		if n, err = s.Fetch(t.Context(), 20, 0, take); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			continue
		}
		for _, d := range held[:5] {
			if err := d.Retry(0); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.conn.Flush(); err != nil {
			t.Fatal(err)
		}
		held = held[5:]
		for len(held) < n {
			if _, err := s.Fetch(t.Context(), n-len(held), time.Second, take); err != nil {
				t.Fatal(err)
			}
		}
		for _, d := range held[:12] {
			if err := d.Ack(); err != nil {
				t.Fatal(err)
			}
			acked++
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	after := look(3)
	for after.removed-before.removed < uint64(acked) && ctx.Err() == nil { // acks are not waited for
		after = look(3)
	}
	var m meter
	m.add(before, after)
	if got := m.value(after.at); acked == 0 || got != float64(acked)/3 {
		t.Errorf("%d messages in 3 s: got a rate of %v; %+v, %+v", acked, got, before, after)
	}
}
