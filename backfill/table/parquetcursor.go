package table

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding"
)

// pqCursor reads a column from one row on.
type pqCursor struct {
	col   *pqColumn
	f     *parquet.File
	r     io.ReaderAt
	group int   // the row group to open next
	skip  int64 // rows to leave out at the start of it
	pages *pqPages
	page  parquet.Page

	// Of the page: entries read and there, values read, levels, values and dictionary.
	at, n, value int
	def, rep     []byte
	whole        bool // every entry has a value
	leaving      bool // there are still rows to leave out
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
			var err error
			m := &c.f.Metadata().RowGroups[c.group].Columns[c.col.leaf].MetaData
			if c.pages, err = newPQPages(c.r, c.f.Size(), groups[c.group].ColumnChunks()[c.col.leaf], m); err != nil {
				return false, fmt.Errorf("column %s: %w", c.col.name, err)
			}
			c.group++
			c.leaving = c.skip > 0
		}
		page, err := c.pages.read()
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
		if c.leaving {
			c.leave()
		}
	}
	return true, nil
}

// leave passes rows. The library's own way has a page of booleans begin at the wrong bit.
func (c *pqCursor) leave() {
	from := c.at
	if c.col.maxRep == 0 {
		c.at = int(min(int64(c.n), c.skip))
		c.skip -= int64(c.at)
		c.leaving = c.skip > 0
	} else {
		for ; c.at < c.n; c.at++ {
			if c.rep[c.at] != 0 {
				continue
			}
			if c.skip == 0 {
				c.leaving = false
				break
			}
			c.skip--
		}
	}
	c.value = c.there(from, c.at)
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
