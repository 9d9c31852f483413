package table

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
)

// pqReadBuffer is what is read at a time of each column, in bytes.
const pqReadBuffer = 64 << 10

// parquetSource reads a Parquet file row by row, each column page by page.
type parquetSource struct {
	f       *parquet.File
	size    int64
	columns []Column
	pq      []*pqColumn // nil for one that has more than one leaf
	cursors []*pqCursor // likewise
	row     int64       // next
	total   int64
}

// openParquet opens a Parquet file.
func openParquet(in Input) (_ Source, err error) {
	r := in.ReaderAt()
	if r == nil || in.Size() < 0 {
		return nil, errors.New("a Parquet file begins at its end, so it cannot be read as it comes")
	}
	defer damaged(&err)
	if err := checkFooter(r, in.Size()); err != nil {
		return nil, err
	}
	f, err := parquet.OpenFile(r, in.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(pqReadBuffer))
	if err != nil {
		return nil, fmt.Errorf("not a Parquet file: %w", err)
	}
	s := &parquetSource{f: f, size: in.Size(), total: f.NumRows()}
	leaves := leafElements(f)
	for _, node := range f.Root().Columns() {
		col, c := newPQColumn(node, leaves)
		if col != nil && col.list {
			c.Length = listLength(f, col.leaf)
		}
		s.columns = append(s.columns, c)
		s.pq = append(s.pq, col)
		var cursor *pqCursor
		if col != nil {
			cursor = &pqCursor{col: col, f: f, r: r}
		}
		s.cursors = append(s.cursors, cursor)
	}
	return s, nil
}

// checkFooter looks at the end of a file, whose word on the size of the footer the library takes.
func checkFooter(r io.ReaderAt, size int64) error {
	var tail [pqTail]byte
	if size < pqTail+int64(len(pqMagic)) {
		return fmt.Errorf("not a Parquet file: it has only %d bytes", size)
	}
	if _, err := r.ReadAt(tail[:], size-pqTail); err != nil {
		return fmt.Errorf("read the end of the file: %w", err)
	}
	switch magic := string(tail[4:]); {
	case magic == "PARE":
		return errors.New("the Parquet file is encrypted, which is not supported")
	case magic != pqMagic:
		return errors.New("not a Parquet file, or not all of one: it does not end as one")
	}
	if n := int64(binary.LittleEndian.Uint32(tail[:])); n > size-pqTail-int64(len(pqMagic)) {
		return fmt.Errorf("%w: a footer of %d bytes in a file of %d", errCorrupt, n, size)
	}
	return nil
}

// listLength is how many entries each list of the first rows has, if it may be the same for all; else -1.
func listLength(f *parquet.File, leaf int) int {
	groups := f.RowGroups()
	if len(groups) == 0 {
		return -1
	}
	if n, rows := groups[0].ColumnChunks()[leaf].NumValues(), groups[0].NumRows(); rows > 0 && n%rows == 0 {
		return int(n / rows)
	}
	return -1
}

// damaged turns a panic of the library, which trusts its files, into an error.
func damaged(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: %v", errCorrupt, p)
	}
}

// Columns implements Source.
func (s *parquetSource) Columns() []Column { return s.columns }

// Rows implements Source.
func (s *parquetSource) Rows() int64 { return s.total }

// Consumed implements Source: as many bytes as the rows are a part of all.
func (s *parquetSource) Consumed() (read, size int64) {
	if s.total == 0 {
		return s.size, s.size
	}
	return int64(float64(s.size) * float64(s.row) / float64(s.total)), s.size
}

// Close implements Source.
func (s *parquetSource) Close() error {
	for _, c := range s.cursors {
		if c != nil {
			c.close()
		}
	}
	return nil
}

// skipTo goes on at a row.
func (s *parquetSource) skipTo(row int64) error {
	for _, c := range s.cursors {
		if c != nil {
			if err := c.open(row); err != nil {
				return err
			}
		}
	}
	s.row = row
	return nil
}

// Read implements Source.
func (s *parquetSource) Read(n int) (_ Block, err error) {
	if s.row >= s.total {
		return nil, io.EOF
	}
	defer damaged(&err)
	rows := int(min(int64(n), s.total-s.row))
	b := &parquetBlock{at: s.row, rows: rows, columns: s.columns, pq: s.pq, cells: make([]*pqCells, len(s.cursors))}
	for i, c := range s.cursors {
		if c == nil {
			continue
		}
		if b.cells[i], err = c.take(rows); err != nil {
			return nil, err
		}
		if b.cells[i].rows != rows {
			return nil, fmt.Errorf("%w: column %s ends at row %d of %d", errCorrupt, c.col.name, s.row+int64(b.cells[i].rows), s.total)
		}
	}
	s.row += int64(rows)
	return b, nil
}

// parquetBlock is rows of a Parquet file.
type parquetBlock struct {
	at      int64
	rows    int
	columns []Column
	pq      []*pqColumn
	cells   []*pqCells
}

// Place implements Block.
func (b *parquetBlock) Place() Place { return Place{Row: b.at} }

// Next implements Block.
func (b *parquetBlock) Next() Place { return Place{Row: b.at + int64(b.rows)} }

// Rows implements Block.
func (b *parquetBlock) Rows() int { return b.rows }

// Line implements Block.
func (b *parquetBlock) Line(row int) int64 { return b.at + int64(row) + 1 }
