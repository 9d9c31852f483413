package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// stdStream is what stands for standard input or output on the command line.
const stdStream = "-"

// backfillInput is the table that is read.
type backfillInput struct {
	name        string
	identity    string // another for another content; "" where that cannot be told
	format      table.Format
	compression table.Compression
	options     table.Options
	input       table.Input
	source      table.Source
	closers     []func()
}

func openBackfillInput(ctx context.Context, env environment, s *backfillSettings) (_ *backfillInput, err error) {
	in := &backfillInput{name: s.input}
	defer func() {
		if err != nil {
			in.close()
		}
	}()
	if in.format, in.compression, err = formatOf(s.inputFormat, s.input, "input"); err != nil {
		return nil, err
	}
	in.options = table.Options{NoHeader: s.noHeader}
	if s.input == stdStream {
		err = in.openPipe(env.stdin)
	} else {
		err = in.openFile(ctx)
	}
	if err != nil {
		return nil, err
	}
	if in.source, err = table.Open(in.input, in.format, in.compression, in.options); err != nil {
		return nil, fmt.Errorf("%s: %w", in.name, err)
	}
	in.closers = append(in.closers, func() { _ = in.source.Close() })
	return in, nil
}

func (in *backfillInput) close() {
	for _, v := range slices.Backward(in.closers) {
		v()
	}
	in.closers = nil
}

// formatOf is what a flag says, or else what a name ends in.
func formatOf(flag, name, what string) (table.Format, table.Compression, error) {
	if flag != "" {
		f, c, err := table.FormatOf("x." + strings.TrimPrefix(flag, "."))
		if err != nil {
			return 0, 0, withCode(exitUsage, fmt.Errorf("--%s-format %q: %w", what, flag, err))
		}
		return f, c, nil
	}
	if name == stdStream {
		return 0, 0, withCode(exitUsage, fmt.Errorf("--%s-format is missing: - has no name to tell it by; jsonl, csv, tsv or parquet", what))
	}
	f, c, err := table.FormatOf(bare(name))
	if err != nil {
		return 0, 0, withCode(exitUsage, fmt.Errorf("%s: %w; --%s-format says it", name, err, what))
	}
	return f, c, nil
}

// bare is a name without the query that a URL may have.
func bare(name string) string {
	if strings.Contains(name, "://") {
		name, _, _ = strings.Cut(name, "?")
	}
	return name
}

func (in *backfillInput) openFile(ctx context.Context) error {
	if isURL(in.name) {
		o, err := openObject(ctx, in.name)
		if err != nil {
			return err
		}
		in.closers = append(in.closers, func() { _ = o.Close() })
		in.input, in.identity = o, o.Identity()
		return nil
	}
	f, err := os.Open(in.name)
	if err != nil {
		return withCode(exitUsage, fmt.Errorf("open the input: %w", err))
	}
	in.closers = append(in.closers, func() { _ = f.Close() })
	stat, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open the input: %w", err)
	}
	if !stat.Mode().IsRegular() {
		if stat.IsDir() {
			return withCode(exitUsage, fmt.Errorf("%s is a directory: a file is expected", in.name))
		}
		return in.openPipe(f)
	}
	if in.name, err = filepath.Abs(in.name); err != nil {
		return err
	}
	in.input = &localInput{f, stat.Size()}
	in.identity = fmt.Sprintf("%d bytes, changed %s", stat.Size(), stat.ModTime().UTC().Format("2006-01-02T15:04:05.999999999Z"))
	return nil
}

// openPipe takes what can be read once. Parquet begins at its end, so it is put into a file first.
func (in *backfillInput) openPipe(r io.Reader) error {
	in.identity = "" // what comes next time cannot be known
	if in.format != table.Parquet {
		in.input = &pipeInput{r: r}
		return nil
	}
	f, err := os.CreateTemp("", "sheaf-backfill-*.parquet")
	if err != nil {
		return fmt.Errorf("a place for the input: %w", err)
	}
	in.closers = append(in.closers, func() { _ = f.Close(); _ = os.Remove(f.Name()) })
	size, err := io.Copy(f, r)
	if err != nil {
		return fmt.Errorf("read the input: %w", err)
	}
	in.input = &localInput{f, size}
	return nil
}

// plan maps the columns to the inputs of a model.
func (in *backfillInput) plan(info *model.Info, want table.Want, lim job.Limits) (*table.Plan, error) {
	plan, err := table.NewPlan(in.source.Columns(), info, want)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", in.name, err)
	}
	plan.Limits = lim
	return plan, nil
}

// from has the source begin at a place.
func (in *backfillInput) from(place table.Place) error {
	if place.Row == 0 {
		return nil
	}
	_ = in.source.Close()
	options := in.options
	options.At = place
	var err error
	if in.source, err = table.Open(in.input, in.format, in.compression, options); err != nil {
		return fmt.Errorf("%s: go on at row %d: %w", in.name, place.Row+1, err)
	}
	return nil
}

// known is the identity, or one that no other run has.
func (in *backfillInput) known() string {
	if in.identity == "" {
		return rand.Text()
	}
	return in.identity
}

// localInput is a file of this machine.
type localInput struct {
	f    *os.File
	size int64
}

func (l *localInput) Size() int64           { return l.size }
func (l *localInput) ReaderAt() io.ReaderAt { return l.f }
func (l *localInput) From(offset int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(l.f, offset, l.size-offset)), nil
}

// pipeInput is what can be read once.
type pipeInput struct {
	r    io.Reader
	read bool
}

func (*pipeInput) Size() int64           { return -1 }
func (*pipeInput) ReaderAt() io.ReaderAt { return nil }
func (p *pipeInput) From(offset int64) (io.ReadCloser, error) {
	if p.read || offset != 0 {
		return nil, errors.New("what comes through a pipe can be read only once, from its start")
	}
	p.read = true
	return io.NopCloser(p.r), nil
}
