package gateway

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"
	"time"
)

// Bulk says how the items of one bulk submit are read and answered.
type Bulk[T any] struct {
	// Read makes the submission of an item. It is called on several goroutines.
	Read func(item *T, s *Submission) error
	// Done is called once for each item that was taken: the job is accepted, or err says why not. Calls are not
	// concurrent, and not always in order. Nothing keeps the item afterwards.
	Done func(item *T, s *Submission, err error)
	// Flush is called after the Dones of what was accepted together. It may block, and then less is taken. Its error
	// ends the submit: nobody reads the answers.
	Flush func() error
	// Interrupt makes the items end, from another goroutine: no more are taken. It is called once at most.
	Interrupt func()
	// Size is what an item weighs in bytes. A batch is full with bulkItems items, or with bulkBytes.
	Size func(item *T) int
	// Patience is how long a queue that takes nothing is waited for, and a rate limit.
	Patience time.Duration
}

const (
	// bulkItems and bulkBytes bound the items that are submitted together; a single item may be larger.
	bulkItems = 256
	bulkBytes = 256 << 10
	// bulkWorkers is how many batches of one bulk submit are in hand at a time, so that some are read while others are
	// on their way.
	bulkWorkers = 4
)

// SubmitAll submits items as they come, many to a message, and takes no more of them than the queue accepts: at most a
// few batches are in memory. An item that comes alone is submitted at once; those that come meanwhile go together.
//
// A queue that is full or out of reach is waited for. The error is nil if every item came to Done. Otherwise it says why
// the submit ended early, after Done for all that were taken, but for ErrClientGone. It ends early too when the gateway
// is closed; what was taken is submitted then, if the queue takes it at once.
func SubmitAll[T any](ctx context.Context, g *Gateway, items iter.Seq[T], b Bulk[T]) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &bulkRun[T]{g: g, b: &b, pending: newBulkBatch[T](), interrupt: sync.OnceFunc(b.Interrupt)}
	r.changed.L = &r.mu
	over := make(chan struct{})
	var watch, workers sync.WaitGroup
	watch.Go(func() { r.watch(ctx, over) })
	for range bulkWorkers {
		workers.Go(func() { r.work(ctx) })
	}
	for item := range items {
		if !r.add(item) {
			break
		}
	}
	r.mu.Lock()
	r.ended = true
	r.changed.Broadcast()
	r.mu.Unlock()
	workers.Wait()
	close(over)
	watch.Wait()
	if r.err != nil {
		return r.err
	}
	return r.stopped
}

// watch ends the submit early when the gateway is closed or the client leaves.
func (r *bulkRun[T]) watch(ctx context.Context, over <-chan struct{}) {
	select {
	case <-r.g.waiters.closed:
		r.stop(goingDown())
	case <-ctx.Done():
	case <-over:
		return
	}
	select {
	case <-ctx.Done():
		r.fail(ErrClientGone)
	case <-over:
	}
}

func goingDown() *Problem {
	return &Problem{Code: CodeUnavailable, Busy: true, Detail: "this server is going down; try again"}
}

// Closed is closed when Close is called.
func (g *Gateway) Closed() <-chan struct{} { return g.waiters.closed }

// bulkRun is one SubmitAll: its caller adds items to pending, and workers take it away. As long as one is at work, the
// others leave a pending that is not full alone, so that it fills.
type bulkRun[T any] struct {
	g         *Gateway
	b         *Bulk[T]
	interrupt func()

	mu      sync.Mutex
	changed sync.Cond
	pending *bulkBatch[T]
	busy    int
	ended   bool  // nothing more is added
	stopped error // why nothing more is taken
	err     error // why what was taken is given up

	telling  sync.Mutex   // orders Done
	progress atomic.Int64 // when the queue last took something, in nanoseconds of Unix time
}

// add waits for room and adds an item; false if no more are taken, and then this one is not.
func (r *bulkRun[T]) add(item T) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.pending.full() && r.stopped == nil && r.err == nil {
		r.changed.Wait()
	}
	if r.stopped != nil || r.err != nil {
		return false
	}
	r.pending.items = append(r.pending.items, item)
	if r.b.Size != nil {
		r.pending.bytes += r.b.Size(&item)
	}
	if len(r.pending.items) == 1 && r.busy == 0 || r.pending.full() {
		r.changed.Broadcast()
	}
	return true
}

// take waits for a batch and leaves an empty one in its place; nil at the end.
func (r *bulkRun[T]) take(empty *bulkBatch[T]) *bulkBatch[T] {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		some := len(r.pending.items) > 0
		switch {
		case some && (r.pending.full() || r.busy == 0 || r.ended || r.err != nil):
			p := r.pending
			r.pending = empty
			r.busy++
			r.changed.Broadcast()
			return p
		case !some && r.ended:
			return nil
		}
		r.changed.Wait()
	}
}

// stop takes no more; what was taken goes on.
func (r *bulkRun[T]) stop(why error) {
	r.mu.Lock()
	if r.stopped == nil {
		r.stopped = why
	}
	r.changed.Broadcast()
	r.mu.Unlock()
	r.interrupt()
}

// fail takes no more, and gives up what was taken.
func (r *bulkRun[T]) fail(why error) {
	r.mu.Lock()
	if r.err == nil {
		r.err = why
	}
	r.changed.Broadcast()
	r.mu.Unlock()
	r.interrupt()
}

func (r *bulkRun[T]) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}
