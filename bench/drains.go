package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

// drained is one backlog that was worked off. Times are in milliseconds from the release of the workers.
type drained struct {
	Hold        holding `json:"hold"`
	Lane        string  `json:"lane"`
	MessageJobs int     `json:"jobs_per_message_at_most"`
	Backlog     int     `json:"messages_waiting_at_release"`
	First       float64 `json:"first_result_ms"`
	Took        float64 `json:"took_ms"`
	Gap         float64 `json:"largest_gap_ms"`
	GapAfter    int     `json:"jobs_finished_before_it"`
	Standstill  float64 `json:"largest_standstill_ms"` // of deliveries while messages waited, as nats-server tells
	Complete    bool    `json:"complete"`              // every notice came by itself
}

// drainsOf sums up the drains of one kind.
type drainsOf struct {
	Hold       holding `json:"hold"`
	Gap        spread  `json:"largest_gap"`
	First      spread  `json:"first_result"`
	Took       spread  `json:"took"`
	Standstill spread  `json:"largest_standstill"`
	Over       int     `json:"over_bound"`
}

// sumDrains sums up by holding.
func sumDrains(list []drained, bound time.Duration) []drainsOf {
	var sums []drainsOf
	for _, how := range append(holdings(), "all") {
		var gaps, firsts, tooks, stills times
		over := 0
		for _, d := range list {
			if d.Hold != how && how != "all" {
				continue
			}
			gaps.add(fromMilliseconds(d.Gap))
			firsts.add(fromMilliseconds(d.First))
			tooks.add(fromMilliseconds(d.Took))
			stills.add(fromMilliseconds(d.Standstill))
			if fromMilliseconds(d.Gap) > bound {
				over++
			}
		}
		if gaps.n > 0 {
			sums = append(sums, drainsOf{how, gaps.spread(), firsts.spread(), tooks.spread(), stills.spread(), over})
		}
	}
	return sums
}

func fromMilliseconds(v float64) time.Duration { return time.Duration(v * float64(time.Millisecond)) }

// messageSizes are the jobs that a message may carry, in turns: with one, the server has as many messages to deliver as
// there are jobs.
var messageSizes = []int{64, 1} //nolint:gochecknoglobals // a constant list

// drainAll builds up and works off one backlog after the other.
func (c *soakConfig) drainAll(ctx context.Context, l *lab, load *workload, r *soakReport, say func(string, ...any)) error {
	clients := make(map[int]*client)
	for _, n := range messageSizes {
		cfg := clientSettings(l)
		cfg.Queue.Publish.MaxJobs = n
		one, err := openClient(ctx, l, cfg, load.model)
		if err != nil {
			return err
		}
		defer one.close()
		clients[n] = one
	}
	book := newBook(load, clients[messageSizes[0]].store, laneClasses)
	var notices marks
	stop, err := clients[messageSizes[0]].queue.OnDone(func(ids []job.ID) { notices.done(ids); book.done(ids) })
	if err != nil {
		return err
	}
	defer stop()
	kinds, sizes, lanes := holdings(), messageSizes, job.Lanes()
	for i := range c.drains {
		d := drain{
			lab: l, client: clients[sizes[i/len(kinds)%len(sizes)]], book: book, notices: &notices, jobs: c.drainJobs,
			hold: kinds[i%len(kinds)], lane: lanes[i/len(kinds)/len(sizes)%len(lanes)],
		}
		one, err := d.run(ctx)
		if err != nil {
			return fmt.Errorf("drain %d: %w", i+1, err)
		}
		one.MessageJobs = sizes[i/len(kinds)%len(sizes)]
		r.Drains = append(r.Drains, one)
		if fromMilliseconds(one.Gap) > c.maxGap || !one.Complete || (i+1)%10 == 0 || i < len(kinds) {
			say("drain %d of %d (%s, %s, %d jobs a message): %d messages waited; first result after %.0f ms, all after %.0f ms, largest gap %.0f ms, standstill %.0f ms",
				i+1, c.drains, one.Hold, one.Lane, one.MessageJobs, one.Backlog, one.First, one.Took, one.Gap, one.Standstill)
		}
	}
	r.Drained, r.ByHold = book.result(), sumDrains(r.Drains, c.maxGap)
	return nil
}

