package main

import (
	"slices"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, c := range []struct {
		name   string
		sorted []time.Duration
		p      float64
		want   time.Duration
	}{
		{"nothing", nil, 0.5, 0},
		{"one", []time.Duration{9}, 0.99, 9},
		{"the middle", hundred, 0.5, 50},
		{"the tail", hundred, 0.99, 99},
		{"the greatest", hundred, 1, 100},
		{"the least", hundred, 0, 1},
		{"an odd number", []time.Duration{1, 2, 3}, 0.5, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := percentile(c.sorted, c.p); got != c.want {
				t.Errorf("expected %d, got %d", c.want, got)
			}
		})
	}
}

func TestRecoveries(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	spans := []span{
		{at(0.5), at(2.5)},  // accepted before the fault at 1: it proves nothing
		{at(1.01), at(1.1)}, // its acceptance was on its way
		{at(1.5), at(3)},
		{at(2), at(2.75)}, // accepted later, finished sooner
		{at(6), at(6.25)},
	}
	got := recoveries([]time.Time{at(1), at(5), at(9)}, spans)
	want := []time.Duration{1750 * time.Millisecond, 1250 * time.Millisecond}
	if !slices.Equal(got, want) {
		t.Errorf("expected %v, got %v", want, got)
	}
}

func TestCounter(t *testing.T) {
	page := []byte("# HELP rows_total Rows.\nrows_total{model=\"a\"} 3\nrows_total{model=\"b\"} 1e+03\nrows_total_more{model=\"a\"} 7\nrows_total 2\n")
	if got := counter(page, "rows_total"); got != 1005 {
		t.Errorf("expected 1005, got %v", got)
	}
}
