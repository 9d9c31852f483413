package main

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestSummarize(t *testing.T) {
	for _, tt := range []struct {
		name   string
		values []float64
		want   summary
	}{
		{"nothing", nil, summary{}},
		{"one", []float64{3}, summary{Median: 3, Min: 3, Max: 3}},
		{"odd, in any order", []float64{9, 1, 4}, summary{Median: 4, Min: 1, Max: 9}},
		{"even: the mean of the middle two", []float64{8, 1, 4, 2}, summary{Median: 3, Min: 1, Max: 8}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := summarize(tt.values); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestSummarizeLeavesItsInputAlone(t *testing.T) {
	values := []float64{3, 1, 2}
	summarize(values)
	if values[0] != 3 || values[1] != 1 || values[2] != 2 {
		t.Errorf("the values became %v", values)
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, tt := range []struct {
		name   string
		sorted []time.Duration
		p      float64
		want   time.Duration
	}{
		{"nothing", nil, 50, 0},
		{"one value is every percentile", []time.Duration{7}, 99, 7},
		{"median of 1 to 100", hundred, 50, 50},
		{"p99 of 1 to 100", hundred, 99, 99},
		{"p99.9 of 1 to 100 is rounded up", hundred, 99.9, 100},
		{"p100 is the maximum", hundred, 100, 100},
		{"p0 is the minimum", hundred, 0, 1},
		{"median of two is the lower: a value that was measured", []time.Duration{1, 9}, 50, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := percentile(tt.sorted, tt.p); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestRatiosCompareRoundByRound(t *testing.T) {
	of := func(rates ...float64) []round {
		var rounds []round
		for _, r := range rates {
			rounds = append(rounds, round{JobsPerSecond: r})
		}
		return rounds
	}
	// The medians' own ratio would be 20.
	got := ratios(of(100, 200, 400), of(10, 5, 40))
	if want := (summary{Median: 10, Min: 10, Max: 40}); got == nil || *got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := ratios(of(100), nil); got != nil {
		t.Errorf("with one system alone there is no ratio, got %+v", got)
	}
}

func TestSchedule(t *testing.T) {
	const rate, length = 1000, 20 * time.Second
	arrivals := schedule(rate, length, 1)
	// 20000 are expected, with a standard deviation of about 141.
	if n := len(arrivals); n < 19_000 || n > 21_000 {
		t.Errorf("%d arrivals in %v at %d a second", n, length, rate)
	}
	for i := 1; i < len(arrivals); i++ {
		if arrivals[i] < arrivals[i-1] {
			t.Fatalf("arrival %d is before the one that precedes it", i)
		}
	}
	if last := arrivals[len(arrivals)-1]; last >= length {
		t.Errorf("the last arrival is at %v of %v", last, length)
	}
	again := schedule(rate, length, 1)
	if i := rand.N(min(len(again), len(arrivals))); len(again) != len(arrivals) || again[i] != arrivals[i] {
		t.Error("the same seed gave other arrivals")
	}
}

func TestLatencyCountsFromTheIntendedArrival(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }
	o := outcomes[int]{
		arrivals: []time.Duration{at(0), at(10), at(20), at(30)},
		ids:      []int{1, 2, 3, 4},
		start:    start,
		late:     []time.Duration{0, at(5), at(1), 0},
		inbox:    &inbox[int]{},
	}
	// The second was begun 5 ms late and took 3 ms: 8 ms for whoever waited. The first is told twice.
	o.inbox.ids = []int{1, 2, 3, 4, 1}
	for _, ms := range []int{2, 18, 24, 40, 90} {
		o.inbox.seen = append(o.inbox.seen, start.Add(at(ms)))
	}
	run := o.report(at(40))
	if run.P50 != 4 || run.P90 != 10 || run.Max != 10 {
		t.Errorf("got p50 %v, p90 %v, max %v ms, want 4, 10, 10", run.P50, run.P90, run.Max)
	}
	if run.LateP99 != 5 || run.Jobs != 4 || run.NoticesLost != 0 || !run.Held {
		t.Errorf("got %+v", run)
	}
}

func TestLatencyCountsAResultWithoutNotice(t *testing.T) {
	o := outcomes[int]{
		arrivals: []time.Duration{0, 0},
		ids:      []int{1, 2},
		start:    time.Now().Add(-time.Hour),
		inbox:    &inbox[int]{},
	}
	o.inbox.ids, o.inbox.seen = []int{1}, []time.Time{o.start.Add(time.Millisecond)}
	run := o.report(time.Second)
	if run.NoticesLost != 1 || run.Max < milliseconds(time.Hour) || run.Held {
		t.Errorf("the job without a notice does not count in full: %+v", run)
	}
}
