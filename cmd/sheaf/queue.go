package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/httpapi"
	"github.com/sheafml/sheaf/job"
)

func newQueue(env environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "queue",
		Short: "Look at the lanes, pause and resume them",
		Long: `Look at the lanes of the queue, and pause and resume the delivery of one, or of one model in it. Jobs are accepted
while a lane is paused, up to its limits.

Without --nats-url these verbs ask the HTTP API at --server, as an administrator.`,
		Example: `  sheaf queue ls
  sheaf queue pause bulk --for 2h
  sheaf queue resume bulk`,
		Args: knownVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newQueueList(env), newQueuePause(env), newQueueResume(env))
	return cmd
}

func newQueueList(env environment) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the lanes, and what waits in them for each model",
		Long: `List the lanes, and how many messages wait, are held by workers and were delivered more than once, for each model.
A message carries one or more jobs.`,
		Example: `  sheaf queue ls
  sheaf queue ls -o json`,
		Args: exactArgs(),
	}
	outputFlag(cmd, &format)
	return adminCommand(cmd, func(ctx context.Context, a admin, _ []string) error {
		if err := checkOutput(format); err != nil {
			return err
		}
		lanes, err := a.lanes(ctx)
		if err != nil {
			return err
		}
		if format == "json" {
			return printIndented(env.stdout, map[string]any{"lanes": lanes})
		}
		return printLanes(env, lanes)
	})
}

func printLanes(env environment, lanes []httpapi.Lane) error {
	w := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "LANE\tMODEL\tWAITING\tRUNNING\tREDELIVERED\tOLDEST\tSTATE")
	for i := range lanes {
		l := &lanes[i]
		var waiting uint64
		var running, redelivered int
		for k := range l.Models {
			m := &l.Models[k]
			waiting, running, redelivered = waiting+m.Waiting, running+m.Running, redelivered+m.Redelivered
		}
		state := pauseText(l.Paused, l.PausedUntil)
		fmt.Fprintf(w, "%s\t(all)\t%d\t%d\t%d\t\t%s\n", l.Lane, waiting, running, redelivered, state)
		for k := range l.Models {
			m := &l.Models[k]
			state := pauseText(m.Paused, m.PausedUntil)
			if m.Partly {
				state = "partly " + state + "; pause or resume it again"
			}
			if m.Unserved {
				state = strings.TrimPrefix(state+", never served", "active, ")
			}
			oldest := ""
			if m.Oldest != nil {
				oldest = ageOf(*m.Oldest)
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%s\t%s\n", l.Lane, clean(m.Model, maxShown), m.Waiting, m.Running, m.Redelivered, oldest, state)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for i := range lanes {
		l := &lanes[i]
		if _, err := fmt.Fprintf(env.stdout, "%s holds %d of %s messages, %s of %s\n", l.Lane, l.Messages, limitText(l.MaxMessages, func(n int64) string { return fmt.Sprint(n) }),
			bytesText(int64(min(l.Bytes, 1<<62))), limitText(l.MaxBytes, bytesText)); err != nil {
			return err
		}
	}
	return nil
}

func pauseText(paused bool, until *time.Time) string {
	switch {
	case !paused:
		return "active"
	case until == nil:
		return "paused"
	}
	return "paused until " + until.Format(time.RFC3339)
}

func limitText(n int64, text func(int64) string) string {
	if n < 0 {
		return "any number of"
	}
	return text(n)
}

// bytesText is a size for people.
func bytesText(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d bytes", n)
	}
	size, unit := float64(n), 0
	for size >= 1<<10 && unit < 4 {
		size, unit = size/(1<<10), unit+1
	}
	return fmt.Sprintf("%.1f %ciB", size, " KMGT"[unit])
}

