package table

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/sheafml/sheaf/job"
)

// appendJSON reads a JSON value, nested or flat or bare, into the data of an input, and sets the row's shape.
func (a *assembler) appendJSON(input int, column string, value []byte) *job.Error {
	if end, err := a.appendNumbers(input, column, value, 0); end == len(value) || err != nil {
		return err
	}
	in, row := &a.plan.Inputs[input], &a.inputs[input]
	lim := a.plan.Limits
	lim.MaxBytes = len(value) // the text may be longer than the data, which is held to the limit
	got, data, err := job.ScanArray(column, value, in.Datatype, lim)
	if err != nil {
		return toError(err)
	}
	if fault := noNUL(in.Datatype, data, column); fault != nil {
		return fault
	}
	row.data = append(row.data, data...)
	return row.fit(in, column, got)
}

// appendNumbers is the quick way of appendJSON, for an array of numbers in a longer text. It returns where the array
// ends; -1, and nothing is changed, if it is of another kind.
func (a *assembler) appendNumbers(input int, column string, src []byte, pos int) (end int, err *job.Error) {
	if pos >= len(src) || src[pos] != '[' {
		return -1, nil
	}
	in, row := &a.plan.Inputs[input], &a.inputs[input]
	l := numberList{dt: in.Datatype, src: src, data: row.data}
	if end = l.read(pos); end < 0 {
		return -1, nil
	}
	row.data = l.data
	return end, row.fit(in, column, l.dims[:l.rank])
}

// fit sets the shape of the row.
func (r *rowData) fit(in *PlanInput, column string, got []int64) *job.Error {
	if len(got) == 1 && len(in.Shape) == 1 && in.Shape[0] == got[0] {
		return nil
	}
	shape, ok := fitShape(in.Shape, got)
	if !ok {
		return errShape(column, in, got)
	}
	r.shape = shape
	return nil
}

// appendScalar reads a JSON value as one element of an input.
func (a *assembler) appendScalar(input int, column string, value []byte) *job.Error {
	in, row := &a.plan.Inputs[input], &a.inputs[input]
	if data, end := appendNumber(row.data, in.Datatype, value, 0); end == len(value) {
		row.data = data
		return nil
	}
	lim := a.plan.Limits
	lim.MaxBytes = len(value)
	shape, data, err := job.ScanArray(column, value, in.Datatype, lim)
	if err != nil {
		return toError(err)
	}
	if n := job.Elements(shape); n != 1 {
		return job.Invalidf(column, "expected a single value, got a list of %d", n)
	}
	if fault := noNUL(in.Datatype, data, column); fault != nil {
		return fault
	}
	row.data = append(row.data, data...)
	return nil
}

// appendText reads the text of a CSV's cell as one element of an input.
func (a *assembler) appendText(input int, column string, text []byte) *job.Error {
	in, row := &a.plan.Inputs[input], &a.inputs[input]
	if in.Datatype == job.FP32 {
		if bits, end := shortFloat(text, 0); end == len(text) && end > 0 {
			row.data = binary.LittleEndian.AppendUint32(row.data, bits)
			return nil
		}
	}
	if data, end := appendNumber(row.data, in.Datatype, text, 0); end == len(text) && end > 0 {
		row.data = data
		return nil
	}
	data, ok := appendTextElement(row.data, in.Datatype, text)
	if !ok {
		return errText(column, in.Datatype, text)
	}
	row.data = data
	return nil
}

