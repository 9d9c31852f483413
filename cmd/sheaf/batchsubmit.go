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
	"time"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/backfill"
	"github.com/sheafml/sheaf/batch"
)

func newBatchSubmit(env environment) *cobra.Command {
	var (
		spec   batch.Spec
		wait   time.Duration
		format string
		whole  bool
		c      *client
	)
	cmd := &cobra.Command{
		Use:   "submit MODEL FILE",
		Short: "Upload a file of requests and make a batch of it",
		Long: `Upload a file of requests and make a batch of it.

FILE is JSON lines, or "-" for standard input, or a URL that the server reads. A line is a request as OpenAI's batches have them,
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
			for _, text := range spec.Windows {
				if _, fault := backfill.ParseWindow(text); fault != nil {
					err = errors.Join(err, withCode(exitUsage, fmt.Errorf("--%w", fault)))
				}
			}
			if err != nil {
				return err
			}
			if spec.Model = args[0]; whole {
				spec.Endpoint = "/v1/models/" + url.PathEscape(args[0]) + "/jobs"
			}
			b, a, err := c.submitBatch(cmd.Context(), args[1], env.stdin, spec)
			if err != nil {
				return err
			}
			if wait > 0 {
				fmt.Fprintln(env.stderr, b.ID)
				id := b.ID
				if b, a, err = c.awaitBatch(cmd.Context(), env, id, wait); err != nil {
					fmt.Fprintln(env.stderr, "The batch goes on. Look at it with: sheaf batch show", id)
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
	fs.StringVar(&spec.Version, "model-version", "", "`VERSION` of the model; default: the one served")
	fs.BoolVar(&whole, "all-outputs", false, "answer with all outputs, as …/jobs does, instead of the prediction")
	fs.BoolVar(&spec.Ordered, "ordered", false, "write the answers in the order of the lines")
	fs.BoolVar(&spec.Plain, "plain", false, "the lines of a URL are bodies, or just inputs; of a file that is told by its first line")
	fs.StringVar(&spec.Webhook, "webhook", "", "`URL` that is told when the batch has ended")
	fs.StringVar(&spec.Window, "completion-window", "", "`DURATION` after which what is not done is left; default: the server's, 24h")
	fs.StringArrayVar(&spec.Windows, "window", nil, "run only at these `TIMES` of the server's day, such as 22:00-06:00; may be given again")
	fs.Float64Var(&spec.MaxRate, "max-rate", 0, "lines a second at most; 0: as many as the workers do")
	fs.IntVar(&spec.LinesPerJob, "lines-per-job", 0, "lines that make one job; 0: as the server thinks fit")
	fs.StringVar(&spec.OutputURL, "output-url", "", "`URL` to which the server copies the answers at the end, if it may")
	fs.StringVar(&spec.ErrorURL, "error-url", "", "`URL` to which the server copies the lines that failed, if it may")
	return cmd
}

// batchWaitFlag adds --wait, which may stand alone.
func batchWaitFlag(cmd *cobra.Command, wait *time.Duration) {
	const longest = "168h"
	cmd.Flags().DurationVar(wait, "wait", 0, "wait for its end, `DURATION` at most; --wait alone is "+longest)
	cmd.Flags().Lookup("wait").NoOptDefVal = longest
}

// submitBatch makes a batch of a file, which is uploaded in the same call, or of a URL.
func (c *client) submitBatch(ctx context.Context, file string, stdin io.Reader, spec batch.Spec) (*batch.Batch, *answer, error) {
	if isURL(file) {
		spec.InputURL = file
		body, err := json.Marshal(&spec)
		if err != nil {
			return nil, nil, fmt.Errorf("encode the batch: %w", err)
		}
		a, err := c.do(ctx, http.MethodPost, "/v1/batches", http.Header{"Content-Type": {"application/json"}}, body, 0)
		if err != nil {
			return nil, nil, err
		}
		b, err := a.batch()
		return b, a, err
	}
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
	spec.Plain = spec.Plain || plain
	resp, err := c.stream(ctx, http.MethodPost, "/v1/batches?"+batchQuery(&spec).Encode(), http.Header{"Content-Type": {"application/x-ndjson"}}, lines)
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

// batchQuery says in a query what a batch is to do.
func batchQuery(spec *batch.Spec) url.Values {
	query := url.Values{}
	for name, value := range map[string]string{
		"model": spec.Model, "endpoint": spec.Endpoint, "model_version": spec.Version, "webhook": spec.Webhook,
		"completion_window": spec.Window, "output_url": spec.OutputURL, "error_url": spec.ErrorURL,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if len(spec.Windows) > 0 {
		query["windows"] = spec.Windows
	}
	if spec.MaxRate != 0 {
		query.Set("max_rate", strconv.FormatFloat(spec.MaxRate, 'g', -1, 64))
	}
	if spec.LinesPerJob != 0 {
		query.Set("lines_per_job", strconv.Itoa(spec.LinesPerJob))
	}
	for name, yes := range map[string]bool{"plain": spec.Plain, "ordered": spec.Ordered} {
		if yes {
			query.Set(name, "true")
		}
	}
	return query
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
