package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sheafml/sheaf/job"
)

// PublishSheaf accepts many jobs of one lane, model and tenant, in as few messages as the limits allow, in order.
// tickets[i] belongs to jobs[i]. On an error the first len(tickets) jobs were accepted, and the others may have been
// if the error is marked with [ErrUncertain].
func (q *Queue) PublishSheaf(ctx context.Context, jobs []*job.Job) (tickets []job.Ticket, err error) {
	if len(jobs) == 0 {
		return nil, nil
	}
	k := keyOf(jobs[0])
	for i, j := range jobs {
		if err := checkJob(j); err != nil {
			return nil, fmt.Errorf("job %d of %d: %w", i, len(jobs), err)
		}
		if keyOf(j) != k {
			return nil, fmt.Errorf("job %d of %d: the jobs of a sheaf share lane, model and tenant; expected %s, got %s",
				i, len(jobs), subject(k.lane, k.model, k.tenant), subject(j.Lane, j.Model, j.Tenant))
		}
	}
	if !q.enter() {
		return nil, ErrClosed
	}
	defer q.running.Done()
	w := window{q: q, ctx: ctx, key: k, jobs: jobs, tickets: make([]job.Ticket, 0, len(jobs))}
	err = w.run()
	return w.tickets, err
}

// window publishes the messages of one call with a bounded number of them in flight.
type window struct {
	q       *Queue
	ctx     context.Context
	key     subjectKey
	jobs    []*job.Job
	started int // jobs whose message was begun
	flight  []bundle
	spare   [][]byte // buffers of messages that are done
	tickets []job.Ticket
}

// bundle is one message in flight.
type bundle struct {
	body  []byte // before it was packed
	out   *outgoing
	jobs  int
	start time.Time
}

func (w *window) run() error {
	for w.started < len(w.jobs) || len(w.flight) > 0 {
		if w.started < len(w.jobs) && len(w.flight) < w.q.cfg.Publish.MaxInFlight {
			if err := w.begin(); err != nil {
				w.drain()
				return err
			}
			continue
		}
		if err := w.finish(); err != nil {
			return w.abandon(err)
		}
	}
	return nil
}

// begin encodes and sends the next message.
func (w *window) begin() error {
	if err := w.ctx.Err(); err != nil {
		return fmt.Errorf("publish given up: %w", err)
	}
	var body []byte
	if n := len(w.spare); n > 0 {
		body, w.spare = w.spare[n-1][:0], w.spare[:n-1]
	}
	first, n := w.jobs[w.started], 0
	for _, j := range w.jobs[w.started:] {
		if n > 0 && (j.Idempotent || first.Idempotent || n >= w.q.cfg.Publish.MaxJobs) {
			break
		}
		before := len(body)
		body = job.AppendJob(body, j)
		if n > 0 && len(body) > w.q.messageBytes() {
			body = body[:before]
			break
		}
		n++
	}
	if err := w.q.checkSize(len(body)); err != nil {
		w.q.metrics.countPublished(w.key.lane, 1, false, err)
		return fmt.Errorf("job %d of %d: %w", w.started, len(w.jobs), err)
	}
	m, err := w.q.message(w.ctx, w.key, first.ID, n, body)
	if err != nil {
		return err
	}
	w.flight = append(w.flight, bundle{out: w.q.begin(m), body: body, jobs: n, start: time.Now()})
	w.started += n
	return nil
}

// finish waits for the oldest message in flight.
func (w *window) finish() error {
	b := w.flight[0]
	w.flight = w.flight[1:]
	a, err := w.q.finish(w.ctx, b.out)
	w.q.observe(w.key.lane, b.jobs, b.start, a, err)
	if err != nil {
		return err
	}
	for i := range b.jobs {
		j := w.jobs[len(w.tickets)]
		w.tickets = append(w.tickets, job.Ticket{ID: j.ID, Lane: j.Lane, Seq: a.seq, Index: i, Fingerprint: j.Fingerprint})
	}
	w.spare = append(w.spare, b.body)
	return nil
}

// drain waits for what is in flight before a message that could not be begun.
func (w *window) drain() {
	for len(w.flight) > 0 {
		if err := w.finish(); err != nil {
			_ = w.abandon(err) // the first error is the one that is told
		}
	}
}

// abandon forgets what is in flight behind a message that failed, and marks the error: those may have been accepted.
func (w *window) abandon(err error) error {
	if len(w.flight) > 0 && !errors.Is(err, ErrUncertain) {
		err = fmt.Errorf("%w (of the jobs behind it: %w)", err, ErrUncertain)
	}
	for _, b := range w.flight {
		if b.out.call != nil {
			w.q.replies.drop(b.out.call)
		}
		w.q.metrics.countPublished(w.key.lane, b.jobs, false, err)
	}
	w.flight = nil
	return err
}
