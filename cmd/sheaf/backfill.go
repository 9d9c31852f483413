package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/backfill"
	"github.com/sheafml/sheaf/backfill/table"
)

// backfillSettings are what the command line says of a backfill, besides who computes.
type backfillSettings struct {
	input, output string // INPUT and -o

	inputFormat, outputFormat string
	noHeader                  bool
	inputs                    []string // name=columns
	want                      table.Want
	outputs                   []string
	join, ordered             bool
	errors, checkpoint        string
	overwrite, dryRun         bool
	rowsPerJob                int
	run                       backfill.Config
	windows                   []string
	progress                  string
}

// backfillMemory is from where on the garbage collector works harder, in bytes: what is in hand is bounded, and needs less.
const backfillMemory = 192 << 20

func newBackfill(env environment) *cobra.Command {
	s := backfillSettings{run: backfill.DefaultConfig()}
	s.run.Flight = 0
	cmd := &cobra.Command{
		Use:   "backfill MODEL INPUT -o OUTPUT",
		Short: "Ask a model for every row of a file: JSON lines, CSV or Parquet, resumable, in the slack",
		Long: `Ask a model for every row of a file, and write a file with the predictions. The rows wait on the bulk lane: workers
take them when nobody online waits.

INPUT and OUTPUT are files, URLs (file://, s3://, gs://), or "-". What they are is told by their names: .jsonl, .csv,
.tsv or .parquet, and .gz or .zst after that; or by --input-format and --output-format.

Which columns the model gets is guessed where it can be: a column with an input's name, the one column of lists that
fits, or as many numeric columns as a row has elements. --dry-run shows it, with the first answers, and writes nothing.

It may be stopped at any time, also by Ctrl-C, kill -9 or a power cut: the same command goes on where it was. What is
done by then stands in OUTPUT.partial and OUTPUT.checkpoint. SIGUSR1 pauses it, SIGUSR2 lets it go on.

A row that is bad fails alone. It goes to a file of errors (OUTPUT with .errors before its ending) in the form of the
input, with its line and the reason, and can be submitted again from there.

Exit code 0: every row has its prediction; 3: all are done and some were bad; 1: it failed, or had more than
--max-errors bad rows; 4: what it needs is out of reach; 130: interrupted.`,
		Example: `  sheaf backfill digits rows.jsonl -o predictions.jsonl
  sheaf backfill digits rows.parquet -o scored.parquet --join --ordered --nats-url nats://nats:4222 --redis-url redis://redis:6379
  sheaf backfill iris flowers.csv -o flowers.scored.csv --input 'x=sepal_*,petal_*' --id-column id --dry-run
  zcat rows.jsonl.gz | sheaf backfill digits - --input-format jsonl -o - > predictions.jsonl
  sheaf backfill embed s3://lake/texts.parquet -o s3://lake/vectors.parquet --window 22:00-06:00 --max-rate 500`,
		Args: exactArgs("MODEL", "INPUT"),
	}
	fs := cmd.Flags()
	fs.StringVarP(&s.output, "output", "o", "", "`FILE` or URL to write the predictions to; - is standard output, which cannot be resumed")
	fs.StringVar(&s.inputFormat, "input-format", "", "`FORMAT` of the input if its name does not tell: jsonl, csv, tsv or parquet, and .gz or .zst after it")
	fs.StringVar(&s.outputFormat, "output-format", "", "`FORMAT` of the output, likewise; default: the input's")
	fs.BoolVar(&s.noHeader, "no-header", false, "the first line of a CSV is a row; the columns are c0, c1 …")
	fs.StringArrayVar(&s.inputs, "input", nil, "an input of the model and its columns, `NAME=COL1,COL2…`; * stands for any text; may be given again for another input")
	fs.StringVar(&s.want.InputColumn, "input-column", "", "the column `NAME` with the lists for a model with one input")
	fs.StringVar(&s.want.ID, "id-column", "", "the column `NAME` that is passed through to the output")
	fs.StringSliceVar(&s.outputs, "outputs", nil, "`LIST` of the model's outputs to write, each as a column of its name; default: its prediction, as \"prediction\"")
	fs.BoolVar(&s.join, "join", false, "write the columns of the input too, before the prediction")
	fs.BoolVar(&s.ordered, "ordered", false, "write the rows in the order of the input")
	fs.StringVar(&s.errors, "errors", "", "`FILE` for bad rows; default: OUTPUT with .errors before its ending")
	fs.StringVar(&s.checkpoint, "checkpoint", "", "`FILE` that says how far it is; default: OUTPUT.checkpoint")
	fs.BoolVar(&s.overwrite, "overwrite", false, "begin anew, and replace the output if there is one")
	fs.BoolVar(&s.dryRun, "dry-run", false, "show the first rows as the model will see them and its answers, and write nothing")
	fs.IntVar(&s.rowsPerJob, "rows-per-job", 0, "rows that one job asks for; 0: as many as 256 KiB hold, 1024 at most")
	fs.IntVar(&s.run.Flight, "flight", 0, "jobs in flight at a time; 0: as many as hold 8192 rows, 16 to 256")
	fs.Int64Var(&s.run.MaxAhead, "max-ahead-bytes", s.run.MaxAhead, "bytes of rows in hand: in flight, or waiting for one before them")
	fs.DurationVar(&s.run.CommitEvery, "commit-every", 0, "how often what is written is made last; 0: 2s, for Parquet 30s")
	fs.Int64Var(&s.run.MaxErrors, "max-errors", s.run.MaxErrors, "stop when more rows than this are bad; -1: never")
	fs.Float64Var(&s.run.MaxRate, "max-rate", 0, "rows asked a second at most; 0: as many as the workers do")
	fs.StringArrayVar(&s.windows, "window", nil, "ask only at these `TIMES` of the day, such as 22:00-06:00; may be given again")
	fs.StringVar(&s.progress, "progress", "auto", "`FORM` of the progress on standard error: auto, plain, json or none")
	connect, logs := backfillConnectFlags(cmd), logFlags(cmd)
	asSettings(fs, "rows-per-job", "flight", "max-ahead-bytes", "max-errors", "max-rate")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s.input = args[1]
		if err := s.complete(); err != nil {
			return withCode(exitUsage, err)
		}
		logger, err := newLogger(env.stderr, logs)
		if err != nil {
			return err
		}
		relaxGC(env)
		if env.getenv("GOMEMLIMIT") == "" {
			debug.SetMemoryLimit(backfillMemory)
		}
		service, err := connect.open(cmd, args[0], logger)
		if err != nil {
			return err
		}
		defer service.close()
		return s.do(cmd.Context(), env, service, logger)
	}
	return cmd
}

