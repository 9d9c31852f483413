package main

import (
	"fmt"
	"time"
)

// kind is what is done to a target.
type kind string

const (
	kindKill      kind = "kill -9"   // and a restart
	kindTerm      kind = "SIGTERM"   // drain and a restart
	kindStop      kind = "SIGSTOP"   // shorter than a lease
	kindFreeze    kind = "freeze"    // SIGSTOP for longer than a lease
	kindLatency   kind = "latency"   // each piece of data is late, both ways
	kindBlackhole kind = "blackhole" // nothing arrives; at the end the connections break
	kindReset     kind = "reset"     // what is written arrives, its answer does not: the connection is reset
)

// class is the kind of a target.
type class string

const (
	classNATS      class = "nats"
	classRedis     class = "redis"
	classServe     class = "serve"
	classWorker    class = "worker"
	classNATSLink  class = "nats link"
	classRedisLink class = "redis link"
)

// fault is one entry of the schedule.
type fault struct {
	At     time.Duration `json:"at_ns"`  // since the load began
	For    time.Duration `json:"for_ns"` // kill and SIGTERM: until the restart; else until it is lifted
	Kind   kind          `json:"kind"`
	Class  class         `json:"class"`
	Target string        `json:"target"`
	Delay  time.Duration `json:"delay_ns,omitempty"` // of kindLatency
}

func (f fault) String() string {
	s := fmt.Sprintf("%8.3fs %-9s %-16s for %v", f.At.Seconds(), f.Kind, f.Target, f.For.Round(time.Millisecond))
	if f.Delay > 0 {
		s += fmt.Sprintf(" (%v)", f.Delay.Round(time.Millisecond))
	}
	return s
}

// injected is a fault as it happened.
type injected struct {
	fault
	began, lifted time.Time
	err           error // it could not be done
}
