package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// What is wanted of a backfill.
const (
	wantParquetShare = 0.70      // rows/s of `sheaf backfill` over those of the bare loop
	wantJSONLShare   = 0.60      // CSV has no bound of its own
	wantPeak         = 300 << 20 // bytes of the command at most
)

// backfillConfig holds the flags of the backfill's measurement.
type backfillConfig struct {
	verbSettings
	backfillSettings

	rounds  int
	formats string
	batch   int
	python  string
}

// backfillSettings are what every verb about the command has.
type backfillSettings struct {
	rows     int64
	wide     bool
	ordered  bool
	bad      float64
	seed     uint64
	patience time.Duration
	moreArgs string
}

func parseBackfill(args []string, stderr io.Writer) (*backfillConfig, error) {
	c := &backfillConfig{verbSettings: newVerbSettings()}
	fs := c.newFlags("backfill", stderr)
	fs.IntVar(&c.rounds, "rounds", 5, "rounds, each with the bare loop and sheaf backfill in every format")
	fs.StringVar(&c.formats, "formats", "parquet,jsonl", "of parquet, jsonl and csv, with commas")
	fs.Int64Var(&c.rows, "rows", 1_000_000, "rows of a file")
	fs.BoolVar(&c.wide, "wide", false, "a column for each pixel in place of one of lists; CSV has that anyway")
	fs.BoolVar(&c.ordered, "ordered", true, "run sheaf backfill with --ordered, and look at the order")
	fs.Float64Var(&c.bad, "bad", 0, "share of bad rows: exactly those must be in the file of errors")
	fs.IntVar(&c.batch, "batch", bareBatch, "rows of a run of the bare loop")
	fs.StringVar(&c.python, "python", "", "a Python with pyarrow and onnxruntime: with Parquet, pyloop.py is measured too")
	fs.Uint64Var(&c.seed, "seed", 1, "of the rows")
	fs.DurationVar(&c.patience, "patience", 20*time.Minute, "how long a run of either may take")
	fs.StringVar(&c.moreArgs, "backfill-args", "", "further flags of sheaf backfill, with spaces between")
	worker := fs.String("worker-args", "", "further flags of sheaf worker, with spaces between")
	if err := c.parse(fs, args); err != nil {
		return nil, err
	}
	if c.quick {
		shorten(fs, map[string]func(){"rounds": func() { c.rounds = 1 }, "rows": func() { c.rows = 20_000 }})
	}
	c.workerArgs = strings.Fields(*worker)
	return c, c.validate()
}

func (c *backfillConfig) validate() error {
	errs := []error{c.labSettings.validate(), c.backfillSettings.validate()}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.rounds < 1 || c.rounds > 100 || c.batch < 1 || c.batch > 65536 {
		bad("-rounds is %d and -batch %d: expected 1 to 100 and 1 to 65536", c.rounds, c.batch)
	}
	for _, form := range c.forms() {
		errs = append(errs, form.validate())
	}
	c.models = []string{c.digits()}
	return errors.Join(errs...)
}

func (s *backfillSettings) validate() error {
	if s.rows < 1 || s.rows > 1_000_000_000 || !(s.bad >= 0 && s.bad < 1) || s.patience < time.Second {
		return fmt.Errorf("-rows is %d, -bad %v and -patience %v: expected 1 to 1000000000, 0 to less than 1, and at least 1s", s.rows, s.bad, s.patience)
	}
	return nil
}

func (c *backfillConfig) forms() []rowForm {
	var forms []rowForm
	for format := range strings.SplitSeq(c.formats, ",") {
		format = strings.TrimSpace(format)
		forms = append(forms, rowForm{format: format, wide: c.wide || format == formatCSV})
	}
	return forms
}

// backfillRound is one round of one format.
type backfillRound struct {
	Bare    commandRun         `json:"bare_loop"`
	Python  *commandRun        `json:"python_loop,omitempty"`
	Sheaf   commandRun         `json:"sheaf_backfill"`
	Share   float64            `json:"share"` // of the bare loop
	Beside  float64            `json:"share_of_python_loop,omitempty"`
	CPU     map[string]float64 `json:"cpu_s"`    // of the servers and the worker, while `sheaf backfill` ran
	Others  float64            `json:"others"`   // CPUs that everything else kept busy meanwhile; -1 where the system does not tell
	Ran     int64              `json:"rows_run"` // by the worker
	Bad     int64              `json:"bad_rows,omitempty"`
	Equal   *comparison        `json:"comparison"`
	Sampled int                `json:"sampled"` // rows of the bare loop that were compared with the model's own answers
}

// backfillForm is what the rounds of one format have shown.
type backfillForm struct {
	Format string          `json:"format"`
	Wide   bool            `json:"wide,omitempty"`
	Size   int64           `json:"file_bytes"`
	Rounds []backfillRound `json:"rounds"`
	Share  summary         `json:"share"`
	Beside *summary        `json:"share_of_python_loop,omitempty"`
}

// backfillReport is what the measurement has shown.
type backfillReport struct {
	verbReport

	Rows    int64           `json:"rows"`
	Ordered bool            `json:"ordered"`
	Bad     float64         `json:"bad_share"`
	Batch   int             `json:"bare_batch"`
	Forms   []*backfillForm `json:"formats"`
}