// complete reads what flags alone cannot, and names every fault.
func (s *backfillSettings) complete() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.output == "" && !s.dryRun {
		bad("-o OUTPUT is missing: where do the predictions go? (- is standard output)")
	}
	for _, name := range []*string{&s.input, &s.output, &s.errors, &s.checkpoint} {
		path, err := localPath(*name)
		if err != nil {
			bad("%w", err)
			continue
		}
		*name = path
	}
	s.want.Inputs = map[string][]string{}
	for _, input := range s.inputs {
		name, columns, ok := strings.Cut(input, "=")
		if _, twice := s.want.Inputs[name]; !ok || name == "" || columns == "" || twice {
			bad("--input %q: NAME=COLUMN,COLUMN… is expected, once for each input of the model", input)
			continue
		}
		s.want.Inputs[name] = strings.Split(columns, ",")
	}
	for _, text := range s.windows {
		w, err := backfill.ParseWindow(text)
		if err != nil {
			bad("--%w", err)
			continue
		}
		s.run.Windows = append(s.run.Windows, w)
	}
	if s.rowsPerJob < 0 || s.run.Flight < 0 {
		bad("--rows-per-job and --flight are 0 (automatic) or more")
	}
	switch s.progress {
	case "auto", "plain", "json", "none":
	default:
		bad("--progress %q: auto, plain, json or none is expected", s.progress)
	}
	s.run.Ordered = s.ordered
	check := s.run
	check.Flight, check.CommitEvery = max(1, check.Flight), max(time.Second, check.CommitEvery)
	return errors.Join(errors.Join(errs...), check.Validate())
}

// errBadRows says, by its exit code, that everything is done and some rows were bad.
var errBadRows = &exitError{code: exitBadRows}

