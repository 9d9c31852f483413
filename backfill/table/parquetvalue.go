package table

import (
	"encoding/binary"
	"math"
	"math/big"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go/encoding"

	"github.com/sheafml/sheaf/job"
)

// meaning is what stored values stand for, beside themselves.
type meaning uint8

const (
	itself    meaning = iota
	decimal10         // an integer, of which scale digits are behind the point
	half              // a float of 16 bits
	date              // days since 1970
	instant           // units since 1970, in UTC
	local             // the same by some clock on a wall
	clock             // units since midnight
)

// moment reports whether values are dates or times: numbers for a model, text in JSON and CSV.
func (c *pqColumn) moment() bool { return c.means >= date }

// same reports whether a column's values are the elements of a datatype as they are.
func (c *pqColumn) same(dt job.Datatype) bool {
	if c.means != itself {
		return c.means == half && dt == job.FP16
	}
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

// texts reports whether values are text.
func (c *pqColumn) texts() bool {
	return c.means == itself && (c.kind == encoding.ByteArray || c.kind == encoding.FixedLenByteArray)
}

// floats reports whether float reads values.
func (c *pqColumn) floats() bool {
	return c.means == half || c.kind == encoding.Float || c.kind == encoding.Double
}

// appendElement appends a value as an element of a datatype; false if it is none.
func (c *pqColumn) appendElement(dst []byte, dt job.Datatype, value []byte) ([]byte, bool) {
	switch {
	case c.same(dt):
		return append(dst, value...), true
	case c.texts():
		return appendTextElement(dst, dt, value)
	case dt == job.Bytes:
		return dst, false
	case c.floats():
		return appendFloatElement(dst, dt, c.float(value))
	case c.kind == encoding.Boolean:
		return appendTextElement(dst, dt, []byte{'0' + value[0]})
	}
	if i, ok := c.integer(value); ok {
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
	return appendTextElement(dst, dt, c.appendText(nil, value))
}

// appendFloatElement appends a float as an element of a datatype; false if it is too large, or has a fraction that is lost.
func appendFloatElement(dst []byte, dt job.Datatype, f float64) ([]byte, bool) {
	switch dt {
	case job.FP32:
		if math.Abs(f) > math.MaxFloat32 && math.IsInf(float64(float32(f)), 0) && !math.IsInf(f, 0) {
			return dst, false
		}
		return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(f))), true
	case job.FP64:
		return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f)), true
	case job.Bool:
		return dst, false
	case job.FP16, job.BF16:
		return appendTextElement(dst, dt, strconv.AppendFloat(nil, f, 'g', -1, 64))
	default:
	}
	if f != math.Trunc(f) || math.Abs(f) > math.MaxUint64 {
		return dst, false
	}
	return appendTextElement(dst, dt, strconv.AppendFloat(nil, f+0, 'f', 0, 64))
}

// unfit is the error of a value that is no element of a datatype.
func (c *pqColumn) unfit(name string, dt job.Datatype, value []byte) *job.Error {
	if c.texts() {
		return errText(name, dt, value)
	}
	return job.Invalidf(name, "expected %s, got %q", wanted(dt), excerpt(c.appendText(nil, value)))
}

// integer reads an integer; false if it is none, or too large.
func (c *pqColumn) integer(value []byte) (i int64, ok bool) {
	switch {
	case c.means != itself && !c.moment():
		return 0, false
	case c.kind == encoding.Int64:
		i = int64(binary.LittleEndian.Uint64(value)) //nolint:gosec // the bits are the same
		return i, !c.unsigned || i >= 0
	case c.unsigned:
		return int64(binary.LittleEndian.Uint32(value)), true
	}
	return int64(int32(binary.LittleEndian.Uint32(value))), true //nolint:gosec // the bits are the same
}

// float reads a float.
func (c *pqColumn) float(value []byte) float64 {
	switch {
	case c.means == half:
		return halfFloat(binary.LittleEndian.Uint16(value))
	case c.kind == encoding.Float:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(value)))
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(value))
}

