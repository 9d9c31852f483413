package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/backfill"
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

func newBatchSubmit(env environment) *cobra.Command {
	var (
		wait            time.Duration
		format, version string
		webhook, window string
		whole, ordered  bool
		rate            float64
		linesPerJob     int
		windows         []string
		c               *client
	)
	cmd := &cobra.Command{
		Use:   "submit MODEL FILE",
		Short: "Upload a file of requests and make a batch of it",
		Long: `Upload a file of requests and make a batch of it.

FILE is JSON lines, or "-" for standard input. A line is a request as OpenAI's batches have them,
  {"custom_id": "a", "method": "POST", "url": "/v1/models/MODEL/predict", "body": {"input": …}}
or, if the first line has no custom_id, just the body, or just the input: then the number of the line is its custom_id.
The id of the batch is printed.

Exit code 0: the batch is accepted, or with --wait completed; 3: completed, and some lines have failed; 1: it ended
otherwise; 5: it was not finished within --wait; it goes on.`,
		Example: `  sheaf batch submit digits requests.jsonl
  sheaf batch submit digits rows.jsonl --wait --max-rate 500
  sheaf batch submit embed texts.jsonl --window 22:00-06:00 --completion-window 72h --webhook https://app.example.com/hooks`,
		Args: exactArgs("MODEL", "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := errors.Join(checkOutput(format), checkGiven(cmd, "wait", wait))
			for _, text := range windows {
				if _, fault := backfill.ParseWindow(text); fault != nil {
					err = errors.Join(err, withCode(exitUsage, fmt.Errorf("--%w", fault)))
				}
			}
			if err != nil {
				return err
			}
			query := url.Values{"model": {args[0]}, "windows": windows}
			if whole {
				query = url.Values{"endpoint": {"/v1/models/" + url.PathEscape(args[0]) + "/jobs"}, "windows": windows}
			}
			for name, value := range map[string]string{"model_version": version, "webhook": webhook, "completion_window": window} {
				if value != "" {
					query.Set(name, value)
				}
			}
			if rate != 0 {
				query.Set("max_rate", strconv.FormatFloat(rate, 'g', -1, 64))
			}
			if linesPerJob != 0 {
				query.Set("lines_per_job", strconv.Itoa(linesPerJob))
			}
			if ordered {
				query.Set("ordered", "true")
			}
			b, a, err := c.submitBatch(cmd.Context(), args[1], env.stdin, query)
			if err != nil {
				return err
			}
			if wait > 0 {
				fmt.Fprintln(env.stderr, b.ID)
				if b, a, err = c.awaitBatch(cmd.Context(), env, b.ID, wait); err != nil {
					fmt.Fprintln(env.stderr, "The batch goes on. Look at it with: sheaf batch show", b.ID)
					return err
				}
			}
			return printBatch(env, a, b, format, wait > 0)
		},
	}
	c = clientFlags(cmd)
	outputFlag(cmd, &format)
	fs := cmd.Flags()
	batchWaitFlag(cmd, &wait)
	fs.StringVar(&version, "model-version", "", "`VERSION` of the model; default: the one served")
	fs.BoolVar(&whole, "all-outputs", false, "answer with all outputs, as …/jobs does, instead of the prediction")
	fs.BoolVar(&ordered, "ordered", false, "write the answers in the order of the lines")
	fs.StringVar(&webhook, "webhook", "", "`URL` that is told when the batch has ended")
	fs.StringVar(&window, "completion-window", "", "`DURATION` after which what is not done is left; default: the server's, 24h")
	fs.StringArrayVar(&windows, "window", nil, "run only at these `TIMES` of the server's day, such as 22:00-06:00; may be given again")
	fs.Float64Var(&rate, "max-rate", 0, "lines a second at most; 0: as many as the workers do")
	fs.IntVar(&linesPerJob, "lines-per-job", 0, "lines that make one job; 0: as the server thinks fit")
	return cmd
}

// batchWaitFlag adds --wait, which may stand alone.
func batchWaitFlag(cmd *cobra.Command, wait *time.Duration) {
	const longest = "168h"
	cmd.Flags().DurationVar(wait, "wait", 0, "wait for its end, `DURATION` at most; --wait alone is "+longest)
	cmd.Flags().Lookup("wait").NoOptDefVal = longest
}

// submitBatch uploads a file and makes a batch of it in one call.
func (c *client) submitBatch(ctx context.Context, file string, stdin io.Reader, query url.Values) (*batch.Batch, *answer, error) {
	from := stdin
	if file != "-" {
		f, err := os.Open(file) //nolint:gosec // the user names the file
		if err != nil {
			return nil, nil, withCode(exitUsage, err)
		}
		defer f.Close() //nolint:errcheck // only read
		from = f
	}
	lines := bufio.NewReaderSize(from, firstLine)
	plain, err := areBodies(lines)
	if err != nil {
		return nil, nil, err
	}
	if plain {
		query.Set("plain", "true")
	}
	resp, err := c.stream(ctx, http.MethodPost, "/v1/batches?"+query.Encode(), http.Header{"Content-Type": {"application/x-ndjson"}}, lines)
	if err != nil {
		return nil, nil, err
	}
	a, err := answerOf(resp)
	if err != nil {
		return nil, nil, err
	}
	b, err := a.batch()
	return b, a, err
}

// firstLine is how much of a file is looked at, in bytes.
const firstLine = 64 << 10

// areBodies reports whether the first line that is not blank has no custom_id.
func areBodies(lines *bufio.Reader) (bool, error) {
	head, err := lines.Peek(firstLine)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, withCode(exitUsage, fmt.Errorf("read the file: %w", err))
	}
	first, _, _ := bytes.Cut(bytes.TrimSpace(head), []byte{'\n'})
	if len(first) == 0 {
		return false, withCode(exitUsage, errors.New("FILE is empty: expected a request a line"))
	}
	return !bytes.Contains(first, []byte(`"custom_id"`)), nil
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
