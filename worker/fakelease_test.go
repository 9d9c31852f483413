package worker

import (
	"sync"
	"time"

	"github.com/sheafml/sheaf/queue"
)

// newLease returns the lease of this delivery.
func (m *fakeMessage) newLease() lease {
	m.broker.mu.Lock()
	defer m.broker.mu.Unlock()
	if !m.broker.lapse {
		return m
	}
	now, wait := time.Now(), m.broker.ackWait
	m.expires = now.Add(wait)
	attempt := m.attempts
	var check func()
	check = func() {
		m.broker.mu.Lock()
		defer m.broker.mu.Unlock()
		switch left := time.Until(m.expires); {
		case !m.held || m.attempts != attempt || m.acked:
		case left > 0:
			time.AfterFunc(left, check)
		default:
			m.held = false
			m.broker.put(m)
		}
	}
	time.AfterFunc(wait, check)
	return &fakeLease{m: m, lapses: now.Add(wait - wait/20)}
}

// fakeLease is a lease that ends a little before the server thinks so.
type fakeLease struct {
	m *fakeMessage

	mu     sync.Mutex
	lapses time.Time
}

func (l *fakeLease) Ack() error { return l.m.Ack() }

func (l *fakeLease) Retry(delay time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !time.Now().Before(l.lapses) {
		return queue.ErrLapsed
	}
	l.lapses = time.Time{}
	return l.m.Retry(delay)
}

func (l *fakeLease) Extend() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if !now.Before(l.lapses) {
		return queue.ErrLapsed
	}
	if err := l.m.Extend(); err != nil {
		return err
	}
	wait := l.m.broker.ackWait
	l.lapses = now.Add(wait - wait/20)
	l.m.broker.locked(func() { l.m.expires = now.Add(wait) })
	return nil
}
