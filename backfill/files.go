package backfill

import (
	"context"
	"fmt"
	"sync"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/job"
)

// Files is the Task of a backfill from a table into a table, with a second one of the rows that are bad.
type Files struct {
	// Source stands at Checkpoint.Next.
	Source table.Source
	Plan   *table.Plan
	// Results takes the rows with their predictions. Errors opens the file of bad rows when there is one to write.
	Results table.Sink
	Errors  func() (table.Sink, error)
	// Checkpoint is how far earlier runs came. It is brought up to date with each commit, and handed to Save.
	Checkpoint *Checkpoint
	Save       func(*Checkpoint) error

	// reading guards done, which Next reads and Write changes.
	reading sync.Mutex
	done    *done
	faults  table.Sink // nil: none yet
}

// begin makes ready what New cannot.
func (f *Files) begin() *done {
	if f.done == nil {
		f.done = newDone(f.Checkpoint)
	}
	return f.done
}

// Next implements Task.
func (f *Files) Next(ctx context.Context) (Part, error) {
	rows := f.Checkpoint.RowsPerJob
	for ctx.Err() == nil {
		block, err := f.Source.Read(rows)
		if err != nil {
			return Part{}, err // io.EOF too
		}
		part := Part{
			Index: block.Place().Row / int64(rows), Units: block.Rows(), Value: block,
			Bytes: block.Rows() * (rowOverhead + 2*RowBytes(f.Plan)),
		}
		f.reading.Lock()
		known := f.begin().has(part.Index)
		f.reading.Unlock()
		if !known {
			return part, nil
		}
	}
	return Part{}, ctx.Err()
}

// Decode implements Task.
func (f *Files) Decode(p Part) (groups []Group, refused []Answer) {
	decoded := p.Value.(table.Block).Decode(f.Plan) //nolint:forcetypeassert // Next made it
	for _, g := range decoded.Groups {
		group := Group{Inputs: g.Inputs, Units: make([]Unit, len(g.Rows))}
		for i, row := range g.Rows {
			group.Units[i] = Unit{Index: row, Rows: 1}
		}
		groups = append(groups, group)
	}
	for _, bad := range decoded.Bad {
		refused = append(refused, Answer{Unit: bad.Row, Rows: 1, Err: bad.Err})
	}
	return groups, refused
}

// pieces are what Encode made of a part. Bad rows are encoded when they are written: they are few, and their file may not
// be there yet.
type pieces struct {
	good  table.Piece
	goods int
	bad   []table.Answer
}

// Encode implements Task.
func (f *Files) Encode(p Part, answers []Answer) (any, error) {
	block := p.Value.(table.Block) //nolint:forcetypeassert // Next made it
	e := &pieces{}
	good := make([]table.Answer, 0, len(answers))
	for i := range answers {
		a := &answers[i]
		row := table.Answer{Row: a.Unit, Outputs: a.Outputs, At: a.At, Err: a.Err}
		if a.Err != nil {
			e.bad = append(e.bad, row)
		} else {
			good = append(good, row)
		}
	}
	if e.goods = len(good); e.goods == 0 {
		return e, nil
	}
	var err error
	e.good, err = f.Results.Encode(block, good)
	return e, err
}

// Write implements Task.
func (f *Files) Write(_ context.Context, p Part, encoded any) error {
	e, block := encoded.(*pieces), p.Value.(table.Block) //nolint:forcetypeassert // Encode and Next made them
	if e.goods > 0 {
		if err := f.Results.Append(e.good); err != nil {
			return err
		}
	}
	if len(e.bad) > 0 {
		if err := f.writeBad(block, e.bad); err != nil {
			return err
		}
	}
	f.reading.Lock()
	f.begin().add(p.Index, block.Next())
	f.reading.Unlock()
	f.Checkpoint.Rows += int64(p.Units)
	f.Checkpoint.Failed += int64(len(e.bad))
	return nil
}

func (f *Files) writeBad(block table.Block, bad []table.Answer) error {
	if f.faults == nil {
		var err error
		if f.faults, err = f.Errors(); err != nil {
			return err
		}
	}
	piece, err := f.faults.Encode(block, bad)
	if err != nil {
		return err
	}
	return f.faults.Append(piece)
}

// Commit implements Task: the rows are on disk before the checkpoint says so.
func (f *Files) Commit(context.Context) error {
	mark, err := f.Results.Commit()
	if err != nil {
		return err
	}
	f.Checkpoint.Results = mark
	if f.faults != nil {
		mark, err := f.faults.Commit()
		if err != nil {
			return err
		}
		f.Checkpoint.Errors = &mark
	}
	f.reading.Lock()
	f.begin().save(f.Checkpoint)
	f.reading.Unlock()
	return f.Save(f.Checkpoint)
}

// Finish ends the tables, after Run. The file of bad rows has been opened, by this run or by one before, if Bad says so.
func (f *Files) Finish() error {
	if err := f.Results.Finish(); err != nil {
		return fmt.Errorf("end the output: %w", err)
	}
	if f.faults == nil && f.Checkpoint.Errors != nil {
		var err error
		if f.faults, err = f.Errors(); err != nil {
			return err
		}
	}
	if f.faults != nil {
		if err := f.faults.Finish(); err != nil {
			return fmt.Errorf("end the file of bad rows: %w", err)
		}
	}
	return nil
}

// Bad reports whether there is a file of bad rows.
func (f *Files) Bad() bool { return f.faults != nil }

const (
	// jobBytes is about how many bytes of input a job has, if nobody says how many rows: JetStream's cost is by the
	// message, and one that is larger is not cheaper by the row.
	jobBytes = 256 << 10
	// mostRows bounds the rows of such a job.
	mostRows = 1024
	// rowOverhead is what a row takes in memory besides its data, about.
	rowOverhead = 256
	// guessedDim stands for a dimension that varies.
	guessedDim = 64
	// guessedText is about how long an element of BYTES is.
	guessedText = 256
)

// RowBytes is about how many bytes a row of a plan has as tensors.
func RowBytes(p *table.Plan) int {
	total := 0
	for i := range p.Inputs {
		size := p.Inputs[i].Datatype.Size()
		if p.Inputs[i].Datatype == job.Bytes {
			size = guessedText
		}
		for _, dim := range p.Inputs[i].Shape {
			if dim < 0 {
				dim = guessedDim
			}
			size *= int(dim)
		}
		total += size
	}
	return max(1, total)
}

// RowsPerJob is how many rows a job has if nobody says it.
func RowsPerJob(p *table.Plan) int {
	return min(max(1, jobBytes/RowBytes(p)), mostRows)
}

// FlightFor is how many jobs are in flight if nobody says it: enough that small jobs do not leave the workers idle.
func FlightFor(rowsPerJob int) int {
	const rows, least, most = 8192, 16, 256
	return min(max(rows/max(1, rowsPerJob), least), most)
}
