package table

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/parquet-go/parquet-go/encoding"

	"github.com/sheafml/sheaf/job"
)

// pqPiece is encoded rows, column by column.
type pqPiece struct {
	columns []pqData
	rows    int64
}

// pqData are cells of a column as a page has them, but for the levels, which are a byte each, and booleans, likewise.
type pqData struct {
	entries  int
	rep, def []byte // nil where the column has no such levels
	values   []byte
}

// entry adds an entry, whose value is added besides if it has one.
func (d *pqData) entry(o *pqOut, rep, def byte) {
	d.entries++
	if o.maxRep > 0 {
		d.rep = append(d.rep, rep)
	}
	if o.maxDef > 0 {
		d.def = append(d.def, def)
	}
}

// text adds the value of a text.
func (d *pqData) text(b []byte) { d.values = job.AppendBytesElement(d.values, b) }

// Encode implements Sink.
func (s *parquetSink) Encode(b Block, answers []Answer) (_ Piece, err error) {
	defer damaged(&err)
	p := &pqPiece{columns: make([]pqData, len(s.columns)), rows: int64(len(answers))}
	for i := range s.columns {
		if err := s.columns[i].encode(&p.columns[i], &s.spec, b, answers); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// encode makes the cells of a column.
func (o *pqOut) encode(d *pqData, spec *Spec, b Block, answers []Answer) error {
	var rows answerRows
	var cell []byte
	for i := range answers {
		a := &answers[i]
		switch o.what {
		case pqRow:
			d.entry(o, 0, 0)
			d.values = binary.LittleEndian.AppendUint64(d.values, uint64(b.Place().Row+int64(a.Row)+1)) //nolint:gosec // the bits are the same
		case pqLine:
			d.entry(o, 0, 0)
			d.values = binary.LittleEndian.AppendUint64(d.values, uint64(b.Line(a.Row))) //nolint:gosec // the bits are the same
		case pqError:
			d.entry(o, 0, 0)
			d.text([]byte(reason(a.Err)))
		case pqCopied:
			source, ok := b.(*parquetBlock)
			if !ok {
				return fmt.Errorf("column %s: the row is not of a Parquet file", clip(o.name))
			}
			o.copy(d, source, a.Row)
		case pqJSON:
			cell = b.AppendCell(cell[:0], a.Row, o.from)
			if err := o.json(d, cell); err != nil {
				return fmt.Errorf("row %d, column %s: %w", b.Place().Row+int64(a.Row)+1, clip(o.name), err)
			}
		case pqPredicts:
			p := &spec.Predicted[o.from]
			t, err := rows.row(a, p)
			if err != nil {
				return err
			}
			if i == 0 {
				o.expect(d, len(answers), len(t.Data))
			}
			if err := o.predict(d, p, &t); err != nil {
				return err
			}
		}
	}
	return nil
}

// expect makes room for predictions of so many bytes.
func (o *pqOut) expect(d *pqData, rows, size int) {
	const most = 16 << 20
	d.values = make([]byte, 0, min(rows*size, most))
	if o.list {
		d.rep, d.def = make([]byte, 0, min(rows*size/4, most)), make([]byte, 0, min(rows*size/4, most))
	}
}

// copy adds a cell of the source with its levels.
func (o *pqOut) copy(d *pqData, b *parquetBlock, row int) {
	col, cells := b.pq[o.from], b.cells[o.from]
	from, to, value, _ := cells.row(row)
	for i := from; i < to; i++ {
		rep, def := byte(0), cells.level(col, i)
		switch {
		case cells.rep != nil:
			rep = cells.rep[i]
		case i > from:
			rep = 1
		}
		d.entry(o, rep, def)
		if def != col.maxDef {
			continue
		}
		v := cells.value(col, value)
		value++
		switch {
		case col.means == half:
			d.values = binary.LittleEndian.AppendUint32(d.values, math.Float32bits(float32(col.float(v))))
		case col.kind == encoding.ByteArray:
			d.text(v)
		default:
			d.values = append(d.values, v...)
		}
	}
}

// json adds a cell that another format gave as JSON.
func (o *pqOut) json(d *pqData, cell []byte) error {
	if bytes.Equal(cell, []byte("null")) {
		d.entry(o, 0, 0)
		return nil
	}
	d.entry(o, 0, 1)
	unfit := func(want string) error {
		return fmt.Errorf("%s, where the first rows have %s; another output format takes both", excerpt(cell), want)
	}
	text := string(cell)
	if len(text) > 1 && text[0] == '"' {
		if err := json.Unmarshal(cell, &text); err != nil {
			return err
		}
	}
	switch o.kind {
	case Integer:
		i, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return unfit("integers")
		}
		d.values = binary.LittleEndian.AppendUint64(d.values, uint64(i)) //nolint:gosec // the bits are the same
	case Number:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return unfit("numbers")
		}
		d.values = binary.LittleEndian.AppendUint64(d.values, math.Float64bits(f))
	case Bool:
		v, err := strconv.ParseBool(text)
		if err != nil {
			return unfit("true and false")
		}
		d.values = append(d.values, 0)
		if v {
			d.values[len(d.values)-1] = 1
		}
	case Text, List, Object, Unknown:
		d.text([]byte(text))
	}
	return nil
}

// predict adds the elements of a row.
func (o *pqOut) predict(d *pqData, p *Predicted, t *job.Tensor) error {
	n := elements(t.Shape)
	if want := elements(p.Shape); t.Datatype != p.Datatype || want >= 0 && n != want || t.Datatype != job.Bytes && len(t.Data) != n*t.Datatype.Size() {
		return fmt.Errorf("output %q has %d bytes of %s in the shape %v for a row, the model says %s and %v",
			p.Column, len(t.Data), t.Datatype, t.Shape, p.Datatype, p.Shape)
	}
	switch {
	case !o.list:
		d.entry(o, 0, 0)
	case n == 0:
		d.entry(o, 0, 0)
	default:
		d.entry(o, 0, 1)
		for range n - 1 {
			d.entry(o, 1, 1)
		}
	}
	switch dt := t.Datatype; dt {
	case job.Int8:
		for _, v := range t.Data {
			d.values = binary.LittleEndian.AppendUint32(d.values, uint32(int8(v))) //nolint:gosec // the sign is kept
		}
	case job.Uint8:
		for _, v := range t.Data {
			d.values = binary.LittleEndian.AppendUint32(d.values, uint32(v))
		}
	case job.Int16, job.Uint16, job.FP16, job.BF16:
		for data := t.Data; len(data) >= 2; data = data[2:] {
			d.values = binary.LittleEndian.AppendUint32(d.values, widened(dt, binary.LittleEndian.Uint16(data)))
		}
	default:
		d.values = append(d.values, t.Data...)
	}
	return nil
}

// widened makes 32 bits of 16.
func widened(dt job.Datatype, bits uint16) uint32 {
	switch dt {
	case job.Int16:
		return uint32(int16(bits)) //nolint:gosec // the sign is kept
	case job.FP16:
		return math.Float32bits(float32(halfFloat(bits)))
	case job.BF16:
		return uint32(bits) << 16
	default:
		return uint32(bits)
	}
}