func runBackfill(ctx context.Context, c *backfillConfig, stderr io.Writer) (*backfillReport, error) {
	r := &backfillReport{Rows: c.rows, Ordered: c.ordered, Bad: c.bad, Batch: c.batch}
	err := inLab(ctx, &c.verbSettings, stderr, &r.verbReport, func(ctx context.Context, l *lab, say func(string, ...any)) error {
		p, err := openPredictor(ctx, r.library, l.modelsDir())
		if err != nil {
			return err
		}
		defer p.close()
		b := &backfillBench{backfillConfig: c, lab: l, predictor: p, library: r.library}
		for _, form := range c.forms() {
			r.Forms = append(r.Forms, &backfillForm{Format: form.format, Wide: form.wide})
		}
		for i := range c.rounds {
			for k, form := range c.forms() {
				one, size, err := b.round(ctx, i, form)
				if err != nil {
					return fmt.Errorf("round %d, %s: %w", i+1, form.format, err)
				}
				f := r.Forms[k]
				f.Size, f.Rounds = size, append(f.Rounds, one)
				pyloop := ""
				if one.Python != nil {
					pyloop = fmt.Sprintf(", Python loop %s (%.2f)", thousands(int(float64(c.rows)/one.Python.Seconds)), one.Beside)
				}
				say("round %d of %d, %s: sheaf backfill %s rows/s, bare loop %s (%.2f)%s, peak %d MB", i+1, c.rounds, form.format,
					thousands(int(float64(c.rows)/one.Sheaf.Seconds)), thousands(int(float64(c.rows)/one.Bare.Seconds)), one.Share, pyloop, one.Sheaf.Peak>>20)
			}
		}
		for _, f := range r.Forms {
			var shares, beside []float64
			for i := range f.Rounds {
				shares = append(shares, f.Rounds[i].Share)
				if f.Rounds[i].Python != nil {
					beside = append(beside, f.Rounds[i].Beside)
				}
			}
			f.Share = summarize(shares)
			if len(beside) > 0 {
				of := summarize(beside)
				f.Beside = &of
			}
		}
		return nil
	})
	return r, err
}

// backfillBench is a measurement in progress.
type backfillBench struct {
	*backfillConfig
	lab       *lab
	predictor *predictor
	library   string
}

// round makes a file, has each program work it off, in turns one or another first, and compares what they wrote. Each round has
// other rows, so that no answer of an earlier one can be taken for its own.
func (b *backfillBench) round(ctx context.Context, i int, form rowForm) (r backfillRound, size int64, err error) {
	dir, err := b.lab.subdir(fmt.Sprintf("round-%d-%s", i+1, form.format))
	if err != nil {
		return r, 0, err
	}
	if !b.keep {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	files := filesIn(dir, form)
	rows, err := newManyRows(b.heldOut(), b.seed+uint64(i), b.bad, form) //nolint:gosec // not negative
	if err != nil {
		return r, 0, err
	}
	if err := makeRows(ctx, files.input, form, rows, b.rows); err != nil {
		return r, 0, err
	}
	info, err := os.Stat(files.input)
	if err != nil {
		return r, 0, err
	}
	programs := []func() error{
		func() (err error) { r.Bare, err = b.bare(ctx, files); return err },
		func() error { return b.sheaf(ctx, files, &r) },
	}
	if b.python != "" && form.format == formatParquet && b.bad == 0 {
		programs = append(programs, func() (err error) { r.Python, err = b.pyloop(ctx, files); return err })
	}
	for k := range programs {
		if err := programs[(i+k)%len(programs)](); err != nil {
			return r, 0, err
		}
	}
	r.Share = r.Bare.Seconds / r.Sheaf.Seconds
	if r.Python != nil {
		r.Beside = r.Python.Seconds / r.Sheaf.Seconds
	}
	return r, info.Size(), b.compare(ctx, files, rows, &r)
}

// compare looks at every row of the output.
func (b *backfillBench) compare(ctx context.Context, files backfillFiles, rows *manyRows, r *backfillRound) error {
	want, err := readAnswers(files.bare, files.form, b.rows, true)
	if err != nil {
		return err
	}
	if r.Sampled, err = sampleAnswers(ctx, b.predictor, rows, want); err != nil {
		return err
	}
	if r.Python != nil {
		got, err := readAnswers(files.pyloop, files.form, b.rows, true)
		if err != nil {
			return err
		}
		if err := compareAnswers(got, want).failure(files.pyloop); err != nil {
			return err
		}
	}
	got, err := readAnswers(files.output, files.form, b.rows, b.ordered)
	if err != nil {
		return err
	}
	r.Equal = compareAnswers(got, want)
	if err := r.Equal.failure(files.output); err != nil {
		return err
	}
	ledger, err := files.ledger(b.bad > 0)
	if err != nil {
		return err
	}
	r.Bad = int64(len(ledger))
	if got.n+r.Bad != b.rows {
		return fmt.Errorf("%s: %d rows and %d bad ones make %d, expected %d", files.output, got.n, r.Bad, got.n+r.Bad, b.rows)
	}
	if r.Bad == 0 {
		return nil
	}
	return b.again(ctx, files, ledger)
}
