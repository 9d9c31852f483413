package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sheafml/sheaf/batch"
)

// printBatch shows a batch and turns its state into the exit code. waited says that the caller asked for its end.
func printBatch(env environment, a *answer, b *batch.Batch, format string, waited bool) error {
	if err := showBatch(env, a, b, format); err != nil {
		return err
	}
	switch {
	case b.Status == batch.Completed && b.RequestCounts.Failed > 0:
		return &exitError{code: exitBadRows}
	case b.Status == batch.Completed:
		return nil
	case b.Status.Final():
		return &exitError{code: exitFailure}
	case waited:
		return withCode(exitTimeout, fmt.Errorf("the batch is still %s; it goes on: sheaf batch show %s --wait", b.Status, b.ID))
	}
	return nil
}

// showBatch shows a batch.
func showBatch(env environment, a *answer, b *batch.Batch, format string) error {
	if format == "json" {
		_, err := fmt.Fprintf(env.stdout, "%s\n", strings.TrimSpace(string(a.body)))
		return err
	}
	var text strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&text, "%-9s %s\n", name, value)
		}
	}
	line("id", b.ID)
	line("status", string(b.Status))
	line("waiting", b.Waiting)
	if b.Paused {
		line("paused", "yes")
	}
	line("model", fmt.Sprintf("%s, version %s", b.Model, b.Version))
	line("lines", batchCounts(b))
	if b.Rate > 0 {
		line("rate", fmt.Sprintf("%.1f lines/s", b.Rate))
		line("eta", (time.Duration(b.ETA) * time.Second).String())
	}
	line("created", ageOf(time.Unix(b.CreatedAt, 0))+" ago")
	if b.Errors != nil {
		for _, f := range b.Errors.Data {
			where := ""
			if f.Line > 0 {
				where = fmt.Sprintf(", line %d", f.Line)
			}
			line("error", fmt.Sprintf("%s%s: %s", f.Code, where, f.Message))
		}
	}
	if b.OutputBytes > 0 {
		line("results", "sheaf batch results "+b.ID)
	}
	if b.ErrorBytes > 0 {
		line("errors", "sheaf batch results "+b.ID+" --errors")
	}
	_, err := io.WriteString(env.stdout, text.String())
	return err
}

// batchCounts says how many lines are done.
func batchCounts(b *batch.Batch) string {
	n := b.RequestCounts
	s := grouped(n.Completed) + " done"
	if n.Failed > 0 {
		s += ", " + grouped(n.Failed) + " failed"
	}
	if n.Total > 0 {
		s += ", of " + grouped(n.Total)
	}
	return s
}

// batchProgress says in a line how far a batch is.
func batchProgress(b *batch.Batch) string {
	s := fmt.Sprintf("%s: %s", b.Status, batchCounts(b))
	if b.Rate > 0 {
		s += fmt.Sprintf(", %.1f lines/s, %s left", b.Rate, time.Duration(b.ETA)*time.Second)
	}
	if b.Paused {
		s += ", paused"
	}
	if b.Waiting != "" {
		s += ", waiting: " + b.Waiting
	}
	return s
}

// printBatches writes a page of them as a table.
func printBatches(env environment, page []byte) error {
	var list struct {
		Data    []batch.Batch `json:"data"`
		LastID  string        `json:"last_id"`
		HasMore bool          `json:"has_more"`
	}
	if err := json.Unmarshal(page, &list); err != nil {
		return fmt.Errorf("the server's answer is not a list of batches: %w", err)
	}
	w := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tMODEL\tSTATUS\tDONE\tFAILED\tTOTAL\tAGE")
	for i := range list.Data {
		b := &list.Data[i]
		status, n := string(b.Status), b.RequestCounts
		if b.Paused {
			status += " (paused)"
		}
		fmt.Fprintf(w, "%s\t%s/%s\t%s\t%d\t%d\t%d\t%s\n", b.ID, b.Model, b.Version, status, n.Completed, n.Failed, n.Total, ageOf(time.Unix(b.CreatedAt, 0)))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if list.HasMore {
		fmt.Fprintln(env.stderr, "There are more: --after", list.LastID)
	}
	return nil
}
