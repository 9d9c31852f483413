package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// parseBackfillLanes reads the flags of the lanes' measurement with `sheaf backfill` as the backfill.
func parseBackfillLanes(args []string, stderr io.Writer) (*lanesConfig, error) {
	c := &lanesConfig{verbSettings: newVerbSettings(), command: &backfillSettings{seed: 1, patience: time.Hour}}
	fs := c.newFlags("backfill-lanes", stderr)
	c.modelSettings.flags(fs, &c.labSettings, "encoder")
	fs.IntVar(&c.rounds, "rounds", 5, "rounds of the three phases: interactive alone, backfill alone, both")
	fs.DurationVar(&c.phase, "phase", 40*time.Second, "length of a phase")
	fs.DurationVar(&c.lead, "lead", 5*time.Second, "how long the backfill goes on before a phase is measured")
	fs.Float64Var(&c.rate, "rate", 0, "interactive jobs/s; 0: the share -load of the rows/s of the backfill alone, at most 500")
	fs.Float64Var(&c.load, "load", 0.1, "see -rate")
	fs.Int64Var(&c.command.rows, "backfill-rows", 1_000_000, "rows of the backfill's file; a run must not come to its end")
	fs.StringVar(&c.command.moreArgs, "backfill-args", "", "further flags of sheaf backfill, with spaces between")
	if err := c.parse(fs, args); err != nil {
		return nil, err
	}
	if c.quick {
		shorten(fs, map[string]func(){
			"rounds": func() { c.rounds = 1 }, "phase": func() { c.phase = 5 * time.Second }, "lead": func() { c.lead = 2 * time.Second },
			"backfill-rows": func() { c.command.rows = 200_000 },
		})
	}
	return c, errors.Join(c.validate(), c.command.validate())
}

// prepare makes the file of the backfill.
func (m *lanesBench) prepare(ctx context.Context) error {
	if m.command == nil {
		return nil
	}
	if n := len(m.load.samples[0].inputs[0].Data) / 4; n != rowWidth || m.rows != 1 {
		return fmt.Errorf("model %s with -rows %d takes %d values a job: `sheaf backfill` is measured with %d", m.model, m.rows, n, rowWidth)
	}
	dir, err := m.lab.subdir("backfill")
	if err != nil {
		return err
	}
	form := rowForm{format: formatJSONL}
	rows, err := newManyRows(m.heldOut(), m.command.seed, 0, form)
	if err != nil {
		return err
	}
	return makeRows(ctx, filepath.Join(dir, "rows.jsonl"), form, rows, m.command.rows)
}

// startBackfill starts the command. Each run has an output of its own, and so jobs of its own.
func (m *lanesBench) startBackfill() (*process, error) {
	program, err := filepath.Abs(m.sheafBinary())
	if err != nil {
		return nil, err
	}
	dir, err := m.lab.subdir("backfill")
	if err != nil {
		return nil, err
	}
	m.runs++
	output := filepath.Join(dir, fmt.Sprintf("out-%d.jsonl", m.runs))
	p, err := startProcess("backfill", dir, program, m.command.backfillArgs(m.lab, m.model, filepath.Join(dir, "rows.jsonl"), output, columnPixels)...)
	if err != nil {
		return nil, err
	}
	m.lab.watch(p)
	return p, nil
}

// finished counts the results: of jobs, in Redis; or with the command, which takes its results away, of rows.
func (m *lanesBench) finished(ctx context.Context) (int64, error) {
	if m.command != nil {
		return m.lab.rowsRun(ctx)
	}
	db := m.lab.database(dbSheaf)
	defer db.Close() //nolint:errcheck // only read
	n, err := db.DBSize(ctx).Result()
	if err != nil {
		return 0, fmt.Errorf("count the results in Redis: %w", err)
	}
	return n, nil
}

// endPatience bounds the end of the command and what workers still have of it.
const endPatience = 2 * time.Minute

// endBackfill interrupts the command, throws away what it had submitted, and waits until the worker has nothing left.
func (m *lanesBench) endBackfill(ctx context.Context, p *process) error {
	p.expected.Store(true)
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.done:
	case <-time.After(endPatience):
		return p.failure(fmt.Sprintf("did not end within %v of its SIGINT", endPatience))
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if status := p.cmd.ProcessState.ExitCode(); status != exitInterrupted {
		return p.failure(fmt.Sprintf("ended with status %d after SIGINT, expected %d", status, exitInterrupted))
	}
	if err := m.lab.purge(ctx, job.Bulk); err != nil {
		return err
	}
	err := poll(ctx, 100*time.Millisecond, endPatience, func() (bool, error) {
		page, err := m.lab.ops(ctx, "/metrics")
		return err == nil && sumOf(page, "sheaf_worker_buffered_rows") == 0 && sumOf(page, "sheaf_worker_in_flight_rows") == 0, err
	})
	if err != nil {
		return fmt.Errorf("wait for what the worker has of a backfill that was stopped: %w", err)
	}
	return nil
}

// sumOf adds up the series of a metric, 0 if there is none.
func sumOf(page, name string) (sum float64) {
	for line := range strings.Lines(page) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		sum += gauge("x "+rest[strings.LastIndexByte(rest, ' ')+1:], "x")
	}
	return sum
}

// purge empties a lane.
func (l *lab) purge(ctx context.Context, lane job.Lane) error {
	connection, err := nats.Connect(l.natsURL())
	if err != nil {
		return fmt.Errorf("empty the lane %s: %w", lane, err)
	}
	defer connection.Close()
	js, err := jetstream.New(connection)
	if err != nil {
		return err
	}
	stream, err := js.Stream(ctx, lane.String())
	if err != nil {
		return fmt.Errorf("empty the lane %s: %w", lane, err)
	}
	return stream.Purge(ctx)
}
