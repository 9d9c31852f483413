package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// printJob shows a job and turns its state into the exit code. waited says that the caller asked for a finished job.
func printJob(env environment, a *answer, j *jobView, format string, waited bool) error {
	if format == "json" {
		if _, err := fmt.Fprintf(env.stdout, "%s\n", strings.TrimSpace(string(a.body))); err != nil {
			return err
		}
	} else if err := printJobText(env.stdout, j); err != nil {
		return err
	}
	switch {
	case j.Status == "succeeded":
		return nil
	case j.terminal():
		return &exitError{code: exitFailure}
	case waited:
		err := fmt.Errorf("the job is still %s; it goes on: sheaf result %s --wait", j.Status, j.ID)
		if j.Status == "queued" {
			err = fmt.Errorf("%w\nno worker has taken it yet; is one running?", err)
		}
		return withCode(exitTimeout, err)
	}
	return nil
}

func printJobText(w io.Writer, j *jobView) error {
	var b strings.Builder
	fmt.Fprintf(&b, "id       %s\nstatus   %s\n", j.ID, j.Status)
	if j.Position != nil {
		fmt.Fprintf(&b, "position %d\n", *j.Position)
	}
	if j.Model != "" {
		fmt.Fprintf(&b, "model    %s", j.Model)
		if j.ModelVersion != "" {
			fmt.Fprintf(&b, ", version %s", j.ModelVersion)
		}
		b.WriteByte('\n')
	}
	if j.Error != nil {
		fmt.Fprintf(&b, "error    %s\n", j.Error)
	}
	if len(j.Timings) > 0 {
		fmt.Fprintf(&b, "timings  %s\n", j.Timings)
	}
	for i := range j.Outputs {
		if err := printOutput(&b, &j.Outputs[i]); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printOutput writes an output a row a line; rows of numbers with the place of the largest, which is the answer of a
// classifier.
func printOutput(b *strings.Builder, o *outputView) error {
	fmt.Fprintf(b, "output   %s %s %v\n", o.Name, o.Datatype, o.Shape)
	var flat []json.RawMessage
	if err := json.Unmarshal(o.Data, &flat); err != nil {
		return fmt.Errorf("output %s: %w", o.Name, err)
	}
	width := 1
	for _, d := range o.Shape[min(1, len(o.Shape)):] {
		width *= int(d)
	}
	if width < 1 {
		return nil
	}
	for row := range slices.Chunk(flat, width) {
		best, err := largest(row)
		text := make([]string, len(row))
		for i, v := range row {
			text[i] = string(v)
		}
		b.WriteString("  [" + strings.Join(text, " ") + "]")
		if err == nil && len(row) > 1 {
			fmt.Fprintf(b, "  largest at %d", best)
		}
		b.WriteByte('\n')
	}
	return nil
}

var errNoNumbers = errors.New("not numbers")

// largest returns the place of the largest number of a row.
func largest(row []json.RawMessage) (int, error) {
	best, value := -1, 0.0
	for i, raw := range row {
		var v float64
		if err := json.Unmarshal(raw, &v); err != nil {
			return 0, errNoNumbers
		}
		if best < 0 || v > value {
			best, value = i, v
		}
	}
	return best, nil
}
