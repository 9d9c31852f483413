package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// modelSettings say which model a verb is about.
type modelSettings struct {
	models   string
	model    string
	rows     int
	moreArgs string
}

func (s *modelSettings) flags(fs *flag.FlagSet, lab *labSettings, model string) {
	fs.StringVar(&s.models, "models", "", "directory of models; empty: testdata/models beside this program's source, and the repository's examples/models")
	fs.StringVar(&s.model, "model", model, "model to measure: mlp and cnn take about 5 ms a row, digits some µs")
	fs.IntVar(&s.rows, "rows", 1, "rows of a job")
	fs.IntVar(&lab.maxRows, "max-rows", 0, "batching.max_rows in place of what model.yaml says")
	fs.StringVar(&s.moreArgs, "worker-args", "", "further flags of `sheaf worker`, with spaces between")
}

// apply looks for the model and puts it into the lab's settings.
func (s *modelSettings) apply(lab *labSettings) error {
	var errs []error
	if s.rows < 1 || s.rows > 4096 {
		errs = append(errs, fmt.Errorf("-rows is %d: expected 1 to 4096", s.rows))
	}
	if lab.maxRows < 0 || lab.maxRows > 4096 {
		errs = append(errs, fmt.Errorf("-max-rows is %d: expected 1 to 4096, or 0 for what model.yaml says", lab.maxRows))
	}
	places := []string{s.models}
	if s.models == "" {
		places = []string{filepath.Join(lab.root, "bench", "testdata", "models"), filepath.Join(lab.root, "examples", "models")}
	}
	lab.workerArgs = strings.Fields(s.moreArgs)
	for _, place := range places {
		directory := filepath.Join(place, s.model)
		if info, err := os.Stat(directory); err == nil && info.IsDir() && s.model != "" {
			lab.models = []string{directory}
			return errors.Join(errs...)
		}
	}
	return errors.Join(append(errs, fmt.Errorf("there is no model %q in %s", s.model, strings.Join(places, " and ")))...)
}

// workload makes the jobs: the held-out rows of digits, random ones of any other model.
func (s *modelSettings) workload(ctx context.Context, lab *labSettings, library string) (*workload, error) {
	if s.model == modelName && s.rows == 1 {
		return digitsWorkload(lab.heldOut())
	}
	return randomWorkload(ctx, library, lab.models[0], s.rows)
}

var maxRowsLine = regexp.MustCompile(`(?m)^(\s+max_rows:).*$`)

// limitRows changes a model.yaml.
func limitRows(file string, rows int) error {
	if rows == 0 {
		return nil
	}
	text, err := os.ReadFile(file) //nolint:gosec // in the lab's directory
	if err != nil {
		return fmt.Errorf("-max-rows: %w", err)
	}
	if !maxRowsLine.Match(text) {
		return fmt.Errorf("-max-rows: %s has no max_rows that could be replaced", filepath.Base(file))
	}
	return os.WriteFile(file, maxRowsLine.ReplaceAll(text, []byte("${1} "+strconv.Itoa(rows))), 0o600) //nolint:gosec // as above
}
