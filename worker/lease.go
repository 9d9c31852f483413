package worker

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sheafml/sheaf/queue"
)

// keeper renews the leases of every message that the worker holds, buffered or in flight, at a third of their length.
// One goroutine serves all lanes and models.
type keeper struct {
	lists []*leaseList
	nats  *outage
}

// leaseList is the held messages of one lane and model. They have the same AckWait, so the one renewed longest ago is
// always the first.
type leaseList struct {
	ackWait time.Duration
	mu      sync.Mutex
	first   *message
	last    *message
}

// holding is a message's place in its list.
type holding struct {
	list       *leaseList
	prev, next *message
	renewed    time.Time
	over       bool // nobody keeps it any more
}

// open makes a list. All are made before the keeper runs.
func (k *keeper) open(ackWait time.Duration) *leaseList {
	l := &leaseList{ackWait: ackWait}
	k.lists = append(k.lists, l)
	return l
}

// run renews until ctx ends.
func (k *keeper) run(ctx context.Context) {
	every := time.Minute
	for _, l := range k.lists {
		every = min(every, l.ackWait/12)
	}
	tick := time.NewTicker(max(every, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, l := range k.lists {
				if err := l.renew(time.Now()); err != nil {
					k.nats.fail(err)
					break // the others would fail alike; the next tick tries again
				}
			}
		}
	}
}

// renew extends the leases that are due. It stops at the first error, and nothing is lost: what was not extended
// stays first. Extend may have to wait for the network, so nobody waits for the list meanwhile.
func (l *leaseList) renew(now time.Time) error {
	for m := l.takeDue(now); m != nil; m = l.takeDue(now) {
		err := m.lease.Extend()
		l.putBack(m, now, err)
		// If it has lapsed another worker may hold the message by now. What is computed here still counts; only an ack
		// may be sent.
		if err != nil && !errors.Is(err, queue.ErrLapsed) {
			return err
		}
	}
	return nil
}

// takeDue takes the first message out of the list if its lease is due.
func (l *leaseList) takeDue(now time.Time) *message {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.first
	if m == nil || now.Sub(m.held.renewed) < l.ackWait/3 {
		return nil
	}
	l.unlink(m)
	return m
}

// putBack puts it in again: last if its lease was extended, first if that failed, and not at all if there is nothing to
// keep any more.
func (l *leaseList) putBack(m *message, now time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case m.held.over || errors.Is(err, queue.ErrLapsed):
	case err != nil:
		l.putFirst(m)
	default:
		m.held.renewed = now
		l.putLast(m)
	}
}

// add starts to keep the lease of m, which has just been delivered.
func (l *leaseList) add(m *message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m.held.renewed = m.taken
	l.putLast(m)
}

// remove stops keeping the lease of m.
func (l *leaseList) remove(m *message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unlink(m)
	m.held.over = true
}

// clear forgets all that is held and returns it.
func (l *leaseList) clear() []*message {
	l.mu.Lock()
	defer l.mu.Unlock()
	var held []*message
	for l.first != nil {
		held = append(held, l.first)
		l.unlink(l.first)
	}
	return held
}

func (l *leaseList) putLast(m *message) {
	m.held.list, m.held.prev, m.held.next = l, l.last, nil
	if l.last == nil {
		l.first = m
	} else {
		l.last.held.next = m
	}
	l.last = m
}

func (l *leaseList) putFirst(m *message) {
	m.held.list, m.held.prev, m.held.next = l, nil, l.first
	if l.first == nil {
		l.last = m
	} else {
		l.first.held.prev = m
	}
	l.first = m
}

// unlink does nothing to a message that is in no list.
func (l *leaseList) unlink(m *message) {
	if m.held.list == nil {
		return
	}
	if m.held.prev == nil {
		l.first = m.held.next
	} else {
		m.held.prev.held.next = m.held.next
	}
	if m.held.next == nil {
		l.last = m.held.prev
	} else {
		m.held.next.held.prev = m.held.prev
	}
	m.held = holding{renewed: m.held.renewed, over: m.held.over}
}
