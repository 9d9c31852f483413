package main

import (
	"bufio"
	"io"
	"strconv"

	"github.com/parquet-go/parquet-go"
)

// csvRows writes comma-separated values.
type csvRows struct {
	w      *bufio.Writer
	buf    []byte
	headed bool
}

func newCSVRows(w io.Writer) *csvRows { return &csvRows{w: bufio.NewWriterSize(w, 1<<20)} }

// line counts the header.
func (c *csvRows) line(n int64) int64 { return n + 2 }

func (c *csvRows) finish() error {
	c.head()
	return c.w.Flush()
}

func (c *csvRows) head() {
	if c.headed {
		return
	}
	c.headed = true
	_, _ = c.w.WriteString(columnID)
	for i := range rowWidth {
		_, _ = c.w.WriteString("," + pixelColumn(i))
	}
	_ = c.w.WriteByte('\n') // an error of a bufio.Writer comes again at the next write
}

func (c *csvRows) write(id int64, pixels *[rowWidth]uint8, bad fault) error {
	c.head()
	b := strconv.AppendInt(c.buf[:0], id, 10)
	n := rowWidth
	if bad == faultShort {
		n--
	}
	for i, v := range pixels[:n] {
		b = append(b, ',')
		switch {
		case i == spoilt && bad == faultText:
			b = append(b, "ink"...)
		case i == spoilt && bad == faultHole:
		default:
			b = strconv.AppendUint(b, uint64(v), 10)
		}
	}
	if bad == faultLong {
		b = append(b, ",1"...)
	}
	c.buf = append(b, '\n')
	_, err := c.w.Write(c.buf)
	return err
}

// parquetRowGroup is how many rows a row group has: what DuckDB writes.
const parquetRowGroup = 122_880

// parquetRows writes Parquet as pandas does: every value may be null, dictionaries, Snappy.
type parquetRows struct {
	w     *parquet.GenericWriter[any]
	wide  bool
	rows  []parquet.Row
	n     int
	since int // rows in the row group
}

func newParquetRows(w io.Writer, wide bool) *parquetRows {
	value := parquet.Encoded(parquet.Optional(parquet.Leaf(parquet.FloatType)), &parquet.RLEDictionary)
	columns := parquet.Group{columnID: parquet.Optional(parquet.Leaf(parquet.Int64Type))}
	if wide {
		for i := range rowWidth {
			columns[pixelColumn(i)] = value
		}
	} else {
		columns[columnPixels] = parquet.Optional(parquet.List(value))
	}
	return &parquetRows{
		w:    parquet.NewGenericWriter[any](w, parquet.NewSchema("rows", columns), parquet.Compression(&parquet.Snappy)),
		wide: wide, rows: make([]parquet.Row, 256),
	}
}

func (p *parquetRows) line(n int64) int64 { return n + 1 }

func (p *parquetRows) finish() error {
	if err := p.flush(); err != nil {
		return err
	}
	return p.w.Close()
}

func (p *parquetRows) flush() error {
	if _, err := p.w.WriteRows(p.rows[:p.n]); err != nil {
		return err
	}
	p.since += p.n
	p.n = 0
	if p.since < parquetRowGroup {
		return nil
	}
	p.since = 0
	return p.w.Flush()
}

func (p *parquetRows) write(id int64, pixels *[rowWidth]uint8, bad fault) error {
	row := append(p.rows[p.n][:0], parquet.Int64Value(id).Level(0, 1, 0))
	if p.wide {
		row = wideRow(row, pixels, bad)
	} else {
		row = listRow(row, pixels, bad)
	}
	p.rows[p.n] = row
	if p.n++; p.n < len(p.rows) {
		return nil
	}
	return p.flush()
}

func wideRow(row parquet.Row, pixels *[rowWidth]uint8, bad fault) parquet.Row {
	for i, v := range pixels {
		if i == spoilt && bad == faultHole {
			row = append(row, parquet.NullValue().Level(0, 0, 1+i))
			continue
		}
		row = append(row, parquet.FloatValue(float32(v)).Level(0, 1, 1+i))
	}
	return row
}

// The definition levels of a list that may be null, of elements that may be.
const (
	levelNullList    = 0
	levelNullElement = 2
	levelElement     = 3
)

func listRow(row parquet.Row, pixels *[rowWidth]uint8, bad fault) parquet.Row {
	if bad == faultNull {
		return append(row, parquet.NullValue().Level(0, levelNullList, 1))
	}
	n := rowWidth
	if bad == faultShort {
		n--
	}
	for i, v := range pixels[:n] {
		repetition := min(i, 1) // 0 begins a list, 1 continues it
		if i == spoilt && bad == faultHole {
			row = append(row, parquet.NullValue().Level(repetition, levelNullElement, 1))
			continue
		}
		row = append(row, parquet.FloatValue(float32(v)).Level(repetition, levelElement, 1))
	}
	if bad == faultLong {
		row = append(row, parquet.FloatValue(1).Level(1, levelElement, 1))
	}
	return row
}
