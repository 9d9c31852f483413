package producer

import (
	"sync"
	"time"

	"github.com/sheafml/sheaf/queue"
)

const (
	// lookEvery is how often the load of a model is looked at while jobs with deadlines are submitted, and lookLazily while
	// others are: a look costs the queue some requests.
	lookEvery  = 200 * time.Millisecond
	lookLazily = time.Second
	// lookFirst is how often it is looked at while messages wait and its rate is not known: that turns nobody away.
	lookFirst = 60 * time.Millisecond
	// lookTimeout bounds one look. No submit waits for it.
	lookTimeout = time.Second
	// lookStale is how old a look may be to count.
	lookStale = 2 * time.Second
	// mostOthers bounds how much more than this process all processes together are believed to publish.
	mostOthers = 64
)

// gauge estimates how much stands before a message that is published now, between two looks at the queue. What this
// process has published since the last look it knows itself; what others have, it takes to be in proportion, as it was
// between the last two looks.
//
// Everything is counted in messages, since that is what the queue counts. A job that is in flight counts as the part of
// a message that jobs were of late.
type gauge struct {
	mu     sync.Mutex
	asking bool
	begun  time.Time // when the last look began, be it done or not

	at      time.Time // of the last look; zero: there was none
	load    queue.Load
	base    float64 // messages that stood before a new one then
	others  float64 // messages that all processes publish for each of ours
	perJob  float64 // messages for each job of ours
	closing tally   // published between the last look and the one that is under way
	since   tally   // published after that
	flying  int     // jobs in flight
}

// tally counts what this process has published.
type tally struct{ jobs, messages int }

func (t *tally) add(o tally) { t.jobs += o.jobs; t.messages += o.messages }

func newGauge() *gauge { return &gauge{others: 1, perJob: 1} }

// begin reports whether it is time for a look, which the caller then makes: finish must follow. g.mu is held.
func (g *gauge) begin(now time.Time, every time.Duration) bool {
	if g.load.Rate <= 0 && g.load.Waiting > 0 {
		every = min(every, lookFirst)
	}
	if g.asking || now.Sub(g.begun) < every {
		return false
	}
	g.asking, g.begun = true, now
	g.closing, g.since = g.since, tally{}
	return true
}

// finish takes in a look that was begun at that time, or its failure.
func (g *gauge) finish(at time.Time, load queue.Load, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asking = false
	if err != nil {
		g.since.add(g.closing)
		g.closing = tally{}
		return
	}
	if g.closing.jobs > 0 {
		g.perJob = (g.perJob + float64(g.closing.messages)/float64(g.closing.jobs)) / 2
	}
	occupied := float64(load.Waiting + load.Running)
	base := occupied
	if dt := at.Sub(g.at); !g.at.IsZero() && dt < lookStale && load.Rate > 0 {
		before := float64(g.load.Waiting + g.load.Running)
		served := load.Rate * dt.Seconds()
		mine := float64(g.closing.messages)
		if mine > 0 {
			g.others = (g.others + min(max((occupied-before+served)/mine, 1), mostOthers)) / 2
		}
		// The queue may answer with what it knew a moment ago. What must have come since the look before counts.
		base = max(base, before+mine*g.others-served)
	}
	g.at, g.load, g.base, g.closing = at, load, base, tally{}
}

// wait is how long a message that is published now takes until it is finished, and idle whether nothing stands before
// it. ok is false if that is not known. g.mu is held.
func (g *gauge) wait(now time.Time) (wait time.Duration, idle, ok bool) {
	age := now.Sub(g.at)
	if g.at.IsZero() || age > lookStale || g.load.Rate <= 0 {
		return 0, false, false
	}
	mine := float64(g.closing.messages+g.since.messages) + float64(g.flying)*g.perJob
	ahead := g.base + max(0, mine*g.others-g.load.Rate*age.Seconds())
	return seconds(ahead / g.load.Rate), g.load.Waiting == 0 && mine == 0, true
}

// landed takes a job off those in flight. messages is 1 if it began a message, 0 if it rode in another's, and
// accepted whether it was accepted at all.
func (g *gauge) landed(accepted bool, messages int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.flying--
	if accepted {
		g.since.add(tally{1, messages})
	}
}

// seconds is a duration of s seconds, at most a year, since a rate can be next to nothing.
func seconds(s float64) time.Duration {
	const year = 365 * 24 * 3600
	return time.Duration(min(s, year) * float64(time.Second))
}
