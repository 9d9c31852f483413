package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/sheafml/sheaf/producer"
)

// bulkBatch is what is submitted together. It is reused.
type bulkBatch[T any] struct {
	items    []T
	bytes    int
	subs     []Submission
	read     []int // places of the items that are not submitted yet
	requests []producer.Request
	places   []int // of requests, in items
	ends     []end // not told yet
}

func newBulkBatch[T any]() *bulkBatch[T] {
	return &bulkBatch[T]{items: make([]T, 0, bulkItems)}
}

func (p *bulkBatch[T]) full() bool { return len(p.items) >= bulkItems || p.bytes >= bulkBytes }

func (p *bulkBatch[T]) reset() {
	clear(p.items)
	clear(p.subs)
	clear(p.requests)
	clear(p.ends)
	p.items, p.bytes, p.subs, p.requests, p.places = p.items[:0], 0, p.subs[:0], p.requests[:0], p.places[:0]
	p.read, p.ends = nil, p.ends[:0]
}

// end is what became of an item.
type end struct {
	place int
	err   error
}

func (r *bulkRun[T]) work(ctx context.Context) {
	empty := newBulkBatch[T]()
	for {
		p := r.take(empty)
		if p == nil {
			return
		}
		r.handle(ctx, p)
		p.reset()
		empty = p
		r.mu.Lock()
		r.busy--
		r.changed.Broadcast()
		r.mu.Unlock()
	}
}

// errBulkPanic is the server's own fault; its log has the rest.
var errBulkPanic = errors.New("a bulk submit panicked")

// handle brings each item of a batch to its end.
func (r *bulkRun[T]) handle(ctx context.Context, p *bulkBatch[T]) {
	defer func() {
		if v := recover(); v != nil {
			r.g.log.LogAttrs(ctx, slog.LevelError, "a bulk submit panicked", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
			r.fail(errBulkPanic)
		}
	}()
	for i := range p.items {
		p.subs = append(p.subs, Submission{})
		if err := r.b.Read(&p.items[i], &p.subs[i]); err != nil {
			p.ends = append(p.ends, end{i, err})
			continue
		}
		p.read = append(p.read, i)
	}
	for len(p.read) > 0 {
		if err := r.admit(ctx, p); err != nil {
			r.fail(err)
			for _, i := range p.read {
				p.ends = append(p.ends, end{i, err})
			}
			p.read = p.read[:0]
		}
		r.send(ctx, p)
	}
	_ = r.tell(p)
}

// admit moves those that were read to the requests, as far as their caller may submit them now; one at least, for which
// it waits. The error is why none of them may be.
func (r *bulkRun[T]) admit(ctx context.Context, p *bulkBatch[T]) error {
	clear(p.requests)
	p.requests, p.places = p.requests[:0], p.places[:0]
	for waited := time.Duration(0); len(p.read) > 0; {
		if err := r.failed(); err != nil {
			return err
		}
		s := &p.subs[p.read[0]]
		err := r.g.admit(ctx, s)
		if err == nil {
			p.requests, p.places = append(p.requests, s.Request), append(p.places, p.read[0])
			p.read = p.read[1:]
			continue
		}
		limit := ProblemOf(err)
		switch {
		case limit.Code != CodeRateLimited:
			p.ends = append(p.ends, end{p.read[0], err})
			p.read = p.read[1:]
			continue
		case len(p.requests) > 0:
			return nil
		case waited+limit.After > r.b.Patience:
			return err
		}
		if err := r.tell(p); err != nil {
			return err
		}
		pause := max(limit.After, time.Millisecond)
		if err := r.pause(ctx, pause); err != nil {
			return err
		}
		waited += pause
	}
	return nil
}

// send submits the requests.
func (r *bulkRun[T]) send(ctx context.Context, p *bulkBatch[T]) {
	if len(p.requests) == 0 {
		return
	}
	batch := r.g.deps.Submitter.NewBatch(p.requests, func(i int, sub *producer.Submission, err error) {
		place := p.places[i]
		if err == nil {
			s := &p.subs[place]
			s.Ticket, s.Created, s.Deadline, s.Duplicate = sub.Ticket, sub.CreatedAt, sub.Deadline, sub.Duplicate
		}
		p.ends = append(p.ends, end{place, err})
	})
	if err := r.submit(ctx, p, batch); err != nil {
		r.fail(err)
		batch.Refuse(err)
	}
}

// submit submits a batch, and waits while the queue does not take it. The error is why what is left is given up.
func (r *bulkRun[T]) submit(ctx context.Context, p *bulkBatch[T], batch *producer.Batch) error {
	began, pause := time.Now(), firstPause
	for batch.Left() > 0 {
		if err := r.failed(); err != nil {
			return err
		}
		left := batch.Left()
		err := r.publish(ctx, batch)
		if batch.Left() == 0 {
			return nil
		}
		if batch.Left() < left {
			pause = firstPause
			r.progress.Store(time.Now().UnixNano())
		}
		if ctx.Err() != nil {
			return ErrClientGone
		}
		waited := min(time.Since(began), time.Since(time.Unix(0, r.progress.Load())))
		if !mayPass(err) || waited >= r.b.Patience {
			return err
		}
		if err := r.tell(p); err != nil { // of those that were accepted, while the others wait
			return err
		}
		if err := r.pause(ctx, min(pause/2+rand.N(pause/2), r.b.Patience-waited)); err != nil { //nolint:gosec // jitter needs no secrecy
			return err
		}
		pause = min(2*pause, longestPause)
	}
	return nil
}

// pause waits a while before another try, unless there is to be none: the error says why.
func (r *bulkRun[T]) pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-r.g.waiters.closed:
		return goingDown()
	case <-ctx.Done():
		return ErrClientGone
	}
}

// Pauses before a queue that takes nothing; they double.
const (
	firstPause   = 20 * time.Millisecond
	longestPause = time.Second
)

// mayPass reports whether the queue may take later what it does not take now.
func mayPass(err error) bool {
	var p *Problem
	return producer.MayPass(err) || outOfReach(err) || errors.As(err, &p) && p.Busy
}

// publish publishes what is left of a batch, through the guards.
func (r *bulkRun[T]) publish(ctx context.Context, batch *producer.Batch) error {
	ctx, cancel := context.WithTimeout(ctx, r.g.cfg.SubmitTimeout)
	defer cancel()
	_, err := r.g.queue.submit(func() (producer.Submission, error) { return producer.Submission{}, batch.Send(ctx) })
	if err == nil && batch.Left() > 0 {
		err = fmt.Errorf("%d jobs of a batch came to no end", batch.Left())
	}
	return err
}

// tell lets the items of a batch that have come to their ends be told of it, and counts them.
func (r *bulkRun[T]) tell(p *bulkBatch[T]) error {
	if len(p.ends) == 0 {
		return nil
	}
	r.tellEnds(p)
	p.ends = p.ends[:0]
	err := r.b.Flush()
	if err != nil {
		r.fail(err)
	}
	return err
}

func (r *bulkRun[T]) tellEnds(p *bulkBatch[T]) {
	r.telling.Lock()
	defer r.telling.Unlock()
	accepted, duplicate := 0, 0
	for _, e := range p.ends {
		switch {
		case e.err != nil:
			r.g.metrics.submitted(false, e.err)
		case p.subs[e.place].Duplicate:
			duplicate++
		default:
			accepted++
		}
		r.b.Done(&p.items[e.place], &p.subs[e.place], e.err)
	}
	r.g.metrics.accepted(accepted, duplicate)
	if accepted+duplicate > 0 {
		r.progress.Store(time.Now().UnixNano())
	}
}
