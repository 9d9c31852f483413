package queue

import (
	"math"
	"time"
)

const (
	// rateOver is over how long the rate is averaged: what is this old counts for a third.
	rateOver = 5 * time.Second
	// rateFor is how long a rate is remembered while nothing waits, and so nothing can be measured.
	rateFor = time.Minute
	// An interval between two looks is measured if it is this long: the counts of a shorter one are noise, and in a
	// longer one the queue may have been empty in between.
	minInterval = 50 * time.Millisecond
	maxInterval = 10 * time.Second
)

// meter learns how many messages of a lane and model are finished a second, from successive looks at its consumers.
// Only what was seen while messages waited says how fast they are served: the rest says how fast they come.
type meter struct {
	rate float64
	over time.Duration // measured in all, while the rate was known
	at   time.Time     // of the last measurement; zero if there was none
}

// value is the rate of late, in messages a second; 0 if it is not known.
func (m *meter) value(now time.Time) float64 {
	if now.Sub(m.at) > rateFor {
		return 0
	}
	return m.rate
}

// add learns from what happened between two looks.
func (m *meter) add(before, after *progress) {
	took := after.at.Sub(before.at)
	if took < minInterval || took > maxInterval || before.waiting() == 0 || after.waiting() == 0 {
		return
	}
	n, ok := finished(before, after)
	if !ok {
		return
	}
	sample := float64(n) / took.Seconds()
	if after.at.Sub(m.at) > rateFor {
		m.rate, m.over = 0, 0
	}
	// At first it is the mean of all, or a first short look, which is mostly chance, would count for seconds.
	m.over += took
	weight := max(float64(took)/float64(m.over), 1-math.Exp(-float64(took)/float64(rateOver)))
	m.rate, m.at = m.rate+(sample-m.rate)*weight, after.at
}

// finished counts the messages that were finished between two looks; false if that cannot be said, because a consumer
// or the stream has been made anew in between, or the server was killed and has forgotten some of it.
//
// JetStream counts deliveries. What was delivered and is not pending any more is finished, unless it was delivered
// again; those cannot be told apart, but what left the stream can be counted exactly, if only for all models of the
// lane. The smaller of the two is right in a lane of one model, and else too high by no more than what was redelivered.
func finished(before, after *progress) (n uint64, ok bool) {
	if len(before.shares) != len(after.shares) || after.removed < before.removed {
		return 0, false
	}
	var delivered uint64
	pending := 0
	for i := range before.shares {
		a, b := &before.shares[i], &after.shares[i]
		if a.served != b.served || b.deliveries < a.deliveries {
			return 0, false
		}
		delivered += b.deliveries - a.deliveries
		pending += b.running - a.running
	}
	settled := max(0, int64(min(delivered, math.MaxInt64))-int64(pending))
	return min(uint64(settled), after.removed-before.removed), true
}
