package table

import (
	"errors"
	"fmt"
)

// Options says how a table is read. The zero value reads a usual one from its start.
type Options struct {
	// At is where to go on; the zero Place is the start. The columns are those of the table's start all the same.
	At Place
	// NoHeader says that a CSV's first row is data. Its columns are c0, c1 and so on.
	NoHeader bool
	// Delimiter stands between the fields of a CSV; 0 is a comma, or in TSV a tab.
	Delimiter byte
	// MaxLine bounds a row of JSON lines or CSV in bytes; 0 is [DefaultMaxLine]. A longer row is a bad one.
	MaxLine int
}

// DefaultMaxLine is the limit of a row's text in bytes.
const DefaultMaxLine = 32 << 20

// Open reads a table.
func Open(in Input, f Format, c Compression, o Options) (Source, error) {
	if o.MaxLine <= 0 {
		o.MaxLine = DefaultMaxLine
	}
	switch f {
	case JSONL:
		return openJSONL(in, c, o)
	case CSV, TSV:
		delimiter, err := delimiterOf(f, o.Delimiter)
		if err != nil {
			return nil, err
		}
		o.Delimiter = delimiter
		return openCSV(in, c, o)
	case Parquet:
		if c != Plain {
			return nil, errors.New("a Parquet file is compressed inside, it is not read inside " + c.String())
		}
		return openParquetAt(in, o.At)
	}
	return nil, fmt.Errorf("%s is no format to read", f)
}

// delimiterOf returns what stands between fields.
func delimiterOf(f Format, wanted byte) (byte, error) {
	switch {
	case wanted == 0 && f == TSV:
		return '\t', nil
	case wanted == 0:
		return ',', nil
	case wanted == '"' || wanted == '\n' || wanted == '\r' || wanted >= 0x80:
		return 0, fmt.Errorf("the delimiter %q is not possible: take one such as ',', ';', '|' or a tab", wanted)
	}
	return wanted, nil
}

// openParquetAt opens a Parquet file and goes to a row.
func openParquetAt(in Input, at Place) (Source, error) {
	source, err := openParquet(in)
	if err != nil || at.Row == 0 {
		return source, err
	}
	if s, ok := source.(interface{ skipTo(row int64) error }); ok {
		err = s.skipTo(at.Row)
	} else {
		err = skipRows(source, at.Row)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("go on at row %d: %w", at.Row+1, err), source.Close())
	}
	return source, nil
}

// skipRows reads rows that nobody wants.
func skipRows(s Source, rows int64) error {
	for rows > 0 {
		b, err := s.Read(int(min(rows, 1024)))
		if err != nil {
			return err
		}
		rows -= int64(b.Rows())
	}
	return nil
}

// NewSink writes a table. Without a mark the file is made anew; with one the Sink goes on there, and drops what the file
// has after it.
func NewSink(f File, spec Spec, mark *Mark) (Sink, error) {
	switch spec.Format {
	case JSONL:
		return newJSONLSink(f, spec, mark)
	case CSV, TSV:
		delimiter, err := delimiterOf(spec.Format, spec.Delimiter)
		if err != nil {
			return nil, err
		}
		spec.Delimiter = delimiter
		return newCSVSink(f, spec, mark)
	case Parquet:
		if spec.Compression != Plain {
			return nil, errors.New("a Parquet file is compressed inside, it is not written inside " + spec.Compression.String())
		}
		return newParquetSink(f, spec, mark)
	}
	return nil, fmt.Errorf("%s is no format to write", spec.Format)
}
