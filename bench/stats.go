package main

import (
	"math"
	"slices"
	"time"
)

// summary of the rounds of one figure.
type summary struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// summarize returns the median (of an even number of values the mean of the middle two), the least and the greatest.
// Of no values it is all zero.
func summarize(values []float64) summary {
	if len(values) == 0 {
		return summary{}
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	n := len(sorted)
	median := sorted[n/2]
	if n%2 == 0 {
		median = (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return summary{Median: median, Min: sorted[0], Max: sorted[n-1]}
}

// percentile returns the smallest value that at least p percent of the sorted values do not exceed (nearest rank), so
// it is always a value that was measured. Of no values it is 0.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// milliseconds is a duration as reports give it.
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
