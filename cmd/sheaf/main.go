// Command sheaf is the one binary of Sheaf: the HTTP API, the workers, everything in one process for development, and
// the verbs that clients and operators use. `sheaf help` lists them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/internal/failpoint"
)

// Exit codes, as documented in docs/operations.md.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitBadRows     = 3
	exitUnreachable = 4
	exitTimeout     = 5
	exitInterrupted = 130
)

// exitError carries the exit code that an error asks for. A nil err says that everything was said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: code, err: err}
}

// environment is what the process was given; tests give their own.
type environment struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	reach          failpoint.Hook // tests stop the process after a step with it; nil otherwise
	args           []string       // the command line
}

func main() {
	// The library that Sheaf brings has no telemetry. Whoever sets a newer one has it off all the same.
	_ = os.Setenv("ORT_DISABLE_TELEMETRY", "1")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once: whoever asks twice means it.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], environment{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv})
	stop()
	os.Exit(code)
}

// run translates a command line into an exit code.
func run(ctx context.Context, args []string, env environment) int {
	env.args = args
	root := newRoot(env)
	root.SetArgs(args)
	root.SetIn(env.stdin)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var exit *exitError
	if !errors.As(err, &exit) {
		exit = &exitError{code: exitFailure, err: err}
	}
	switch {
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(env.stderr, "sheaf: interrupted")
		return exitInterrupted
	case exit.err != nil:
		fmt.Fprintf(env.stderr, "sheaf: %v\n", err)
		if exit.code == exitUsage {
			fmt.Fprintln(env.stderr, "Run the command with --help to see how it is used.")
		}
	}
	return exit.code
}

func newRoot(env environment) *cobra.Command {
	root := &cobra.Command{
		Use:   "sheaf",
		Short: "Asynchronous predictions: a durable queue, micro-batches, ONNX Runtime",
		Long: `Sheaf runs predictions asynchronously. A job waits in NATS JetStream, a worker binds many jobs into one
micro-batch and runs it through ONNX Runtime, and the result stands in Redis under the job's ID.

  sheaf dev                        everything in one process, with a demo model
  sheaf submit MODEL INPUT --wait  ask for a prediction
  sheaf backfill MODEL FILE -o OUT ask for every row of a file

Settings: flag over environment (SHEAF_ and the flag's name in capitals; NATS_URL and REDIS_URL too) over the YAML
file of --config over the default.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          knownVerb,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return withCode(exitUsage, err) })
	root.PersistentFlags().String("config", "", "YAML `FILE` of settings, keyed by flag name (env SHEAF_CONFIG)")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		return withCode(exitUsage, applySettings(cmd, env.getenv))
	}
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run it:"},
		&cobra.Group{ID: "use", Title: "Use it:"},
		&cobra.Group{ID: "operate", Title: "Operate it:"},
	)
	for _, group := range []struct {
		id       string
		commands []*cobra.Command
	}{
		{"run", []*cobra.Command{newDev(env), newServe(env), newWorker(env)}},
		{"use", []*cobra.Command{newSubmit(env), newResult(env), newBackfill(env), newBatch(env)}},
		{"operate", []*cobra.Command{newModel(env), newDead(env), newQueue(env), newKey(env), newWebhook(env), newDoctor(env), newHealth(env), newVersion(env)}},
	} {
		for _, c := range group.commands {
			c.GroupID = group.id
			root.AddCommand(c)
		}
	}
	return root
}

// knownVerb refuses what is not a verb of the command, with what may have been meant.
func knownVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("%s has no verb %q", cmd.CommandPath(), args[0])
	cmd.SuggestionsMinimumDistance = 2
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(like, " or "))
	}
	return withCode(exitUsage, err)
}

// exactArgs is cobra.ExactArgs with an error that names what is missing and exit code 2.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return withCode(exitUsage, fmt.Errorf("%s: %s is missing", cmd.CommandPath(), names[len(args)]))
		case len(args) > len(names):
			surplus, hint := args[len(names)], ""
			if _, err := time.ParseDuration(surplus); err == nil && cmd.Flags().Changed("wait") {
				hint = fmt.Sprintf(" (write --wait=%s)", surplus)
			}
			return withCode(exitUsage, fmt.Errorf("%s: unexpected argument %q%s", cmd.CommandPath(), surplus, hint))
		}
		return nil
	}
}