// drain is one backlog.
type drain struct {
	lab     *lab
	client  *client
	book    *book
	notices *marks
	jobs    int
	hold    holding
	lane    job.Lane
}

const (
	// longestHold is how much longer than the backlog takes to be built the workers are held, at most. It is longer than a
	// pull request stands, so that the release meets one at any age.
	longestHold = 1200 * time.Millisecond
	// lookEvery is how often nats-server is asked.
	lookEvery = 50 * time.Millisecond
	// drainPatience is how long a drain may show nothing new.
	drainPatience = 60 * time.Second
)

func (d *drain) run(ctx context.Context) (drained, error) {
	r := drained{Hold: d.hold, Lane: d.lane.String()}
	release, err := d.lab.hold(ctx, d.hold, d.lane)
	if err != nil {
		return r, err
	}
	d.notices.take()
	watching, unwatch := context.WithCancel(ctx)
	defer unwatch()
	var looks []look
	var watch sync.WaitGroup
	watch.Go(func() { looks = d.watch(watching) })
	defer watch.Wait()
	defer unwatch()

	at := time.Now()
	accepted, err := d.publish(ctx)
	if err != nil {
		return r, errors.Join(err, release(ctx))
	}
	if d.hold != holdNone {
		rest(ctx, rand.N(longestHold)) //nolint:gosec // needs no secrecy
		states, err := d.lab.lanes(ctx)
		if err != nil {
			return r, errors.Join(err, release(ctx))
		}
		r.Backlog = states[d.lane].Messages
		at = time.Now()
		if d.hold == holdPause {
			at = at.Add(resumeIn)
		}
	}
	if err := release(ctx); err != nil {
		return r, fmt.Errorf("let the worker go: %w", err)
	}
	err = poll(ctx, 2*time.Millisecond, drainPatience, func() (bool, error) { return d.notices.count() >= d.jobs, nil })
	if err != nil && !errors.Is(err, errPatience) {
		return r, err
	}
	r.Complete = err == nil
	end := time.Now()
	unwatch()
	watch.Wait()
	finished := d.notices.take()
	if d.hold == holdStart && len(finished) > 0 {
		at = later(at, finished[0].at) // a process takes its time to start, and that is no gap
	}
	largest, first := largestGap(at, end, accepted, finished)
	r.First, r.Took, r.Gap, r.GapAfter = milliseconds(first), milliseconds(end.Sub(at)), milliseconds(largest.length), largest.after
	looks = slices.DeleteFunc(looks, func(k look) bool { return k.at.Before(at) })
	r.Standstill = milliseconds(largestStandstill(looks))
	if err := d.book.settle(ctx, drainPatience); err != nil {
		return r, err
	}
	v := d.book.result()
	return r, errors.Join(v.failure(), d.lab.drained(ctx))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// publish builds up the backlog, and returns when the jobs were accepted.
func (d *drain) publish(ctx context.Context) ([]mark, error) {
	load := d.book.load
	requests := iter.Seq[producer.Request](func(yield func(producer.Request) bool) {
		for i := range d.jobs {
			if !yield(producer.Request{Model: load.model, Lane: d.lane, Inputs: load.at(i).inputs}) {
				return
			}
		}
	})
	var accepted []mark
	var refused error
	err := d.client.producer.SubmitAll(ctx, requests, func(i int, s producer.Submission, err error) {
		if err != nil {
			refused = err
			return
		}
		now := time.Now()
		d.book.accept(s.Ticket.ID, entry{due: now, sample: i, class: int(d.lane)})
		if n := len(accepted); n > 0 && now.Sub(accepted[n-1].at) < time.Millisecond {
			accepted[n-1].n++
			return
		}
		accepted = append(accepted, mark{now, 1})
	})
	return accepted, errors.Join(err, refused)
}

// watch looks at the lane from outside until ctx ends.
func (d *drain) watch(ctx context.Context) []look {
	var looks []look
	for rest(ctx, lookEvery) {
		states, err := d.lab.lanes(ctx)
		if err != nil {
			continue // a look that fails is one look less
		}
		s := states[d.lane]
		looks = append(looks, look{at: time.Now(), waiting: s.Waiting, delivered: s.Delivered})
	}
	return looks
}
