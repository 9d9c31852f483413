package table

import (
	"github.com/sheafml/sheaf/job"
)

// Decode implements Block.
func (b *parquetBlock) Decode(p *Plan) Decoded {
	if d, ok := b.decodeWhole(p); ok {
		return d
	}
	a := newAssembler(p, b.rows)
	none := unmapped(p)
	for row := range b.rows {
		a.begin(row)
		err := none
		for i := range p.Inputs {
			if err != nil {
				break
			}
			err = b.appendInput(a, i, row)
		}
		if err != nil {
			a.fail(err)
			continue
		}
		a.end()
	}
	return a.decoded()
}

// appendInput appends the elements of a row of an input.
func (b *parquetBlock) appendInput(a *assembler, input, row int) *job.Error {
	in, out := &a.plan.Inputs[input], &a.inputs[input]
	for _, column := range in.Columns {
		name := b.columns[column].Name
		col, cells := b.pq[column], b.cells[column]
		if col == nil {
			return job.Invalidf(name, "expected numbers or a list of them, the column is of a nested type")
		}
		from, to, first, last := cells.row(row)
		if last-first != to-from {
			if err := cells.missing(col, name, in.Datatype, from, to); err != nil {
				return err
			}
		}
		for i := first; i < last; i++ {
			var ok bool
			if out.data, ok = col.appendElement(out.data, in.Datatype, cells.value(col, i)); !ok {
				return col.unfit(name, in.Datatype, cells.value(col, i))
			}
		}
		if in.List {
			if err := out.fit(in, name, []int64{int64(last - first)}); err != nil {
				return err
			}
		} else if last-first != 1 {
			return job.Invalidf(name, "expected a single value, got a list of %d", last-first)
		}
	}
	return nil
}

// missing is the error of a row in which something has no value; nil for empty lists.
func (c *pqCells) missing(col *pqColumn, name string, dt job.Datatype, from, to int) *job.Error {
	element := 0
	for i := from; i < to; i++ {
		switch def := c.level(col, i); {
		case !col.list || def < col.listDef:
			return job.Invalidf(name, "expected %s, the cell is empty", wanted(dt))
		case def == col.maxDef:
			element++
		case def >= col.elementDef:
			return job.Invalidf(name, "expected %s in each place, element %d is empty", wanted(dt), element)
		}
	}
	return nil
}

// AppendCell implements Block. A column of several leaves, such as a map, is null; a list of lists is flat.
func (b *parquetBlock) AppendCell(dst []byte, row, column int) []byte {
	col, cells := b.pq[column], b.cells[column]
	if col == nil {
		return append(dst, "null"...)
	}
	from, to, value, last := cells.row(row)
	if !col.list {
		if value == last {
			return append(dst, "null"...)
		}
		return col.appendJSON(dst, cells.value(col, value))
	}
	if from == to || cells.level(col, from) < col.listDef {
		return append(dst, "null"...)
	}
	dst = append(dst, '[')
	for i := from; i < to; i++ {
		switch def := cells.level(col, i); {
		case def == col.maxDef:
			dst = append(col.appendJSON(dst, cells.value(col, value)), ',')
			value++
		case def >= col.elementDef:
			dst = append(dst, "null,"...)
		}
	}
	if dst[len(dst)-1] == ',' {
		dst = dst[:len(dst)-1]
	}
	return append(dst, ']')
}
