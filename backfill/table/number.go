package table

import (
	"encoding/binary"
	"math"
	"strconv"

	"github.com/sheafml/sheaf/job"
)

// decimal is a number of a text, split but not yet converted to any datatype.
type decimal struct {
	digits   uint64
	exponent int // the value is ±digits * 10^exponent, if exact
	negative bool
	integer  bool // neither a fraction nor an exponent
	exact    bool // digits are all of them
}

// scanDecimal reads a JSON number at src[i:] and returns where it ends, -1 if there is none.
func scanDecimal(src []byte, i int) (d decimal, end int) {
	d.integer, d.exact = true, true
	if i < len(src) && src[i] == '-' {
		d.negative = true
		i++
	}
	first, digits := i, uint64(0)
	for i < len(src) && src[i]-'0' <= 9 {
		digits = digits*10 + uint64(src[i]-'0')
		i++
	}
	used := i - first
	if used == 0 || used > 1 && src[first] == '0' {
		return d, -1
	}
	if i < len(src) && src[i] == '.' {
		d.integer = false
		i++
		first = i
		for i < len(src) && src[i]-'0' <= 9 {
			digits = digits*10 + uint64(src[i]-'0')
			i++
		}
		if i == first {
			return d, -1
		}
		used += i - first
		d.exponent = first - i
	}
	d.digits = digits
	d.exact = used <= 19 // leading zeros count, which costs only time
	if i < len(src) && src[i]|0x20 == 'e' {
		return d.withExponent(src, i+1)
	}
	return d, i
}

func (d decimal) withExponent(src []byte, i int) (decimal, int) {
	d.integer = false
	minus := false
	if i < len(src) && (src[i] == '-' || src[i] == '+') {
		minus = src[i] == '-'
		i++
	}
	first, e := i, 0
	for i < len(src) && src[i]-'0' <= 9 {
		if e < 10_000 { // far beyond any float; more digits change nothing
			e = e*10 + int(src[i]-'0')
		}
		i++
	}
	if i == first {
		return d, -1
	}
	if minus {
		e = -e
	}
	d.exponent += e
	return d, i
}

// powersOfTen are those that a float64 holds exactly.
var powersOfTen = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// quick returns the number as a float64 where one correctly rounded operation on exact operands gives it.
func (d *decimal) quick() (f float64, ok bool) {
	if !d.exact || d.digits > 1<<53 {
		return 0, false
	}
	f = float64(d.digits)
	switch e := d.exponent; {
	case e == 0:
	case e > 0 && e < len(powersOfTen):
		f *= powersOfTen[e]
	case e < 0 && -e < len(powersOfTen):
		f /= powersOfTen[-e]
	default:
		return 0, false
	}
	if d.negative {
		f = -f
	}
	return f, true
}

// appendNumber appends the number at src[i:] as an element and returns where it ends. It knows FP32, FP64 and the integers;
// what it cannot do, because the number does not fit or is none, ends at -1 and is for job.ScanArray to do or to refuse.
func appendNumber(dst []byte, dt job.Datatype, src []byte, i int) ([]byte, int) {
	d, end := scanDecimal(src, i)
	if end < 0 {
		return dst, -1
	}
	switch dt {
	case job.FP32:
		if f, ok := d.float32(src[i:end]); ok {
			return binary.LittleEndian.AppendUint32(dst, math.Float32bits(f)), end
		}
	case job.FP64:
		f, ok := d.quick()
		if !ok {
			var err error
			f, err = strconv.ParseFloat(string(src[i:end]), 64)
			ok = err == nil
		}
		if ok {
			return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f)), end
		}
	case job.Int8, job.Int16, job.Int32, job.Int64, job.Uint8, job.Uint16, job.Uint32, job.Uint64:
		if d.integer && d.exact {
			return d.appendInteger(dst, dt, end)
		}
	case job.Bool, job.FP16, job.BF16, job.Bytes:
	}
	return dst, -1
}

// float32 returns the nearest float32, false if the number is too large for one.
func (d *decimal) float32(token []byte) (float32, bool) {
	if f, ok := d.quick(); ok {
		// Rounding to float64 first is harmless unless that lands half-way between two float32, or where these are
		// subnormal and so further apart.
		const below, half = 1<<29 - 1, 1 << 28
		if a := math.Abs(f); a == 0 || a >= 0x1p-126 && a <= math.MaxFloat32 && math.Float64bits(f)&below != half {
			return float32(f), true
		}
	}
	wide, err := strconv.ParseFloat(string(token), 32)
	return float32(wide), err == nil
}

func (d *decimal) appendInteger(dst []byte, dt job.Datatype, end int) ([]byte, int) {
	bits := 8 * dt.Size()
	v, most := d.digits, uint64(math.MaxUint64)>>(64-bits)
	if dt >= job.Int8 && dt <= job.Int64 {
		most >>= 1
		if d.negative {
			most++
		}
	} else if d.negative {
		return dst, -1
	}
	if v > most {
		return dst, -1
	}
	if d.negative {
		v = -v
	}
	for range bits / 8 {
		dst = append(dst, byte(v))
		v >>= 8
	}
	return dst, end
}
