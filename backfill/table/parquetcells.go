package table

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/parquet-go/parquet-go/encoding"
)

// pqColumn is a column of a Parquet file that has one leaf: a value, or a list of values of any depth, which is read flat.
type pqColumn struct {
	name     string
	leaf     int // its place among the leaves
	kind     encoding.Kind
	width    int // bytes of a value; 0 for those of any length
	unsigned bool
	list     bool
	means    meaning
	scale    int           // of decimals
	unit     time.Duration // of times

	maxRep, maxDef      byte
	listDef, elementDef byte // of lists, see levels
}

// pqCells are the cells of some rows of a column. Entries are what Parquet has levels for: a value, or the place of one
// that is missing.
type pqCells struct {
	rows    int
	starts  []int32 // of lists: the first entry of each row, and the end
	values  []int32 // where some entries have no value: the first value of each row, and the end
	def     []byte  // levels; nil where every entry has a value
	rep     []byte  // levels; nil but for lists of lists
	data    []byte  // the values, each width bytes, or between offsets
	offsets []uint32
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

// level is the definition level of an entry.
func (c *pqCells) level(col *pqColumn, i int) byte {
	if c.def == nil {
		return col.maxDef
	}
	return c.def[i]
}

// add notes a row that ends with so many entries and values in all. As long as both are the same, values is nil.
func (c *pqCells) add(entries, values int) {
	if entries != values && c.values == nil {
		c.values = make([]int32, 0, max(cap(c.starts), c.rows+1))
		if c.starts != nil {
			c.values = append(c.values, c.starts...)
		} else {
			for r := range c.rows + 1 {
				c.values = append(c.values, int32(r))
			}
		}
	}
	c.rows++
	if c.starts != nil {
		c.starts = append(c.starts, int32(entries)) //nolint:gosec // fits has seen it
	}
	if c.values != nil {
		c.values = append(c.values, int32(values)) //nolint:gosec // there are no more than entries
	}
}

// levels adds the levels of entries, which have a value each if whole.
func (c *pqCells) levels(col *pqColumn, before int, def, rep []byte, whole bool) {
	if !whole && c.def == nil {
		c.def = bytes.Repeat([]byte{col.maxDef}, before)
	}
	if c.def != nil {
		c.def = append(c.def, def...)
	}
	if col.maxRep > 1 {
		c.rep = append(c.rep, rep...)
	}
}

// value returns the bytes of a value.
func (c *pqCells) value(col *pqColumn, i int) []byte {
	if col.width == 0 {
		return c.data[c.offsets[i]:c.offsets[i+1]]
	}
	return c.data[i*col.width : (i+1)*col.width]
}

// take reads the next rows. Fewer come only at the end.
func (c *pqCursor) take(rows int) (*pqCells, error) {
	out := &pqCells{}
	if c.col.width == 0 {
		out.offsets = append(make([]uint32, 0, rows+1), 0)
	}
	if c.col.maxRep > 0 {
		return out, c.takeLists(rows, out)
	}
	out.data = make([]byte, 0, rows*c.col.width)
	count := 0
	for out.rows < rows {
		more, err := c.more()
		if !more || err != nil {
			return out, err
		}
		m := min(rows-out.rows, c.n-c.at)
		there := c.there(c.at, c.at+m)
		out.levels(c.col, out.rows, c.def[min(c.at, len(c.def)):min(c.at+m, len(c.def))], nil, there == m)
		if err := c.copy(out, there); err != nil {
			return out, err
		}
		if there == m && out.values == nil {
			out.rows += m
			count += m
		} else {
			for i := c.at; i < c.at+m; i++ {
				if c.whole || c.def[i] == c.col.maxDef {
					count++
				}
				out.add(out.rows+1, count)
			}
		}
		c.at += m
	}
	return out, nil
}

// takeLists is take for lists. A row ends where the next begins, which may be on the next page.
func (c *pqCursor) takeLists(rows int, out *pqCells) error {
	out.starts = append(make([]int32, 0, rows+1), 0)
	entries, count, open := 0, 0, false
	for {
		more, err := c.more()
		if err != nil {
			return err
		}
		if !more {
			if open {
				out.add(entries, count)
			}
			return nil
		}
		from, first := c.at, entries
		for c.at < c.n {
			if c.rep[c.at] == 0 || !open {
				if open {
					out.add(entries, count)
				}
				if open = out.rows < rows; !open {
					break
				}
			}
			end := c.n
			if next := bytes.IndexByte(c.rep[c.at+1:], 0); next >= 0 {
				end = c.at + 1 + next
			}
			if entries += end - c.at; entries > math.MaxInt32 {
				return fmt.Errorf("column %s: %d rows have more than %d elements, which is too much at once", c.col.name, out.rows+1, math.MaxInt32)
			}
			count += c.there(c.at, end)
			c.at = end
		}
		there := c.there(from, c.at)
		out.levels(c.col, first, c.def[from:c.at], c.rep[from:c.at], there == c.at-from)
		if err := c.copy(out, there); err != nil {
			return err
		}
		if !open {
			return nil
		}
	}
}

// there is how many of the entries have a value.
func (c *pqCursor) there(from, to int) int {
	if c.whole {
		return to - from
	}
	return bytes.Count(c.def[from:to], []byte{c.col.maxDef})
}

// copy takes the next values of the page.
func (c *pqCursor) copy(out *pqCells, n int) error {
	from := c.value
	c.value += n
	at := func(i int) int {
		if c.index == nil {
			return i
		}
		return int(c.index[i])
	}
	switch width := c.col.width; {
	case c.col.kind == encoding.Boolean:
		for i := from; i < from+n; i++ {
			k := at(i)
			out.data = append(out.data, c.data[k/8]>>(k%8)&1)
		}
	case width == 0:
		for i := from; i < from+n; i++ {
			k := at(i)
			out.data = append(out.data, c.data[c.offsets[k]:c.offsets[k+1]]...)
			if len(out.data) > math.MaxUint32 {
				return fmt.Errorf("column %s: %d rows have more than %d bytes, which is too much at once", c.col.name, out.rows+1, math.MaxUint32)
			}
			out.offsets = append(out.offsets, uint32(len(out.data))) //nolint:gosec // it has been seen to fit
		}
	case c.index == nil:
		out.data = append(out.data, c.data[from*width:(from+n)*width]...)
	default:
		out.data = gather(slices.Grow(out.data, n*width), c.data, width, c.index[from:from+n])
	}
	return nil
}

// gather appends values of a dictionary.
func gather(dst, values []byte, width int, index []int32) []byte {
	switch width {
	case 4:
		for _, i := range index {
			dst = binary.LittleEndian.AppendUint32(dst, binary.LittleEndian.Uint32(values[4*i:]))
		}
	case 8:
		for _, i := range index {
			dst = binary.LittleEndian.AppendUint64(dst, binary.LittleEndian.Uint64(values[8*i:]))
		}
	default:
		for _, i := range index {
			dst = append(dst, values[int(i)*width:(int(i)+1)*width]...)
		}
	}
	return dst
}
