package main

import (
	"slices"
	"testing"
	"time"
)

func exampleTargets() []target {
	return []target{
		{classRedis, "redis"},
		{classNATS, "nats"},
		{classWorker, "worker-1"},
		{classWorker, "worker-2"},
		{classServe, "serve-1"},
		{classNATSLink, "worker-1:nats"},
		{classRedisLink, "worker-1:redis"},
	}
}

func TestPlanFollowsFromItsSeed(t *testing.T) {
	one := plan(7, 200, time.Second, ackWait, exampleTargets(), deck(true))
	again := plan(7, 200, time.Second, ackWait, exampleTargets(), deck(true))
	if !slices.Equal(one, again) {
		t.Error("the same seed gave two schedules")
	}
	if other := plan(8, 200, time.Second, ackWait, exampleTargets(), deck(true)); slices.Equal(one, other) {
		t.Error("two seeds gave the same schedule")
	}
	longer := plan(7, 300, time.Second, ackWait, exampleTargets(), deck(true))
	if !slices.Equal(one, longer[:200]) {
		t.Error("a longer schedule does not begin with the shorter one of the same seed")
	}
}

func TestPlanHasEveryFaultAndOverlapsNone(t *testing.T) {
	faults := plan(3, len(deck(true)), time.Second, ackWait, exampleTargets(), deck(true))
	if len(faults) != len(deck(true)) {
		t.Fatalf("expected %d faults, got %d", len(deck(true)), len(faults))
	}
	dealt := make(map[card]int)
	for _, c := range deck(true) {
		dealt[c]++
	}
	busy := make(map[string]time.Duration)
	last := time.Duration(0)
	for _, f := range faults {
		dealt[card{f.Kind, f.Class}]--
		if f.At < busy[f.Target] {
			t.Errorf("%v begins before the one before it on the same target is over, at %v", f, busy[f.Target])
		}
		if f.At < last {
			t.Errorf("%v is out of order", f)
		}
		if f.Kind == kindFreeze && f.For <= ackWait {
			t.Errorf("%v does not outlast a lease of %v", f, ackWait)
		}
		busy[f.Target], last = f.At+f.For, f.At
	}
	for c, n := range dealt {
		if n != 0 {
			t.Errorf("%v of %v: %d too few", c.kind, c.class, n)
		}
	}
}

func TestPlanWithoutTargets(t *testing.T) {
	if faults := plan(1, 10, time.Second, ackWait, nil, deck(true)); len(faults) != 0 {
		t.Errorf("expected no faults where there is nothing to hit, got %v", faults)
	}
}

func TestDeckSparesRedis(t *testing.T) {
	if c := (card{kindKill, classRedis}); slices.Contains(deck(false), c) || !slices.Contains(deck(true), c) {
		t.Error("expected kill -9 of Redis in the one deck and not in the other")
	}
}

func TestDue(t *testing.T) {
	waves := []time.Duration{2 * time.Second, 6 * time.Second}
	for _, c := range []struct {
		name  string
		now   time.Duration
		waves []time.Duration
		want  int
	}{
		{"the beginning", 0, waves, 0},
		{"before the first wave", time.Second, waves, 50},
		{"in the middle of the first wave", 2 * time.Second, waves, 100 + 125},
		{"after the first wave", 4 * time.Second, waves, 200 + 250},
		{"after both waves", 9 * time.Second, waves, 450 + 500},
		{"the end", 10 * time.Second, waves, 1000},
		{"past the end", time.Hour, waves, 1000},
		{"no waves", 5 * time.Second, nil, 500},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := due(1000, c.now, 10*time.Second, c.waves); got != c.want {
				t.Errorf("expected %d jobs to be due at %v, got %d", c.want, c.now, got)
			}
		})
	}
}
