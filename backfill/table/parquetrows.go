package table

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding"

	"github.com/sheafml/sheaf/job"
)

// Encode implements Sink.
func (s *parquetSink) Encode(b Block, answers []Answer) (_ Piece, err error) {
	defer damaged(&err)
	p := &pqPiece{columns: make([][]parquet.Value, len(s.columns)), rows: int64(len(answers))}
	for i := range s.columns {
		if p.columns[i], err = s.columns[i].encode(i, &s.spec, b, answers); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// encode makes the values of a column, which is the leaf of that number.
func (o *pqOut) encode(leaf int, spec *Spec, b Block, answers []Answer) ([]parquet.Value, error) {
	values := make([]parquet.Value, 0, len(answers))
	var rows answerRows
	var cell []byte
	for i := range answers {
		a := &answers[i]
		switch o.what {
		case pqRow:
			values = append(values, parquet.Int64Value(b.Place().Row+int64(a.Row)+1).Level(0, 0, leaf))
		case pqLine:
			values = append(values, parquet.Int64Value(b.Line(a.Row)).Level(0, 0, leaf))
		case pqError:
			values = append(values, parquet.ByteArrayValue([]byte(reason(a.Err))).Level(0, 0, leaf))
		case pqCopied:
			source, ok := b.(*parquetBlock)
			if !ok {
				return nil, fmt.Errorf("column %s: the row is not of a Parquet file", clip(o.name))
			}
			values = source.appendValues(values, leaf, a.Row, o.from)
		case pqJSON:
			cell = b.AppendCell(cell[:0], a.Row, o.from)
			v, err := o.value(cell)
			if err != nil {
				return nil, fmt.Errorf("row %d, column %s: %w", b.Place().Row+int64(a.Row)+1, clip(o.name), err)
			}
			if v.IsNull() {
				values = append(values, v.Level(0, 0, leaf))
			} else {
				values = append(values, v.Level(0, 1, leaf))
			}
		case pqPredicts:
			p := &spec.Predicted[o.from]
			t, err := rows.row(a, p)
			if err != nil {
				return nil, err
			}
			if n := elements(p.Shape); t.Datatype != p.Datatype || n >= 0 && n != elements(t.Shape) || t.Datatype != job.Bytes && len(t.Data) != elements(t.Shape)*t.Datatype.Size() {
				return nil, fmt.Errorf("output %q has %d bytes of %s in the shape %v for a row, the model says %s and %v", p.Column, len(t.Data), t.Datatype, t.Shape, p.Datatype, p.Shape)
			}
			if i == 0 && o.list {
				values = make([]parquet.Value, 0, len(answers)*max(1, job.Elements(t.Shape)))
			}
			values = o.appendPrediction(values, leaf, &t)
		}
	}
	return values, nil
}

// appendValues appends a cell of the source with its levels.
func (b *parquetBlock) appendValues(dst []parquet.Value, leaf, row, column int) []parquet.Value {
	col, cells := b.pq[column], b.cells[column]
	from, to, value, _ := cells.row(row)
	for i := from; i < to; i++ {
		rep, def := 0, int(cells.level(col, i))
		switch {
		case cells.rep != nil:
			rep = int(cells.rep[i])
		case i > from:
			rep = 1
		}
		if def != int(col.maxDef) {
			dst = append(dst, parquet.NullValue().Level(rep, def, leaf))
			continue
		}
		dst = append(dst, col.parquetValue(cells.value(col, value)).Level(rep, def, leaf))
		value++
	}
	return dst
}

func (c *pqColumn) parquetValue(b []byte) parquet.Value {
	if c.means == half {
		return parquet.FloatValue(float32(c.float(b)))
	}
	switch c.kind {
	case encoding.Boolean:
		return parquet.BooleanValue(b[0] != 0)
	case encoding.Int32:
		return parquet.Int32Value(int32(binary.LittleEndian.Uint32(b))) //nolint:gosec // the bits are the same
	case encoding.Int64:
		return parquet.Int64Value(int64(binary.LittleEndian.Uint64(b))) //nolint:gosec // the bits are the same
	case encoding.Float:
		return parquet.FloatValue(math.Float32frombits(binary.LittleEndian.Uint32(b)))
	case encoding.Double:
		return parquet.DoubleValue(math.Float64frombits(binary.LittleEndian.Uint64(b)))
	case encoding.FixedLenByteArray:
		return parquet.FixedLenByteArrayValue(b)
	default:
		return parquet.ByteArrayValue(b)
	}
}

// value reads a cell that another format gave as JSON.
func (o *pqOut) value(cell []byte) (parquet.Value, error) {
	if bytes.Equal(cell, []byte("null")) {
		return parquet.NullValue(), nil
	}
	unfit := func(want string) error {
		return fmt.Errorf("%s, where the first rows have %s; another output format takes both", excerpt(cell), want)
	}
	text := string(cell)
	if len(text) > 1 && text[0] == '"' {
		if err := json.Unmarshal(cell, &text); err != nil {
			return parquet.Value{}, err
		}
	}
	switch o.kind {
	case Integer:
		i, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return parquet.Value{}, unfit("integers")
		}
		return parquet.Int64Value(i), nil
	case Number:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return parquet.Value{}, unfit("numbers")
		}
		return parquet.DoubleValue(f), nil
	case Bool:
		v, err := strconv.ParseBool(text)
		if err != nil {
			return parquet.Value{}, unfit("true and false")
		}
		return parquet.BooleanValue(v), nil
	case Text, List, Object, Unknown:
	}
	return parquet.ByteArrayValue([]byte(text)), nil
}

