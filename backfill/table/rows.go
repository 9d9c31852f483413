package table

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

const (
	// sampleRows and sampleBytes bound what is looked at to tell the columns.
	sampleRows  = 100
	sampleBytes = 1 << 20
)

// rows is what JSON lines and CSV have in common: a file of text that is cut into records.
type rows struct {
	in     Input
	size   int64
	read   atomic.Int64 // bytes of the file
	raw    io.ReadCloser
	text   io.ReadCloser
	feed   *feed
	next   func(*feed) (record, error) // cuts a record
	sample []record                    // read, but not handed out
	failed error                       // that ended the sample
	row    int64                       // of the next record
	place  Place                       // of the next record
}

// openRows begins to read a file.
func openRows(in Input, c Compression, o Options, next func(*feed) (record, error)) (*rows, error) {
	s := &rows{in: in, size: in.Size(), next: next}
	raw, err := in.From(0)
	if err != nil {
		return nil, fmt.Errorf("open the input: %w", err)
	}
	s.raw = raw
	if s.text, err = decompress(&counted{raw, &s.read}, c); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	s.feed = newFeed(s.text, Place{}, o.MaxLine)
	s.feed.skipMark()
	return s, nil
}

// begin reads the first rows and says where the table begins.
func (s *rows) begin() {
	s.place = Place{Line: s.feed.line, Offset: s.feed.offset()}
	for bytes := 0; len(s.sample) < sampleRows && bytes < sampleBytes; {
		r, err := s.next(s.feed)
		if err != nil {
			s.failed = err
			return
		}
		s.sample = append(s.sample, r)
		bytes += len(r.text)
	}
}

// goOn goes to a place, which is not the start.
func (s *rows) goOn(at Place, c Compression) error {
	if at.Offset == 0 && at.Row == 0 {
		return nil
	}
	s.place, s.row = at, at.Row
	for len(s.sample) > 0 && s.sample[0].start < at.Offset {
		s.sample = s.sample[1:]
	}
	if len(s.sample) > 0 || s.feed.offset() >= at.Offset || s.failed != nil {
		if s.feed.offset() < at.Offset { // the table has ended, or failed, before
			return s.feed.skip(at.Offset)
		}
		return nil
	}
	if c == Plain {
		if s.size >= 0 && at.Offset > s.size {
			return fmt.Errorf("the input has %d bytes, the place to go on from is at %d: it is another one than before", s.size, at.Offset)
		}
		if raw, err := s.in.From(at.Offset); err == nil {
			err = s.raw.Close()
			s.raw, s.text = raw, raw
			s.read.Store(at.Offset)
			s.feed = newFeed(&counted{raw, &s.read}, at, s.feed.max)
			return err
		}
	}
	if err := s.feed.skip(at.Offset); err != nil {
		return err
	}
	s.feed.line = max(1, at.Line)
	return nil
}

// cut returns the next n records and where they stand.
func (s *rows) cut(n int) (cut, error) {
	c := cut{place: s.place}
	if k := min(n, len(s.sample)); k > 0 {
		c.records = append(make([]record, 0, n), s.sample[:k]...)
		if s.sample = s.sample[k:]; len(s.sample) == 0 {
			s.sample = nil // with the text of the rows
		}
	}
	for len(c.records) < n {
		r, err := record{}, s.failed
		if err == nil {
			r, err = s.next(s.feed)
		}
		if err == io.EOF && len(c.records) > 0 { //nolint:errorlint // next returns io.EOF itself
			break
		}
		if err != nil {
			s.failed = err
			return cut{}, err
		}
		if c.records == nil {
			c.records = make([]record, 0, n)
		}
		c.records = append(c.records, r)
	}
	last := &c.records[len(c.records)-1]
	s.row += int64(len(c.records))
	s.place = Place{Row: s.row, Line: last.after, Offset: last.next}
	c.next = s.place
	return c, nil
}

// Rows implements Source.
func (s *rows) Rows() int64 { return -1 }

// Consumed implements Source.
func (s *rows) Consumed() (read, size int64) { return s.read.Load(), s.size }

// Close implements Source.
func (s *rows) Close() error { return errors.Join(s.text.Close(), s.closeRaw()) }

func (s *rows) closeRaw() error {
	if s.raw == s.text {
		return nil
	}
	return s.raw.Close()
}

// counted counts what is read.
type counted struct {
	io.Reader
	n *atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// cut is what the blocks of JSON lines and CSV have in common.
type cut struct {
	records     []record
	place, next Place
}

// Place implements Block.
func (c *cut) Place() Place { return c.place }

// Next implements Block.
func (c *cut) Next() Place { return c.next }

// Rows implements Block.
func (c *cut) Rows() int { return len(c.records) }

// Line implements Block.
func (c *cut) Line(row int) int64 { return c.records[row].line }
