package queue

import (
	"sync"
	"time"

	"github.com/sheafml/sheaf/job"
)

// foundFor is how long a message that was seen to wait counts as waiting.
const foundFor = 500 * time.Millisecond

// maxFound bounds the tickets that are remembered, in each half of the cache.
const maxFound = 8192

// foundCache remembers tickets whose message was just seen, and what it said. It has two halves, of which the older is
// forgotten when the newer is full or old, so that it is bounded in time and size without a list.
type foundCache struct {
	mu         sync.Mutex
	turned     time.Time
	newer, old map[job.Ticket]foundEntry
}

type foundEntry struct {
	place
	until time.Time
}

// place is what a job's message says of it.
type place struct {
	tenant, model string
	share         int
	job.Peek
}

func (c *foundCache) init() { c.newer = make(map[job.Ticket]foundEntry) }

func (c *foundCache) get(t job.Ticket, now time.Time) (p place, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.newer[t]
	if !ok {
		e, ok = c.old[t]
	}
	return e.place, ok && now.Before(e.until)
}

func (c *foundCache) put(t job.Ticket, p place, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.newer) >= maxFound || now.Sub(c.turned) > foundFor {
		c.old, c.newer, c.turned = c.newer, make(map[job.Ticket]foundEntry), now
	}
	c.newer[t] = foundEntry{place: p, until: now.Add(foundFor)}
}

func (c *foundCache) drop(t job.Ticket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.newer, t)
	delete(c.old, t)
}
