package producer

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// Batch is a number of requests that are submitted together, many to a message. It keeps the jobs that it has made of
// them, so what could not be accepted may be sent again, and stays one job. It is not safe for concurrent use.
type Batch struct {
	p      *Producer
	done   func(i int, s *Submission, err error)
	chunks []chunk
	alone  chunk // those with an IdempotencyKey
}

// NewBatch makes the jobs of requests, whose inputs may change their order. done is called once for each request, with
// its place: the submission, which is valid during the call and has no Info, or why it was refused. Requests that are
// invalid are refused here.
func (p *Producer) NewBatch(requests []Request, done func(i int, s *Submission, err error)) *Batch {
	b := &Batch{p: p, done: done}
	jobs := make([]job.Job, len(requests))
	var info model.Info
	var name, version string
	known := false
	for i := range requests {
		r := &requests[i]
		if !known || name != r.Model || version != r.Version {
			name, version = r.Model, r.Version
			info, known = p.models.Get(name, version)
		}
		if !known {
			done(i, nil, p.unknownModel(name, version))
			continue
		}
		j := &jobs[i]
		if err := p.makeJob(j, r, &info, r.Inputs); err != nil {
			done(i, nil, err)
			continue
		}
		c := &b.alone
		if !j.Idempotent {
			c = b.chunkFor(destination{j.Lane, j.Model, j.Tenant}, len(requests)-i)
		}
		c.jobs, c.places = append(c.jobs, j), append(c.places, i)
	}
	return b
}

// chunkFor returns the chunk of a destination, made for that many jobs. There is hardly ever more than one.
func (b *Batch) chunkFor(to destination, jobs int) *chunk {
	for i := range b.chunks {
		if first := b.chunks[i].jobs[0]; to == (destination{first.Lane, first.Model, first.Tenant}) {
			return &b.chunks[i]
		}
	}
	b.chunks = append(b.chunks, chunk{jobs: make([]*job.Job, 0, jobs), places: make([]int, 0, jobs)})
	return &b.chunks[len(b.chunks)-1]
}

// Send publishes what is left of the batch, and does not wait where the queue cannot take more: the error is why the
// rest was not accepted, or may not have been. Where [MayPass] says so, Send may be called again.
func (b *Batch) Send(ctx context.Context) error {
	var first error
	note := func(err error) {
		if err != nil && (first == nil || MayPass(first) && !MayPass(err)) {
			first = err
		}
	}
	for i := range b.chunks {
		note(b.p.publishChunk(ctx, &b.chunks[i], b.report))
	}
	note(b.sendAlone(ctx))
	return first
}

// aloneInFlight is how many jobs that travel alone a batch has in flight.
const aloneInFlight = 32

// sendAlone publishes the jobs that travel alone.
func (b *Batch) sendAlone(ctx context.Context) error {
	c := &b.alone
	subs, errs := make([]Submission, len(c.jobs)), make([]error, len(c.jobs))
	var group errgroup.Group
	group.SetLimit(aloneInFlight)
	for i, j := range c.jobs {
		group.Go(func() error {
			s := &subs[i]
			s.CreatedAt, s.Deadline = j.CreatedAt, j.Deadline
			if s.Ticket, s.Duplicate, errs[i] = b.p.queue.Publish(ctx, j); s.Duplicate && b.p.clashes(ctx, s.Ticket) {
				errs[i] = ErrKeyReused
			}
			return nil
		})
	}
	_ = group.Wait()
	var first error
	left := 0
	for i, err := range errs {
		switch {
		case err == nil:
			b.done(c.places[i], &subs[i], nil)
		case errors.Is(err, ErrKeyReused), errors.Is(err, ErrTooLarge):
			b.done(c.places[i], nil, err)
		default:
			if first == nil || MayPass(first) && !MayPass(err) {
				first = err
			}
			c.jobs[left], c.places[left] = c.jobs[i], c.places[i]
			left++
		}
	}
	c.jobs, c.places = c.jobs[:left], c.places[:left]
	return first
}

func (b *Batch) report(c *chunk, n int, tickets []job.Ticket, err error) {
	for i := range n {
		if err != nil {
			b.done(c.places[i], nil, err)
			continue
		}
		b.done(c.places[i], &Submission{Ticket: tickets[i], CreatedAt: c.jobs[i].CreatedAt, Deadline: c.jobs[i].Deadline}, nil)
	}
	c.jobs, c.places = c.jobs[n:], c.places[n:]
}

// Left is how many requests have come to no end yet.
func (b *Batch) Left() int {
	n := len(b.alone.jobs)
	for i := range b.chunks {
		n += len(b.chunks[i].jobs)
	}
	return n
}

// Refuse gives the requests that are left up, for the reason that Send gave. They may have been accepted if that says so.
func (b *Batch) Refuse(err error) {
	for i := range len(b.chunks) + 1 {
		c := &b.alone
		if i < len(b.chunks) {
			c = &b.chunks[i]
		}
		if len(c.jobs) > 0 {
			b.report(c, len(c.jobs), nil, submitError(c.jobs[0], b.p.admission.refused(c.jobs[0], err)))
		}
	}
}
