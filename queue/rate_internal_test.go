package queue

import (
	"math"
	"testing"
	"time"
)

// seen makes a progress of one share.
func seen(second float64, waiting uint64, running int, deliveries, removed uint64) *progress {
	at := time.Unix(1_000_000, 0).Add(time.Duration(second * float64(time.Second)))
	return &progress{at: at, removed: removed, shares: []shareProgress{{served: true, waiting: waiting, running: running, deliveries: deliveries}}}
}

func TestFinished(t *testing.T) {
	unserved := seen(1, 90, 0, 0, 10)
	unserved.shares[0].served = false
	for _, c := range []struct {
		name          string
		before, after *progress
		want          uint64
		ok            bool
	}{
		{"delivered and acknowledged", seen(0, 100, 0, 0, 0), seen(1, 90, 0, 10, 10), 10, true},
		{"some are still running", seen(0, 100, 2, 2, 0), seen(1, 90, 6, 12, 6), 6, true},
		{"others came meanwhile", seen(0, 100, 0, 0, 0), seen(1, 900, 0, 10, 10), 10, true},
		{"nothing", seen(0, 100, 5, 5, 0), seen(1, 100, 5, 5, 0), 0, true},
		{"redelivered, not acknowledged", seen(0, 100, 10, 10, 0), seen(1, 100, 10, 20, 0), 0, true},
		{"redelivered and acknowledged", seen(0, 100, 10, 20, 0), seen(1, 100, 0, 20, 10), 10, true},
		{"delivered twice in between", seen(0, 100, 0, 0, 0), seen(1, 90, 0, 20, 10), 10, true},
		{"another model of the lane", seen(0, 100, 0, 0, 0), seen(1, 90, 0, 10, 5000), 10, true},
		{"delivered only", seen(0, 100, 0, 0, 0), seen(1, 90, 10, 10, 0), 0, true},
		{"given back with a delay", seen(0, 100, 10, 10, 0), seen(1, 100, 12, 11, 0), 0, true},
		{"the consumer is a new one", seen(0, 100, 0, 50, 50), seen(1, 90, 0, 10, 60), 0, false},
		{"the stream is a new one", seen(0, 100, 0, 0, 50), seen(1, 90, 0, 10, 10), 0, false},
		{"served for the first time", unserved, seen(2, 80, 0, 10, 10), 0, false},
		{"more shares", seen(0, 100, 0, 0, 0), &progress{at: time.Unix(1_000_001, 0), shares: make([]shareProgress, 2)}, 0, false},
	} {
		if n, ok := finished(c.before, c.after); n != c.want || ok != c.ok {
			t.Errorf("%s: expected %d, %v, got %d, %v", c.name, c.want, c.ok, n, ok)
		}
	}
}

func TestFinishedAddsUpTheShares(t *testing.T) {
	before := &progress{shares: []shareProgress{{served: true, deliveries: 5, running: 5}, {served: true, deliveries: 7}}}
	after := &progress{removed: 14, shares: []shareProgress{{served: true, deliveries: 9, running: 1}, {served: true, deliveries: 17, running: 4}}}
	if n, ok := finished(before, after); n != 14 || !ok {
		t.Errorf("expected 4+4 and 10-4, got %d, %v", n, ok)
	}
}

