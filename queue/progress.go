package queue

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// How long what was seen of a consumer, and of a message that waits, counts as true.
const (
	progressFor = 200 * time.Millisecond
	foundFor    = 500 * time.Millisecond
)

// maxFound bounds the tickets that are remembered as waiting, in each half of the cache.
const maxFound = 8192

// progress is how far the consumer of a lane and model is.
type progress struct {
	delivered uint64 // stream sequence of the last message that was delivered
	waiting   uint64 // messages behind it
	running   int    // delivered and not acknowledged
}

type infoKey struct {
	lane  job.Lane
	model string
}

type cachedInfo struct {
	at time.Time
	progress
}

// infoCache remembers each consumer's progress for a moment.
type infoCache struct {
	mu   sync.Mutex
	seen map[infoKey]cachedInfo
}

func (q *Queue) cachedProgress(ctx context.Context, lane job.Lane, model string) (progress, error) {
	k := infoKey{lane, model}
	q.infos.mu.Lock()
	c, ok := q.infos.seen[k]
	q.infos.mu.Unlock()
	if ok && time.Since(c.at) < progressFor {
		return c.progress, nil
	}
	at := time.Now()
	p, err := q.readProgress(ctx, lane, model)
	if err != nil {
		return p, err
	}
	q.infos.mu.Lock()
	defer q.infos.mu.Unlock()
	if len(q.infos.seen) >= maxFound || q.infos.seen == nil {
		q.infos.seen = make(map[infoKey]cachedInfo)
	}
	q.infos.seen[k] = cachedInfo{at: at, progress: p}
	return p, nil
}

func (q *Queue) readProgress(ctx context.Context, lane job.Lane, model string) (progress, error) {
	info, err := q.consumerInfo(ctx, lane, model)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return q.progressWithoutConsumer(ctx, lane, model)
	}
	if err != nil {
		return progress{}, requestError("look at the consumer of model "+model, err)
	}
	return progress{delivered: info.Delivered.Stream, waiting: info.NumPending, running: info.NumAckPending}, nil
}

// progressWithoutConsumer counts what waits for a model that no worker has served yet.
func (q *Queue) progressWithoutConsumer(ctx context.Context, lane job.Lane, model string) (progress, error) {
	s, err := q.js.Stream(ctx, lane.String())
	if err != nil {
		return progress{}, requestError("look at stream "+lane.String(), err)
	}
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(subjectRoot+lane.String()+"."+token(model)+".>"))
	if err != nil {
		return progress{}, requestError("look at stream "+lane.String(), err)
	}
	var p progress
	for _, n := range info.State.Subjects {
		p.waiting += n
	}
	return p, nil
}

func (q *Queue) consumerInfo(ctx context.Context, lane job.Lane, model string) (*jetstream.ConsumerInfo, error) {
	if !job.ValidName(model) {
		return nil, job.Invalidf("model", "not a valid name of a model")
	}
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	c, err := askAgain(ctx, func(ctx context.Context) (jetstream.Consumer, error) {
		return q.js.Consumer(ctx, lane.String(), token(model))
	})
	if err != nil {
		return nil, err
	}
	return c.CachedInfo(), nil
}

// Backlog counts the messages that wait in a lane for a model, and those delivered and not yet acked. It may be as
// old as 200 ms.
func (q *Queue) Backlog(ctx context.Context, lane job.Lane, model string) (waiting, running int, err error) {
	p, err := q.cachedProgress(ctx, lane, model)
	return int(min(p.waiting, 1<<31-1)), p.running, err
}

// foundCache remembers tickets whose message was just seen, and whose they are. It has two halves, of which the older is
// forgotten when the newer is full or old, so that it is bounded in time and size without a list.
type foundCache struct {
	mu         sync.Mutex
	turned     time.Time
	newer, old map[job.Ticket]foundEntry
}

type foundEntry struct {
	owner
	until time.Time
}

// owner is what the subject of a job's message says.
type owner struct{ tenant, model string }

func (c *foundCache) init() { c.newer = make(map[job.Ticket]foundEntry) }

func (c *foundCache) get(t job.Ticket, now time.Time) (whose owner, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.newer[t]
	if !ok {
		e, ok = c.old[t]
	}
	return e.owner, ok && now.Before(e.until)
}

func (c *foundCache) put(t job.Ticket, whose owner, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.newer) >= maxFound || now.Sub(c.turned) > foundFor {
		c.old, c.newer, c.turned = c.newer, make(map[job.Ticket]foundEntry), now
	}
	c.newer[t] = foundEntry{owner: whose, until: now.Add(foundFor)}
}

func (c *foundCache) drop(t job.Ticket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.newer, t)
	delete(c.old, t)
}
