package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sheafml/sheaf/backfill"
	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/model"
)

// backfillOutput is where the predictions and the bad rows go.
type backfillOutput struct {
	name   string // as it was given
	stream bool   // standard output
	spec   table.Spec
	bad    table.Spec

	final, partial       string // local files; with a URL, final is ""
	badFinal, badPartial string
	path                 string // of the checkpoint

	checkpoint *backfill.Checkpoint
	resumed    bool
	unlock     func()
	stdout     io.Writer
	open       []*os.File
}

// predictedColumns are the columns of the output, and the outputs of the model that are asked for.
func predictedColumns(info *model.Info, wanted []string) (columns []table.Predicted, outputs []string, err error) {
	sig := &info.Signature
	if _, err := sig.OutputIndices(wanted); err != nil {
		return nil, nil, fmt.Errorf("--outputs: %w", err)
	}
	names := wanted
	if len(wanted) == 0 {
		names = []string{sig.Outputs[info.PredictionIndex()].Name}
	}
	if len(sig.Outputs) > len(names) || len(wanted) > 0 {
		outputs = names
	}
	for i, name := range names {
		o := sig.Outputs[sig.OutputIndex(name)]
		p := table.Predicted{Column: name, Output: i, Datatype: o.Datatype, Shape: o.Shape}
		if len(wanted) == 0 {
			p.Column = "prediction"
		}
		if sig.Batchable {
			p.Shape = o.Shape[1:]
		}
		columns = append(columns, p)
	}
	return columns, outputs, nil
}

// openOutput finds out how far an earlier run came, and makes ready to go on. It is nil if all is done already.
func (s *backfillSettings) openOutput(ctx context.Context, env environment, in *backfillInput, plan *table.Plan, predicted []table.Predicted, service *backfillService) (_ *backfillOutput, err error) {
	o := &backfillOutput{name: s.output, stdout: env.stdout, stream: s.output == stdStream, checkpoint: &backfill.Checkpoint{}}
	defer func() {
		if err != nil {
			o.close()
		}
	}()
	format, compression := in.format, in.compression
	if s.outputFormat != "" || s.output != stdStream {
		if format, compression, err = formatOf(s.outputFormat, s.output, "output"); err != nil {
			return nil, err
		}
	} else if format == table.Parquet {
		compression = table.Plain
	}
	o.spec = table.Spec{Format: format, Compression: compression, Columns: in.source.Columns(), Join: s.join, ID: plan.ID, Predicted: predicted}
	o.bad = table.Spec{Format: in.format, Compression: in.compression, Columns: in.source.Columns(), Errors: true, ID: -1}
	if err := o.place(s, in); err != nil {
		return nil, err
	}
	about, err := s.about(in, plan, o, service)
	if err != nil {
		return nil, err
	}
	if !o.stream {
		if o.unlock, err = lockFile(o.partial + ".lock"); err != nil {
			if errors.Is(err, errLocked) {
				return nil, withCode(exitUsage, fmt.Errorf("another sheaf backfill writes %s", o.name))
			}
			return nil, withCode(exitUsage, fmt.Errorf("write to %s: %w", o.name, err))
		}
	}
	complete, err := o.goOn(ctx, env, s, about)
	if complete && err == nil {
		o.close()
		return nil, nil //nolint:nilnil // nothing is left to do
	}
	return o, err
}

// place names the files.
func (o *backfillOutput) place(s *backfillSettings, in *backfillInput) error {
	var base string
	switch {
	case o.stream: // has bad rows in the working directory, and nothing else to keep
	case isURL(o.name):
		cache, err := os.UserCacheDir()
		if err != nil {
			return withCode(exitUsage, fmt.Errorf("a place for what is not uploaded yet: %w", err))
		}
		sum := sha256.Sum256([]byte(o.name))
		dir := filepath.Join(cache, "sheaf", "backfill")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return withCode(exitUsage, fmt.Errorf("a place for what is not uploaded yet: %w", err))
		}
		base = filepath.Join(dir, hex.EncodeToString(sum[:8])+"-"+filepath.Base(bare(o.name)))
	default:
		var err error
		if base, err = filepath.Abs(o.name); err != nil {
			return err
		}
		o.final = base
		if stat, err := os.Stat(base); err == nil && stat.IsDir() {
			return withCode(exitUsage, fmt.Errorf("%s is a directory: -o names a file", o.name))
		}
	}
	o.partial, o.path = base+".partial", base+".checkpoint"
	if s.checkpoint != "" {
		o.path = s.checkpoint
	}
	o.badFinal = s.errors
	if o.badFinal == "" {
		switch from := bare(o.name); {
		case o.stream && in.name == stdStream:
			o.badFinal = "sheaf-backfill.errors" + endingFor(o.bad)
		case o.stream:
			o.badFinal = filepath.Base(withErrors(bare(in.name), o.bad))
		case isURL(o.name):
			o.badFinal = withErrors(from, o.bad)
			if _, query, ok := strings.Cut(o.name, "?"); ok {
				o.badFinal += "?" + query
			}
		default:
			o.badFinal = withErrors(from, o.bad)
		}
	}
	o.badPartial = o.badFinal + ".partial"
	if isURL(o.badFinal) {
		o.badPartial = base + ".errors.partial"
	}
	return nil
}

