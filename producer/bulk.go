package producer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// firstRetry is the first pause at a queue that is full; it doubles up to Config.RetryMax.
const firstRetry = 20 * time.Millisecond

// SubmitAll submits every request, many to a message, with a bounded number of publishes in flight.
//
// done is called once for each request, with its place in the sequence: the submission, or why it was refused. Calls
// of done are not concurrent, and not always in order. A queue that is full or out of reach is waited for; a job
// that was published twice meanwhile still has one result. The error is nil if every request came to done; otherwise
// it is the context's or the queue's, and the requests that done never saw may have been accepted or not.
func (p *Producer) SubmitAll(ctx context.Context, requests iter.Seq[Request], done func(i int, s Submission, err error)) error {
	group, sending := errgroup.WithContext(ctx)
	group.SetLimit(p.cfg.MaxInFlight)
	var mu sync.Mutex
	report := func(c *chunk, n int, tickets []job.Ticket, err error) {
		mu.Lock()
		defer mu.Unlock()
		for i := range n {
			if err != nil {
				done(c.places[i], Submission{}, err)
				continue
			}
			done(c.places[i], Submission{Ticket: tickets[i], CreatedAt: c.jobs[i].CreatedAt, Info: c.info}, nil)
		}
		c.jobs, c.places = c.jobs[n:], c.places[n:]
	}
	send := func(c *chunk) {
		group.Go(func() error { return p.sendChunk(sending, c, report) })
	}

	open := map[destination]*chunk{}
	i := -1
	for r := range requests {
		i++
		if sending.Err() != nil {
			break
		}
		j, info, err := p.prepare(&r)
		if err != nil {
			mu.Lock()
			done(i, Submission{}, err)
			mu.Unlock()
			continue
		}
		to := destination{j.Lane, j.Model, j.Tenant}
		c := open[to]
		if c == nil {
			c = &chunk{
				info: info,
				jobs: make([]*job.Job, 0, p.cfg.ChunkJobs), places: make([]int, 0, p.cfg.ChunkJobs),
			}
			open[to] = c
		}
		c.jobs, c.places = append(c.jobs, j), append(c.places, i)
		if len(c.jobs) == p.cfg.ChunkJobs {
			delete(open, to)
			send(c)
		}
	}
	for _, c := range open {
		send(c)
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("submit in bulk: %w", err)
	}
	return ctx.Err() // the sequence may have been left early with nothing in flight
}

// destination is what the jobs of one message have in common.
type destination struct {
	lane          job.Lane
	model, tenant string
}

// chunk is a run of jobs that go to one place, and where each stood in the sequence.
type chunk struct {
	info   model.Info
	jobs   []*job.Job
	places []int
}

// sendChunk publishes until every job of the chunk is accepted or refused, waiting where the queue cannot take more.
// report takes the first n jobs off the chunk.
func (p *Producer) sendChunk(ctx context.Context, c *chunk, report func(c *chunk, n int, tickets []job.Ticket, err error)) error {
	pause := firstRetry
	for {
		before := len(c.jobs)
		err := p.publishChunk(ctx, c, report)
		if err == nil || !MayPass(err) {
			return err
		}
		if len(c.jobs) < before {
			pause = firstRetry
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause/2 + rand.N(pause/2)): //nolint:gosec // jitter needs no secrecy
		}
		pause = min(2*pause, p.cfg.RetryMax)
	}
}

// MayPass reports whether an error of a submit says that the queue cannot take the job now, but may later.
func MayPass(err error) bool {
	return errors.Is(err, ErrTenantFull) || errors.Is(err, ErrFull) || errors.Is(err, ErrUnavailable)
}

// publishChunk publishes the jobs of the chunk once, but for those that are too large, which are refused.
func (p *Producer) publishChunk(ctx context.Context, c *chunk, report func(c *chunk, n int, tickets []job.Ticket, err error)) error {
	size := len(c.jobs)
	for len(c.jobs) > 0 {
		size = min(size, len(c.jobs))
		tickets, err := p.queue.PublishSheaf(ctx, c.jobs[:size])
		if len(tickets) > 0 {
			report(c, len(tickets), tickets, nil)
		}
		switch {
		case err == nil:
		case errors.Is(err, ErrTooLarge) && size == 1:
			report(c, 1, nil, err)
			size = len(c.jobs)
		case errors.Is(err, ErrTooLarge):
			size = 1 // one by one, to find the one that is too large
		default:
			return err
		}
	}
	return nil
}