// appendTextElement appends the element that a text stands for; false if it stands for none of the datatype.
func appendTextElement(dst []byte, dt job.Datatype, text []byte) ([]byte, bool) {
	if dt == job.Bytes {
		if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
			return dst, false
		}
		return job.AppendBytesElement(dst, text), true
	}
	text = bytes.TrimSpace(text)
	switch dt {
	case job.Bool:
		switch {
		case string(text) == "1" || bytes.EqualFold(text, []byte("true")):
			return append(dst, 1), true
		case string(text) == "0" || bytes.EqualFold(text, []byte("false")):
			return append(dst, 0), true
		}
		return dst, false
	case job.FP16, job.BF16, job.FP32, job.FP64:
		return appendTextFloat(dst, dt, text)
	default:
		text = bytes.TrimPrefix(text, []byte("+"))
		if len(text) > 0 && text[0] == '-' {
			text = append([]byte("-"), trimZeros(text[1:])...)
		} else {
			text = trimZeros(text)
		}
		return appendScanned(dst, dt, text)
	}
}

// trimZeros cuts leading zeros, which JSON does not have.
func trimZeros(text []byte) []byte {
	for len(text) > 1 && text[0] == '0' && text[1]-'0' <= 9 {
		text = text[1:]
	}
	return text
}

// appendTextFloat knows what JSON does not: NaN, infinities, and "+1", ".5" and "1.".
func appendTextFloat(dst []byte, dt job.Datatype, text []byte) ([]byte, bool) {
	if bytes.ContainsAny(text, "xXpP_") { // other ways to write numbers in Go
		return dst, false
	}
	bits := 64
	if dt == job.FP32 {
		bits = 32
	}
	f, err := strconv.ParseFloat(string(text), bits)
	if err != nil {
		return dst, false
	}
	switch dt {
	case job.FP32:
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(f))), true
	case job.FP64:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f)), true
	default:
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		// Both are the upper bits of the float32 in BF16; FP16 has less of an exponent.
		wide := math.Float32bits(float32(f)) >> 16
		if dt == job.FP16 {
			wide = wide&0x8000 | 0x7c00 | wide&0x40<<3
		}
		return binary.LittleEndian.AppendUint16(dst, uint16(wide)), true
	}
	return appendScanned(dst, dt, strconv.AppendFloat(nil, f, 'e', -1, 64))
}

func appendScanned(dst []byte, dt job.Datatype, text []byte) ([]byte, bool) {
	lim := job.DefaultLimits()
	_, data, err := job.ScanArray("", text, dt, lim)
	if err != nil || len(data) != dt.Size() {
		return dst, false
	}
	return append(dst, data...), true
}

// errText is the error of a text that stands for no element of a datatype.
func errText(column string, dt job.Datatype, text []byte) *job.Error {
	switch {
	case dt == job.Bytes && bytes.IndexByte(text, 0) >= 0:
		return errNUL(column)
	case dt == job.Bytes:
		return job.Invalidf(column, "expected text in UTF-8")
	case len(bytes.TrimSpace(text)) == 0:
		return job.Invalidf(column, "expected %s, the cell is empty", wanted(dt))
	}
	return job.Invalidf(column, "expected %s, got %q", wanted(dt), excerpt(text))
}

// wanted says what an element of a datatype is.
func wanted(dt job.Datatype) string {
	switch dt {
	case job.Bool:
		return "true or false"
	case job.Bytes:
		return "text"
	case job.FP16, job.BF16, job.FP32, job.FP64:
		return "a number that fits " + dt.String()
	default:
		return "an integer that fits " + dt.String()
	}
}

// excerpt returns at most 20 bytes of what came from outside.
func excerpt(text []byte) string {
	const limit = 20
	if len(text) <= limit {
		return string(text)
	}
	return string(text[:limit-3]) + "..."
}

// noNUL refuses texts that no model takes.
func noNUL(dt job.Datatype, data []byte, column string) *job.Error {
	for dt == job.Bytes && len(data) >= 4 {
		end := 4 + int(binary.LittleEndian.Uint32(data))
		if bytes.IndexByte(data[4:end], 0) >= 0 {
			return errNUL(column)
		}
		data = data[end:]
	}
	return nil
}

func errNUL(column string) *job.Error {
	return job.Invalidf(column, "the text has a NUL byte, which the text of a model cannot have")
}
