package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

const (
	// latencySeed fixes the arrivals, so that both systems meet the same ones.
	latencySeed = 20
	// noticePatience is how long after the last submit the last notices may take. A system that is so far behind does
	// not hold the rate.
	noticePatience = 10 * time.Second
	// heldWithin is how soon after the last arrival the last result must stand for the rate to count as held.
	heldWithin = time.Second
)

// outcomes is what came of an open loop.
type outcomes[ID comparable] struct {
	arrivals []time.Duration
	ids      []ID // of each arrival
	start    time.Time
	late     []time.Duration
	inbox    *inbox[ID]
}

// await waits until every notice has come, or none comes any more.
func (o *outcomes[ID]) await(ctx context.Context) error {
	err := poll(ctx, 5*time.Millisecond, noticePatience, func() (bool, error) { return o.inbox.len() >= len(o.ids), nil })
	if errors.Is(err, errPatience) {
		return nil // what is missing is looked up and counted
	}
	return err
}

// report turns outcomes into figures. A result without a notice counts as known now, which is later than the truth.
func (o *outcomes[ID]) report(length time.Duration) latencyRun {
	known, now := o.inbox.times(), time.Now()
	run := latencyRun{Jobs: len(o.ids), Seconds: length.Seconds()}
	latencies := make([]time.Duration, len(o.ids))
	var last time.Duration
	for i, id := range o.ids {
		at, ok := known[id]
		if !ok {
			run.NoticesLost++
			at = now
		}
		done := at.Sub(o.start)
		latencies[i], last = done-o.arrivals[i], max(last, done)
	}
	slices.Sort(latencies)
	slices.Sort(o.late)
	run.P50, run.P90 = milliseconds(percentile(latencies, 50)), milliseconds(percentile(latencies, 90))
	run.P99, run.Max = milliseconds(percentile(latencies, 99)), milliseconds(percentile(latencies, 100))
	run.LateP50, run.LateP99 = milliseconds(percentile(o.late, 50)), milliseconds(percentile(o.late, 99))
	run.Held = last <= length+heldWithin
	return run
}

// latency submits with producer.Submit at a fixed rate; a result is known when the worker's notice has come.
func (s *sheafSide) latency(ctx context.Context, rate int, length time.Duration) (latencyRun, error) {
	if err := s.lab.empty(ctx); err != nil {
		return latencyRun{}, err
	}
	o := outcomes[job.ID]{arrivals: schedule(rate, length, latencySeed), inbox: &inbox[job.ID]{}}
	o.ids = make([]job.ID, len(o.arrivals))
	stop, err := s.queue.OnDone(func(ids []job.ID) { o.inbox.put(ids...) })
	if err != nil {
		return latencyRun{}, err
	}
	defer stop()
	o.start, o.late, err = openLoop(ctx, o.arrivals, func(i int, _ time.Time) error {
		sub, err := s.producer.Submit(ctx, producer.Request{Model: modelName, Inputs: s.rows[i%len(s.rows)].inputs})
		o.ids[i] = sub.Ticket.ID
		return err
	})
	if err != nil {
		return latencyRun{}, fmt.Errorf("submit at %d jobs/s: %w", rate, err)
	}
	if err := o.await(ctx); err != nil {
		return latencyRun{}, err
	}
	run := o.report(length)
	return run, s.verify(ctx, o.ids)
}

// latency enqueues at a fixed rate. asynq tells nobody that a task is done, so the handler publishes its ID after the
// result, which is the fastest way to learn of it.
func (a *asynqSide) latency(ctx context.Context, rate int, length time.Duration) (latencyRun, error) {
	if err := a.lab.empty(ctx); err != nil {
		return latencyRun{}, err
	}
	server, err := a.start(ctx, a.concurrency, true)
	if err != nil {
		return latencyRun{}, err
	}
	defer server.stop()
	o := outcomes[string]{arrivals: schedule(rate, length, latencySeed), inbox: &inbox[string]{}}
	o.ids = make([]string, len(o.arrivals))
	results := a.lab.database(dbAsynqResults)
	defer results.Close() //nolint:errcheck // nothing is left to be lost
	subscription := results.Subscribe(ctx, asynqDone)
	defer subscription.Close() //nolint:errcheck // nothing is left to be lost
	if _, err := subscription.Receive(ctx); err != nil {
		return latencyRun{}, fmt.Errorf("subscribe to asynq's results: %w", err)
	}
	go func() {
		for m := range subscription.Channel(redis.WithChannelSize(len(o.ids))) {
			o.inbox.put(m.Payload)
		}
	}()
	client := asynq.NewClient(asynq.RedisClientOpt{Addr: a.lab.redisAddr, DB: dbAsynqQueue, PoolSize: a.concurrency + 2})
	defer client.Close() //nolint:errcheck // nothing is left to be lost
	o.start, o.late, err = openLoop(ctx, o.arrivals, func(i int, _ time.Time) error {
		info, err := client.EnqueueContext(ctx, asynq.NewTask(asynqTask, a.rows[i%len(a.rows)].data))
		if err == nil {
			o.ids[i] = info.ID
		}
		return err
	})
	if err != nil {
		return latencyRun{}, fmt.Errorf("enqueue to asynq at %d jobs/s: %w", rate, err)
	}
	if err := o.await(ctx); err != nil {
		return latencyRun{}, err
	}
	run := o.report(length)
	return run, a.verify(ctx, o.ids)
}
