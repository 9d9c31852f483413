package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/httpapi"
)

func newDead(env environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead",
		Short: "List, show, requeue and purge dead letters",
		Long: `Work with the dead letters: jobs that could not be read, did not fit their model, or used up their attempts. Each
such job has its failed record; its dead letter keeps what was submitted, and why it failed.

Without --nats-url these verbs ask the HTTP API at --server, as an administrator.`,
		Example: `  sheaf dead ls
  sheaf dead ls --model digits --newer-than 1h
  sheaf dead show 17
  sheaf dead requeue --model digits --reason exhausted
  sheaf dead purge --older-than 168h --yes`,
		Args: knownVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDeadList(env), newDeadShow(env), newDeadAct(env, requeueVerb()), newDeadAct(env, purgeVerb()))
	return cmd
}

// deadFilter is a selection as the flags say it.
type deadFilter struct {
	selection        httpapi.DeadSelection
	olderThan, newer time.Duration
	all              bool
}

func filterFlags(cmd *cobra.Command) *deadFilter {
	f := &deadFilter{}
	fs, s := cmd.Flags(), &f.selection
	fs.StringVar(&s.Model, "model", "", "of this model")
	fs.StringVar(&s.Tenant, "tenant", "", "of this tenant")
	fs.StringVar(&s.Lane, "lane", "", "of this lane: interactive or bulk")
	fs.StringVar(&s.Reason, "reason", "", "whose reason has this `TEXT` in it")
	fs.StringVar(&s.Code, "code", "", "whose jobs failed with this code, such as exhausted or invalid")
	fs.StringVar(&s.Job, "job", "", "about the job with this `ID`")
	fs.DurationVar(&f.olderThan, "older-than", 0, "written longer ago than this, such as 1h")
	fs.DurationVar(&f.newer, "newer-than", 0, "written since then, such as 1h")
	return f
}

// read completes the selection with the sequences of the command line. Ages become times, so that they mean the same
// letters from the count to the end.
func (f *deadFilter) read(cmd *cobra.Command, args []string) error {
	now := time.Now()
	for _, at := range []struct {
		name string
		age  time.Duration
		into *string
	}{{"older-than", f.olderThan, &f.selection.OlderThan}, {"newer-than", f.newer, &f.selection.NewerThan}} {
		if err := checkGiven(cmd, at.name, at.age); err != nil {
			return err
		}
		if at.age > 0 {
			*at.into = now.Add(-at.age).UTC().Format(time.RFC3339Nano)
		}
	}
	for _, arg := range args {
		seq, err := httpapi.ParseSeq(arg)
		if err != nil {
			return withCode(exitUsage, fmt.Errorf("%q: expected the number of a dead letter, as sheaf dead ls shows it", arg))
		}
		f.selection.Seqs = append(f.selection.Seqs, seq)
	}
	_, err := f.selection.Filter(now)
	return withCode(exitUsage, err)
}

func newDeadList(env environment) *cobra.Command {
	var format string
	var limit int
	cmd := &cobra.Command{
		Use:   "ls [SEQ...]",
		Short: "List dead letters, oldest first",
		Long: `List the dead letters that match all of the filters, oldest first. All of them are counted, even if no more than
--limit are shown.`,
		Example: `  sheaf dead ls --model digits --reason exhausted
  sheaf dead ls --limit 0
  sheaf dead ls --tenant acme -o json`,
	}
	f := filterFlags(cmd)
	cmd.Flags().IntVar(&limit, "limit", 50, "show no more than this many")
	outputFlag(cmd, &format)
	return adminCommand(cmd, func(ctx context.Context, a admin, args []string) error {
		if err := checkOutput(format); err != nil {
			return err
		}
		if limit < 0 {
			return withCode(exitUsage, fmt.Errorf("--limit %d: expected 0 or more", limit))
		}
		if err := f.read(cmd, args); err != nil {
			return err
		}
		list := httpapi.DeadList{Letters: []httpapi.DeadLetter{}}
		var err error
		list.Count, list.MaxSeq, err = a.list(ctx, f.selection, limit, func(l *httpapi.DeadLetter) { list.Letters = append(list.Letters, *l) })
		if err != nil {
			return err
		}
		if format == "json" {
			return printIndented(env.stdout, &list)
		}
		return printDeadList(env, &list)
	})
}

func printIndented(w io.Writer, doc any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(doc)
}

// letters counts dead letters in words.
func letters(n int) string {
	if n == 1 {
		return "1 dead letter"
	}
	return fmt.Sprintf("%d dead letters", n)
}