// endingFor is how the name of a file of a format ends.
func endingFor(s table.Spec) string {
	ending := map[table.Compression]string{table.Gzip: ".gz", table.Zstd: ".zst"}[s.Compression]
	return "." + s.Format.String() + ending
}

// withErrors is the name of the file of bad rows, which has the input's format.
func withErrors(name string, bad table.Spec) string {
	for _, ending := range []string{".gz", ".gzip", ".zst", ".zstd"} {
		name = strings.TrimSuffix(name, ending)
	}
	if ext := filepath.Ext(name); ext != "" && !strings.Contains(ext, "/") {
		if _, _, err := table.FormatOf("x" + ext); err == nil {
			name = strings.TrimSuffix(name, ext)
		}
	}
	return name + ".errors" + endingFor(bad)
}

// about is what a backfill is made of: if any of it changes, it is another one.
func (s *backfillSettings) about(in *backfillInput, plan *table.Plan, o *backfillOutput, service *backfillService) (map[string]string, error) {
	mapping, err := json.Marshal(plan.Inputs)
	if err != nil {
		return nil, fmt.Errorf("encode the mapping: %w", err)
	}
	columns, err := json.Marshal([]any{o.spec.Predicted, o.spec.ID, o.spec.Join, o.spec.Format, o.spec.Compression, s.ordered, in.options})
	if err != nil {
		return nil, fmt.Errorf("encode the output's columns: %w", err)
	}
	return map[string]string{
		"input": in.name, "content of the input": in.known(), "mapping": string(mapping), "form of the output": string(columns), "output": o.name,
		"model": service.model.Key(), "model file": service.model.Digest, "rows of a job": fmt.Sprint(s.rowsPerJob), "tenant": service.tenant,
	}, nil
}

// keyOf is the key of what a backfill is made of.
func keyOf(about map[string]string) string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(about)) {
		fmt.Fprintf(h, "%q=%q\n", name, about[name])
	}
	return "backfill/" + hex.EncodeToString(h.Sum(nil)[:12])
}

// goOn reads the checkpoint, and decides whether it counts.
func (o *backfillOutput) goOn(ctx context.Context, env environment, s *backfillSettings, about map[string]string) (complete bool, err error) {
	fresh := &backfill.Checkpoint{Key: keyOf(about), Run: rand.Text()[:8], About: about, RowsPerJob: s.rowsPerJob}
	if o.stream {
		o.checkpoint = fresh
		return false, nil
	}
	old, err := backfill.LoadCheckpoint(o.path)
	if err != nil && !s.overwrite {
		return false, withCode(exitUsage, err)
	}
	exists, err := o.exists(ctx)
	if err != nil {
		return false, err
	}
	if s.overwrite {
		old = nil
	} else if old == nil && exists {
		return false, withCode(exitUsage, fmt.Errorf("%s is there already, and not from a backfill that can go on; --overwrite replaces it", o.name))
	}
	if old != nil && old.Key == fresh.Key {
		if !old.Complete {
			o.checkpoint, o.resumed = old, true
			if old.Rows > 0 {
				fmt.Fprintf(env.stderr, "Goes on after %s rows.\n", grouped(old.Rows))
			}
			return false, nil
		}
		o.checkpoint = old
		if _, err := os.Stat(o.partial); err == nil {
			// The last run ended when all was done but this.
			if err := o.settle(ctx); err != nil {
				return false, err
			}
			exists = true
		}
		if exists {
			return true, o.completeAlready(env)
		}
	}
	if old != nil && old.Key != fresh.Key {
		fmt.Fprintf(env.stderr, "Begins anew: since the last run other: %s.\n", strings.Join(changed(old.About, about), ", "))
	}
	// It is saved before the partial files are begun, so that what an older one says is never taken for theirs.
	o.checkpoint = fresh
	if err := fresh.Save(o.path); err != nil {
		return false, withCode(exitUsage, err)
	}
	return false, nil
}

// changed names what differs.
func changed(before, now map[string]string) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if before[name] != now[name] {
			names = append(names, name)
		}
	}
	return names
}

// completeAlready says that there is nothing to do.
func (o *backfillOutput) completeAlready(env environment) error {
	c := o.checkpoint
	fmt.Fprintf(env.stderr, "%s is complete already: %s rows, %s bad. --overwrite computes it again.\n", o.name, grouped(c.Rows), grouped(c.Failed))
	if c.Failed > 0 {
		return errBadRows
	}
	return nil
}

