package main

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// holding is how the workers are kept from a backlog while it is built up.
type holding string

const (
	// holdPause pauses the consumers: the workers' pull requests stand at the server, which has the messages and must not
	// answer; when it may, it must think of them by itself. nats-server 2.15 does so when the time of a pause is over, and
	// not when a pause is taken back: then it waits for the next pull request. So the pause ends by its time here.
	holdPause holding = "pause"
	// holdStop stops the worker with SIGSTOP: its pull requests lapse unseen, and what they brought waits in the socket.
	holdStop holding = "stop"
	// holdStart starts the worker when the backlog is complete.
	holdStart holding = "start"
	// holdNone does not hold: the queue is empty and pull requests stand when the first message comes.
	holdNone holding = "none"
)

// holdings are all of them, in the order of drains.
func holdings() []holding { return []holding{holdPause, holdNone, holdStop, holdStart} }

// hold keeps the worker from the lane until release is called. For holdStart, release returns when the worker is ready.
func (l *lab) hold(ctx context.Context, how holding, lane job.Lane) (release func(context.Context) error, err error) {
	switch how {
	case holdPause:
		if err := l.pauseConsumers(ctx, lane, time.Now().Add(10*time.Minute)); err != nil {
			return nil, err
		}
		return func(ctx context.Context) error { return l.pauseConsumers(ctx, lane, time.Now().Add(resumeIn)) }, nil
	case holdStop:
		if err := l.worker.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			return nil, err
		}
		return func(context.Context) error { return l.worker.cmd.Process.Signal(syscall.SIGCONT) }, nil
	case holdStart:
		l.worker.expected.Store(true)
		l.worker.stop()
		return l.startWorker, nil
	default:
		return func(context.Context) error { return nil }, nil
	}
}

// resumeIn is how soon a pause ends that is to end now.
const resumeIn = 100 * time.Millisecond

// pauseConsumers pauses every consumer of the lane until a time. It talks to JetStream itself, past everything of
// Sheaf's.
func (l *lab) pauseConsumers(ctx context.Context, lane job.Lane, until time.Time) error {
	conn, err := nats.Connect(l.natsURL())
	if err != nil {
		return fmt.Errorf("pause the consumers: %w", err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return fmt.Errorf("pause the consumers: %w", err)
	}
	stream, err := js.Stream(ctx, lane.String())
	if err != nil {
		return fmt.Errorf("pause the consumers: %w", err)
	}
	names := stream.ConsumerNames(ctx)
	var all []string
	for name := range names.Name() {
		all = append(all, name)
	}
	if err := names.Err(); err != nil {
		return fmt.Errorf("list the consumers: %w", err)
	}
	for _, name := range all {
		if _, err = stream.PauseConsumer(ctx, name, until); err != nil {
			return fmt.Errorf("pause consumer %s: %w", name, err)
		}
	}
	return nil
}
