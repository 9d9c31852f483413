package job

import (
	"encoding/binary"
	"math"
	"strconv"
	"unicode/utf8"
)

// AppendTensorJSON appends {"name","shape","datatype","data"} with flat data.
//
// A float is written in the fewest digits that read back as the same value of its datatype. JSON has no NaN and no
// infinities: they become null. A BYTES element becomes a string; what is not UTF-8 in it becomes U+FFFD, so a client
// that needs arbitrary bytes asks for protobuf.
func AppendTensorJSON(dst []byte, t *Tensor) []byte {
	b := append(dst, `{"name":`...)
	b = appendJSONString(b, t.Name)
	b = append(b, `,"shape":[`...)
	for i, d := range t.Shape {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, d, 10)
	}
	b = append(b, `],"datatype":"`...)
	b = append(b, t.Datatype.String()...)
	b = append(b, `","data":[`...)
	if n, ok := elementsOf(t); ok {
		w := elementWriter{dt: t.Datatype, rest: t.Data}
		b = w.list(b, n)
	}
	return append(b, "]}"...)
}

// AppendNestedJSON appends the data of t as JSON nested by its shape, as numpy's tolist() would give it: a bare value
// for rank 0. Elements are written as AppendTensorJSON does. A tensor whose data disagrees with its shape becomes null.
func AppendNestedJSON(dst []byte, t *Tensor) []byte {
	if _, ok := elementsOf(t); !ok {
		return append(dst, "null"...)
	}
	w := elementWriter{dt: t.Datatype, rest: t.Data}
	return w.nested(dst, t.Shape)
}

// elementsOf returns how many elements a tensor has, false if its data does not hold exactly as many.
func elementsOf(t *Tensor) (int, bool) {
	n, err := CheckShape("", t.Shape, recordLimits())
	if err != nil || !t.Datatype.Valid() {
		return 0, false
	}
	if t.Datatype == Bytes {
		return n, t.checkBytes("", n) == nil
	}
	return n, len(t.Data) == n*t.Datatype.Size()
}

// elementWriter writes elements of raw data in turn. The data holds as many as it is asked for.
type elementWriter struct {
	dt   Datatype
	rest []byte
}

func (w *elementWriter) nested(b []byte, shape []int64) []byte {
	switch len(shape) {
	case 0:
		return w.element(b)
	case 1:
		b = append(b, '[')
		b = w.list(b, int(shape[0]))
		return append(b, ']')
	}
	b = append(b, '[')
	for i := range shape[0] {
		if i > 0 {
			b = append(b, ',')
		}
		b = w.nested(b, shape[1:])
	}
	return append(b, ']')
}

func (w *elementWriter) list(b []byte, n int) []byte {
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = w.element(b)
	}
	return b
}

func (w *elementWriter) element(b []byte) []byte {
	if w.dt == Bytes {
		size := binary.LittleEndian.Uint32(w.rest)
		text := w.rest[4 : 4+size]
		w.rest = w.rest[4+size:]
		return appendJSONString(b, text)
	}
	data := w.rest
	w.rest = data[w.dt.Size():]
	switch w.dt {
	case Bool:
		return strconv.AppendBool(b, data[0] != 0)
	case Int8:
		return strconv.AppendInt(b, int64(int8(data[0])), 10) //nolint:gosec // the sign bit is meant
	case Int16:
		return strconv.AppendInt(b, int64(int16(binary.LittleEndian.Uint16(data))), 10) //nolint:gosec // as above
	case Int32:
		return strconv.AppendInt(b, int64(int32(binary.LittleEndian.Uint32(data))), 10) //nolint:gosec // as above
	case Int64:
		return strconv.AppendInt(b, int64(binary.LittleEndian.Uint64(data)), 10) //nolint:gosec // as above
	case Uint8:
		return strconv.AppendUint(b, uint64(data[0]), 10)
	case Uint16:
		return strconv.AppendUint(b, uint64(binary.LittleEndian.Uint16(data)), 10)
	case Uint32:
		return strconv.AppendUint(b, uint64(binary.LittleEndian.Uint32(data)), 10)
	case Uint64:
		return strconv.AppendUint(b, binary.LittleEndian.Uint64(data), 10)
	case FP16:
		return appendFloat(b, float64(halfValue(binary.LittleEndian.Uint16(data))), 32)
	case BF16:
		return appendFloat(b, float64(brainValue(binary.LittleEndian.Uint16(data))), 32)
	case FP32:
		return appendFloat(b, float64(math.Float32frombits(binary.LittleEndian.Uint32(data))), 32)
	case FP64:
		return appendFloat(b, math.Float64frombits(binary.LittleEndian.Uint64(data)), 64)
	case Bytes:
	}
	return b
}

// appendFloat appends a float as ECMAScript does: without an exponent between 1e-6 and 1e21.
func appendFloat(b []byte, f float64, bits int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(b, "null"...)
	}
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(b, f, format, -1, bits)
}

// appendJSONString appends s as a JSON string. What is not UTF-8 in it becomes U+FFFD.
func appendJSONString[T string | []byte](b []byte, s T) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		size := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))])); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		b = append(b, s[start:i]...)
		switch {
		case c >= utf8.RuneSelf:
			b = append(b, "\uFFFD"...)
		case c == '"', c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
		i += size
		start = i
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}
