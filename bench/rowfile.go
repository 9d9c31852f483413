package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// Formats of files of rows.
const (
	formatJSONL   = "jsonl"
	formatCSV     = "csv"
	formatParquet = "parquet"
)

// rowForm is how rows stand in a file.
type rowForm struct {
	format string
	wide   bool // a column for each pixel, p00 to p63, in place of the one column pixels
}

func (f rowForm) validate() error {
	switch f.format {
	case formatCSV:
		if !f.wide {
			return errors.New("a CSV file has a column for each pixel: expected -columns wide")
		}
		return nil
	case formatJSONL, formatParquet:
		return nil
	default:
		return fmt.Errorf("-format is %q: expected jsonl, csv or parquet", f.format)
	}
}

// Columns of the files: the row's number as its ID, and its pixels.
const (
	columnID     = "id"
	columnPixels = "pixels"
)

// pixelColumn is the name of a pixel's column in a wide file.
func pixelColumn(i int) string { return fmt.Sprintf("p%02d", i) }

// rowWriter writes rows in one format.
type rowWriter interface {
	write(id int64, pixels *[rowWidth]uint8, bad fault) error
	// line is the line at which row n stands, from 1; its number, from 1, where lines mean nothing.
	line(n int64) int64
	finish() error
}

func newRowWriter(w io.Writer, form rowForm) rowWriter {
	switch form.format {
	case formatParquet:
		return newParquetRows(w, form.wide)
	case formatCSV:
		return newCSVRows(w)
	default:
		return &jsonRows{w: bufio.NewWriterSize(w, 1<<20), wide: form.wide}
	}
}

// ledgerEntry says of one row that it was made bad.
type ledgerEntry struct {
	Row   int64 `json:"row"` // from 1
	Line  int64 `json:"line"`
	Fault fault `json:"fault"`
}

// ledgerOf is the file that lists the bad rows of another.
func ledgerOf(file string) string { return file + ".ledger" }

// makeRows writes a file of n rows, and beside it the ledger of its bad ones, if there are to be any. Its memory does not
// depend on n.
func makeRows(ctx context.Context, file string, form rowForm, rows *manyRows, n int64) (err error) {
	f, err := os.Create(file) //nolint:gosec // the user names the file
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := newRowWriter(f, form)
	ledger := func(ledgerEntry) error { return nil }
	if rows.bad > 0 {
		l, err := os.Create(ledgerOf(file))
		if err != nil {
			return err
		}
		buffered := bufio.NewWriter(l)
		defer func() { err = errors.Join(err, buffered.Flush(), l.Close()) }()
		encoder := json.NewEncoder(buffered)
		ledger = func(e ledgerEntry) error { return encoder.Encode(e) }
	}
	var pixels [rowWidth]uint8
	for i := range n {
		bad := rows.row(i, &pixels)
		if err := w.write(i, &pixels, bad); err != nil {
			return fmt.Errorf("%s: row %d: %w", file, i+1, err)
		}
		if bad != "" {
			if err := ledger(ledgerEntry{Row: i + 1, Line: w.line(i), Fault: bad}); err != nil {
				return err
			}
		}
		if i%10_000 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	return w.finish()
}

// readLedger returns the bad rows of a file, in their order.
func readLedger(file string) (list []ledgerEntry, err error) {
	f, err := os.Open(ledgerOf(file)) //nolint:gosec // a file of this run
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	for d := json.NewDecoder(bufio.NewReader(f)); ; {
		var e ledgerEntry
		switch err := d.Decode(&e); {
		case errors.Is(err, io.EOF):
			return list, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", ledgerOf(file), err)
		}
		list = append(list, e)
	}
}

// jsonRows writes JSON lines.
type jsonRows struct {
	w    *bufio.Writer
	wide bool
	buf  []byte
}

func (j *jsonRows) line(n int64) int64 { return n + 1 }

func (j *jsonRows) finish() error { return j.w.Flush() }

func (j *jsonRows) write(id int64, pixels *[rowWidth]uint8, bad fault) error {
	b := append(j.buf[:0], `{"id":`...)
	b = strconv.AppendInt(b, id, 10)
	b = append(b, ',')
	if j.wide {
		b = appendMembers(b, pixels, bad)
	} else {
		b = append(b, `"pixels":`...)
		b = appendPixels(b, pixels, bad)
	}
	b = append(b, '}')
	if bad == faultNotJSON {
		b = b[:len(b)-len(b)/3]
	}
	j.buf = append(b, '\n')
	_, err := j.w.Write(j.buf)
	return err
}

// spoilt is the pixel that is wrong in a bad row.
const spoilt = 20

func appendMembers(b []byte, pixels *[rowWidth]uint8, bad fault) []byte {
	for i, v := range pixels {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(append(b, pixelColumn(i)...), '"', ':')
		b = appendValue(b, v, i, bad)
	}
	return b
}

func appendPixels(b []byte, pixels *[rowWidth]uint8, bad fault) []byte {
	if bad == faultNull {
		return append(b, "null"...)
	}
	n := rowWidth
	if bad == faultShort {
		n--
	}
	b = append(b, '[')
	for i, v := range pixels[:n] {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendValue(b, v, i, bad)
	}
	if bad == faultLong {
		b = append(b, ",1"...)
	}
	return append(b, ']')
}

func appendValue(b []byte, v uint8, i int, bad fault) []byte {
	if i == spoilt && bad == faultText {
		return append(b, `"ink"`...)
	}
	if i == spoilt && bad == faultHole {
		return append(b, "null"...)
	}
	return strconv.AppendUint(b, uint64(v), 10)
}
