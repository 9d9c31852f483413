package table

import (
	"encoding/binary"
	"math"

	"github.com/parquet-go/parquet-go/encoding"

	"github.com/sheafml/sheaf/job"
)

// decodeWhole is the quick way for a model with one input whose rows all have every element, in the model's own datatype or
// in one of numbers where the model takes floats.
func (b *parquetBlock) decodeWhole(p *Plan) (Decoded, bool) {
	if len(p.Inputs) != 1 || !p.Batchable || len(p.Inputs[0].Columns) == 0 {
		return Decoded{}, false
	}
	in := &p.Inputs[0]
	n, width := elements(in.Shape), in.Datatype.Size()
	if n < 1 || n*width > p.Limits.MaxBytes || !in.List && len(in.Columns) != n {
		return Decoded{}, false
	}
	for _, column := range in.Columns {
		col, cells := b.pq[column], b.cells[column]
		if col == nil || !col.spreads(in.Datatype) || col.list != in.List || cells.values != nil {
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
		if col := b.pq[in.Columns[0]]; col.same(in.Datatype) {
			data = cells.data
		} else if data = make([]byte, b.rows*n*width); !col.spread(data, width, cells.data, in.Datatype) {
			return Decoded{}, false
		}
	} else {
		data = make([]byte, b.rows*n*width)
		for i, column := range in.Columns {
			if !b.pq[column].spread(data[i*width:], n*width, b.cells[column].data, in.Datatype) {
				return Decoded{}, false
			}
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

// spreads reports whether spread knows how to make elements of a datatype.
func (c *pqColumn) spreads(dt job.Datatype) bool {
	if c.same(dt) {
		return true
	}
	if c.means != itself || dt != job.FP32 && dt != job.FP64 {
		return false
	}
	switch c.kind {
	case encoding.Float, encoding.Double:
		return true
	case encoding.Int32, encoding.Int64:
		return !c.unsigned
	default:
		return false
	}
}

// spread writes values as elements into dst, stride bytes apart; false if one does not fit. The loops are written out because
// this is where the time goes.
func (c *pqColumn) spread(dst []byte, stride int, values []byte, dt job.Datatype) bool {
	switch {
	case c.same(dt):
		scatter(dst, values, c.width, stride)
		return true
	case dt == job.FP32:
		return c.spread32(dst, stride, values)
	}
	at := 0
	switch c.kind {
	case encoding.Float:
		for ; len(values) >= 4; values = values[4:] {
			binary.LittleEndian.PutUint64(dst[at:], math.Float64bits(float64(math.Float32frombits(binary.LittleEndian.Uint32(values)))))
			at += stride
		}
	case encoding.Int32:
		for ; len(values) >= 4; values = values[4:] {
			i := int32(binary.LittleEndian.Uint32(values)) //nolint:gosec // the bits are the same
			binary.LittleEndian.PutUint64(dst[at:], math.Float64bits(float64(i)))
			at += stride
		}
	default:
		for ; len(values) >= 8; values = values[8:] {
			i := int64(binary.LittleEndian.Uint64(values)) //nolint:gosec // the bits are the same
			binary.LittleEndian.PutUint64(dst[at:], math.Float64bits(float64(i)))
			at += stride
		}
	}
	return true
}

// spread32 is spread for FP32.
func (c *pqColumn) spread32(dst []byte, stride int, values []byte) bool {
	at, tooLarge := 0, false
	switch c.kind {
	case encoding.Double:
		const exponent = 0x7f800000
		for ; len(values) >= 8; values = values[8:] {
			bits := binary.LittleEndian.Uint64(values)
			narrow := math.Float32bits(float32(math.Float64frombits(bits)))
			// What has become infinite and was not before.
			tooLarge = tooLarge || narrow&exponent == exponent && bits>>52&0x7ff != 0x7ff
			binary.LittleEndian.PutUint32(dst[at:], narrow)
			at += stride
		}
	case encoding.Int32:
		for ; len(values) >= 4; values = values[4:] {
			i := int32(binary.LittleEndian.Uint32(values)) //nolint:gosec // the bits are the same
			binary.LittleEndian.PutUint32(dst[at:], math.Float32bits(float32(i)))
			at += stride
		}
	default:
		for ; len(values) >= 8; values = values[8:] {
			i := int64(binary.LittleEndian.Uint64(values)) //nolint:gosec // the bits are the same
			binary.LittleEndian.PutUint32(dst[at:], math.Float32bits(float32(i)))
			at += stride
		}
	}
	return !tooLarge
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
