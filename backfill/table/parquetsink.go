package table

import (
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

const (
	// pqGroupRows is how many rows a row group has, unless a Commit ends it before.
	pqGroupRows = 128 << 10
	// pqGroupBytes is after how many bytes, which are held in memory, one ends too.
	pqGroupBytes = 128 << 20
	// pqPageBytes is about how many bytes a page has.
	pqPageBytes = 256 << 10
	// pqMagic is what a Parquet file begins and ends with, and pqTail its end beside the footer: length and magic.
	pqMagic = "PAR1"
	pqTail  = 8
)

// parquetSink writes a Parquet file that can be continued. Each Commit ends a segment, which is a Parquet file by itself; the
// next one is written after it. Finish writes one more footer, which has the row groups of all segments where they stand,
// so nothing is copied, and the footers between are bytes that nobody reads.
type parquetSink struct {
	spec    Spec
	f       File
	empty   *format.FileMetaData // of a file without rows
	columns []pqOut

	at       int64 // where the segment begins
	rows     int64 // before it
	ends     []int64
	segments []*format.FileMetaData
	bases    []int64

	w  *pqWriter // nil: the segment has no row yet
	in int64     // rows of the segment
}

// newParquetSink writes a Parquet file.
func newParquetSink(f File, spec Spec, mark *Mark) (_ Sink, err error) {
	if err := checkSpec(&spec); err != nil {
		return nil, err
	}
	defer damaged(&err)
	s := &parquetSink{spec: spec, f: f}
	if s.columns, err = pqColumns(&spec); err != nil {
		return nil, err
	}
	if s.empty, err = pqTemplate(pqSchema(s.columns), s.columns); err != nil {
		return nil, err
	}
	if mark != nil {
		s.at, s.rows = mark.Offset, mark.Rows
		base := int64(0)
		for _, end := range mark.Segments {
			if err := s.recall(base, end); err != nil {
				return nil, fmt.Errorf("what was written before: %w; begin anew with --overwrite", err)
			}
			base = end
		}
		if base != mark.Offset {
			return nil, fmt.Errorf("%w: its segments end at %d, and the mark is at %d", errCorrupt, base, mark.Offset)
		}
	}
	if err := f.Truncate(s.at); err != nil {
		return nil, fmt.Errorf("cut the file at %d: %w", s.at, err)
	}
	if _, err := f.Seek(s.at, io.SeekStart); err != nil {
		return nil, fmt.Errorf("go on at %d: %w", s.at, err)
	}
	return s, nil
}

// recall reads the footer of a segment.
func (s *parquetSink) recall(base, end int64) error {
	if end-base < pqTail+int64(len(pqMagic)) {
		return fmt.Errorf("%w: a segment from %d to %d", errCorrupt, base, end)
	}
	p, err := parquet.OpenFile(io.NewSectionReader(s.f, base, end-base), end-base, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return err
	}
	s.keep(p.Metadata(), base, end)
	return nil
}

func (s *parquetSink) keep(m *format.FileMetaData, base, end int64) {
	s.segments, s.bases, s.ends = append(s.segments, m), append(s.bases, base), append(s.ends, end)
}

// Append implements Sink.
func (s *parquetSink) Append(p Piece) (err error) {
	piece, ok := p.(*pqPiece)
	if !ok {
		return errors.New("the piece is that of another sink")
	}
	defer damaged(&err)
	s.begin()
	s.in += piece.rows
	return s.w.append(piece)
}

// begin starts a segment, unless there is one.
func (s *parquetSink) begin() {
	if s.w == nil {
		s.w = newPQWriter(s.f, s.columns, s.empty)
	}
}

// Commit implements Sink. It ends a row group, so it is not for every few rows.
func (s *parquetSink) Commit() (_ Mark, err error) {
	defer damaged(&err)
	if s.w != nil {
		if err := s.end(); err != nil {
			return Mark{}, err
		}
	}
	if err := s.f.Sync(); err != nil {
		return Mark{}, err
	}
	return Mark{Offset: s.at, Rows: s.rows, Segments: append([]int64(nil), s.ends...)}, nil
}

// end ends the segment.
func (s *parquetSink) end() error {
	if err := s.w.close(); err != nil {
		return err
	}
	base := s.at
	s.at += s.w.at
	s.rows += s.in
	s.keep(s.w.meta, base, s.at)
	s.w, s.in = nil, 0
	return nil
}

// Finish implements Sink.
func (s *parquetSink) Finish() (err error) {
	defer damaged(&err)
	if s.w == nil && len(s.segments) == 0 {
		s.begin() // a file without rows has a schema too
	}
	if s.w != nil {
		if err := s.end(); err != nil {
			return err
		}
	}
	if len(s.segments) == 1 {
		return s.f.Sync()
	}
	footer, err := marshalFooter(joinSegments(s.segments, s.bases))
	if err != nil {
		return err
	}
	if _, err := s.f.Write(footer); err != nil {
		return err
	}
	return s.f.Sync()
}

// joinSegments is the footer of a file in which several Parquet files stand one after the other.
func joinSegments(segments []*format.FileMetaData, bases []int64) *format.FileMetaData {
	all := *segments[0]
	all.RowGroups, all.NumRows = nil, 0
	for i, m := range segments {
		all.NumRows += m.NumRows
		for _, g := range m.RowGroups {
			g.Columns = append(g.Columns[:0:0], g.Columns...)
			for k := range g.Columns {
				shiftColumn(&g.Columns[k], bases[i])
			}
			if g.FileOffset > 0 {
				g.FileOffset += bases[i]
			}
			g.Ordinal = int16(min(len(all.RowGroups), 1<<15-1))
			all.RowGroups = append(all.RowGroups, g)
		}
	}
	return &all
}

// shiftColumn moves a column chunk. Its indices, which have offsets inside, are left out: they only help to skip pages.
func shiftColumn(c *format.ColumnChunk, base int64) {
	if c.FileOffset > 0 {
		c.FileOffset += base
	}
	c.OffsetIndexOffset, c.OffsetIndexLength, c.ColumnIndexOffset, c.ColumnIndexLength = 0, 0, 0, 0
	m := &c.MetaData
	m.DataPageOffset += base
	if m.DictionaryPageOffset > 0 {
		m.DictionaryPageOffset += base
	}
	if m.IndexPageOffset > 0 {
		m.IndexPageOffset += base
	}
	m.BloomFilterOffset, m.BloomFilterLength = 0, 0
}
