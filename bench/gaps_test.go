package main

import (
	"testing"
	"time"
)

var gapStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// at makes marks of pairs: milliseconds after gapStart, and a number of jobs.
func at(pairs ...int) []mark {
	var list []mark
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, mark{gapStart.Add(time.Duration(pairs[i]) * time.Millisecond), pairs[i+1]})
	}
	return list
}

func TestLargestGap(t *testing.T) {
	for _, tt := range []struct {
		name               string
		release, end       int // ms
		accepted, finished []mark
		gap, after, first  int
	}{
		{
			"a backlog that is worked off: the gap between two results",
			1000, 1100, at(0, 30), at(1010, 10, 1070, 10, 1090, 10), 60, 10, 10,
		},
		{
			"what waits before the release does not count, the wait after it does",
			1000, 1100, at(0, 20), at(1080, 10, 1100, 10), 80, 0, 80,
		},
		{
			"nothing open is no gap",
			0, 5000, at(0, 10, 4000, 10), at(20, 10, 4030, 10), 30, 10, 20,
		},
		{
			"it begins with the first acceptance after everything was finished",
			0, 5000, at(0, 10, 4000, 10), at(20, 10, 4200, 10), 200, 10, 20,
		},
		{
			"further acceptances do not shorten it",
			0, 600, at(0, 10, 500, 10), at(600, 20), 600, 0, 600,
		},
		{
			"results that never come are a gap until the end",
			0, 9000, at(0, 20), at(100, 10), 8900, 10, 100,
		},
		{
			"no result at all",
			1000, 3000, at(0, 20), nil, 2000, 0, 0,
		},
		{
			"a notice may come before its acceptance is known",
			0, 100, at(10, 10, 50, 10), at(5, 5, 60, 15), 50, 5, 5,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ms := func(n int) time.Time { return gapStart.Add(time.Duration(n) * time.Millisecond) }
			largest, first := largestGap(ms(tt.release), ms(tt.end), tt.accepted, tt.finished)
			if largest.length != time.Duration(tt.gap)*time.Millisecond || largest.after != tt.after {
				t.Errorf("got a gap of %v after %d jobs, want %d ms after %d", largest.length, largest.after, tt.gap, tt.after)
			}
			if first != time.Duration(tt.first)*time.Millisecond {
				t.Errorf("the first result came after %v, want %d ms", first, tt.first)
			}
		})
	}
}

func TestLargestStandstill(t *testing.T) {
	looks := func(triples ...int) []look {
		var list []look
		for i := 0; i < len(triples); i += 3 {
			list = append(list, look{
				at: gapStart.Add(time.Duration(triples[i]) * time.Millisecond), waiting: triples[i+1], delivered: uint64(triples[i+2]), //nolint:gosec // small
			})
		}
		return list
	}
	for _, tt := range []struct {
		name string
		list []look
		want int
	}{
		{"no looks", nil, 0},
		{"deliveries go on", looks(0, 9, 1, 50, 8, 2, 100, 7, 3), 0},
		{"they stand while messages wait", looks(0, 9, 1, 50, 9, 1, 100, 9, 1, 150, 5, 5), 100},
		{"nothing waits", looks(0, 0, 5, 5000, 0, 5, 9000, 0, 5), 0},
		{"it counts from the look at which something waited", looks(0, 0, 5, 1000, 3, 5, 1200, 3, 5), 200},
		{"the longer of two", looks(0, 5, 1, 100, 5, 1, 150, 4, 2, 450, 4, 2), 300},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := largestStandstill(tt.list); got != time.Duration(tt.want)*time.Millisecond {
				t.Errorf("got %v, want %d ms", got, tt.want)
			}
		})
	}
}

func TestSumDrainsCountsWhatIsOverTheBound(t *testing.T) {
	list := []drained{
		{Hold: holdPause, Gap: 10, First: 1, Took: 100},
		{Hold: holdPause, Gap: 1200, First: 3, Took: 300},
		{Hold: holdStop, Gap: 900, First: 2, Took: 200},
	}
	over := map[holding]int{}
	number := map[holding]int{}
	for _, s := range sumDrains(list, time.Second) {
		over[s.Hold], number[s.Hold] = s.Over, s.Gap.N
	}
	if over[holdPause] != 1 || over[holdStop] != 0 || over["all"] != 1 {
		t.Errorf("over the bound: %v", over)
	}
	if number[holdPause] != 2 || number[holdStop] != 1 || number["all"] != 3 || len(number) != 3 {
		t.Errorf("drains: %v", number)
	}
}