// appendPrediction appends the elements of a row.
func (o *pqOut) appendPrediction(dst []parquet.Value, leaf int, t *job.Tensor) []parquet.Value {
	def := 0
	if o.list {
		def = 1
		if len(t.Data) == 0 {
			return append(dst, parquet.NullValue().Level(0, 0, leaf))
		}
	}
	rep := 0
	for data := t.Data; len(data) > 0; {
		var v parquet.Value
		v, data = pqFirst(t.Datatype, data)
		dst = append(dst, v.Level(rep, def, leaf))
		rep = 1
	}
	return dst
}

// pqFirst reads the first element of raw data, and returns what follows it.
func pqFirst(dt job.Datatype, data []byte) (v parquet.Value, rest []byte) {
	if dt == job.Bytes {
		end := 4 + int(binary.LittleEndian.Uint32(data))
		return parquet.ByteArrayValue(data[4:end]), data[end:]
	}
	rest = data[dt.Size():]
	switch dt {
	case job.FP32:
		return parquet.FloatValue(math.Float32frombits(binary.LittleEndian.Uint32(data))), rest
	case job.FP64:
		return parquet.DoubleValue(math.Float64frombits(binary.LittleEndian.Uint64(data))), rest
	case job.Bool:
		return parquet.BooleanValue(data[0] != 0), rest
	case job.Int64, job.Uint64:
		return parquet.Int64Value(int64(binary.LittleEndian.Uint64(data))), rest //nolint:gosec // the bits are the same
	case job.Int32, job.Uint32:
		return parquet.Int32Value(int32(binary.LittleEndian.Uint32(data))), rest //nolint:gosec // the bits are the same
	case job.Int16:
		return parquet.Int32Value(int32(int16(binary.LittleEndian.Uint16(data)))), rest //nolint:gosec // the bits are the same
	case job.Uint16:
		return parquet.Int32Value(int32(binary.LittleEndian.Uint16(data))), rest
	case job.Int8:
		return parquet.Int32Value(int32(int8(data[0]))), rest //nolint:gosec // the bits are the same
	case job.Uint8:
		return parquet.Int32Value(int32(data[0])), rest
	default: // FP16 and BF16, by their text
		text, _ := appendElement(nil, dt, data, ',')
		f, err := strconv.ParseFloat(string(text), 32)
		if err != nil {
			f = math.NaN()
		}
		return parquet.FloatValue(float32(f)), rest
	}
}
