package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

const (
	asynqTask   = "digits:predict"
	asynqPrefix = "asynq-bench:" // of the keys of results
	asynqDone   = "asynq-bench:done"
)

// serveAsynq is the asynq server of a round, in a process of its own: each task is one run of the model with one row,
// its result written to Redis under the task's ID.
func serveAsynq(ctx context.Context, args []string, stderr io.Writer) error {
	fs := flag.NewFlagSet(asynqServerVerb, flag.ContinueOnError)
	fs.SetOutput(stderr)
	addr := fs.String("redis", "", "address of Redis")
	models := fs.String("models", "", "model repository")
	library := fs.String("library", "", "ONNX Runtime")
	concurrency := fs.Int("concurrency", 0, "tasks at once")
	interval := fs.Duration("interval", time.Second, "TaskCheckInterval")
	ttl := fs.Duration("ttl", 24*time.Hour, "of a result")
	notify := fs.Bool("notify", false, "tell whoever waits that a result stands")
	if err := fs.Parse(args); err != nil {
		return err
	}
	digits, err := openPredictor(ctx, *library, *models)
	if err != nil {
		return err
	}
	defer digits.close()
	results := redis.NewClient(&redis.Options{Addr: *addr, DB: dbAsynqResults, PoolSize: *concurrency})
	defer results.Close() //nolint:errcheck // nothing is left to be lost

	handle := func(ctx context.Context, t *asynq.Task) error {
		// Without the task's context, which would cost a goroutine a run.
		probabilities, err := digits.predict(context.WithoutCancel(ctx), t.Payload())
		if err != nil {
			return err
		}
		id := t.ResultWriter().TaskID()
		if !*notify {
			return results.Set(ctx, asynqPrefix+id, probabilities, *ttl).Err()
		}
		_, err = results.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.Set(ctx, asynqPrefix+id, probabilities, *ttl)
			p.Publish(ctx, asynqDone, id)
			return nil
		})
		return err
	}
	server := asynq.NewServer(
		asynq.RedisClientOpt{Addr: *addr, DB: dbAsynqQueue, PoolSize: *concurrency + 8},
		asynq.Config{Concurrency: *concurrency, TaskCheckInterval: *interval, LogLevel: asynq.WarnLevel},
	)
	if err := server.Start(asynq.HandlerFunc(handle)); err != nil {
		return fmt.Errorf("start asynq: %w", err)
	}
	<-ctx.Done()
	server.Shutdown()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
