package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/batch"
)

func newBatch(env environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "batch",
		Short: "Have the server run a file of requests, and fetch the answers",
		Long: `Have the server run a file of requests, and fetch the answers: submit it, look how far it is, and read the results, also
while it runs. The server goes on whatever becomes of this program. (sheaf backfill is for files that this machine reads and
writes.) These verbs ask the HTTP API.`,
		Example: `  sheaf batch submit digits requests.jsonl
  sheaf batch ls
  sheaf batch results ID --follow -o results.jsonl`,
		Args: knownVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBatchSubmit(env), newBatchList(env), newBatchShow(env), newBatchResults(env),
		newBatchAct(env, "cancel", "Cancel a batch; what is done is kept"),
		newBatchAct(env, "pause", "Let a batch rest, until it is resumed or its completion window is over"),
		newBatchAct(env, "resume", "Let a paused batch go on"))
	return cmd
}

// batch reads the batch of an answer, or its problem.
func (a *answer) batch() (*batch.Batch, error) {
	if a.status != http.StatusOK {
		return nil, a.problem()
	}
	var b batch.Batch
	if err := json.Unmarshal(a.body, &b); err != nil || b.ID == "" {
		return nil, errors.New("the server's answer is not a batch")
	}
	return &b, nil
}

func (c *client) getBatch(ctx context.Context, id string) (*batch.Batch, *answer, error) {
	a, err := c.do(ctx, http.MethodGet, batchPath(id, ""), nil, nil, 0)
	if err != nil {
		return nil, nil, err
	}
	b, err := a.batch()
	return b, a, err
}

func batchPath(id, what string) string {
	return "/v1/batches/" + url.PathEscape(id) + what
}

const (
	batchLook  = time.Second      // how often a batch is looked at
	batchTell  = 5 * time.Second  // how often it is told how far it is
	batchAlone = 30 * time.Second // how long the server may be away meanwhile
)

// awaitBatch waits until the batch has ended or wait is over, and returns it as it is then. A server that is restarted
// meanwhile is waited for.
func (c *client) awaitBatch(ctx context.Context, env environment, id string, wait time.Duration) (*batch.Batch, *answer, error) {
	last := &batch.Batch{ID: id}
	until, told, heard := time.Now().Add(wait), time.Now(), time.Now()
	for {
		b, a, err := c.getBatch(ctx, id)
		var exit *exitError
		switch {
		case errors.As(err, &exit) && exit.code == exitUnreachable && time.Since(heard) < batchAlone:
		case err != nil:
			return last, nil, err
		case b.Status.Final() || time.Now().After(until):
			return b, a, nil
		default:
			heard = time.Now()
			if b.Status != last.Status || time.Since(told) > batchTell {
				told = time.Now()
				fmt.Fprintln(env.stderr, batchProgress(b))
			}
			last = b
		}
		select {
		case <-ctx.Done():
			return last, nil, ctx.Err()
		case <-time.After(min(batchLook, max(0, time.Until(until)))):
		}
	}
}

func newBatchShow(env environment) *cobra.Command {
	var format string
	var wait time.Duration
	var c *client
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show how far a batch is",
		Long: `Show how far a batch is.

Exit code 0: it has completed, or is not finished and --wait was not given; 3: completed, and some lines have failed;
1: it ended otherwise, or is not known; 5: it was not finished within --wait.`,
		Example: `  sheaf batch show batch_0198f3c27b1e7c339d5f3c6b7a2f8e12
  sheaf batch show batch_0198f3c27b1e7c339d5f3c6b7a2f8e12 --wait=10m -o json`,
		Args: exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(checkOutput(format), checkGiven(cmd, "wait", wait)); err != nil {
				return err
			}
			b, a, err := c.getBatch(cmd.Context(), args[0])
			if err == nil && wait > 0 && !b.Status.Final() {
				b, a, err = c.awaitBatch(cmd.Context(), env, args[0], wait)
			}
			if err != nil {
				return err
			}
			return printBatch(env, a, b, format, wait > 0)
		},
	}
	c = clientFlags(cmd)
	outputFlag(cmd, &format)
	batchWaitFlag(cmd, &wait)
	return cmd
}

// newBatchAct makes a verb that does something to a batch.
func newBatchAct(env environment, what, short string) *cobra.Command {
	var format string
	var c *client
	cmd := &cobra.Command{
		Use: what + " ID", Short: short, Long: short + ".",
		Example: "  sheaf batch " + what + " batch_0198f3c27b1e7c339d5f3c6b7a2f8e12",
		Args:    exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(format); err != nil {
				return err
			}
			a, err := c.do(cmd.Context(), http.MethodPost, batchPath(args[0], "/"+what), nil, nil, 0)
			if err != nil {
				return err
			}
			b, err := a.batch()
			if err != nil {
				return err
			}
			return showBatch(env, a, b, format)
		},
	}
	c = clientFlags(cmd)
	outputFlag(cmd, &format)
	return cmd
}

func newBatchList(env environment) *cobra.Command {
	var format, after string
	var limit int
	var c *client
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List your batches, the newest first",
		Long:  "List your batches, the newest first. Those that have ended are listed until they are deleted.",
		Example: `  sheaf batch ls
  sheaf batch ls --limit 5 -o json`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(format); err != nil {
				return err
			}
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			if after != "" {
				query.Set("after", after)
			}
			a, err := c.do(cmd.Context(), http.MethodGet, "/v1/batches?"+query.Encode(), nil, nil, 0)
			if err != nil {
				return err
			}
			if a.status != http.StatusOK {
				return a.problem()
			}
			if format == "json" {
				_, err := fmt.Fprintf(env.stdout, "%s\n", strings.TrimSpace(string(a.body)))
				return err
			}
			return printBatches(env, a.body)
		},
	}
	c = clientFlags(cmd)
	outputFlag(cmd, &format)
	cmd.Flags().IntVar(&limit, "limit", 20, "show no more than this many, 1 to 100")
	cmd.Flags().StringVar(&after, "after", "", "show those after the batch `ID`")
	return cmd
}
