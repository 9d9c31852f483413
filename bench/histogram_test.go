package main

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A percentile of the buckets is never below the exact one, and at most a bucket above it.
func TestPercentilesOfBuckets(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var buckets times
	var exact []time.Duration
	for range 20_000 {
		d := time.Duration(rnd.ExpFloat64() * float64(5*time.Millisecond))
		buckets.add(d)
		exact = append(exact, d)
	}
	slices.Sort(exact)
	for _, p := range []float64{1, 50, 90, 99, 99.9, 100} {
		got, want := buckets.percentile(p), percentile(exact, p)
		if want < bucketFirst {
			want = bucketFirst
		}
		// A nanosecond is what rounding may do.
		if got+1 < want || float64(got) > float64(want)*bucketGrowth+1 {
			t.Errorf("p%v: got %v, exactly it is %v", p, got, want)
		}
	}
	if buckets.percentile(100) != exact[len(exact)-1] || buckets.max != exact[len(exact)-1] {
		t.Errorf("the maximum is %v, want %v", buckets.max, exact[len(exact)-1])
	}
}

func TestNoTimesHaveNoPercentiles(t *testing.T) {
	var none times
	if got := none.spread(); got != (spread{}) {
		t.Errorf("got %+v", got)
	}
}

func TestMergedTimes(t *testing.T) {
	var a, b, both times
	for i := range 100 {
		d := time.Duration(i+1) * time.Millisecond
		both.add(d)
		if i%3 == 0 {
			a.add(d)
		} else {
			b.add(d)
		}
	}
	a.merge(&b)
	if got, want := a.spread(), both.spread(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