// exists reports whether the output stands in its place.
func (o *backfillOutput) exists(ctx context.Context) (bool, error) {
	if o.final == "" {
		return objectExists(ctx, o.name)
	}
	_, err := os.Stat(o.final)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, withCode(exitUsage, err)
	}
	return err == nil, nil
}

// task opens the files, and puts the backfill's task together.
func (o *backfillOutput) task(in *backfillInput, plan *table.Plan) (*backfill.Files, error) {
	if err := in.from(o.checkpoint.Next); err != nil {
		return nil, err
	}
	var results table.File = &streamFile{w: o.stdout}
	var mark *table.Mark
	if !o.stream {
		f, err := o.file(o.partial)
		if err != nil {
			return nil, err
		}
		results = f
		if o.resumed && o.checkpoint.Rows > 0 {
			mark = &o.checkpoint.Results
		}
	}
	sink, err := table.NewSink(results, o.spec, mark)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.name, err)
	}
	return &backfill.Files{
		Source: in.source, Plan: plan, Results: sink, Checkpoint: o.checkpoint,
		Errors: func() (table.Sink, error) {
			f, err := o.file(o.badPartial)
			if err != nil {
				return nil, err
			}
			return table.NewSink(f, o.bad, o.checkpoint.Errors)
		},
		Save: func(c *backfill.Checkpoint) error {
			if o.stream {
				return nil
			}
			return c.Save(o.path)
		},
	}, nil
}

func (o *backfillOutput) file(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644) //nolint:gosec // the user names the file, and others may read it
	if err != nil {
		return nil, withCode(exitUsage, fmt.Errorf("write to %s: %w", name, err))
	}
	o.open = append(o.open, f)
	return f, nil
}

// finish ends the files and puts them in their places. What a crash leaves of this, the next run does again.
func (o *backfillOutput) finish(ctx context.Context, files *backfill.Files) error {
	if err := files.Finish(); err != nil {
		return err
	}
	for _, f := range o.open {
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("end the output: %w", err)
		}
	}
	o.open = nil
	if o.stream {
		return o.settleBad(ctx)
	}
	o.checkpoint.Complete = true
	if err := o.checkpoint.Save(o.path); err != nil {
		return err
	}
	return o.settle(ctx)
}

// settle puts what is complete in its place. A partial file that is left says that this was not done yet.
func (o *backfillOutput) settle(ctx context.Context) error {
	if err := o.settleBad(ctx); err != nil {
		return err
	}
	if o.final == "" {
		if err := upload(ctx, o.name, o.partial); err != nil {
			return err
		}
		return os.Remove(o.partial)
	}
	if err := backfill.MoveFile(o.partial, o.final); err != nil {
		return fmt.Errorf("put the output in its place: %w", err)
	}
	return nil
}

// settleBad puts the file of bad rows in its place, or takes away the one of an earlier run.
func (o *backfillOutput) settleBad(ctx context.Context) error {
	url := isURL(o.badFinal)
	if o.checkpoint.Failed == 0 {
		if url || o.stream {
			return nil
		}
		if err := os.Remove(o.badFinal); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("take away the bad rows of an earlier run: %w", err)
		}
		return nil
	}
	if _, err := os.Stat(o.badPartial); errors.Is(err, fs.ErrNotExist) {
		return nil // done before a crash
	}
	if url {
		if err := upload(ctx, o.badFinal, o.badPartial); err != nil {
			return err
		}
		return os.Remove(o.badPartial)
	}
	if err := backfill.MoveFile(o.badPartial, o.badFinal); err != nil {
		return fmt.Errorf("put the file of bad rows in its place: %w", err)
	}
	return nil
}

func (o *backfillOutput) close() {
	for _, f := range o.open {
		_ = f.Close()
	}
	o.open = nil
	if o.unlock != nil {
		o.unlock()
		_ = os.Remove(o.partial + ".lock")
	}
}

// badName is the file of bad rows, if there is one.
func (o *backfillOutput) badName() string {
	if o.checkpoint.Failed == 0 {
		return ""
	}
	return o.badFinal
}

// summary is the last line.
func (o *backfillOutput) summary(s *backfillStatus) string {
	to := o.name
	if o.stream {
		to = "standard output"
	}
	text := fmt.Sprintf("%s rows to %s in %.1f s, %s rows/s", grouped(s.Rows-s.Errors), to, s.Elapsed, grouped(int64(s.Rate)))
	if s.Errors > 0 {
		text += fmt.Sprintf("; %s bad rows to %s", grouped(s.Errors), o.badFinal)
	}
	return text
}

// streamFile is standard output as a file that is only written.
type streamFile struct {
	w io.Writer
	n int64
}

func (f *streamFile) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	f.n += int64(n)
	return n, err
}

func (*streamFile) ReadAt([]byte, int64) (int, error) {
	return 0, errors.New("standard output cannot be read")
}
func (f *streamFile) Seek(int64, int) (int64, error) { return f.n, nil }
func (*streamFile) Truncate(int64) error             { return nil }
func (*streamFile) Sync() error                      { return nil }