func TestMeter(t *testing.T) {
	near := func(got, want float64) bool { return math.Abs(got-want) <= 0.01*want }
	step := func(m *meter, p *progress, took float64, waiting, n uint64) *progress {
		next := seen(0, waiting, 0, p.shares[0].deliveries+n, p.removed+n)
		next.at = p.at.Add(time.Duration(took * float64(time.Second)))
		m.add(p, next)
		return next
	}
	var m meter
	p := seen(0, 1000, 0, 0, 0)
	if m.value(p.at) != 0 {
		t.Error("a rate out of nothing")
	}
	p = step(&m, p, 0.25, 1000, 50)
	if got := m.value(p.at); !near(got, 200) {
		t.Errorf("after the first interval: expected 200, got %v", got)
	}
	for _, c := range []struct {
		name    string
		took    float64
		waiting uint64
	}{{"the queue is empty at its end", 1, 0}, {"the queue was empty at its beginning", 1, 5}, {"too short", 0.001, 5}, {"too long", 11, 5}} {
		p = step(&m, p, c.took, c.waiting, 7)
		if got := m.value(p.at); !near(got, 200) {
			t.Errorf("an interval that says nothing (%s) counts: %v", c.name, got)
		}
	}
	p = step(&m, p, 0.25, 1000, 25) // it was chance
	if got := m.value(p.at); !near(got, 150) {
		t.Errorf("after two intervals of the same length: expected the mean, 150, got %v", got)
	}
	p = step(&m, p, 4.5, 1000, 4.5*150)
	p = step(&m, p, 5, 1000, 5*500) // as long as it is averaged over, and it has been for as long
	if got, want := m.value(p.at), 150+350*(1-1/math.E); !near(got, want) {
		t.Errorf("after 5 s at 500: expected %v, got %v", want, got)
	}
	for range 100 {
		p = step(&m, p, 0.3, 1000, 150)
	}
	if got := m.value(p.at); !near(got, 500) {
		t.Errorf("after long at 500: %v", got)
	}
	for range 100 {
		p = step(&m, p, 0.3, 1000, 0)
	}
	if got := m.value(p.at); got > 2 || got == 0 {
		t.Errorf("after half a minute in which nothing was finished: %v", got)
	}
	if got := m.value(p.at.Add(rateFor + 1)); got != 0 {
		t.Errorf("it is not forgotten: %v", got)
	}
	later := seen(1000, 1000, 0, p.shares[0].deliveries, p.removed)
	later = step(&m, later, 1, 1000, 30)
	if got := m.value(later.at); !near(got, 30) {
		t.Errorf("after it was forgotten it begins anew: expected 30, got %v", got)
	}
}

func TestWait(t *testing.T) {
	for _, c := range []struct {
		load Load
		want time.Duration
		ok   bool
	}{
		{Load{Waiting: 10}, 0, false},
		{Load{Waiting: 10, Rate: 4}, 2500 * time.Millisecond, true},
		{Load{Rate: 4}, 0, true},
		{Load{Waiting: 1 << 30, Rate: 1e-300}, maxWait, true},
	} {
		if got, ok := c.load.Wait(); got != c.want || ok != c.ok {
			t.Errorf("%+v: expected %v, %v, got %v, %v", c.load, c.want, c.ok, got, ok)
		}
	}
}

func TestPlace(t *testing.T) {
	p := &progress{last: 1000, shares: []shareProgress{{delivered: 10, waiting: 3}, {delivered: 40, waiting: 1000}, {delivered: 5, waiting: 50}}}
	for _, c := range []struct {
		seq       uint64
		share     int
		delivered bool
		ahead     uint64
	}{
		{10, 0, true, 0},
		{11, 0, false, 0 + 1 + 1}, // the next of its share: one of each other share may be before it
		{12, 0, false, 1 + 2 + 2},
		{900, 0, false, 3 + 4 + 4},
		{40, 1, true, 0},
		{45, 1, false, 4 + 3 + 5},
		{41, 2, false, 35 + 3 + 36},
		{1000, 2, false, 50 + 3 + 51},
		{1001, 2, false, 50 + 3 + 51},
		{1004, 2, false, 53 + 3 + 54}, // three may have come before it since
		{1, 7, false, 1 + 1 + 1},      // a share that is not known yet
	} {
		if delivered, ahead := p.place(c.seq, c.share); delivered != c.delivered || ahead != c.ahead {
			t.Errorf("message %d of share %d: expected %v, %d, got %v, %d", c.seq, c.share, c.delivered, c.ahead, delivered, ahead)
		}
	}
}
