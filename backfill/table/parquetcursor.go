package table

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding"
)

// pqColumn is a column of a Parquet file that has one leaf: a value, or a list of values of any depth, which is read flat.
type pqColumn struct {
	name           string
	leaf           int // its place among the leaves
	kind           encoding.Kind
	width          int // bytes of a value; 0 for those of any length
	unsigned, text bool
	maxRep, maxDef byte
	list           bool
}

// pqCells are the cells of some rows of a column. Entries are what Parquet has levels for: a value, or the place of one
// that is missing.
type pqCells struct {
	rows     int
	starts   []int32 // of lists: the first entry of each row, and the end
	values   []int32 // where some entries have no value: the first value of each row, and the end
	def, rep []byte  // levels; nil where they are the same for all
	data     []byte  // the values, each width bytes, or between offsets
	offsets  []uint32
}

// row returns the entries and the values of a row.
func (c *pqCells) row(r int) (from, to, first, last int) {
	from, to = r, r+1
	if c.starts != nil {
		from, to = int(c.starts[r]), int(c.starts[r+1])
	}
	if c.values != nil {
		return from, to, int(c.values[r]), int(c.values[r+1])
	}
	return from, to, from, to
}

// value returns the bytes of a value.
func (c *pqCells) value(col *pqColumn, i int) []byte {
	if col.width == 0 {
		return c.data[c.offsets[i]:c.offsets[i+1]]
	}
	return c.data[i*col.width : (i+1)*col.width]
}

// pqCursor reads a column from one row on.
type pqCursor struct {
	col   *pqColumn
	f     *parquet.File
	group int // the row group to open next
	skip  int64
	pages parquet.Pages
	page  parquet.Page

	// Of the page: entries read and there, values read, levels, values and dictionary.
	at, n, value int
	def, rep     []byte
	whole        bool // every entry has a value
	data         []byte
	offsets      []uint32
	index        []int32 // into the dictionary, where there is one
}

// open goes to a row of the file.
func (c *pqCursor) open(row int64) error {
	c.close()
	c.group = 0
	for _, g := range c.f.RowGroups() {
		if row < g.NumRows() {
			break
		}
		row -= g.NumRows()
		c.group++
	}
	c.skip = row
	return nil
}

func (c *pqCursor) close() {
	if c.page != nil {
		parquet.Release(c.page)
		c.page = nil
	}
	if c.pages != nil {
		_ = c.pages.Close() // nothing is written
		c.pages = nil
	}
	c.at, c.n = 0, 0
}

var errCorrupt = errors.New("the file is damaged")

// more makes sure that an entry is there; false at the end of the table.
func (c *pqCursor) more() (bool, error) {
	for c.at == c.n {
		if c.page != nil {
			parquet.Release(c.page)
			c.page = nil
		}
		if c.pages == nil {
			groups := c.f.RowGroups()
			if c.group >= len(groups) {
				return false, nil
			}
			c.pages = groups[c.group].ColumnChunks()[c.col.leaf].Pages()
			c.group++
			if c.skip > 0 {
				if err := c.pages.SeekToRow(c.skip); err != nil {
					return false, fmt.Errorf("column %s: go to a row: %w", c.col.name, err)
				}
				c.skip = 0
			}
		}
		page, err := c.pages.ReadPage()
		if errors.Is(err, io.EOF) {
			_ = c.pages.Close()
			c.pages = nil
			continue
		}
		if err != nil {
			return false, fmt.Errorf("column %s: %w", c.col.name, err)
		}
		if err := c.begin(page); err != nil {
			return false, fmt.Errorf("column %s: %w", c.col.name, err)
		}
	}
	return true, nil
}

