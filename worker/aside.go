package worker

import (
	"iter"
	"sync"
)

// sideline holds the messages that wait for triage. It gives out one of each fetcher in turn, so that thousands of one
// share, redelivered or not to be understood, do not hold up those of the others.
type sideline struct {
	mu     sync.Mutex
	change sync.Cond
	queues [][]*message // by fetcher
	next   int
	count  int
	closed bool
}

func newSideline(fetchers int) *sideline {
	s := &sideline{queues: make([][]*message, fetchers)}
	s.change.L = &s.mu
	return s
}

// put never waits: how much a fetcher brings is its own concern, see waiting.
func (s *sideline) put(m *message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queues[m.from] = append(s.queues[m.from], m)
	s.count++
	s.change.Signal()
}

// waiting returns how many messages of the fetcher wait.
func (s *sideline) waiting(from int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queues[from])
}

// close says that no more will be put.
func (s *sideline) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.change.Broadcast()
}

// all waits for one message after the other, until close was called and none is left.
func (s *sideline) all() iter.Seq[*message] {
	return func(yield func(*message) bool) {
		for m := s.take(); m != nil; m = s.take() {
			if !yield(m) {
				return
			}
		}
	}
}

// take waits for a message. It returns nil if none will come.
func (s *sideline) take() *message {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.count == 0 {
		if s.closed {
			return nil
		}
		s.change.Wait()
	}
	for len(s.queues[s.next]) == 0 {
		s.next = (s.next + 1) % len(s.queues)
	}
	q := s.queues[s.next]
	m := q[0]
	q[0] = nil
	if s.queues[s.next] = q[1:]; len(q) == 1 {
		s.queues[s.next] = nil
	}
	s.count--
	s.next = (s.next + 1) % len(s.queues)
	return m
}
