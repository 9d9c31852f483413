package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

func newModelForget(env environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "forget NAME/VERSION",
		Short: "Withdraw the announcement of a version that no worker serves any more",
		Long: `Withdraw the announcement of a version of a model from NATS: the HTTP API takes no more jobs for it.

Stop the workers of this version first: one that starts announces it again. Jobs that wait already stay in the queue,
and finished ones keep their results.`,
		Example: `  sheaf model forget digits/1`,
		Args:    exactArgs("NAME/VERSION"),
	}
	cfg := natsFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		key := args[0]
		name, version, ok := strings.Cut(key, "/")
		if !ok || !job.ValidName(name) || !job.ValidName(version) {
			return withCode(exitUsage, fmt.Errorf("%q: expected NAME/VERSION, such as digits/1", key))
		}
		ctx := cmd.Context()
		q, err := connectQueue(ctx, *cfg)
		if err != nil {
			return err
		}
		defer q.Close() //nolint:errcheck // the process ends
		known, err := announced(ctx, q)
		if err != nil {
			return unreachable(ctx, err)
		}
		if !slices.Contains(known, key) {
			list := "nothing"
			if len(known) > 0 {
				list = strings.Join(known, ", ")
			}
			return fmt.Errorf("%s is not announced; announced: %s", key, list)
		}
		if err := q.Withdraw(ctx, key); err != nil {
			return unreachable(ctx, err)
		}
		_, err = fmt.Fprintf(env.stdout, "forgotten: %s; jobs may no longer be submitted for it\n", key)
		return err
	}
	return cmd
}

// announced lists the keys of all announcements.
func announced(ctx context.Context, q *queue.Queue) ([]string, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var mu sync.Mutex // changes are told while the list is read
	keys := make(map[string]bool)
	err := q.WatchAnnouncements(ctx, func(key string, value []byte) {
		mu.Lock()
		defer mu.Unlock()
		keys[key] = value != nil
	})
	if err != nil {
		return nil, err
	}
	mu.Lock()
	defer mu.Unlock()
	var list []string
	for key, there := range keys {
		if there {
			list = append(list, key)
		}
	}
	slices.Sort(list)
	return list, nil
}
