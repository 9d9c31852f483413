package table

import "github.com/sheafml/sheaf/job"

// Format is how rows stand in a file.
type Format uint8

// The formats.
const (
	JSONL Format = iota + 1
	CSV
	Parquet
	TSV // CSV with tabs between the fields
)

// Compression is what a whole file is wrapped in. Parquet has its own inside and takes none.
type Compression uint8

// The compressions.
const (
	Plain Compression = iota
	Gzip
	Zstd
)

// Columns that Sheaf adds to rows. Automatic mapping leaves out every column whose name begins with [Reserved], so a file
// of errors can be submitted again as it is.
const (
	Reserved    = "sheaf_"
	ColumnRow   = "sheaf_row"   // in results: the number of the row, from 1
	ColumnLine  = "sheaf_line"  // in errors: the line, from 1, or in Parquet the number of the row
	ColumnError = "sheaf_error" // in errors: why
	ColumnRaw   = "sheaf_raw"   // in errors: the text of a row that is not JSON
)

// Predicted is an output of the model as a column of the file.
type Predicted struct {
	Column   string // "prediction", or the output's name where several are wanted
	Output   int    // its place in Answer.Outputs
	Datatype job.Datatype
	Shape    []int64 // of one row; -1 where it may vary
}

// Spec says what rows a Sink writes. In JSON lines a prediction is nested as its shape says, in Parquet a list of its
// elements (a bare value if a row has one), in CSV a column for each element ("prediction_0" …; one column if a row
// has one element, JSON text if their number may vary).
type Spec struct {
	Format      Format
	Compression Compression
	// Delimiter stands between the fields of a CSV; 0 is a comma, or in TSV a tab.
	Delimiter byte
	// Columns are the source's.
	Columns []Column
	// Errors makes it a file of bad rows: every column of the source, ColumnLine and ColumnError. Else it has predictions.
	Errors bool
	// Join writes every column of the source before the predictions. Else a row has ColumnRow, and the column ID if that is
	// not -1. In JSON lines a joined row keeps every member, those that the first rows did not have too.
	Join bool
	ID   int
	// Predicted are the columns of predictions.
	Predicted []Predicted
}
