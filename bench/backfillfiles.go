package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// backfillFiles are those of one file of rows and what is made of it.
type backfillFiles struct {
	dir                         string
	form                        rowForm
	input, bare, pyloop, output string
}

func filesIn(dir string, form rowForm) backfillFiles {
	at := func(name string) string { return filepath.Join(dir, name+"."+form.format) }
	return backfillFiles{dir: dir, form: form, input: at("rows"), bare: at("bare"), pyloop: at("pyloop"), output: at("out")}
}

// errorsOf is where the command puts the bad rows of an output.
func errorsOf(output string) string {
	ending := filepath.Ext(output)
	return strings.TrimSuffix(output, ending) + ".errors" + ending
}

// ledger lists the bad rows of the input.
func (f *backfillFiles) ledger(some bool) ([]ledgerEntry, error) {
	if !some {
		return nil, nil
	}
	return readLedger(f.input)
}

// columns are those of the model's input.
func (f *backfillFiles) columns() string {
	if f.form.wide {
		return "p*"
	}
	return columnPixels
}

// backfillArgs is the command line of `sheaf backfill` after the name of the program.
func (s *backfillSettings) backfillArgs(l *lab, model, input, output, columns string) []string {
	args := []string{
		"backfill", model, input, "-o", output, "--nats-url", l.natsURL(), "--redis-url", l.redisURL(dbSheaf),
		"--id-column", columnID, "--input", modelInput + "=" + columns,
	}
	if s.ordered {
		args = append(args, "--ordered")
	}
	return append(args, strings.Fields(s.moreArgs)...)
}

// bare runs the bare loop.
func (b *backfillBench) bare(ctx context.Context, files backfillFiles) (commandRun, error) {
	ctx, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	program, err := os.Executable()
	if err != nil {
		return commandRun{}, err
	}
	r, err := runCommand(ctx, "bare-loop", files.dir, program, bareLoopVerb, "-library", b.library, "-models", b.lab.modelsDir(),
		"-in", files.input, "-out", files.bare, "-input", files.columns(), "-batch", fmt.Sprint(b.batch))
	if err != nil {
		return r, err
	}
	return r, r.expect("the bare loop", exitOK)
}

// pyloop runs the loop in Python.
func (b *backfillBench) pyloop(ctx context.Context, files backfillFiles) (*commandRun, error) {
	ctx, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	program, err := filepath.Abs("pyloop.py")
	if err != nil {
		return nil, err
	}
	python, err := filepath.Abs(b.python)
	if err != nil {
		return nil, err
	}
	r, err := runCommand(ctx, "pyloop", files.dir, python, program, filepath.Join(b.lab.modelsDir(), modelName, "1", "model.onnx"), files.input, files.pyloop)
	if err != nil {
		return nil, err
	}
	return &r, r.expect("the loop in Python", exitOK)
}

// exitBadRows is the status of `sheaf` that says that everything is done and that there were bad rows.
const exitBadRows = 3

func (b *backfillBench) status() int {
	if b.bad > 0 {
		return exitBadRows
	}
	return exitOK
}

// sheaf runs `sheaf backfill`.
func (b *backfillBench) sheaf(ctx context.Context, files backfillFiles, r *backfillRound) error {
	ctx, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	if err := b.lab.empty(ctx); err != nil {
		return err
	}
	before, err := b.lab.rowsRun(ctx)
	if err != nil {
		return err
	}
	program, err := filepath.Abs(b.sheafBinary())
	if err != nil {
		return err
	}
	used, from := cpuOf(b.lab.subjects()), time.Now()
	machine, machineErr := machineTime()
	r.Sheaf, err = runCommand(ctx, "backfill", files.dir, program, b.backfillArgs(b.lab, modelName, files.input, files.output, files.columns())...)
	if err != nil {
		return err
	}
	if err := r.Sheaf.expect("sheaf backfill", b.status()); err != nil {
		return err
	}
	r.CPU, r.Others = used.since(1), -1
	ours := r.Sheaf.CPU
	for name := range r.CPU {
		r.CPU[name] /= 1e6
		ours += r.CPU[name]
	}
	if now, err := machineTime(); err == nil && machineErr == nil {
		r.Others = max(0, (now-machine).Seconds()-ours) / time.Since(from).Seconds()
	}
	after, err := b.lab.rowsRun(ctx)
	if err != nil {
		return err
	}
	r.Ran = after - before
	ledger, err := files.ledger(b.bad > 0)
	if err != nil {
		return err
	}
	// An answer that nobody computed in this round would be one of another round.
	if want := b.rows - int64(len(ledger)); r.Ran < want {
		return fmt.Errorf("the worker ran %d rows in this round, expected at least %d", r.Ran, want)
	}
	return b.lab.drained(ctx)
}

