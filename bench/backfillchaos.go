package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"
)

// wantRecomputed is the share of rows that may be computed again because something was killed.
const wantRecomputed = 0.02

// backfillChaosConfig holds the flags of the backfill's chaos.
type backfillChaosConfig struct {
	verbSettings
	backfillSettings

	format     string
	kills      int // of the command
	workers    int
	workerKill int
	redisKill  int
	natsKill   int
	ackWait    time.Duration
}

func parseBackfillChaos(args []string, stderr io.Writer) (*backfillChaosConfig, error) {
	c := &backfillChaosConfig{verbSettings: newVerbSettings()}
	c.fsync = "always" // with everysec a kill may lose results that count as stored: that is documented
	fs := c.newFlags("backfill-chaos", stderr)
	fs.Int64Var(&c.rows, "rows", 1_000_000, "rows of the file")
	fs.StringVar(&c.format, "format", formatJSONL, "jsonl, csv or parquet")
	fs.BoolVar(&c.wide, "wide", false, "a column for each pixel in place of one of lists; CSV has that anyway")
	fs.BoolVar(&c.ordered, "ordered", false, "run sheaf backfill with --ordered, and look at the order")
	fs.Float64Var(&c.bad, "bad", 0.01, "share of bad rows: exactly those must be in the file of errors")
	fs.Uint64Var(&c.seed, "seed", 1, "of the rows and of the moments")
	fs.DurationVar(&c.patience, "patience", 30*time.Minute, "how long everything may take")
	fs.StringVar(&c.moreArgs, "backfill-args", "", "further flags of sheaf backfill, with spaces between")
	fs.IntVar(&c.kills, "kills", 10, "of the command, each with -9 and a start with the same command line")
	fs.IntVar(&c.workers, "workers", 2, "worker processes")
	fs.IntVar(&c.workerKill, "worker-kills", 4, "of workers, with -9")
	fs.IntVar(&c.redisKill, "redis-kills", 3, "of redis-server, with -9")
	fs.IntVar(&c.natsKill, "nats-kills", 0, "of nats-server, with -9")
	fs.DurationVar(&c.ackWait, "ack-wait", 0, "lease of the bulk lane: after it, what a dead worker had is given to another; 0: the default of a minute")
	worker := fs.String("worker-args", "", "further flags of sheaf worker, with spaces between")
	if err := c.parse(fs, args); err != nil {
		return nil, err
	}
	if c.quick {
		shorten(fs, map[string]func(){
			"rows": func() { c.rows = 100_000 }, "kills": func() { c.kills = 3 }, "worker-kills": func() { c.workerKill = 1 },
			"redis-kills": func() { c.redisKill = 1 }, "ack-wait": func() { c.ackWait = 5 * time.Second },
		})
	}
	c.workerArgs = strings.Fields(*worker)
	c.wide = c.wide || c.format == formatCSV
	return c, c.validate()
}

func (c *backfillChaosConfig) validate() error {
	errs := []error{c.labSettings.validate(), c.backfillSettings.validate(), c.form().validate()}
	for name, n := range map[string]int{"kills": c.kills, "worker-kills": c.workerKill, "redis-kills": c.redisKill, "nats-kills": c.natsKill} {
		if n < 0 || n > 1000 {
			errs = append(errs, fmt.Errorf("-%s is %d: expected 0 to 1000", name, n))
		}
	}
	if c.workers < 1 || c.workers > 16 || c.ackWait < 0 {
		errs = append(errs, fmt.Errorf("-workers is %d and -ack-wait %v: expected 1 to 16, and no negative time", c.workers, c.ackWait))
	}
	if c.ackWait > 0 {
		c.workerArgs = append(c.workerArgs, "--bulk-ack-wait", c.ackWait.String())
	}
	c.models = []string{c.digits()}
	return errors.Join(errs...)
}

func (c *backfillChaosConfig) form() rowForm { return rowForm{format: c.format, wide: c.wide} }

// backfillChaosReport is what the run has shown.
type backfillChaosReport struct {
	verbReport

	Seed    uint64 `json:"seed"`
	Rows    int64  `json:"rows"`
	Bad     int    `json:"bad_rows"`
	Format  string `json:"format"`
	Ordered bool   `json:"ordered"`

	Undisturbed commandRun  `json:"undisturbed"`
	Disturbed   float64     `json:"disturbed_s"`
	Wished      int         `json:"kills_wished"`
	Kills       []killed    `json:"kills"`
	Starts      int         `json:"starts"`          // of the command
	Turned      int         `json:"starts_in_vain"`  // because Redis or NATS was down
	Wanted      int64       `json:"rows_wanted"`     // to be computed
	Seen        int64       `json:"rows_seen"`       // by the workers' metrics, without what they ran between the last reading and their end
	Unseen      float64     `json:"unseen_s"`        // how long that was, in all
	Redelivered int64       `json:"redelivered"`     // jobs that nats-server gave to a worker again, run or not
	Recomputed  float64     `json:"recomputed"`      // share of the rows, by what was seen; negative if more was unseen
	AtMost      float64     `json:"recomputed_most"` // with what they can have run unseen, or all that was delivered again if that is less
	Equal       *comparison `json:"comparison"`
	Sampled     int         `json:"sampled"`
}

