package main

import (
	"sync"
	"time"

	"github.com/sheafml/sheaf/job"
)

// mark says that some jobs were told to be finished at one moment.
type mark struct {
	at time.Time
	n  int
}

// marks collects notices for the look for gaps.
type marks struct {
	mu   sync.Mutex
	list []mark
	sum  int
}

func (m *marks) done(ids []job.ID) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = append(m.list, mark{now, len(ids)})
	m.sum += len(ids)
}

func (m *marks) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sum
}

// take returns what was collected, and begins anew.
func (m *marks) take() []mark {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := m.list
	m.list, m.sum = nil, 0
	return list
}

// gap is a time in which no result came although there was work.
type gap struct {
	length time.Duration
	after  int // how many jobs were finished before it
}

// largestGap returns the longest time without a result while there was work: it begins with a result, with the first
// acceptance after everything was finished, or with the release of the workers, and ends with a result, or at end.
// first is how long the first result took from release. Both lists are in the order of time.
func largestGap(release, end time.Time, accepted, finished []mark) (largest gap, first time.Duration) {
	open, sum, since := 0, 0, release
	grow := func(at time.Time) {
		if d := at.Sub(since); open > 0 && d > largest.length {
			largest = gap{d, sum}
		}
	}
	for len(accepted) > 0 || len(finished) > 0 {
		if len(finished) == 0 || len(accepted) > 0 && !accepted[0].at.After(finished[0].at) {
			m := accepted[0]
			accepted = accepted[1:]
			if open <= 0 && m.at.After(since) {
				since = m.at
			}
			open += m.n
			continue
		}
		m := finished[0]
		finished = finished[1:]
		if sum == 0 {
			first = m.at.Sub(release)
		}
		grow(m.at)
		open, sum = open-m.n, sum+m.n
		if m.at.After(since) {
			since = m.at
		}
	}
	grow(end)
	return largest, first
}

// look is one look at a lane from outside.
type look struct {
	at        time.Time
	waiting   int    // messages that are not delivered
	delivered uint64 // deliveries so far
}

// largestStandstill returns the longest time between looks in which messages waited all the time, as far as the looks
// tell, and none was delivered.
func largestStandstill(list []look) time.Duration {
	var largest time.Duration
	for i := 0; i < len(list); {
		k := i
		for k+1 < len(list) && list[k].waiting > 0 && list[k+1].waiting > 0 && list[k+1].delivered == list[i].delivered {
			k++
		}
		largest = max(largest, list[k].at.Sub(list[i].at))
		i = k + 1
	}
	return largest
}