func newQueuePause(env environment) *cobra.Command {
	var model, until string
	var length time.Duration
	cmd := &cobra.Command{
		Use:   "pause LANE",
		Short: "Deliver nothing of a lane, or of one model in it",
		Long: `Pause the delivery of a lane, or with --model of one model in it, until a time or until it is resumed. Jobs are accepted
as before, up to the limits of the lane, and wait. What workers hold already they finish.

A pause stays over restarts of the workers and of nats-server, and that of a lane holds for models that come later.`,
		Example: `  sheaf queue pause bulk
  sheaf queue pause bulk --for 2h
  sheaf queue pause interactive --model digits --until 2026-11-23T06:00:00Z`,
		Args: exactArgs("LANE (interactive or bulk)"),
	}
	fs := cmd.Flags()
	fs.StringVar(&model, "model", "", "only this model")
	fs.StringVar(&until, "until", "", "until this `TIME`, RFC 3339; default: until it is resumed")
	fs.DurationVar(&length, "for", 0, "for so long, such as 2h")
	return adminCommand(cmd, func(ctx context.Context, a admin, args []string) error {
		lane, err := laneArg(args[0], model)
		if err != nil {
			return err
		}
		if err := checkGiven(cmd, "for", length); err != nil {
			return err
		}
		if length > 0 && until != "" {
			return withCode(exitUsage, errors.New("choose one of --for and --until"))
		}
		if length > 0 {
			until = time.Now().Add(length + time.Second - 1).UTC().Truncate(time.Second).Format(time.RFC3339)
		}
		if _, err := httpapi.ParseAhead("--until", until, time.Now()); err != nil {
			return withCode(exitUsage, err)
		}
		if err := a.setPause(ctx, lane, model, until, false); err != nil {
			return err
		}
		if err := warnUnknown(ctx, env, a, lane, model); err != nil {
			return err
		}
		text := "paused: " + whatOf(lane, model)
		if until != "" {
			text += ", until " + until
		}
		_, err = fmt.Fprintln(env.stdout, text)
		return err
	})
}

// warnUnknown says that a model, if one is named, is not known in the lane: perhaps its name is misspelt.
func warnUnknown(ctx context.Context, env environment, a admin, lane job.Lane, model string) error {
	if model == "" {
		return nil
	}
	lanes, err := a.lanes(ctx)
	if err != nil {
		return fmt.Errorf("it is paused, but how the lane stands now is not known: %w", err)
	}
	for i := range lanes {
		known := slices.ContainsFunc(lanes[i].Models, func(m httpapi.LaneModel) bool { return m.Model == model })
		if lanes[i].Lane == lane.String() && !known {
			fmt.Fprintf(env.stderr, "no worker has served %s yet and no job waits for it; it is paused for when it comes (`sheaf queue ls` lists what is known)\n", whatOf(lane, model))
		}
	}
	return nil
}

func newQueueResume(env environment) *cobra.Command {
	var model string
	cmd := &cobra.Command{
		Use:   "resume LANE",
		Short: "Deliver a lane, or one model in it, again",
		Long: `End the pause of a lane, with those of all models in it; or with --model that of one model, though the lane be
paused.`,
		Example: `  sheaf queue resume bulk
  sheaf queue resume bulk --model digits`,
		Args: exactArgs("LANE (interactive or bulk)"),
	}
	cmd.Flags().StringVar(&model, "model", "", "only this model")
	return adminCommand(cmd, func(ctx context.Context, a admin, args []string) error {
		lane, err := laneArg(args[0], model)
		if err != nil {
			return err
		}
		if err := a.setPause(ctx, lane, model, "", true); err != nil {
			return err
		}
		_, err = fmt.Fprintln(env.stdout, "resumed: "+whatOf(lane, model))
		return err
	})
}

func laneArg(arg, model string) (job.Lane, error) {
	lane, err := job.ParseLane(arg)
	if err != nil {
		return 0, withCode(exitUsage, fmt.Errorf("%q: expected a lane, interactive or bulk", arg))
	}
	if model != "" && !job.ValidName(model) {
		return 0, withCode(exitUsage, fmt.Errorf("--model %q: not a valid name of a model", model))
	}
	return lane, nil
}

func whatOf(lane job.Lane, model string) string {
	if model == "" {
		return "lane " + lane.String()
	}
	return "model " + model + " in lane " + lane.String()
}