// do opens what the backfill reads and writes, and runs it.
func (s *backfillSettings) do(ctx context.Context, env environment, service *backfillService, logger *slog.Logger) error {
	in, err := openBackfillInput(ctx, env, s)
	if err != nil {
		return err
	}
	defer in.close()
	plan, err := in.plan(&service.model, s.want, service.limits)
	if err != nil {
		return withCode(exitUsage, err)
	}
	predicted, outputs, err := predictedColumns(&service.model, s.outputs)
	if err != nil {
		return withCode(exitUsage, err)
	}
	if s.dryRun {
		return s.preview(ctx, env.stdout, in, plan, predicted, service.jobs(outputs, false))
	}
	if s.rowsPerJob == 0 {
		// Half of what a request may have leaves room for what is not data.
		s.rowsPerJob = min(backfill.RowsPerJob(plan), service.limits.MaxRows, max(1, service.limits.MaxBytes/2/backfill.RowBytes(plan)))
	}
	if !service.model.Signature.Batchable {
		s.rowsPerJob = 1
	}
	if s.run.Flight == 0 {
		s.run.Flight = backfill.FlightFor(s.rowsPerJob)
	}
	out, err := s.openOutput(ctx, env, in, plan, predicted, service)
	if err != nil || out == nil {
		return err // nil: it is complete already
	}
	defer out.close()
	files, err := out.task(in, plan)
	if err != nil {
		return err
	}
	if s.run.CommitEvery == 0 {
		s.run.CommitEvery = 2 * time.Second
		if out.spec.Format == table.Parquet {
			s.run.CommitEvery = 30 * time.Second
		}
	}
	run, err := backfill.New(s.run, backfill.Deps{Jobs: service.jobs(outputs, out.resumed), Task: files, Key: out.checkpoint.Key + "/" + out.checkpoint.Run, Logger: logger})
	if err != nil {
		return withCode(exitUsage, err)
	}
	p := s.newProgress(env, in, out, run, service)
	if err := s.follow(ctx, env, p, run); err != nil {
		p.end()
		return s.stopped(ctx, env, p, out, err)
	}
	err = out.finish(ctx, files)
	p.end()
	if err != nil {
		return err
	}
	last := p.status("done")
	last.Output, last.Bad = s.output, out.badName()
	if p.format == "json" {
		p.show(last)
	} else {
		fmt.Fprintln(env.stderr, out.summary(&last))
	}
	if last.Errors > 0 {
		return errBadRows
	}
	return nil
}

// follow runs the backfill and shows how it goes on.
func (s *backfillSettings) follow(ctx context.Context, env environment, p *backfillProgress, run *backfill.Run) error {
	shown, hide := context.WithCancel(context.WithoutCancel(ctx))
	over := make(chan struct{})
	if p.format != "none" {
		go func() {
			defer close(over)
			p.follow(shown)
		}()
	} else {
		close(over)
	}
	quiet := pauseOnSignal(run, env.stderr)
	err := run.Run(ctx)
	quiet()
	hide()
	<-over
	return err
}

// stopped says what became of a run that did not come to its end, and how to go on.
func (s *backfillSettings) stopped(ctx context.Context, env environment, p *backfillProgress, out *backfillOutput, err error) error {
	status := p.status("stopped")
	status.Output = s.output
	if p.format == "json" {
		p.show(status)
	}
	switch {
	case out.stream:
		fmt.Fprintf(env.stderr, "Stopped after %s rows. What goes to standard output cannot be resumed.\n", grouped(status.Rows))
	default:
		fmt.Fprintf(env.stderr, "Stopped. %s rows are kept in %s. Go on with:\n  %s\n", grouped(out.checkpoint.Rows), out.partial, env.commandLine())
	}
	if ctx.Err() != nil {
		return context.Canceled
	}
	return backfillFault(err)
}

func (s *backfillSettings) newProgress(env environment, in *backfillInput, out *backfillOutput, run *backfill.Run, service *backfillService) *backfillProgress {
	format := s.progress
	if format == "auto" {
		format = "plain"
		if terminalOf(env.stderr) {
			format = "terminal"
		}
	}
	return &backfillProgress{
		out: env.stderr, format: format, before: out.checkpoint.Rows, failed: out.checkpoint.Failed, run: run, depth: service.depth, begun: time.Now(),
		total: in.source.Rows, read: in.source.Consumed,
	}
}