// halfFloat widens a float of 16 bits.
func halfFloat(bits uint16) float64 {
	if f, special := notFinite(job.FP16, bits); special {
		return f
	}
	exponent, mantissa := int(bits>>10&0x1f), int(bits&0x3ff)
	if exponent == 0 {
		exponent = 1 // subnormal
	} else {
		mantissa |= 0x400
	}
	f := math.Ldexp(float64(mantissa), exponent-25)
	return math.Copysign(f, 1-float64(bits>>15)*2)
}

// appendJSON appends a value as JSON.
func (c *pqColumn) appendJSON(dst, value []byte) []byte {
	switch {
	case c.texts():
		return appendString(dst, value)
	case c.moment():
		return append(c.appendMoment(append(dst, '"'), value), '"')
	case c.floats():
		if f := c.float(value); math.IsNaN(f) || math.IsInf(f, 0) {
			return append(dst, "null"...)
		}
	}
	return c.appendText(dst, value)
}

// appendText appends a value as text.
func (c *pqColumn) appendText(dst, value []byte) []byte {
	switch {
	case c.means == decimal10:
		return c.appendDecimal(dst, value)
	case c.moment():
		return c.appendMoment(dst, value)
	case c.floats():
		bits := 32
		if c.kind == encoding.Double {
			bits = 64
		}
		return strconv.AppendFloat(dst, c.float(value), 'g', -1, bits)
	case c.kind == encoding.Boolean:
		return strconv.AppendBool(dst, value[0] != 0)
	case c.texts():
		return append(dst, value...)
	}
	i, ok := c.integer(value)
	if !ok {
		return strconv.AppendUint(dst, uint64(i), 10) //nolint:gosec // the bits are the same
	}
	return strconv.AppendInt(dst, i, 10)
}

// appendMoment appends a date or a time as RFC 3339 has it; of times that no place on Earth is said for, without a zone.
func (c *pqColumn) appendMoment(dst, value []byte) []byte {
	const wall = "2006-01-02T15:04:05.999999999"
	i, _ := c.integer(value)
	if c.means == date {
		return time.Unix(i*24*60*60, 0).UTC().AppendFormat(dst, time.DateOnly)
	}
	perSecond := int64(time.Second / c.unit)
	second, rest := i/perSecond, i%perSecond
	at := time.Unix(second, rest*int64(c.unit)).UTC()
	switch c.means {
	case instant:
		return at.AppendFormat(dst, time.RFC3339Nano)
	case local:
		return at.AppendFormat(dst, wall)
	default:
		return at.AppendFormat(dst, "15:04:05.999999999")
	}
}

// appendDecimal appends a decimal in its digits.
func (c *pqColumn) appendDecimal(dst, value []byte) []byte {
	var i big.Int
	switch c.kind {
	case encoding.Int32:
		i.SetInt64(int64(int32(binary.LittleEndian.Uint32(value)))) //nolint:gosec // the bits are the same
	case encoding.Int64:
		i.SetInt64(int64(binary.LittleEndian.Uint64(value))) //nolint:gosec // the bits are the same
	default: // big-endian, of any length
		i.SetBytes(value)
		if len(value) > 0 && value[0] >= 0x80 {
			i.Sub(&i, new(big.Int).Lsh(big.NewInt(1), uint(8*len(value))))
		}
	}
	if i.Sign() < 0 {
		dst = append(dst, '-')
	}
	digits := i.Abs(&i).String()
	for len(digits) <= c.scale {
		digits = "0" + digits
	}
	dst = append(dst, digits[:len(digits)-c.scale]...)
	if c.scale == 0 {
		return dst
	}
	dst = append(append(dst, '.'), digits[len(digits)-c.scale:]...)
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	if dst[len(dst)-1] == '.' {
		dst = dst[:len(dst)-1]
	}
	return dst
}
