package job

import (
	"math"
	"strconv"
)

// number is a number of a JSON text, split but not yet converted to any datatype.
type number struct {
	token    []byte // as it stands in the text
	negative bool
	integer  bool   // neither a fraction nor an exponent
	digits   uint64 // the first 19 significant digits
	exponent int    // the value is ±digits * 10^exponent, if exact
	exact    bool   // digits are all of them
	used     int    // how many digits there are, after leading zeros
}

// maxDigits is how many decimal digits any uint64 holds.
const maxDigits = 19

// number consumes a number.
func (s *scanner) number() (number, *Error) {
	src, i := s.src, s.pos
	n := number{integer: true, exact: true}
	if i < len(src) && src[i] == '-' {
		n.negative = true
		i++
	}
	first := i
	if i < len(src) && src[i] == '0' {
		i++ // nothing may follow a leading zero
	} else {
		i = n.run(src, i)
	}
	if i == first {
		s.pos = i
		return n, s.malformed("a digit")
	}
	if i < len(src) && src[i] == '.' {
		n.integer = false
		first = i + 1
		i = n.run(src, first)
		if i == first {
			s.pos = i
			return n, s.malformed("a digit")
		}
		n.exponent = first - i
	}
	if i < len(src) && src[i]|0x20 == 'e' {
		n.integer = false
		var err *Error
		if i, err = s.exponent(&n, i+1); err != nil {
			return n, err
		}
	}
	n.token = src[s.pos:i]
	s.pos = i
	return n, nil
}

// run notes the digits from i on and returns where they end. Leading zeros are not significant.
func (n *number) run(src []byte, i int) int {
	digits, used := n.digits, n.used
	for ; i < len(src) && src[i]-'0' <= 9; i++ {
		if used == maxDigits {
			n.exact = false
			continue
		}
		digits = digits*10 + uint64(src[i]-'0')
		if digits != 0 {
			used++
		}
	}
	n.digits, n.used = digits, used
	return i
}

// exponent consumes what follows the 'e'.
func (s *scanner) exponent(n *number, i int) (int, *Error) {
	src, minus := s.src, false
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
		s.pos = i
		return i, s.malformed("a digit")
	}
	if minus {
		e = -e
	}
	n.exponent += e
	return i, nil
}

// powersOfTen are those that a float64 holds exactly.
var powersOfTen = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// quick returns the number as a float64 where one correctly rounded operation on exact operands gives it.
func (n *number) quick() (f float64, ok bool) {
	if !n.exact || n.digits > 1<<53 {
		return 0, false
	}
	f = float64(n.digits)
	switch e := n.exponent; {
	case e >= 0 && e < len(powersOfTen):
		f *= powersOfTen[e]
	case e < 0 && -e < len(powersOfTen):
		f /= powersOfTen[-e]
	default:
		return 0, false
	}
	if n.negative {
		f = -f
	}
	return f, true
}

// float64 returns the nearest float64, false if the number is too large for one.
func (n *number) float64() (f float64, ok bool) {
	if f, ok := n.quick(); ok {
		return f, true
	}
	f, err := strconv.ParseFloat(string(n.token), 64)
	return f, err == nil
}

// float32 returns the nearest float32, false if the number is too large for one.
func (n *number) float32() (f float32, ok bool) {
	if f, ok := n.quick(); ok {
		if narrow, ok := narrowed(f); ok {
			return narrow, true
		}
	}
	wide, err := strconv.ParseFloat(string(n.token), 32)
	return float32(wide), err == nil
}

// narrowed rounds a number that was rounded to float64 once more. It is false where that may not give the nearest float32:
// half-way between two of them, or where these are subnormal and so further apart.
func narrowed(f float64) (float32, bool) {
	const below, half = 1<<29 - 1, 1 << 28
	a := math.Abs(f)
	return float32(f), a == 0 || a >= 0x1p-126 && a <= math.MaxFloat32 && math.Float64bits(f)&below != half
}

// int returns the number as an integer of so many bits, false if it does not fit. It must be an integer.
func (n *number) int(bits int) (int64, bool) {
	if !n.exact || n.digits > 1<<63 {
		return 0, false
	}
	v := int64(n.digits) //nolint:gosec // 1<<63 becomes the least int64
	if n.negative {
		v = -v
	} else if v < 0 {
		return 0, false
	}
	return v, v >= math.MinInt64>>(64-bits) && v <= math.MaxInt64>>(64-bits)
}

// uint returns the number as an unsigned integer of so many bits, false if it does not fit. It must be an integer.
func (n *number) uint(bits int) (uint64, bool) {
	if n.negative {
		return 0, false
	}
	v := n.digits
	if !n.exact {
		var err error
		if v, err = strconv.ParseUint(string(n.token), 10, 64); err != nil {
			return 0, false
		}
	}
	return v, v <= math.MaxUint64>>(64-bits)
}

// excerpt returns at most 20 bytes of a literal, for an error.
func excerpt(token []byte) string {
	if len(token) <= 20 {
		return string(token)
	}
	return string(token[:17]) + "..."
}