// begin takes a page apart.
func (c *pqCursor) begin(page parquet.Page) error {
	c.page, c.at, c.value, c.n = page, 0, 0, int(page.NumValues())
	c.def, c.rep, c.index = page.DefinitionLevels(), page.RepetitionLevels(), nil
	if c.col.maxDef > 0 && len(c.def) != c.n || c.col.maxRep > 0 && len(c.rep) != c.n {
		return fmt.Errorf("%w: a page with %d entries has %d and %d levels", errCorrupt, c.n, len(c.def), len(c.rep))
	}
	there := c.n
	if c.col.maxDef > 0 {
		there = bytes.Count(c.def, []byte{c.col.maxDef})
	}
	c.whole = there == c.n
	values := page.Data()
	if dict := page.Dictionary(); dict != nil {
		c.index = values.Int32()
		if len(c.index) < there {
			return fmt.Errorf("%w: a page with %d values has %d indices", errCorrupt, there, len(c.index))
		}
		values = dict.Page().Data()
	}
	if values.Kind() != c.col.kind {
		return fmt.Errorf("%w: a page of %s in a column of %s", errCorrupt, values.Kind(), c.col.kind)
	}
	c.data, c.offsets = values.Data()
	have := 0
	switch {
	case c.col.kind == encoding.Boolean:
		have = 8 * len(c.data)
	case c.col.width > 0:
		have = len(c.data) / c.col.width
	default:
		have = len(c.offsets) - 1
	}
	for _, i := range c.index {
		if i < 0 || int(i) >= have {
			return fmt.Errorf("%w: index %d of a dictionary of %d", errCorrupt, i, have)
		}
	}
	if c.index == nil && have < there {
		return fmt.Errorf("%w: a page with %d values has %d", errCorrupt, there, have)
	}
	return nil
}

// take reads the next rows. Fewer come only at the end.
func (c *pqCursor) take(rows int) (*pqCells, error) {
	out := &pqCells{}
	if c.col.width == 0 {
		out.offsets = []uint32{0}
	}
	if c.col.maxDef > 0 {
		out.values = append(make([]int32, 0, rows+1), 0)
	}
	if c.col.maxRep > 0 {
		return out, c.takeLists(rows, out)
	}
	count := int32(0)
	for out.rows < rows {
		more, err := c.more()
		if !more || err != nil {
			return out, err
		}
		m := min(rows-out.rows, c.n-c.at)
		there := m
		if c.col.maxDef > 0 {
			there = 0
			for _, d := range c.def[c.at : c.at+m] {
				if d == c.col.maxDef {
					there++
					count++
				}
				out.values = append(out.values, count)
			}
			out.def = append(out.def, c.def[c.at:c.at+m]...)
		}
		c.copy(out, there)
		c.at += m
		out.rows += m
	}
	return out, nil
}

// takeLists is take for lists. A row ends where the next begins, which may be on the next page.
func (c *pqCursor) takeLists(rows int, out *pqCells) error {
	out.starts = append(make([]int32, 0, rows+1), 0)
	entries, count, open := int32(0), int32(0), false
	for {
		more, err := c.more()
		if err != nil {
			return err
		}
		if open && (!more || c.rep[c.at] == 0) {
			out.rows++
			out.starts = append(out.starts, entries)
			out.values = append(out.values, count)
			open = false
		}
		if !more || out.rows == rows {
			return nil
		}
		end := c.n
		if next := bytes.IndexByte(c.rep[c.at+1:], 0); next >= 0 {
			end = c.at + 1 + next
		}
		there := end - c.at
		if !c.whole {
			there = bytes.Count(c.def[c.at:end], []byte{c.col.maxDef})
		}
		out.def = append(out.def, c.def[c.at:end]...)
		out.rep = append(out.rep, c.rep[c.at:end]...)
		c.copy(out, there)
		entries += int32(end - c.at)
		count += int32(there)
		c.at, open = end, true
	}
}

// copy takes the next values of the page.
func (c *pqCursor) copy(out *pqCells, n int) {
	from := c.value
	c.value += n
	switch width := c.col.width; {
	case c.col.kind == encoding.Boolean:
		for i := from; i < from+n; i++ {
			at := i
			if c.index != nil {
				at = int(c.index[i])
			}
			out.data = append(out.data, c.data[at/8]>>(at%8)&1)
		}
	case width == 0:
		for i := from; i < from+n; i++ {
			at := i
			if c.index != nil {
				at = int(c.index[i])
			}
			out.data = append(out.data, c.data[c.offsets[at]:c.offsets[at+1]]...)
			out.offsets = append(out.offsets, uint32(len(out.data)))
		}
	case c.index == nil:
		out.data = append(out.data, c.data[from*width:(from+n)*width]...)
	case width == 4:
		for _, i := range c.index[from : from+n] {
			out.data = append(out.data, c.data[4*i:4*i+4]...)
		}
	case width == 8:
		for _, i := range c.index[from : from+n] {
			out.data = binary.LittleEndian.AppendUint64(out.data, binary.LittleEndian.Uint64(c.data[8*i:]))
		}
	default:
		for _, i := range c.index[from : from+n] {
			out.data = append(out.data, c.data[int(i)*width:(int(i)+1)*width]...)
		}
	}
}
