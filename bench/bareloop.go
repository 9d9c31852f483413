package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/model/onnx"
)

// bareLoopVerb is the hidden first argument that makes this binary the bare loop of a round.
const bareLoopVerb = "bare-loop"

// bareLoop is what one would write without Sheaf: read the file, run the model on every core, write the file. It has the
// readers and writers of Sheaf's backfill, and the same code around ONNX Runtime; and no queue, no store and no worker, and
// nothing to go on from if it is killed.
type bareLoop struct {
	library, models, model string
	input, output          string
	batch, instances       int
	id                     string
	columns                string // of the one input, with commas; empty: guessed
}

func serveBareLoop(ctx context.Context, args []string, stderr io.Writer) error {
	fs := flag.NewFlagSet(bareLoopVerb, flag.ContinueOnError)
	fs.SetOutput(stderr)
	var b bareLoop
	fs.StringVar(&b.library, "library", "", "ONNX Runtime")
	fs.StringVar(&b.models, "models", "", "directory")
	fs.StringVar(&b.model, "model", modelName, "name")
	fs.StringVar(&b.input, "in", "", "file")
	fs.StringVar(&b.output, "out", "", "file")
	fs.IntVar(&b.batch, "batch", bareBatch, "rows of a run")
	fs.IntVar(&b.instances, "instances", runtime.GOMAXPROCS(0), "goroutines that run the model")
	fs.StringVar(&b.id, "id-column", columnID, "name")
	fs.StringVar(&b.columns, "input", "", "columns of the model's input, with commas")
	if err := fs.Parse(args); err != nil {
		return err
	}
	return b.run(ctx)
}

// bareBatch is how many rows a run of the bare loop has: the fastest of 64 to 2048.
const bareBatch = 256

// bareFile is a file of this machine as a table's input.
type bareFile struct {
	*os.File
	size int64
}

func (f *bareFile) Size() int64           { return f.size }
func (f *bareFile) ReaderAt() io.ReaderAt { return f.File }
func (f *bareFile) From(offset int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(f.File, offset, f.size-offset)), nil
}

// unsynced is a file that is written and not synced: who writes a loop by hand does not wait for the disk.
type unsynced struct{ *os.File }

func (unsynced) Sync() error { return nil }

// barePiece is a block on its way: its rows, and then what is to be written of them.
type barePiece struct {
	block table.Block
	done  chan table.Piece
}

func (b *bareLoop) run(ctx context.Context) (err error) {
	rt, m, err := b.load(ctx)
	if err != nil {
		return err
	}
	defer rt.Close() //nolint:errcheck // the process ends
	source, plan, format, err := b.open(m)
	if err != nil {
		return err
	}
	defer source.Close() //nolint:errcheck // only read
	out, err := os.OpenFile(b.output, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	sink, err := table.NewSink(unsynced{out}, b.spec(source, plan, format, m), nil)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	// A piece is in both: whoever is free computes it, and it is written in its turn.
	work, turns := make(chan *barePiece, 2*b.instances), make(chan *barePiece, 8*b.instances)
	group.Go(func() error {
		defer close(work)
		defer close(turns)
		for {
			block, err := source.Read(b.batch)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			p := &barePiece{block: block, done: make(chan table.Piece, 1)}
			for _, to := range []chan *barePiece{turns, work} {
				select {
				case to <- p:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
	})
	for range b.instances {
		instance, err := m.NewInstance()
		if err != nil {
			return err
		}
		group.Go(func() error { return b.compute(ctx, m, instance, plan, sink, work) })
	}
	group.Go(func() error {
		for p := range turns {
			select {
			case piece := <-p.done:
				if piece == nil {
					continue // it had bad rows only
				}
				if err := sink.Append(piece); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return sink.Finish()
	})
	return group.Wait()
}

// load loads the model as a worker does.
func (b *bareLoop) load(ctx context.Context) (*onnx.Runtime, *onnx.Model, error) {
	versions, err := model.Scan(b.models)
	if err != nil {
		return nil, nil, err
	}
	for _, v := range model.Latest(versions) {
		if v.Name != b.model {
			continue
		}
		rt, err := onnx.Open(onnx.Config{Library: b.library})
		if err != nil {
			return nil, nil, err
		}
		m, err := rt.Load(ctx, v)
		if err != nil {
			return nil, nil, errors.Join(err, rt.Close())
		}
		return rt, m, nil
	}
	return nil, nil, fmt.Errorf("there is no model %s in %s", b.model, filepath.Clean(b.models))
}

func (b *bareLoop) open(m *onnx.Model) (table.Source, *table.Plan, table.Format, error) {
	format, compression, err := table.FormatOf(b.input)
	if err != nil {
		return nil, nil, 0, err
	}
	f, err := os.Open(b.input)
	if err != nil {
		return nil, nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, nil, 0, errors.Join(err, f.Close())
	}
	source, err := table.Open(&bareFile{File: f, size: info.Size()}, format, compression, table.Options{})
	if err != nil {
		return nil, nil, 0, errors.Join(err, f.Close())
	}
	want, signature := table.Want{ID: b.id}, m.Info()
	if b.columns != "" {
		want.Inputs = map[string][]string{signature.Signature.Inputs[0].Name: strings.Split(b.columns, ",")}
	}
	plan, err := table.NewPlan(source.Columns(), &signature, want)
	if err != nil {
		return nil, nil, 0, errors.Join(err, source.Close())
	}
	plan.Limits = job.DefaultLimits()
	return source, plan, format, nil
}

// spec says that the output has what that of `sheaf backfill` has.
func (b *bareLoop) spec(source table.Source, plan *table.Plan, format table.Format, m *onnx.Model) table.Spec {
	info := m.Info()
	output := &info.Signature.Outputs[info.PredictionIndex()]
	return table.Spec{Format: format, Columns: source.Columns(), ID: plan.ID, Predicted: []table.Predicted{
		{Column: columnPrediction, Datatype: output.Datatype, Shape: output.Shape[1:]},
	}}
}

// compute runs the model on what work gives it, until that is closed.
func (b *bareLoop) compute(ctx context.Context, m *onnx.Model, instance *onnx.Instance, plan *table.Plan, sink table.Sink, work <-chan *barePiece) error {
	info := m.Info()
	wanted := []int{info.PredictionIndex()}
	for p := range work {
		decoded := p.block.Decode(plan)
		if len(decoded.Groups) == 0 {
			p.done <- nil
			continue
		}
		if len(decoded.Groups) > 1 {
			return errors.New("rows have different shapes: the bare loop takes only rows of one")
		}
		group := &decoded.Groups[0]
		batch := &model.Batch{Rows: len(group.Rows), Outputs: wanted}
		for i := range group.Inputs {
			batch.Inputs = append(batch.Inputs, model.BatchInput{Shape: group.Inputs[i].Shape, Parts: [][]byte{group.Inputs[i].Data}})
		}
		// The outputs belong to the instance and last until its next run: they are encoded before it.
		outputs, err := instance.Run(ctx, batch)
		if err != nil {
			return err
		}
		rows := make([]table.Answer, len(group.Rows))
		for at, row := range group.Rows {
			rows[at] = table.Answer{Row: row, Outputs: outputs, At: at}
		}
		piece, err := sink.Encode(p.block, rows)
		if err != nil {
			return err
		}
		p.done <- piece
	}
	return nil
}
