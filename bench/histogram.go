package main

import (
	"math"
	"time"
)

const (
	// bucketGrowth is how much wider each bucket of times is than the one before: what a percentile may be off by.
	bucketGrowth = 1.01
	// bucketFirst is the upper end of the first bucket.
	bucketFirst = time.Microsecond
)

// times is a distribution of times, in buckets, so that millions cost no memory. The zero value is empty.
type times struct {
	buckets []int
	n       int
	max     time.Duration
}

func (t *times) add(d time.Duration) {
	i := 0
	if d > bucketFirst {
		i = int(math.Ceil(math.Log(float64(d)/float64(bucketFirst)) / math.Log(bucketGrowth)))
	}
	for len(t.buckets) <= i {
		t.buckets = append(t.buckets, make([]int, i+1-len(t.buckets))...)
	}
	t.buckets[i]++
	t.n++
	t.max = max(t.max, d)
}

// merge adds all of another distribution.
func (t *times) merge(o *times) {
	if n := len(o.buckets) - len(t.buckets); n > 0 {
		t.buckets = append(t.buckets, make([]int, n)...)
	}
	for i, n := range o.buckets {
		t.buckets[i] += n
	}
	t.n += o.n
	t.max = max(t.max, o.max)
}

// percentile returns a time that at least p percent do not exceed, at most bucketGrowth above the smallest such time.
// Of no times it is 0.
func (t *times) percentile(p float64) time.Duration {
	if t.n == 0 {
		return 0
	}
	rank := max(int(math.Ceil(p/100*float64(t.n))), 1)
	for i, n := range t.buckets {
		if rank -= n; rank <= 0 {
			end := time.Duration(float64(bucketFirst) * math.Pow(bucketGrowth, float64(i)))
			return min(end, t.max)
		}
	}
	return t.max
}

// spread is a distribution as reports give it, in milliseconds.
type spread struct {
	N   int     `json:"n"`
	P50 float64 `json:"p50_ms"`
	P90 float64 `json:"p90_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

func (t *times) spread() spread {
	return spread{
		N: t.n, P50: milliseconds(t.percentile(50)), P90: milliseconds(t.percentile(90)),
		P99: milliseconds(t.percentile(99)), Max: milliseconds(t.max),
	}
}
