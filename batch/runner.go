package batch

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

const (
	// fetchWait is how long one fetch waits. It also bounds how long Run takes to notice its end.
	fetchWait = time.Second
	// stopTime is how long what is in hand may take to be recorded when Run ends.
	stopTime = 5 * time.Second
	// idleLook is when a batch that must wait, because it is paused or outside its window, comes again.
	idleLook = 2 * time.Second
	// sliceRest is how long a batch rests that has made room for others: until they have been fetched.
	sliceRest = time.Second
	// troubleFirst and troubleMost are when a batch comes again that something stood in the way of.
	troubleFirst, troubleMost = time.Second, 30 * time.Second
)

// Run works on batches until ctx ends, and then hands back within seconds what it has in hand.
func (s *Service) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	for range s.cfg.Runners {
		all.Go(func() { s.serve(ctx) })
	}
	if s.cfg.Runners > 0 {
		all.Go(func() { s.sweepAll(ctx) })
	}
	<-ctx.Done()
	return nil
}

// serve is one runner: it fetches a batch when it has none.
func (s *Service) serve(ctx context.Context) {
	var from *queue.BatchSource
	var last string // trouble that was logged
	for failures := 0; ctx.Err() == nil; {
		d, err := s.fetch(ctx, &from)
		switch {
		case ctx.Err() != nil && d == nil:
			return
		case err != nil:
			if err.Error() != last {
				last = err.Error()
				s.log.Warn("batches cannot be fetched; trying again until it works", slog.Any("error", err))
			}
			_ = rest(ctx, jitter(min(troubleMost, 100*time.Millisecond<<min(failures, 10)))) // the loop looks at ctx
			failures++
			continue
		case d != nil:
			s.metrics.running.Inc()
			s.work(ctx, from, d)
			s.metrics.running.Dec()
		}
		failures, last = 0, ""
	}
}

func (s *Service) fetch(ctx context.Context, from **queue.BatchSource) (*queue.BatchDelivery, error) {
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	if *from == nil {
		src, err := s.deps.Queue.Batches(ctx, s.cfg.limits())
		if err != nil {
			return nil, err
		}
		*from = src
	}
	d, err := (*from).Fetch(ctx, fetchWait)
	return d, s.doubt(err)
}

// work takes up a batch: brings it to its end, or gives it back.
func (s *Service) work(ctx context.Context, from *queue.BatchSource, d *queue.BatchDelivery) {
	log := s.log.With("batch", d.ID, "tenant", d.Tenant)
	// What has to be said at the end is said although ctx has ended; not for long.
	saying, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopTime, cut) })()
	var o order
	if err := json.Unmarshal(d.Body, &o); err != nil || o.ID != d.ID || o.Tenant != d.Tenant || o.Cut.Lines < 1 || o.Cut.Bytes < 1 || o.Cut.MostLine < 1 {
		log.Warn("a message that is no batch was removed from their stream")
		s.settle(saying, d, log)
		return
	}
	if _, ok := jobID(o.ID); !ok {
		log.Warn("a batch without an ID was removed from the stream")
		s.settle(saying, d, log)
		return
	}
	run := &run{s: s, from: from, d: d, log: log, order: &o, saying: saying}
	run.do(ctx)
}

// settle removes the message of a batch that is at its end.
func (s *Service) settle(ctx context.Context, d *queue.BatchDelivery, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	if err := d.Done(ctx); err != nil {
		log.Debug("a batch that has ended could not be removed from its stream; it comes again", slog.Any("error", err))
	}
}

// newRunner names a runner: each time that it takes a batch up.
func newRunner() (string, error) {
	u, err := job.NewID()
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(u[8:]), nil
}

// patiently does f until the store answers, or ctx ends.
func patiently(ctx context.Context, f func() error) error {
	for {
		err := f()
		if !errors.Is(err, queue.ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		if rest(ctx, storePause) != nil {
			return err
		}
	}
}

// jitter makes a pause up to a fifth longer, so that what failed together is not tried again together.
func jitter(d time.Duration) time.Duration {
	return d + time.Duration(rand.Int64N(int64(d)/5+1)) //nolint:gosec // no secret
}
