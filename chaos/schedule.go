package main

import (
	"math/rand/v2"
	"slices"
	"time"
)

// target is something that faults happen to.
type target struct {
	class class
	name  string
}

// card is one combination of a fault and what it happens to.
type card struct {
	kind  kind
	class class
}

// deck holds every combination, so that a schedule as long as the deck has each of them once. Without killRedis, Redis
// is asked to end instead.
func deck(killRedis bool) []card {
	redis := kindTerm
	if killRedis {
		redis = kindKill
	}
	return []card{
		{kindKill, classNATS},
		{redis, classRedis},
		{kindKill, classServe},
		{kindKill, classWorker},
		{kindStop, classNATS},
		{kindStop, classRedis},
		{kindFreeze, classServe},
		{kindFreeze, classWorker},
		{kindFreeze, classNATS},
		{kindFreeze, classRedis},
		{kindStop, classWorker},
		{kindTerm, classServe},
		{kindTerm, classWorker},
		{kindKill, classWorker},
		{kindLatency, classNATSLink},
		{kindLatency, classRedisLink},
		{kindBlackhole, classNATSLink},
		{kindBlackhole, classRedisLink},
		{kindReset, classNATSLink},
		{kindReset, classRedisLink},
	}
}

// rest is how long a target is left alone after a fault: time to come up again.
const rest = 1500 * time.Millisecond

// plan makes the schedule of a seed. Faults of different targets may overlap; those of one target do not.
func plan(seed uint64, n int, gap, lease time.Duration, targets []target, from []card) []fault {
	rnd := rand.New(rand.NewPCG(seed, 0x5eaf)) //nolint:gosec // it has to be reproducible, not secret
	free := make(map[string]time.Duration)     // when a target may be hit again
	var cards []card
	var at time.Duration
	faults := make([]fault, 0, n)
	for len(faults) < n {
		if len(cards) == 0 {
			cards = slices.Clone(from)
			rnd.Shuffle(len(cards), func(i, j int) { cards[i], cards[j] = cards[j], cards[i] })
		}
		c := cards[0]
		cards = cards[1:]
		at += between(rnd, gap*2/5, gap*8/5)
		name, ok := choose(rnd, c.class, targets, free)
		if !ok {
			return faults // nothing of this class to hit
		}
		at = max(at, free[name])
		f := fault{At: at, Kind: c.kind, Class: c.class, Target: name}
		f.For, f.Delay = extent(rnd, c.kind, lease)
		free[name] = f.At + f.For + rest
		faults = append(faults, f)
	}
	return faults
}

// choose picks a target of the class: any one that is free longest ago by the luck of the draw between two.
func choose(rnd *rand.Rand, of class, targets []target, free map[string]time.Duration) (string, bool) {
	var names []string
	for _, t := range targets {
		if t.class == of {
			names = append(names, t.name)
		}
	}
	if len(names) == 0 {
		return "", false
	}
	a, b := names[rnd.IntN(len(names))], names[rnd.IntN(len(names))]
	if free[b] < free[a] {
		a = b
	}
	return a, true
}

// extent says how long a fault lasts, and how late a late link is.
func extent(rnd *rand.Rand, k kind, lease time.Duration) (length, delay time.Duration) {
	switch k {
	case kindKill:
		return between(rnd, 50*time.Millisecond, 1500*time.Millisecond), 0
	case kindTerm:
		return between(rnd, 50*time.Millisecond, 500*time.Millisecond), 0
	case kindStop:
		return between(rnd, 100*time.Millisecond, lease/2), 0
	case kindFreeze:
		return between(rnd, lease*5/4, lease*9/4), 0
	case kindLatency:
		return between(rnd, 2*time.Second, 5*time.Second), between(rnd, 10*time.Millisecond, 200*time.Millisecond)
	case kindBlackhole:
		return between(rnd, time.Second, 4*time.Second), 0
	default:
		return between(rnd, 200*time.Millisecond, 1500*time.Millisecond), 0
	}
}

func between(rnd *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(rnd.Int64N(int64(high-low)+1))
}

// end returns when the last fault is over.
func end(faults []fault) time.Duration {
	var last time.Duration
	for _, f := range faults {
		last = max(last, f.At+f.For)
	}
	return last
}
