package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

// feed is a stream of jobs into one lane, for one tenant.
type feed struct {
	client *client
	book   *book
	class  int
	lane   job.Lane
	tenant string
	// rate is how many jobs a second are submitted, evenly; 0 is as fast as window lets them.
	rate float64
	// window is how many accepted jobs may be unfinished; 0 is any number.
	window int

	refused  refusals
	heldBack int // jobs that came late because the window was full although there is a rate
}

// due is when the n-th job is to arrive. Without a rate that is now.
func (f *feed) due(start time.Time, n int) time.Time {
	if f.rate == 0 {
		return time.Now()
	}
	return start.Add(time.Duration(float64(n) / f.rate * float64(time.Second)))
}

// pace waits until the next job is due and the window has room. false if ctx ended first.
func (f *feed) pace(ctx context.Context, due time.Time) bool {
	if wait := time.Until(due); wait > 0 && !rest(ctx, wait) {
		return false
	}
	held := false
	for f.window > 0 && f.book.outstanding(f.class) >= f.window {
		if held = true; !rest(ctx, time.Millisecond) {
			return false
		}
	}
	if held && f.rate > 0 {
		f.heldBack++
	}
	return ctx.Err() == nil
}

// paceEvery is how many jobs pass between two looks at the window and the context, where there is no rate.
const paceEvery = 64

// bulk hands jobs to SubmitAll until ctx ends, and returns when the last is accepted. A window is overrun by what is
// on its way to the queue.
func (f *feed) bulk(ctx context.Context) error {
	start := time.Now()
	requests := iter.Seq[producer.Request](func(yield func(producer.Request) bool) {
		for n := 0; ; n++ {
			if (f.rate > 0 || n%paceEvery == 0) && !f.pace(ctx, f.due(start, n)) {
				return
			}
			if !yield(f.request(n)) {
				return
			}
		}
	})
	var refused error
	// Not ctx: what has been handed over is to be accepted, so that it is known what to wait for.
	err := f.client.producer.SubmitAll(context.WithoutCancel(ctx), requests, func(n int, s producer.Submission, err error) {
		if err != nil {
			refused = err
			return
		}
		f.book.accept(s.Ticket.ID, entry{due: f.due(start, n), sample: n, class: f.class})
	})
	return errors.Join(err, refused)
}

func (f *feed) request(n int) producer.Request {
	return producer.Request{Model: f.book.load.model, Lane: f.lane, Tenant: f.tenant, Inputs: f.book.load.at(n).inputs}
}

// single submits each job by itself, in a goroutine of its own, until ctx ends, and returns when the last is accepted.
func (f *feed) single(ctx context.Context) error {
	var all sync.WaitGroup
	slots := make(chan struct{}, maxSubmits)
	start := time.Now()
	for n := 0; ; n++ {
		due := f.due(start, n)
		if !f.pace(ctx, due) {
			break
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			s, err := f.client.producer.Submit(context.WithoutCancel(ctx), f.request(n))
			if err != nil {
				f.refused.add(err)
				return
			}
			f.book.accept(s.Ticket.ID, entry{due: due, sample: n, class: f.class})
		})
	}
	all.Wait()
	if n := f.refused.count(); n > maxRefused {
		return fmt.Errorf("%d submits were refused: %v", n, f.refused.byKind)
	}
	return nil
}

// maxRefused is how many submits may be refused before a run is an error: a run of an hour is not to end for one.
const maxRefused = 1000

// maxSubmits bounds the submits that are on their way at the same time: fewer than a producer takes.
const maxSubmits = 2048
