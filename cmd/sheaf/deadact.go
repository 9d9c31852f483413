package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/httpapi"
)

// deadVerb is a verb that acts on dead letters.
type deadVerb struct {
	name, done    string
	short, long   string
	example       string
	withDeadline  bool
	consequential string // what the question says beyond the count
}

func requeueVerb() *deadVerb {
	return &deadVerb{
		name: "requeue", done: httpapi.DeadRequeued, withDeadline: true,
		short: "Submit the jobs of dead letters again",
		long: `Submit the jobs of the dead letters that match once more, and remove these letters.

A job that died has its failed record, which stands. So each becomes a new job under a new id; what is printed says
which. It has no deadline of its own, unless --deadline gives one. Requeueing again after an interruption makes no job
twice. What cannot be read, or whose body was too large to be kept, is left as it is, and said.

Everything that matches is meant, also what sheaf dead ls does not show, but nothing that comes after the count.`,
		example: `  sheaf dead requeue 17 18
  sheaf dead requeue --model digits --reason exhausted --deadline 1h
  sheaf dead requeue --all --yes`,
	}
}

func purgeVerb() *deadVerb {
	return &deadVerb{
		name: "purge", done: httpapi.DeadPurged, consequential: " for good",
		short: "Remove dead letters for good",
		long: `Remove the dead letters that match. Their jobs keep their failed records.

Everything that matches is meant, also what sheaf dead ls does not show, but nothing that comes after the count.`,
		example: `  sheaf dead purge 17 18
  sheaf dead purge --older-than 168h
  sheaf dead purge --all --yes`,
	}
}

func newDeadAct(env environment, verb *deadVerb) *cobra.Command {
	var format string
	var yes bool
	var deadline time.Duration
	cmd := &cobra.Command{Use: verb.name + " [SEQ...]", Short: verb.short, Long: verb.long, Example: verb.example}
	f := filterFlags(cmd)
	fs := cmd.Flags()
	fs.BoolVar(&f.all, "all", false, "all dead letters: needed where there is no filter")
	fs.BoolVar(&yes, "yes", false, "do not ask")
	if verb.withDeadline {
		fs.DurationVar(&deadline, "deadline", 0, "the new jobs are of no use after this time, such as 1h")
	}
	outputFlag(cmd, &format)
	return adminCommand(cmd, func(ctx context.Context, a admin, args []string) error {
		err := checkOutput(format)
		if err == nil && verb.withDeadline {
			err = checkGiven(cmd, "deadline", deadline)
		}
		if err == nil {
			err = f.read(cmd, args)
		}
		if err != nil {
			return err
		}
		what, err := f.selection.Filter(time.Now())
		if err != nil {
			return withCode(exitUsage, err)
		}
		if what.All() != f.all {
			if f.all {
				return withCode(exitUsage, errors.New("choose one of --all and a filter"))
			}
			return withCode(exitUsage, fmt.Errorf("%s: say which dead letters: numbers, a filter such as --model, or --all", cmd.CommandPath()))
		}
		act := deadAct{env: env, verb: verb, format: format, yes: yes, selection: f.selection}
		if deadline > 0 {
			act.deadline = deadline.String()
		}
		return act.run(ctx, a)
	})
}

// deadAct is one requeue or purge.
type deadAct struct {
	env       environment
	verb      *deadVerb
	format    string
	yes       bool
	selection httpapi.DeadSelection
	deadline  string
	sum       httpapi.DeadSummary
}

func (d *deadAct) run(ctx context.Context, a admin) error {
	count, maxSeq, err := a.list(ctx, d.selection, 0, func(*httpapi.DeadLetter) {})
	if err != nil {
		return err
	}
	if count == 0 {
		if len(d.selection.Seqs) > 0 {
			return errors.New("there is no such dead letter: it was requeued or purged, or its time is over")
		}
		fmt.Fprintln(d.env.stderr, "no dead letters match")
		return d.report(nil)
	}
	if err := d.confirm(ctx, count); err != nil {
		return err
	}
	d.selection.MaxSeq = maxSeq
	seen := 0
	err = a.act(ctx, d.verb.done, d.selection, count, d.deadline, func(e *httpapi.DeadEvent) {
		d.sum.Add(e)
		d.tell(e)
		if seen++; seen%progressEvery == 0 {
			fmt.Fprintf(d.env.stderr, "%d of %d\n", seen, count)
		}
	})
	return d.report(err)
}

// progressEvery is how many letters go by between two words about them.
const progressEvery = 1000

// confirm asks, unless that was answered before.
func (d *deadAct) confirm(ctx context.Context, count int) error {
	if d.yes {
		return nil
	}
	needYes := withCode(exitUsage, fmt.Errorf("%s match; add --yes to %s them%s", letters(count), d.verb.name, d.verb.consequential))
	if !isTerminal(d.env.stdin) {
		return needYes
	}
	fmt.Fprintf(d.env.stderr, "%s %s%s? [y/N] ", strings.ToUpper(d.verb.name[:1])+d.verb.name[1:], letters(count), d.verb.consequential)
	answered := make(chan string, 1)
	go func() {
		line, err := bufio.NewReader(d.env.stdin).ReadString('\n')
		if err != nil && line == "" {
			line = "eof"
		}
		answered <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(d.env.stderr)
		return ctx.Err()
	case answer := <-answered:
		switch answer {
		case "y", "yes":
			return nil
		case "eof": // nobody is there
			fmt.Fprintln(d.env.stderr)
			return needYes
		}
		return errors.New("nothing was done")
	}
}

// isTerminal reports whether somebody may be there to answer.
func isTerminal(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return false
	}
	stat, err := f.Stat()
	return err == nil && stat.Mode()&os.ModeCharDevice != 0
}

// tell prints what became of one letter.
func (d *deadAct) tell(e *httpapi.DeadEvent) {
	if d.format == "json" {
		_ = json.NewEncoder(d.env.stdout).Encode(e)
		return
	}
	for _, j := range e.Jobs {
		fmt.Fprintf(d.env.stdout, "%s → %s\n", j.Old, j.New)
	}
	switch e.Status {
	case httpapi.DeadSkipped, httpapi.DeadFailed:
		fmt.Fprintf(d.env.stderr, "%s: %s\n", e.Status, clean(e.Reason, maxShown))
	case httpapi.DeadGone:
		fmt.Fprintf(d.env.stderr, "gone: dead letter %d was requeued or purged by somebody else\n", e.Seq)
	}
}

// report prints the sums. err is why it ended early.
func (d *deadAct) report(err error) error {
	if d.format == "json" {
		if err != nil {
			d.sum.Error = err.Error()
		}
		if err := json.NewEncoder(d.env.stdout).Encode(&httpapi.DeadEvent{Done: &d.sum}); err != nil {
			return err
		}
	} else {
		parts := []string{d.verb.done + " " + letters(d.sum.Done)}
		for _, n := range []struct {
			count int
			what  string
		}{{d.sum.Jobs, "new jobs"}, {d.sum.Skipped, "skipped"}, {d.sum.Gone, "gone"}, {d.sum.Failed, "failed"}} {
			if n.count > 0 {
				parts = append(parts, fmt.Sprintf("%s: %d", n.what, n.count))
			}
		}
		if _, err := fmt.Fprintln(d.env.stdout, strings.Join(parts, ", ")); err != nil {
			return err
		}
	}
	switch {
	case err != nil:
		return err
	case d.sum.Failed > 0 || d.sum.Skipped > 0:
		return &exitError{code: exitFailure}
	}
	return nil
}
