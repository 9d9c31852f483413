package table

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"

	"github.com/sheafml/sheaf/job"
)

// answerRows takes rows out of outputs. It remembers where the texts of the last output are.
type answerRows struct {
	of      *byte // the data that starts belong to
	size    int
	starts  []int
	perTime int // elements of a row
}

// row returns the row of an answer in an output, as a tensor of its own.
func (r *answerRows) row(a *Answer, p *Predicted) (job.Tensor, error) {
	if p.Output < 0 || p.Output >= len(a.Outputs) {
		return job.Tensor{}, fmt.Errorf("the answer has %d outputs, %q is the one at %d", len(a.Outputs), p.Column, p.Output)
	}
	t := &a.Outputs[p.Output]
	row := job.Tensor{Datatype: t.Datatype, Shape: t.Shape, Data: t.Data}
	if len(t.Shape) == len(p.Shape) {
		return row, nil // a model that takes one row at a time
	}
	if len(t.Shape) != len(p.Shape)+1 || a.At < 0 || int64(a.At) >= t.Shape[0] {
		return job.Tensor{}, fmt.Errorf("output %q has the shape %v, row %d of it is wanted", t.Name, t.Shape, a.At)
	}
	rows := int(t.Shape[0])
	row.Shape = t.Shape[1:]
	if t.Datatype == job.Bytes {
		if err := r.find(t, rows); err != nil {
			return job.Tensor{}, err
		}
		row.Data = t.Data[r.starts[a.At*r.perTime]:r.starts[(a.At+1)*r.perTime]]
		return row, nil
	}
	if len(t.Data)%rows != 0 {
		return job.Tensor{}, fmt.Errorf("output %q has %d bytes for %d rows", t.Name, len(t.Data), rows)
	}
	size := len(t.Data) / rows
	row.Data = t.Data[a.At*size : (a.At+1)*size]
	return row, nil
}

// find notes where each text of an output begins.
func (r *answerRows) find(t *job.Tensor, rows int) error {
	if len(t.Data) > 0 && r.of == &t.Data[0] && r.size == len(t.Data) {
		return nil
	}
	if err := t.Check("output", job.Limits{MaxRank: math.MaxInt, MaxElements: math.MaxInt}); err != nil {
		return fmt.Errorf("output %q: %w", t.Name, err)
	}
	r.starts = append(r.starts[:0], 0)
	for at := 0; at < len(t.Data); {
		at += 4 + int(binary.LittleEndian.Uint32(t.Data[at:]))
		r.starts = append(r.starts, at)
	}
	r.perTime = (len(r.starts) - 1) / rows
	r.of, r.size = nil, len(t.Data)
	if len(t.Data) > 0 {
		r.of = &t.Data[0]
	}
	return nil
}

// appendElement appends the first element of raw data as a CSV has it, and returns what follows it.
func appendElement(dst []byte, dt job.Datatype, data []byte, delimiter byte) (text, rest []byte) {
	if dt == job.Bytes {
		end := 4 + int(binary.LittleEndian.Uint32(data))
		return appendField(dst, data[4:end], delimiter), data[end:]
	}
	rest = data[dt.Size():]
	switch dt {
	case job.FP32:
		return appendFloat(dst, float64(math.Float32frombits(binary.LittleEndian.Uint32(data))), 32), rest
	case job.FP64:
		return appendFloat(dst, math.Float64frombits(binary.LittleEndian.Uint64(data)), 64), rest
	case job.FP16, job.BF16:
		if f, special := notFinite(dt, binary.LittleEndian.Uint16(data)); special {
			return appendFloat(dst, f, 32), rest
		}
	default:
	}
	t := job.Tensor{Datatype: dt, Data: data[:dt.Size()]}
	return job.AppendNestedJSON(dst, &t), rest
}

// notFinite tells NaN and the infinities of 16 bits.
func notFinite(dt job.Datatype, bits uint16) (f float64, ok bool) {
	exponent, mantissa := uint16(0x7c00), uint16(0x3ff)
	if dt == job.BF16 {
		exponent, mantissa = 0x7f80, 0x7f
	}
	switch {
	case bits&exponent != exponent:
		return 0, false
	case bits&mantissa != 0:
		return math.NaN(), true
	}
	return math.Inf(1 - int(bits>>15)*2), true
}

// appendFloat appends a float in the fewest digits, without an exponent between 1e-6 and 1e21, as JSON has it.
func appendFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Inf"...)
	case math.IsInf(f, -1):
		return append(dst, "-Inf"...)
	}
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, f, format, -1, bits)
}
