package table

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding"

	"github.com/sheafml/sheaf/job"
)

// pqOut is a column that is written.
type pqOut struct {
	name string
	node parquet.Node
	what pqWhat
	from int // the column of the source, or the place among Spec.Predicted
	kind Kind
	list bool
}

// pqWhat is where the cells of a written column come from.
type pqWhat uint8

const (
	pqRow pqWhat = iota
	pqLine
	pqError
	pqCopied   // from a Parquet source, as it is there
	pqSource   // from another source, by its JSON
	pqPredicts // of the model
)

// pqColumns lists what is written, in order.
func pqColumns(spec *Spec) ([]pqOut, error) {
	var out []pqOut
	source := func(i int) error {
		c := &spec.Columns[i]
		if node, ok := c.source.(*parquet.Column); ok {
			if col, _ := newPQColumn(node); col == nil {
				if spec.Errors {
					return nil // what was never read cannot be wrong
				}
				return fmt.Errorf("column %s is of a nested type, which is not copied; leave it out of the input", clip(c.Name))
			}
			out = append(out, pqOut{name: c.Name, node: pqLike(node), what: pqCopied, from: i})
			return nil
		}
		out = append(out, pqOut{name: c.Name, node: pqNode(c.Kind), what: pqSource, from: i, kind: c.Kind})
		return nil
	}
	if spec.Join || spec.Errors {
		for i := range spec.Columns {
			name := spec.Columns[i].Name
			if spec.Errors && (name == ColumnLine || name == ColumnError) || spec.predicts(name) {
				continue
			}
			if err := source(i); err != nil {
				return nil, err
			}
		}
	}
	switch {
	case spec.Errors:
		return append(out, pqOut{name: ColumnLine, node: parquet.Int(64), what: pqLine}, pqOut{name: ColumnError, node: parquet.String(), what: pqError}), nil
	case !spec.Join:
		out = append(out, pqOut{name: ColumnRow, node: parquet.Int(64), what: pqRow})
		if spec.ID >= 0 && spec.ID < len(spec.Columns) {
			if err := source(spec.ID); err != nil {
				return nil, err
			}
		}
	}
	for i := range spec.Predicted {
		p := &spec.Predicted[i]
		o := pqOut{name: p.Column, node: pqElement(p.Datatype), what: pqPredicts, from: i, list: elements(p.Shape) != 1}
		if o.list {
			o.node = parquet.List(o.node)
		}
		out = append(out, o)
	}
	return out, nil
}

// predicts reports whether results have a prediction of that name, which replaces the column of the source.
func (s *Spec) predicts(name string) bool {
	for i := range s.Predicted {
		if !s.Errors && s.Predicted[i].Column == name {
			return true
		}
	}
	return false
}

// pqLike is a node of the same type and levels as one of a source, without how that one was encoded.
func pqLike(n *parquet.Column) parquet.Node {
	var like parquet.Node
	switch children := n.Columns(); {
	case n.Leaf():
		like = parquet.Leaf(n.Type())
	case children[0].Repeated() && children[0].Leaf():
		like = parquet.List(parquet.Leaf(children[0].Type()))
	case children[0].Repeated():
		like = parquet.List(pqLike(children[0].Columns()[0]))
	default:
		like = parquet.Group{children[0].Name(): pqLike(children[0])}
	}
	switch {
	case n.Optional():
		return parquet.Optional(like)
	case n.Repeated():
		return parquet.Repeated(like)
	}
	return like
}

// pqNode is how cells of a kind are written.
func pqNode(k Kind) parquet.Node {
	switch k {
	case Integer:
		return parquet.Optional(parquet.Int(64))
	case Number:
		return parquet.Optional(parquet.Leaf(parquet.DoubleType))
	case Bool:
		return parquet.Optional(parquet.Leaf(parquet.BooleanType))
	case Text, List, Object, Unknown: // lists and objects as JSON
	}
	return parquet.Optional(parquet.String())
}

// pqElement is how elements of a datatype are written.
func pqElement(dt job.Datatype) parquet.Node {
	switch dt {
	case job.Bool:
		return parquet.Leaf(parquet.BooleanType)
	case job.Uint8, job.Uint16, job.Uint32:
		return parquet.Uint(32)
	case job.Uint64:
		return parquet.Uint(64)
	case job.Int8, job.Int16, job.Int32:
		return parquet.Int(32)
	case job.Int64:
		return parquet.Int(64)
	case job.FP64:
		return parquet.Leaf(parquet.DoubleType)
	case job.Bytes:
		return parquet.String()
	case job.FP16, job.BF16, job.FP32:
	}
	return parquet.Leaf(parquet.FloatType)
}

// pqGroup is a group whose fields keep their order.
type pqGroup struct {
	parquet.Group
	fields []parquet.Field
}

// Fields implements parquet.Node.
func (g *pqGroup) Fields() []parquet.Field { return g.fields }

// pqField is a column of the schema.
type pqField struct {
	parquet.Node
	name string
}

// Name implements parquet.Field.
func (f *pqField) Name() string { return f.name }

// Value implements parquet.Field. Nobody writes Go values.
func (f *pqField) Value(base reflect.Value) reflect.Value { return base }

func pqSchema(columns []pqOut) *parquet.Schema {
	g := &pqGroup{Group: parquet.Group{}}
	for _, c := range columns {
		g.Group[c.name] = c.node
		g.fields = append(g.fields, &pqField{c.node, c.name})
	}
	return parquet.NewSchema("rows", g)
}

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
		case pqSource:
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
		rep, def := 0, 0
		if cells.rep != nil {
			rep = int(cells.rep[i])
		}
		if cells.def != nil {
			def = int(cells.def[i])
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
