package table

import (
	"encoding/binary"
	"math"
	"strconv"

	"github.com/parquet-go/parquet-go/encoding"

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

// same reports whether a column's values are the elements of a datatype as they are.
func (c *pqColumn) same(dt job.Datatype) bool {
	switch c.kind {
	case encoding.Boolean:
		return dt == job.Bool
	case encoding.Int32:
		return dt == job.Int32 && !c.unsigned || dt == job.Uint32 && c.unsigned
	case encoding.Int64:
		return dt == job.Int64 && !c.unsigned || dt == job.Uint64 && c.unsigned
	case encoding.Float:
		return dt == job.FP32
	case encoding.Double:
		return dt == job.FP64
	default:
		return false
	}
}

// decodeWhole is the quick way for a model with one input whose rows all have every element, in the model's own datatype.
func (b *parquetBlock) decodeWhole(p *Plan) (Decoded, bool) {
	if len(p.Inputs) != 1 || !p.Batchable || len(p.Inputs[0].Columns) == 0 {
		return Decoded{}, false
	}
	in := &p.Inputs[0]
	n, width := elements(in.Shape), in.Datatype.Size()
	if n < 1 || n*width > p.Limits.MaxBytes {
		return Decoded{}, false
	}
	for _, column := range in.Columns {
		col, cells := b.pq[column], b.cells[column]
		if col == nil || !col.same(in.Datatype) || col.list != in.List || cells.values != nil && int(cells.values[b.rows]) != cells.entries() {
			return Decoded{}, false
		}
	}
	var data []byte
	if in.List {
		cells := b.cells[in.Columns[0]]
		for row := range b.rows {
			if int(cells.starts[row+1]) != (row+1)*n {
				return Decoded{}, false
			}
		}
		data = cells.data
	} else {
		if len(in.Columns) != n {
			return Decoded{}, false
		}
		data = make([]byte, b.rows*n*width)
		for i, column := range in.Columns {
			scatter(data[i*width:], b.cells[column].data, width, n*width)
		}
	}
	g := Group{Rows: make([]int, b.rows)}
	for i := range g.Rows {
		g.Rows[i] = i
	}
	shape := append([]int64{int64(b.rows)}, in.Shape...)
	g.Inputs = []job.Tensor{{Name: in.Name, Datatype: in.Datatype, Shape: shape, Data: data}}
	return Decoded{Groups: []Group{g}}, true
}

// scatter writes values into dst, stride apart.
func scatter(dst, values []byte, width, stride int) {
	switch width {
	case 4:
		for at := 0; len(values) >= 4; at += stride {
			binary.LittleEndian.PutUint32(dst[at:], binary.LittleEndian.Uint32(values))
			values = values[4:]
		}
	case 8:
		for at := 0; len(values) >= 8; at += stride {
			binary.LittleEndian.PutUint64(dst[at:], binary.LittleEndian.Uint64(values))
			values = values[8:]
		}
	default:
		for at := 0; len(values) >= width; at += stride {
			copy(dst[at:], values[:width])
			values = values[width:]
		}
	}
}

// entries is how many entries there are.
func (c *pqCells) entries() int {
	if c.starts != nil {
		return int(c.starts[len(c.starts)-1])
	}
	return c.rows
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
			if !col.list || last == first {
				return job.Invalidf(name, "expected %s, the cell is empty", wanted(in.Datatype))
			}
			return job.Invalidf(name, "expected %s in each place, element %d is empty", wanted(in.Datatype), cells.firstNull(col, from))
		}
		for i := first; i < last; i++ {
			var ok bool
			if out.data, ok = col.appendElement(out.data, in.Datatype, cells.value(col, i)); !ok {
				return job.Invalidf(name, "expected %s, got %q", wanted(in.Datatype), excerpt(col.appendJSON(nil, cells.value(col, i))))
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

// firstNull is the place in its row of the first entry without a value.
func (c *pqCells) firstNull(col *pqColumn, from int) int {
	for i := from; i < len(c.def); i++ {
		if c.def[i] != col.maxDef {
			return i - from
		}
	}
	return 0
}

// appendElement appends a value as an element of a datatype; false if it is none.
func (c *pqColumn) appendElement(dst []byte, dt job.Datatype, value []byte) ([]byte, bool) {
	if c.same(dt) {
		return append(dst, value...), true
	}
	switch c.kind {
	case encoding.Float, encoding.Double:
		var f float64
		if c.kind == encoding.Float {
			f = float64(math.Float32frombits(binary.LittleEndian.Uint32(value)))
		} else {
			f = math.Float64frombits(binary.LittleEndian.Uint64(value))
		}
		switch dt {
		case job.FP32:
			if f32 := float32(f); !math.IsInf(float64(f32), 0) || math.IsInf(f, 0) {
				return binary.LittleEndian.AppendUint32(dst, math.Float32bits(f32)), true
			}
			return dst, false
		case job.FP64:
			return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f)), true
		case job.Bool, job.Bytes:
			return dst, false
		default:
			if f == math.Trunc(f) && math.Abs(f) < 1<<53 && dt != job.FP16 && dt != job.BF16 {
				return appendTextElement(dst, dt, strconv.AppendInt(nil, int64(f), 10))
			}
			return appendTextElement(dst, dt, strconv.AppendFloat(nil, f, 'g', -1, 64))
		}
	case encoding.Int32, encoding.Int64:
		if i := c.integer(value); !c.unsigned || i >= 0 {
			switch dt {
			case job.FP32:
				return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(i))), true
			case job.FP64:
				return binary.LittleEndian.AppendUint64(dst, math.Float64bits(float64(i))), true
			case job.Int64:
				return binary.LittleEndian.AppendUint64(dst, uint64(i)), true //nolint:gosec // the bits are the same
			default:
			}
		}
		if dt == job.Bytes {
			return dst, false
		}
		return appendTextElement(dst, dt, c.appendJSON(nil, value))
	case encoding.Boolean:
		if dt == job.Bytes {
			return dst, false
		}
		return appendTextElement(dst, dt, []byte{'0' + value[0]})
	default:
		return appendTextElement(dst, dt, value)
	}
}