func runBackfillChaos(ctx context.Context, c *backfillChaosConfig, stderr io.Writer) (*backfillChaosReport, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.patience, fmt.Errorf("not done within %v (-patience)", c.patience))
	defer cancel()
	r := &backfillChaosReport{Wished: c.kills + c.workerKill + c.redisKill + c.natsKill, Seed: c.seed, Rows: c.rows, Format: c.format, Ordered: c.ordered}
	err := inLab(ctx, &c.verbSettings, stderr, &r.verbReport, func(ctx context.Context, l *lab, say func(string, ...any)) error {
		p, err := openPredictor(ctx, r.library, l.modelsDir())
		if err != nil {
			return err
		}
		defer p.close()
		b := &backfillChaos{backfillChaosConfig: c, lab: l, report: r, say: say}
		defer b.close()
		return b.run(ctx, p)
	})
	return r, err
}

// run makes the file, runs the command in peace and then among kills, and compares the outputs.
func (b *backfillChaos) run(ctx context.Context, p *predictor) (err error) {
	dir, err := b.lab.subdir("backfill")
	if err != nil {
		return err
	}
	if b.program, err = filepath.Abs(b.sheafBinary()); err != nil {
		return err
	}
	b.files = filesIn(dir, b.form())
	rows, err := newManyRows(b.heldOut(), b.seed, b.bad, b.form())
	if err != nil {
		return err
	}
	if err := makeRows(ctx, b.files.input, b.form(), rows, b.rows); err != nil {
		return err
	}
	if b.ledger, err = b.files.ledger(b.bad > 0); err != nil {
		return err
	}
	r := b.report
	r.Bad, r.Wanted = len(b.ledger), b.rows-int64(len(b.ledger))
	if err := b.startWorkers(ctx); err != nil {
		return err
	}
	calm := filepath.Join(dir, "undisturbed."+b.format)
	r.Undisturbed, err = runCommand(ctx, "undisturbed", dir, b.program, b.args(calm)...)
	if err != nil {
		return err
	}
	if err := r.Undisturbed.expect("sheaf backfill", b.status()); err != nil {
		return err
	}
	b.say("undisturbed: %s rows in %.1f s", thousands(int(b.rows)), r.Undisturbed.Seconds)
	if err := errors.Join(b.lab.drained(ctx), b.lab.empty(ctx)); err != nil {
		return err
	}
	if err := b.disturb(ctx); err != nil {
		return err
	}
	return b.compare(ctx, calm, p, rows)
}

// compare looks at every row of both outputs, and at the bad ones.
func (b *backfillChaos) compare(ctx context.Context, calm string, p *predictor, rows *manyRows) error {
	want, err := readAnswers(calm, b.form(), b.rows, b.ordered)
	if err != nil {
		return err
	}
	if b.report.Sampled, err = sampleAnswers(ctx, p, rows, want); err != nil {
		return err
	}
	got, err := readAnswers(b.files.output, b.form(), b.rows, b.ordered)
	if err != nil {
		return err
	}
	b.report.Equal = compareAnswers(got, want)
	if err := b.report.Equal.failure(b.files.output); err != nil {
		return err
	}
	if got.n != b.report.Wanted {
		return fmt.Errorf("%s has %d rows, expected %d", b.files.output, got.n, b.report.Wanted)
	}
	for _, output := range []string{calm, b.files.output} {
		if len(b.ledger) == 0 {
			continue
		}
		bad, err := readBad(errorsOf(output), b.form())
		if err != nil {
			return err
		}
		if err := sameBad(bad, b.ledger); err != nil {
			return fmt.Errorf("%s: %w", errorsOf(output), err)
		}
	}
	return nil
}

func (b *backfillChaos) args(output string) []string {
	return b.backfillArgs(b.lab, modelName, b.files.input, output, b.files.columns())
}

func (b *backfillChaos) status() int {
	if len(b.ledger) > 0 {
		return exitBadRows
	}
	return exitOK
}
