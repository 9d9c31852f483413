package main

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// closedLoop asks over a number of connections, one request at a time on each.
type closedLoop struct {
	addr        string
	requests    [][]byte // prepared, one for each sample
	connections int
	check       func(sample, status int, body []byte) error // of each answer; called concurrently

	mu       sync.Mutex
	asked    int // requests in all
	answered int // of them while it counted
	seconds  float64
	latency  times
}

func (c *closedLoop) rate() float64 { return float64(c.answered) / c.seconds }

// run asks as fast as the answers come.
func (c *closedLoop) run(ctx context.Context, warmUp, length time.Duration) error {
	start := time.Now()
	from, to := start.Add(warmUp), start.Add(warmUp+length)
	c.asked, c.answered, c.seconds, c.latency = 0, 0, length.Seconds(), times{}
	return c.each(ctx, func(n int, ask func(i int) error) error {
		var mine times
		counted := 0
		defer func() { c.add(&mine, counted) }()
		for i := n; ; i += c.connections {
			began := time.Now()
			if began.After(to) || ctx.Err() != nil {
				return nil
			}
			if err := ask(i % len(c.requests)); err != nil {
				return err
			}
			if end := time.Now(); end.After(from) && !end.After(to) {
				counted++
				mine.add(end.Sub(began))
			}
		}
	})
}

// atRate asks at an even rate, whatever becomes of the requests before, and returns how long the answers took from the
// moment at which each request was to begin.
func (c *closedLoop) atRate(ctx context.Context, rate float64, length time.Duration) (spread, error) {
	start := time.Now()
	c.latency = times{}
	err := c.each(ctx, func(n int, ask func(i int) error) error {
		var mine times
		defer func() { c.add(&mine, 0) }()
		for i := n; ; i += c.connections {
			at := time.Duration(float64(i) / rate * float64(time.Second))
			if at > length {
				return nil
			}
			if wait := time.Until(start.Add(at)); wait > 0 && !rest(ctx, wait) || ctx.Err() != nil {
				return nil
			}
			if err := ask(i % len(c.requests)); err != nil {
				return err
			}
			mine.add(time.Since(start.Add(at)))
		}
	})
	return c.latency.spread(), err
}

// each calls fn for each connection, at the same time, with a function that sends one request over it.
func (c *closedLoop) each(ctx context.Context, fn func(n int, ask func(i int) error) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for n := range c.connections {
		group.Go(func() error {
			client, err := dialRaw(ctx, c.addr)
			if err != nil {
				return err
			}
			defer client.close()
			asked := 0
			defer func() { c.count(asked) }()
			return fn(n, func(i int) error {
				status, body, err := client.do(c.requests[i])
				if err != nil {
					return err
				}
				asked++
				return c.check(i, status, body)
			})
		})
	}
	return group.Wait()
}

func (c *closedLoop) count(asked int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked += asked
}

func (c *closedLoop) add(t *times, answered int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latency.merge(t)
	c.answered += answered
}
