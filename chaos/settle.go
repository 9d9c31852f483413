package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/resultstore"
)

// auditor reads the results at the end.
type auditor struct {
	cfg    *config
	ledger *ledger
	store  resultstore.Store
	out    io.Writer
}

const readChunk = 500

// await waits until every accepted job has a record, or nothing more comes, and settles each job in the ledger.
// Jobs whose acceptance is unclear are settled too: if they have a record, it must be right.
func (a *auditor) await(ctx context.Context) error {
	open := a.known()
	last := time.Now()
	for {
		left, err := a.sweep(ctx, open, a.ledger.settle)
		switch {
		case err != nil && ctx.Err() == nil:
			sayf(a.out, "reading the results: %v\n", err)
		case len(left) < len(open):
			last = time.Now()
		}
		open = left
		if err == nil && (accepted(open) == 0 || time.Since(last) > a.cfg.settle || ctx.Err() != nil) {
			break
		}
		if !sleep(ctx, 200*time.Millisecond) {
			break
		}
	}
	if ctx.Err() != nil {
		return ctx.Err() // the run was cut short: what is open is neither finished nor lost
	}
	if n := accepted(open); n > 0 {
		sayf(a.out, "%d accepted jobs have no result\n", n)
	}
	for _, e := range open {
		a.ledger.settle(e, nil)
	}
	return nil
}

// trackInterval is how often the tracker looks, and so how exact it is.
const trackInterval = 10 * time.Millisecond

// track reads the record of each accepted job as soon as there is one, past all links, until ctx ends. So there is an
// early sighting of every job that later ones must agree with, and the time at which its result could be read.
func (a *auditor) track(ctx context.Context) {
	var open []*entry
	for n := 0; sleep(ctx, trackInterval); {
		var fresh []*entry
		fresh, n = a.ledger.since(n)
		open = append(open, fresh...)
		look, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		// What is wrong with Redis now is part of the run.
		open, _ = a.sweep(look, open, func(e *entry, o *outcome) { a.ledger.read(e, o, time.Now()) })
		cancel()
	}
}

// recheck reads every record once more, when nothing is left to be done: none may have changed, and those of jobs whose
// acceptance is unclear may have come meanwhile.
func (a *auditor) recheck(ctx context.Context) error {
	left, err := a.sweep(ctx, a.known(), a.ledger.settle)
	if err != nil {
		return err
	}
	a.ledger.gone(left)
	return nil
}

// known lists the jobs whose ID is known and that may have a record.
func (a *auditor) known() []*entry {
	a.ledger.mu.Lock()
	defer a.ledger.mu.Unlock()
	var list []*entry
	for _, e := range a.ledger.entries {
		if !e.id.IsZero() && !e.refused {
			list = append(list, e)
		}
	}
	return list
}

func accepted(list []*entry) int {
	n := 0
	for _, e := range list {
		if !e.accepted.IsZero() {
			n++
		}
	}
	return n
}

// sweep reads the records of the jobs, hands over those that there are, and returns the other jobs.
func (a *auditor) sweep(ctx context.Context, open []*entry, found func(*entry, *outcome)) (left []*entry, err error) {
	for from := 0; from < len(open); from += readChunk {
		part := open[from:min(from+readChunk, len(open))]
		ids := make([]job.ID, len(part))
		for i, e := range part {
			ids[i] = e.id
		}
		records, err := a.store.Get(ctx, ids...)
		if err != nil {
			return append(left, open[from:]...), err
		}
		for i, e := range part {
			if records[i] == nil {
				left = append(left, e)
				continue
			}
			o, err := ofRecord(e.id, records[i])
			if err != nil {
				a.ledger.damaged(e, err)
				continue
			}
			found(e, &o)
		}
	}
	return left, nil
}

// ask looks at some of the jobs once more at every shim.
func (l *load) ask(ctx context.Context, n int) int {
	asked := 0
	l.ledger.mu.Lock()
	list := append([]*entry(nil), l.ledger.accepted...)
	l.ledger.mu.Unlock()
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] }) //nolint:gosec // needs no secrecy
	for _, e := range list[:min(n, len(list))] {
		for _, base := range l.lab.api {
			for range 20 {
				if l.look(ctx, e, l.ledger.finished(e), base, "") {
					asked++
					break
				}
				if !sleep(ctx, 200*time.Millisecond) {
					return asked
				}
			}
		}
	}
	return asked
}

// emptied waits until no message is left in the lanes, and returns what each stream holds then.
func emptied(ctx context.Context, monitor string, patience time.Duration) (map[string]int, error) {
	deadline := time.Now().Add(patience)
	for {
		held, err := streams(ctx, monitor)
		if err == nil && held[job.Interactive.String()]+held[job.Bulk.String()] == 0 || time.Now().After(deadline) {
			return held, err
		}
		if !sleep(ctx, 200*time.Millisecond) {
			return held, err
		}
	}
}

// openStore opens the result store of the run, past all links.
func openStore(ctx context.Context, addr string) (resultstore.Store, error) {
	cfg := resultstore.DefaultConfig()
	cfg.URL = "redis://" + addr
	s, err := resultstore.OpenRedis(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open the result store: %w", err)
	}
	return s, nil
}
