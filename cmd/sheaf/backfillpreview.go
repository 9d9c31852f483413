package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sheafml/sheaf/backfill"
	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
)

// previewRows is how many rows a preview shows.
const previewRows = 3

// preview shows the mapping, the first rows as the model will see them, and its answers.
func (s *backfillSettings) preview(ctx context.Context, w io.Writer, in *backfillInput, plan *table.Plan, predicted []table.Predicted, jobs backfill.Jobs) error {
	var b strings.Builder
	b.WriteString(plan.Describe(in.source.Columns()))
	block, err := in.source.Read(previewRows)
	if errors.Is(err, io.EOF) {
		b.WriteString("There are no rows.\n")
		_, err = io.WriteString(w, b.String())
		return err
	}
	if err != nil {
		return fmt.Errorf("%s: %w", in.name, err)
	}
	decoded := block.Decode(plan)
	texts := make([]string, block.Rows())
	for _, bad := range decoded.Bad {
		texts[bad.Row] = "  bad: " + bad.Err.Error() + "\n"
	}
	for _, g := range decoded.Groups {
		for i, row := range g.Rows {
			one, err := rowOf(&g, i)
			if err != nil {
				return err
			}
			for k := range one {
				texts[row] += fmt.Sprintf("  %s = %s\n", one[k].Name, shorten(job.AppendNestedJSON(nil, &one[k])))
			}
			result, err := jobs.Do(ctx, "preview/"+rand.Text(), one)
			switch {
			case err != nil:
				return backfillFault(err)
			case result.State != job.Succeeded:
				texts[row] += fmt.Sprintf("  → %s: %v\n", result.State, result.Error)
				continue
			}
			for _, p := range predicted {
				texts[row] += fmt.Sprintf("  → %s = %s\n", p.Column, shorten(job.AppendNestedJSON(nil, &result.Outputs[p.Output])))
			}
		}
	}
	for i, text := range texts {
		fmt.Fprintf(&b, "row %d (line %d)\n%s", block.Place().Row+int64(i)+1, block.Line(i), text)
	}
	b.WriteString("Nothing was written: this was a dry run.\n")
	_, err = io.WriteString(w, b.String())
	return err
}

// rowOf cuts one row out of a group.
func rowOf(g *table.Group, i int) ([]job.Tensor, error) {
	if len(g.Rows) == 1 {
		return g.Inputs, nil
	}
	return backfill.Rows(g.Inputs, i, i+1)
}

// shorten keeps a line readable.
func shorten(text []byte) string {
	const most = 200
	if len(text) <= most {
		return string(text)
	}
	return string(text[:most]) + " …"
}

// backfillFault gives what ended a backfill its exit code.
func backfillFault(err error) error {
	var exit *exitError
	switch {
	case err == nil, errors.As(err, &exit):
		return err
	case errors.Is(err, backfill.ErrTooManyErrors):
		return withCode(exitFailure, fmt.Errorf("%w; --max-errors allows more", err))
	case gateway.ProblemOf(err).Busy, errors.Is(err, backfill.ErrUnavailable):
		return withCode(exitUnreachable, err)
	}
	return err
}

// commandLine is the command as it was given, without its secrets.
func (e *environment) commandLine() string {
	words := []string{"sheaf"}
	hide := false
	for _, arg := range e.args {
		name, value, both := strings.Cut(arg, "=")
		switch {
		case hide:
			arg, hide = "…", false
		case secretFlag(name) && both && value != "":
			arg = name + "=…"
		case secretFlag(name):
			hide = true
		}
		words = append(words, quoted(arg))
	}
	return strings.Join(words, " ")
}

func secretFlag(name string) bool {
	return name == "--api-key" || strings.HasSuffix(name, "-password")
}

// quoted is a word as a shell takes it.
func quoted(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,@%+…", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// terminalOf reports whether a writer is a terminal.
func terminalOf(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isTerminal(f)
}
