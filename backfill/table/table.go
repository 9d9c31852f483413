// Package table reads and writes rows in files: JSON lines, CSV and Parquet, plain or compressed. It knows which columns
// of a row a model takes, and what a row with its prediction looks like; it knows nothing of jobs in flight.
//
//	src, err := table.Open(file, format, compression, opts)
//	plan, err := table.NewPlan(src.Columns(), &info, want)
//	block, err := src.Read(256)
//	decoded := block.Decode(plan)                   tensors of the good rows, reasons of the bad ones
//	piece, err := sink.Encode(block, answers)       on any goroutine
//	err = sink.Append(piece)                        on one
//	mark, err := sink.Commit()                      what was appended is on disk, and can be continued from the mark
package table

import (
	"io"

	"github.com/sheafml/sheaf/job"
)

// Kind is what the cells of a column are.
type Kind uint8

// The kinds of columns. Those of JSON lines and CSV are guessed from the first rows.
const (
	Unknown Kind = iota
	Integer
	Number
	Bool
	Text
	List   // of numbers, booleans or texts, of any depth
	Object // anything else
)

// Column is a column of a table.
type Column struct {
	Name string
	Kind Kind
	// Length is how many elements each list has, in all its depth, where the rows that were looked at agree; else -1.
	Length int

	source any // what the format says of it: the node of a Parquet schema
}

// Place is where a row begins in its file.
type Place struct {
	Row    int64 `json:"row"`    // rows before it
	Line   int64 `json:"line"`   // its line, from 1; 0 in formats without lines
	Offset int64 `json:"offset"` // bytes before it, decompressed; 0 in formats that find rows by number
}

// Source is a table that is read from one end to the other, by one goroutine.
type Source interface {
	// Columns are those of the header, of the schema, or in JSON lines of the first rows. A row that is a bare JSON array has
	// the one column "input".
	Columns() []Column
	// Read returns the next rows, n of them unless the table ends before; io.EOF when none are left. A row that cannot be
	// read is one of them, and bad when it is decoded; an error is one of the file.
	Read(n int) (Block, error)
	// Rows is how many rows the table has; -1 if only its end tells.
	Rows() int64
	// Consumed is how many bytes of the file have been read, compressed as they are, and how many it has; -1 if not known.
	Consumed() (read, size int64)
	Close() error
}

// Block is consecutive rows of a Source. It stays valid when more is read, and may be used on another goroutine.
type Block interface {
	Place() Place // of its first row
	Next() Place  // of the row after its last
	Rows() int
	// Line is the line of a row, or where lines mean nothing its number, from 1.
	Line(row int) int64
	// Decode makes tensors of the rows. Every row is in one group, or bad.
	Decode(p *Plan) Decoded
	// AppendCell appends a cell as JSON; null where the row has none.
	AppendCell(dst []byte, row, column int) []byte
}

// Decoded is what a model is asked of the rows of a block.
type Decoded struct {
	// Groups have the same shapes in all their rows; one group unless shapes vary.
	Groups []Group
	Bad    []Bad
}

// Group is rows that can be asked in one job.
type Group struct {
	Inputs []job.Tensor // in the order of the plan; the first dimension is len(Rows), if the plan is Batchable
	Rows   []int        // places in the block, ascending
}

// Bad is a row that the model cannot be asked, and why.
type Bad struct {
	Row int
	Err *job.Error // Field is the column, where one is to blame
}

// Answer is what became of a row.
type Answer struct {
	Row int // place in the block
	// Outputs are those of the row's job, and At is the row in them.
	Outputs []job.Tensor
	At      int
	Err     *job.Error // in a file of errors
}

// Piece is encoded rows, as the Sink that encoded them takes them.
type Piece any

// Sink writes a table that can be continued after a crash.
type Sink interface {
	// Encode makes a piece of answers, which are sorted by row. It may be called on many goroutines.
	Encode(b Block, answers []Answer) (Piece, error)
	// Append adds a piece.
	Append(p Piece) error
	// Commit has all that was appended written, synced, and complete by itself. A Sink that is opened with the mark later
	// drops what came after it.
	Commit() (Mark, error)
	// Finish ends the table: after it the file is whole, even without a row.
	Finish() error
}

// Mark is how far a Sink has come.
type Mark struct {
	Offset int64 `json:"offset"` // bytes of the file that count
	Rows   int64 `json:"rows"`
	// Segments are where the parts of a Parquet file end.
	Segments []int64 `json:"segments,omitempty"`
}

// File is what a Sink writes to; an *os.File is one.
type File interface {
	io.ReaderAt
	io.Writer
	io.Seeker
	Truncate(size int64) error
	Sync() error
}

// Input is what a Source reads from.
type Input interface {
	// Size is -1 where it is not known.
	Size() int64
	// From reads on from an offset. An input that cannot go back, such as a pipe, takes only 0, once.
	From(offset int64) (io.ReadCloser, error)
	// ReaderAt is nil for an input that is only to be read from its start.
	ReaderAt() io.ReaderAt
}
