package main

import (
	"slices"
	"sort"
	"time"
)

// spread is the distribution of some times, in seconds.
type spread struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50_s"`
	P99 float64 `json:"p99_s"`
	Max float64 `json:"max_s"`
}

func spreadOf(times []time.Duration) spread {
	sorted := slices.Sorted(slices.Values(times))
	return spread{
		N: len(sorted), P50: percentile(sorted, 0.5).Seconds(), P99: percentile(sorted, 0.99).Seconds(),
		Max: percentile(sorted, 1).Seconds(),
	}
}

// percentile returns the smallest of the sorted times that at least the share p of them does not exceed.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	n := float64(len(sorted)) * p
	i := int(n)
	if float64(i) == n {
		i--
	}
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// span is the life of a job: when its acceptance was known, and when its result could be read. The record's own time is
// no measure, since a worker sets it before it tries to write.
type span struct{ accepted, finished time.Time }

// guard keeps jobs out of the recovery of a fault whose acceptance was on its way when the fault began.
const guard = 25 * time.Millisecond

// recoveries returns, for each instant, how long it took until a job was finished that was accepted after it (and guard).
// Instants after which no job was accepted are left out.
func recoveries(instants []time.Time, spans []span) []time.Duration {
	byFinish := slices.SortedFunc(slices.Values(spans), func(a, b span) int { return a.finished.Compare(b.finished) })
	var times []time.Duration
	for _, at := range instants {
		i := sort.Search(len(byFinish), func(i int) bool { return !byFinish[i].finished.Before(at) })
		for ; i < len(byFinish); i++ {
			if !byFinish[i].accepted.Before(at.Add(guard)) {
				times = append(times, byFinish[i].finished.Sub(at))
				break
			}
		}
	}
	return times
}

// spans lists the lives of the finished jobs, to about 10 ms.
func (l *ledger) spans() []span {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []span
	for _, e := range l.accepted {
		if e.checked {
			list = append(list, span{e.accepted, e.readable})
		}
	}
	return list
}
