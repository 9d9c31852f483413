package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func newBatchResults(env environment) *cobra.Command {
	var output string
	var follow, errs bool
	var from int64
	var c *client
	cmd := &cobra.Command{
		Use:   "results ID",
		Short: "Fetch the answers of a batch, or its errors, also while it runs",
		Long: `Fetch the answers of a batch, a line of JSON for each, or with --errors the lines that failed. Those that are there now, or
with --follow all until it has ended. A connection that breaks is made again, and goes on with the line that is next.`,
		Example: `  sheaf batch results batch_0198f3c27b1e7c339d5f3c6b7a2f8e12 -o results.jsonl
  sheaf batch results batch_0198f3c27b1e7c339d5f3c6b7a2f8e12 --follow | jq .response.body.prediction
  sheaf batch results batch_0198f3c27b1e7c339d5f3c6b7a2f8e12 --errors`,
		Args: exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if from < 0 {
				return withCode(exitUsage, fmt.Errorf("--from %d: expected how many lines to leave out", from))
			}
			what := "/results"
			if errs {
				what = "/errors"
			}
			if output == "" || output == "-" {
				return c.fetchLines(cmd.Context(), env, batchPath(args[0], what), from, follow, env.stdout)
			}
			file, err := os.Create(output) //nolint:gosec // the user names the file
			if err != nil {
				return withCode(exitUsage, err)
			}
			err = c.fetchLines(cmd.Context(), env, batchPath(args[0], what), from, follow, file)
			if closed := file.Close(); err == nil {
				err = closed
			}
			return err
		},
	}
	c = clientFlags(cmd)
	fs := cmd.Flags()
	fs.StringVarP(&output, "output", "o", "", "`FILE` to write to, instead of standard output")
	fs.BoolVar(&follow, "follow", false, "go on until the batch has ended")
	fs.BoolVar(&errs, "errors", false, "the lines that failed, instead of the answers")
	fs.Int64Var(&from, "from", 0, "leave out this many lines at the beginning")
	return cmd
}

const (
	fetchTries = 10 // in a row that bring nothing
	fetchPause = time.Second
)

// fetchLines writes the lines of an answer. One that is cut off is asked for again, from where it ended.
func (c *client) fetchLines(ctx context.Context, env environment, path string, from int64, follow bool, to io.Writer) error {
	begun := false
	for tries := 0; ; tries++ {
		out := &lineWriter{to: to}
		err := c.fetch(ctx, fmt.Sprintf("%s?from=%d&follow=%s", path, from, strconv.FormatBool(follow)), out)
		from += out.lines
		var exit *exitError
		switch {
		case err == nil:
			return nil
		case out.err != nil:
			return fmt.Errorf("write the lines: %w", out.err)
		case ctx.Err() != nil:
			return ctx.Err()
		case out.lines > 0:
			begun, tries = true, 0
		}
		if !errors.As(err, &exit) || exit.code != exitUnreachable || !begun && !follow || tries == fetchTries {
			return err
		}
		fmt.Fprintf(env.stderr, "%v; trying again\n", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(fetchPause):
		}
	}
}

func (c *client) fetch(ctx context.Context, path string, to *lineWriter) error {
	resp, err := c.stream(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		a, err := answerOf(resp)
		if err != nil {
			return err
		}
		return a.problem()
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if _, err := io.Copy(to, resp.Body); err != nil {
		return withCode(exitUnreachable, fmt.Errorf("the answer of %s was cut off: %w", c.server, err))
	}
	return nil
}