func printDeadList(env environment, list *httpapi.DeadList) error {
	if list.Count == 0 {
		fmt.Fprintln(env.stderr, "no dead letters match")
		return nil
	}
	if len(list.Letters) > 0 {
		w := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "SEQ\tAGE\tLANE\tMODEL\tTENANT\tTRIES\tJOBS\tBYTES\tREASON")
		for i := range list.Letters {
			l := &list.Letters[i]
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\n", l.Seq, ageOf(l.Time), orDash(l.Lane), orDash(l.Model), orDash(l.Tenant),
				l.Attempts, len(l.Jobs), l.Bytes, clean(l.Reason, reasonWidth))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	total := letters(list.Count)
	if n := len(list.Letters); n < list.Count {
		total += fmt.Sprintf(", %d shown (--limit shows more)", n)
	}
	_, err := fmt.Fprintln(env.stdout, total)
	return err
}

const reasonWidth = 80

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return clean(s, 128)
}

// clean bounds text of a stranger, and takes out what a terminal would act on.
func clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > limit {
		s = string(r[:limit-1]) + "…"
	}
	return s
}

// ageOf is how long ago something was, in its two largest units.
func ageOf(t time.Time) string {
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

func newDeadShow(env environment) *cobra.Command {
	var format string
	var data bool
	cmd := &cobra.Command{
		Use:   "show SEQ",
		Short: "Show one dead letter: why, what was tried, and the jobs",
		Long: `Show one dead letter: its reason, headers and history, and the jobs in it with the names, types and shapes of their
inputs; with --data their values too.`,
		Example: `  sheaf dead show 17
  sheaf dead show 17 --data -o json`,
		Args: exactArgs("SEQ"),
	}
	cmd.Flags().BoolVar(&data, "data", false, "show the inputs' values")
	outputFlag(cmd, &format)
	return adminCommand(cmd, func(ctx context.Context, a admin, args []string) error {
		if err := checkOutput(format); err != nil {
			return err
		}
		seq, err := httpapi.ParseSeq(args[0])
		if err != nil {
			return withCode(exitUsage, fmt.Errorf("%q: expected the number of a dead letter, as sheaf dead ls shows it", args[0]))
		}
		l, err := a.show(ctx, seq, data)
		if err != nil {
			return err
		}
		if format == "json" {
			return printIndented(env.stdout, l)
		}
		return printDead(env.stdout, l)
	})
}

// maxShown bounds a line of a stranger's text.
const maxShown = 4096

func printDead(w io.Writer, l *httpapi.DeadLetter) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", name, clean(fmt.Sprintf(format, args...), maxShown))
	}
	line("letter", "%d, written %s (%s ago)", l.Seq, l.Time.Format(time.RFC3339), ageOf(l.Time))
	line("from", "%s, sequence %d of lane %s", orDash(l.Subject), l.OriginalSeq, orDash(l.Lane))
	if l.Published != nil {
		line("submitted", "%s", l.Published.Format(time.RFC3339))
	}
	line("model", "%s, tenant %s", orDash(l.Model), orDash(l.Tenant))
	line("reason", "%s", l.Reason)
	line("delivered", "%d times", l.Attempts)
	for i, entry := range l.History {
		name := ""
		if i == 0 {
			name = "history"
		}
		line(name, "%s", entry)
	}
	size := fmt.Sprintf("%d bytes", l.Bytes)
	if l.Truncated {
		size += ", not kept: the message left no room for what a dead letter adds"
	}
	line("body", "%s", size)
	if l.Unreadable != "" {
		line("unreadable", "%s", l.Unreadable)
	}
	for i := range l.Contents {
		printDeadJob(&b, line, &l.Contents[i])
	}
	b.WriteString("headers\n")
	for _, name := range slices.Sorted(maps.Keys(l.Headers)) {
		fmt.Fprintf(&b, "  %s: %s\n", clean(name, maxShown), clean(strings.Join(l.Headers[name], ", "), maxShown))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func printDeadJob(b *strings.Builder, line func(string, string, ...any), j *httpapi.DeadJob) {
	about := j.ID.String() + ", created " + j.CreatedAt.Format(time.RFC3339)
	if j.Deadline != nil {
		about += ", deadline " + j.Deadline.Format(time.RFC3339)
	}
	if j.Version != "" {
		about += ", version " + j.Version
	}
	line("job", "%s", about)
	if j.Error != "" {
		line("", "cannot be read: %s", j.Error)
	}
	for _, in := range j.Inputs {
		line("", "input %s %s %v", in.Name, in.Datatype, in.Shape)
		if in.Data != nil {
			fmt.Fprintf(b, "%-10s %s\n", "", in.Data)
		}
	}
}
