package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/hibiken/asynq"
	"golang.org/x/sync/errgroup"
)

// asynqConcurrencies are tried to find what serves asynq best on this machine.
var asynqConcurrencies = []int{8, 16, 32, 64, 128}

// asynqSide measures asynq.
type asynqSide struct {
	lab      *lab
	cfg      *config
	rows     []row
	library  string
	progress io.Writer
	// concurrency is what rounds run with; tried is what the choice stands on.
	concurrency int
	tried       map[int]float64
}

// start starts a server process of asynq. It has nothing in common with the one before but the Redis server.
func (a *asynqSide) start(ctx context.Context, concurrency int, notify bool) (*process, error) {
	dir, err := a.lab.subdir("asynq")
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	args := []string{
		asynqServerVerb, "-redis", a.lab.redisAddr, "-models", a.lab.modelsDir(), "-library", a.library,
		"-concurrency", strconv.Itoa(concurrency), "-interval", a.cfg.asynqInterval.String(),
	}
	if notify {
		args = append(args, "-notify")
	}
	p, err := startProcess("asynq-server", dir, self, args...)
	if err != nil {
		return nil, err
	}
	// It is ready when it has worked off a few tasks, which warms up its connections too.
	const warmUp = 200
	inspector := asynq.NewInspector(a.redis())
	defer inspector.Close() //nolint:errcheck // nothing is left to be lost
	err = p.await(ctx, startPatience, func(context.Context) error {
		servers, err := inspector.Servers()
		if err == nil && len(servers) != 1 {
			err = fmt.Errorf("%d servers have registered", len(servers))
		}
		return err
	})
	if err == nil {
		_, _, err = a.run(ctx, warmUp, nil)
	}
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func (a *asynqSide) redis() asynq.RedisClientOpt {
	return asynq.RedisClientOpt{Addr: a.lab.redisAddr, DB: dbAsynqQueue, PoolSize: a.cfg.asynqClients + 2}
}

// tune chooses the concurrency.
func (a *asynqSide) tune(ctx context.Context) error {
	if a.concurrency = a.cfg.asynqConcurrency; a.concurrency != 0 {
		return nil
	}
	a.tried = map[int]float64{}
	for _, c := range asynqConcurrencies {
		r, err := a.round(ctx, max(a.cfg.asynqJobs/3, 500), c)
		if err != nil {
			return err
		}
		a.tried[c] = r.JobsPerSecond
		if a.concurrency == 0 || r.JobsPerSecond > a.tried[a.concurrency] {
			a.concurrency = c
		}
		printf(a.progress, "  asynq with concurrency %d: %s jobs/s\n", c, thousands(int(r.JobsPerSecond)))
	}
	return nil
}

// round measures one round of jobs with a server process of its own, from an empty Redis.
func (a *asynqSide) round(ctx context.Context, jobs, concurrency int) (round, error) {
	if err := a.lab.empty(ctx); err != nil {
		return round{}, err
	}
	server, err := a.start(ctx, concurrency, false)
	if err != nil {
		return round{}, err
	}
	defer server.stop()
	var m meter
	m.add(cpuProducer, os.Getpid())
	m.add(cpuWorker, server.pid())
	m.add(cpuRedis, a.lab.redis.pid())
	m.add(cpuNATS, a.lab.nats.pid())
	r, ids, err := a.run(ctx, jobs, &m)
	if err != nil {
		return round{}, err
	}
	return r, a.verify(ctx, ids)
}

// run enqueues the jobs and waits until every result stands in Redis.
func (a *asynqSide) run(ctx context.Context, jobs int, m *meter) (round, []string, error) {
	client := asynq.NewClient(a.redis())
	defer client.Close() //nolint:errcheck // nothing is left to be lost
	results := a.lab.database(dbAsynqResults)
	defer results.Close() //nolint:errcheck // nothing is left to be lost
	before, err := results.DBSize(ctx).Result()
	if err != nil {
		return round{}, nil, fmt.Errorf("count the results in Redis: %w", err)
	}
	ids := make([]string, jobs)
	var next atomic.Int64

	if m == nil {
		m = &meter{}
	}
	from := m.read()
	group, sending := errgroup.WithContext(ctx)
	for range a.cfg.asynqClients {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= jobs {
					return nil
				}
				info, err := client.EnqueueContext(sending, asynq.NewTask(asynqTask, a.rows[i%len(a.rows)].data))
				if err != nil {
					return fmt.Errorf("enqueue to asynq: %w", err)
				}
				ids[i] = info.ID
			}
		})
	}
	end, err := awaitKeys(ctx, results, int(before), jobs, a.progress)
	if err := group.Wait(); err != nil {
		return round{}, nil, err
	}
	if err != nil {
		return round{}, nil, fmt.Errorf("asynq: %w", err)
	}
	to := m.read()
	r := newRound(jobs, end.Sub(from.at))
	m.since(from, to, &r)
	return r, ids, nil
}

// verify reads every result back and compares it with what the model gives for its row.
func (a *asynqSide) verify(ctx context.Context, ids []string) error {
	results := a.lab.database(dbAsynqResults)
	defer results.Close() //nolint:errcheck // nothing is left to be lost
	keys := make([]string, 0, verifyChunk)
	for from := 0; from < len(ids); from += verifyChunk {
		part := ids[from:min(from+verifyChunk, len(ids))]
		keys = keys[:0]
		for _, id := range part {
			keys = append(keys, asynqPrefix+id)
		}
		values, err := results.MGet(ctx, keys...).Result()
		if err != nil {
			return fmt.Errorf("read asynq's results: %w", err)
		}
		for i, v := range values {
			text, ok := v.(string)
			if !ok {
				return fmt.Errorf("asynq's task %s has no result", part[i])
			}
			if err := a.rows[(from+i)%len(a.rows)].check([]byte(text)); err != nil {
				return fmt.Errorf("asynq's task %s: %w", part[i], err)
			}
		}
	}
	return nil
}