// rowsRun is how many rows the worker has run since it was started.
func (l *lab) rowsRun(ctx context.Context) (int64, error) {
	page, err := l.ops(ctx, "/metrics")
	if err != nil {
		return 0, fmt.Errorf("read the worker's metrics: %w", err)
	}
	return rowsOnPage(page), nil
}

// rowsOnPage is what a worker's page of metrics says of the rows that it ran.
func rowsOnPage(page string) int64 { return int64(parseHistogram(page, metricBatchRows).sum) }

// again looks at the file of bad rows, submits it, and expects the same of it.
func (b *backfillBench) again(ctx context.Context, files backfillFiles, ledger []ledgerEntry) error {
	ctx, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	first, err := readBad(errorsOf(files.output), files.form)
	if err != nil {
		return err
	}
	if err := sameBad(first, ledger); err != nil {
		return fmt.Errorf("%s: %w", errorsOf(files.output), err)
	}
	program, err := filepath.Abs(b.sheafBinary())
	if err != nil {
		return err
	}
	output := filepath.Join(files.dir, "again."+files.form.format)
	run, err := runCommand(ctx, "again", files.dir, program, b.backfillArgs(b.lab, modelName, errorsOf(files.output), output, files.columns())...)
	if err != nil {
		return err
	}
	if err := run.expect("sheaf backfill of the bad rows", exitBadRows); err != nil {
		return err
	}
	second, err := readBad(errorsOf(output), files.form)
	if err != nil {
		return err
	}
	answered, err := readAnswers(output, files.form, b.rows, false)
	if err != nil {
		return err
	}
	if answered.n > 0 {
		return fmt.Errorf("%s: %d bad rows have answers the second time", output, answered.n)
	}
	return sameReasons(first, second, ledger, files.form)
}

// sampleCount is how many rows of the bare loop are compared with the model's answers.
const sampleCount = 1000

// sampleAnswers asks the model itself for some rows, as they were before any file. So the two outputs, whose readers and
// writers are the same, are not only compared with each other.
func sampleAnswers(ctx context.Context, p *predictor, rows *manyRows, got *answers) (n int, err error) {
	total := int64(len(got.seen))
	var pixels [rowWidth]uint8
	values := make([]float32, rowWidth)
	for i := int64(0); i < total; i += max(1, total/sampleCount) {
		if bad := rows.row(i, &pixels); bad != "" {
			if got.seen[i] {
				return n, fmt.Errorf("row %d is bad (%s) and has an answer", i+1, bad)
			}
			continue
		}
		for k, v := range pixels {
			values[k] = float32(v)
		}
		want, err := p.predict(ctx, rawFloats(values))
		if err != nil {
			return n, err
		}
		if !got.seen[i] {
			return n, fmt.Errorf("row %d has no answer", i+1)
		}
		if err := compare(rawFloats(got.values[i*classes:(i+1)*classes]), want, rowTolerance); err != nil {
			return n, fmt.Errorf("row %d of the bare loop is not what the model gives: %w", i+1, err)
		}
		n++
	}
	if n == 0 {
		return n, errors.New("no row could be compared with the model")
	}
	return n, nil
}
