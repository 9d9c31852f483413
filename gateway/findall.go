package gateway

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/sheafml/sheaf/job"
)

const (
	// lookupBytes is what the records of one look-up should have together, going by those of the one before.
	lookupBytes = 4 << 20
	// lookupFirst is how many are looked up first, before anything is known of their size.
	lookupFirst = 64
	// locates bounds the questions to the queue that one FindAll has in flight.
	locates = 16
)

// FindAll is Find for many jobs, without a wait. found is called for each ticket, in order: what is known of the job, or
// why nothing is. Its error ends FindAll and is returned, as is the client's leaving; nothing else is an error.
//
// The records are read in chunks, and what has none is looked for in the queue, several at a time.
func (g *Gateway) FindAll(ctx context.Context, scope string, tickets []job.Ticket, found func(i int, v *Job, err error) error) error {
	views, errs := make([]*Job, lookupChunk), make([]error, lookupChunk)
	size := lookupFirst
	for done := 0; done < len(tickets); {
		n := min(size, len(tickets)-done)
		bytes := g.findChunk(ctx, scope, tickets[done:done+n], views, errs)
		if ctx.Err() != nil {
			return ErrClientGone
		}
		for i := range n {
			if err := found(done+i, views[i], errs[i]); err != nil {
				return err
			}
			views[i], errs[i] = nil, nil
		}
		done += n
		size = min(max(lookupBytes*n/max(bytes, 1), 1), lookupChunk)
	}
	return nil
}

// findChunk is find for several jobs. It returns the size of their records.
func (g *Gateway) findChunk(ctx context.Context, scope string, tickets []job.Ticket, views []*Job, errs []error) (bytes int) {
	ctx, cancel := context.WithTimeout(ctx, g.cfg.LookupTimeout)
	defer cancel()
	all := make([]int, len(tickets))
	for i := range all {
		all[i] = i
	}
	bytes, rest := g.finishedOf(ctx, scope, tickets, all, views, errs)
	var group errgroup.Group
	group.SetLimit(locates)
	missing := make([]bool, len(tickets))
	for _, i := range rest {
		if tickets[i].Bare() {
			errs[i] = unknownJob(tickets[i])
			continue
		}
		group.Go(func() error {
			views[i], missing[i], errs[i] = g.locate(ctx, scope, tickets[i])
			return nil
		})
	}
	_ = group.Wait()
	// The record may have been written and the message acknowledged in between.
	again := rest[:0]
	for _, i := range rest {
		if missing[i] {
			again = append(again, i)
		}
	}
	more, unknown := g.finishedOf(ctx, scope, tickets, again, views, errs)
	for _, i := range unknown {
		errs[i] = unknownJob(tickets[i])
	}
	return bytes + more
}

// finishedOf fills in those of the jobs at places that have a record. It returns the size of these, and the places of
// the jobs that have none.
func (g *Gateway) finishedOf(ctx context.Context, scope string, tickets []job.Ticket, places []int, views []*Job, errs []error) (bytes int, rest []int) {
	if len(places) == 0 {
		return 0, nil
	}
	ids := make([]job.ID, len(places))
	for k, i := range places {
		ids[k] = tickets[i].ID
	}
	records, err := g.results.Get(ctx, ids...)
	if err == nil && len(records) != len(ids) {
		err = fmt.Errorf("the result store gave %d records for %d jobs", len(records), len(ids))
	}
	for k, i := range places {
		switch {
		case err != nil:
			errs[i] = fmt.Errorf("look up the result of job %s: %w", tickets[i], err)
		case records[k] == nil:
			rest = append(rest, i)
		default:
			bytes += len(records[k])
			views[i], errs[i] = view(scope, tickets[i], records[k])
		}
	}
	return bytes, rest
}
