package webhook

import (
	"sync"
	"time"
)

// slots bounds the attempts that are made at a time for one host, or one tenant. Who finds none is given the time at
// which one is likely to be free, each a little later than the one before, so that what waits for a slow receiver comes
// back neither at once nor all together.
type slots struct {
	most int

	mu sync.Mutex
	of map[string]*slot
}

type slot struct {
	busy int
	took time.Duration // what an attempt takes, smoothed
	next time.Time     // when the next one who finds no room is to come
}

const (
	firstGuess = 100 * time.Millisecond // of what an attempt takes
	longestOff = time.Minute
	// idleSlots is how many may be remembered although they are idle.
	idleSlots = 4096
)

func newSlots(most int) *slots { return &slots{most: most, of: make(map[string]*slot)} }

// take takes a slot, or says after which time to try again.
func (s *slots) take(key string, now time.Time) (after time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.of[key]
	if at == nil {
		if len(s.of) >= idleSlots {
			s.sweep()
		}
		at = &slot{took: firstGuess}
		s.of[key] = at
	}
	if at.busy < s.most {
		at.busy++
		return 0, true
	}
	if at.next.Before(now) {
		at.next = now
	}
	at.next = at.next.Add(max(at.took/time.Duration(s.most), time.Millisecond))
	if latest := now.Add(longestOff); at.next.After(latest) {
		at.next = latest
	}
	return at.next.Sub(now), false
}

// release gives a slot back that was taken for so long; 0 says nothing of the receiver.
func (s *slots) release(key string, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.of[key]
	at.busy--
	if took > 0 {
		at.took += (took - at.took) / 4
	}
}

// sweep forgets those that are idle. s.mu is held.
func (s *slots) sweep() {
	for key, at := range s.of {
		if at.busy == 0 {
			delete(s.of, key)
		}
	}
}