// integer reads an integer; of an unsigned one of 64 bits it is negative if it is too large.
func (c *pqColumn) integer(value []byte) int64 {
	if c.kind == encoding.Int64 {
		return int64(binary.LittleEndian.Uint64(value)) //nolint:gosec // the bits are the same
	}
	if c.unsigned {
		return int64(binary.LittleEndian.Uint32(value))
	}
	return int64(int32(binary.LittleEndian.Uint32(value))) //nolint:gosec // the bits are the same
}

// appendJSON appends a value as JSON.
func (c *pqColumn) appendJSON(dst, value []byte) []byte {
	switch c.kind {
	case encoding.Boolean:
		return strconv.AppendBool(dst, value[0] != 0)
	case encoding.Int32, encoding.Int64:
		i := c.integer(value)
		if c.unsigned {
			return strconv.AppendUint(dst, uint64(i), 10) //nolint:gosec // the bits are the same
		}
		return strconv.AppendInt(dst, i, 10)
	case encoding.Float:
		return appendJSONFloat(dst, float64(math.Float32frombits(binary.LittleEndian.Uint32(value))), 32)
	case encoding.Double:
		return appendJSONFloat(dst, math.Float64frombits(binary.LittleEndian.Uint64(value)), 64)
	default:
		return appendString(dst, value)
	}
}

func appendJSONFloat(dst []byte, f float64, bits int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, bits)
}

// AppendCell implements Block. A column of several leaves, such as a map, is null.
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
	if value == last && to-from == 1 && cells.def[from] == 0 && col.maxDef > 1 {
		return append(dst, "null"...)
	}
	dst = append(dst, '[')
	for i := from; i < to; i++ {
		switch {
		case cells.def[i] == col.maxDef:
			dst = append(col.appendJSON(dst, cells.value(col, value)), ',')
			value++
		case to-from > 1:
			dst = append(dst, "null,"...)
		}
	}
	if dst[len(dst)-1] == ',' {
		dst = dst[:len(dst)-1]
	}
	return append(dst, ']')
}
