package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/httpapi"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// admin is what an operator does with the queue: over NATS, or over the HTTP API as an administrator. Both speak the
// API's JSON types.
type admin interface {
	// list calls fn for the first limit letters that match, and counts all of them. maxSeq is the highest that was counted.
	list(ctx context.Context, s httpapi.DeadSelection, limit int, fn func(*httpapi.DeadLetter)) (count int, maxSeq uint64, err error)
	show(ctx context.Context, seq uint64, data bool) (*httpapi.DeadLetter, error)
	// act requeues or purges the count letters that were counted, and calls fn for each.
	act(ctx context.Context, done string, s httpapi.DeadSelection, count int, deadline string, fn func(*httpapi.DeadEvent)) error
	lanes(ctx context.Context) ([]httpapi.Lane, error)
	// setPause pauses the lane, or a model in it, until a time ("": until it is resumed), or resumes it.
	setPause(ctx context.Context, lane job.Lane, model, until string, resume bool) error
	close()
}

// adminSettings says how to reach the queue.
type adminSettings struct {
	client *client
	nats   *queue.Config
}

// adminFlags adds those of a client and the settings of NATS, which are used if there is a --nats-url.
func adminFlags(cmd *cobra.Command) *adminSettings {
	s := &adminSettings{client: clientFlags(cmd), nats: natsFlags(cmd)}
	s.nats.URL = ""
	url := cmd.Flags().Lookup("nats-url")
	url.DefValue = ""
	url.Usage = "ask this NATS server, or `LIST` of a cluster's, instead of the HTTP API (env SHEAF_NATS_URL or NATS_URL)"
	return s
}

// open connects, as the settings say. What a flag says on the command line has precedence over the environment.
func (s *adminSettings) open(cmd *cobra.Command) (admin, error) {
	server, nats := cmd.Flags().Changed("server"), cmd.Flags().Changed("nats-url")
	if server && nats {
		return nil, withCode(exitUsage, errors.New("choose one of --server and --nats-url"))
	}
	if s.nats.URL == "" || server {
		return &httpAdmin{client: s.client}, nil
	}
	q, err := connectQueue(cmd.Context(), *s.nats)
	if err != nil {
		return nil, err
	}
	return &natsAdmin{q}, nil
}

// adminCommand makes a verb that works on an open connection.
func adminCommand(cmd *cobra.Command, run func(ctx context.Context, a admin, args []string) error) *cobra.Command {
	settings := adminFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a, err := settings.open(cmd)
		if err != nil {
			return err
		}
		defer a.close()
		return run(cmd.Context(), a, args)
	}
	return cmd
}

// natsAdmin asks NATS.
type natsAdmin struct{ q *queue.Queue }

func (n *natsAdmin) close() { _ = n.q.Close() }

// queueFault gives an error of the queue its exit code.
func queueFault(ctx context.Context, err error) error {
	var invalid *job.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &invalid):
		return withCode(exitUsage, err)
	case errors.Is(err, queue.ErrUnavailable):
		return unreachable(ctx, err)
	}
	return err
}

func (n *natsAdmin) list(ctx context.Context, s httpapi.DeadSelection, limit int, fn func(*httpapi.DeadLetter)) (count int, maxSeq uint64, err error) {
	f, err := s.Filter(time.Now())
	if err != nil {
		return 0, 0, withCode(exitUsage, err)
	}
	err = n.q.DeadLetters(ctx, f, func(l *queue.DeadLetter) error {
		if count++; count <= limit {
			v := httpapi.NewDeadLetter(l)
			fn(&v)
		}
		maxSeq = l.Seq
		return nil
	})
	return count, maxSeq, queueFault(ctx, err)
}

func (n *natsAdmin) show(ctx context.Context, seq uint64, data bool) (*httpapi.DeadLetter, error) {
	l, err := n.q.DeadLetterAt(ctx, seq)
	if errors.Is(err, job.ErrNotFound) {
		return nil, fmt.Errorf("there is no dead letter %d: it was requeued or purged, or its time is over", seq)
	}
	if err != nil {
		return nil, queueFault(ctx, err)
	}
	v := httpapi.NewWholeDeadLetter(l, data)
	return &v, nil
}

func (n *natsAdmin) act(ctx context.Context, done string, s httpapi.DeadSelection, _ int, deadline string, fn func(*httpapi.DeadEvent)) error {
	f, err := s.Filter(time.Now())
	if err != nil {
		return withCode(exitUsage, err)
	}
	at, err := httpapi.ParseAhead("deadline", deadline, time.Now())
	if err != nil {
		return withCode(exitUsage, err)
	}
	tell := func(o queue.DeadOutcome) error {
		e := httpapi.NewDeadEvent(o, done)
		fn(&e)
		return nil
	}
	if done == httpapi.DeadPurged {
		return queueFault(ctx, n.q.PurgeDead(ctx, f, tell))
	}
	return queueFault(ctx, n.q.RequeueDead(ctx, f, at, tell))
}

func (n *natsAdmin) lanes(ctx context.Context) ([]httpapi.Lane, error) {
	states, err := n.q.Lanes(ctx)
	if err != nil {
		return nil, queueFault(ctx, err)
	}
	lanes := make([]httpapi.Lane, len(states))
	for i := range states {
		lanes[i] = httpapi.NewLane(&states[i])
	}
	return lanes, nil
}

func (n *natsAdmin) setPause(ctx context.Context, lane job.Lane, model, until string, resume bool) error {
	if resume {
		return queueFault(ctx, n.q.Resume(ctx, lane, model))
	}
	at, err := httpapi.ParseAhead("until", until, time.Now())
	if err != nil {
		return withCode(exitUsage, err)
	}
	return queueFault(ctx, n.q.Pause(ctx, lane, model, at))
}
