package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// waitFlag adds --wait, which may stand alone.
func waitFlag(cmd *cobra.Command, wait *time.Duration) {
	cmd.Flags().DurationVar(wait, "wait", 0, "wait for the result, `DURATION` at most; --wait alone is 30s")
	cmd.Flags().Lookup("wait").NoOptDefVal = "30s"
}

// outputFlag adds -o.
func outputFlag(cmd *cobra.Command, format *string) {
	cmd.Flags().StringVarP(format, "output", "o", "text", "`FORMAT` of the answer: text or json")
}

func checkOutput(format string) error {
	if format != "text" && format != "json" {
		return withCode(exitUsage, fmt.Errorf("--output %q: expected text or json", format))
	}
	return nil
}

func newSubmit(env environment) *cobra.Command {
	var (
		wait                time.Duration
		format, key, lane   string
		hook                string
		deadline            time.Duration
		c                   *client
		modelVersionOfInput string
	)
	cmd := &cobra.Command{
		Use:   "submit MODEL INPUT",
		Short: "Submit a job over HTTP, and wait for its result if asked to",
		Long: `Submit a job over HTTP.

INPUT is a file, "-" for standard input, or JSON itself: an array (the rows of a model with one input; with one level
less, a single row) or the body of a request ({"input": …} or the Open Inference Protocol's {"inputs": …}).
The id of the job is printed; sheaf result takes it.`,
		Example: `  sheaf submit digits examples/digit.json --wait
  sheaf submit digits - < rows.json
  sheaf submit digits '[[0,0,5,13, …]]' -o json`,
		Args: exactArgs("MODEL", "INPUT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(checkOutput(format), checkGiven(cmd, "wait", wait), checkGiven(cmd, "deadline", deadline)); err != nil {
				return err
			}
			body, err := readInput(args[1], env.stdin)
			if err != nil {
				return withCode(exitUsage, err)
			}
			body = withWebhook(body, hook)
			header := http.Header{"Content-Type": {"application/json"}}
			if key != "" {
				header.Set("Idempotency-Key", key)
			}
			if deadline > 0 {
				header.Set("Sheaf-Deadline", time.Now().Add(deadline).UTC().Format(time.RFC3339Nano))
			}
			path := "/v1/models/" + url.PathEscape(args[0])
			if modelVersionOfInput != "" {
				path += "/versions/" + url.PathEscape(modelVersionOfInput)
			}
			path += "/jobs"
			if lane != "" {
				path += "?lane=" + url.QueryEscape(lane)
			}
			start := time.Now()
			// The server is not asked to wait here: from its answer on, the job has an id that can be told.
			a, err := c.do(cmd.Context(), http.MethodPost, path, header, body, 0)
			if err != nil {
				return err
			}
			if a.status != http.StatusOK && a.status != http.StatusAccepted {
				return a.problem()
			}
			j, err := a.job()
			if err != nil {
				return err
			}
			if left := wait - time.Since(start); !j.terminal() && left > 0 {
				id := j.ID
				if a, j, err = c.await(cmd.Context(), id, left); err != nil {
					fmt.Fprintln(env.stderr, "The job goes on. Ask again with: sheaf result", id)
					return err
				}
			}
			return printJob(env, a, j, format, wait > 0)
		},
	}
	c = clientFlags(cmd)
	waitFlag(cmd, &wait)
	outputFlag(cmd, &format)
	cmd.Flags().StringVar(&key, "idempotency-key", "", "make a repeated submit the same job")
	cmd.Flags().StringVar(&lane, "lane", "", "`LANE` to wait in: interactive (default) or bulk")
	cmd.Flags().StringVar(&hook, "webhook", "", "`URL` that is told when the job is finished")
	cmd.Flags().DurationVar(&deadline, "deadline", 0, "after this `DURATION` the answer is of no more use: the job expires")
	cmd.Flags().StringVar(&modelVersionOfInput, "model-version", "", "`VERSION` of the model; default: the one served")
	return cmd
}

func newResult(env environment) *cobra.Command {
	var (
		wait   time.Duration
		format string
		c      *client
	)
	cmd := &cobra.Command{
		Use:   "result ID",
		Short: "Show a job: its state, or its result when it is finished",
		Long: `Show a job: its state, or its result when it is finished.

ID is the id that sheaf submit printed, whole: a UUID, a dot and the place in the queue. The bare UUID finds only
finished jobs.

Exit code 0: the job has succeeded, or is not finished and --wait was not given; 1: it has failed, was canceled, has
expired or is not known; 5: it was not finished within --wait.`,
		Example: `  sheaf result 0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11.i4821-0
  sheaf result 0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11.i4821-0 --wait=1m -o json`,
		Args: exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(checkOutput(format), checkGiven(cmd, "wait", wait)); err != nil {
				return err
			}
			a, j, err := c.await(cmd.Context(), args[0], wait)
			if err != nil {
				return err
			}
			return printJob(env, a, j, format, wait > 0)
		},
	}
	c = clientFlags(cmd)
	waitFlag(cmd, &wait)
	outputFlag(cmd, &format)
	return cmd
}

// readInput turns the INPUT argument into the body of a submit.
func readInput(arg string, stdin io.Reader) ([]byte, error) {
	var raw []byte
	var err error
	trimmed := strings.TrimSpace(arg)
	switch {
	case trimmed == "":
	case arg == "-":
		raw, err = io.ReadAll(stdin)
	case strings.HasPrefix(trimmed, "{") || strings.HasPrefix(trimmed, "["):
		raw = []byte(trimmed)
	default:
		raw, err = os.ReadFile(arg) //nolint:gosec // the user names the file
	}
	if err != nil {
		return nil, fmt.Errorf("read the input: %w", err)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, errors.New(`INPUT is empty: expected a file, "-" for standard input, or JSON`)
	}
	var probe json.RawMessage
	if err := json.Unmarshal(raw, &probe); err != nil {
		return nil, fmt.Errorf("the input is not JSON: %w", err)
	}
	if probe[0] == '[' {
		return append(append([]byte(`{"input":`), probe...), '}'), nil
	}
	return probe, nil
}

// withWebhook adds the member "webhook" to a body.
func withWebhook(body []byte, url string) []byte {
	rest, ok := bytes.CutPrefix(body, []byte("{"))
	if url == "" || !ok {
		return body
	}
	member, err := json.Marshal(url)
	if err != nil {
		return body // a string always encodes
	}
	if rest = bytes.TrimSpace(rest); rest[0] != '}' {
		member = append(member, ',')
	}
	return slices.Concat([]byte(`{"webhook":`), member, rest)
}
