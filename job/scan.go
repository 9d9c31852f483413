package job

import (
	"bytes"
	"encoding/binary"
	"math"
)

// maxRank is how deep an array may be nested whatever Limits.MaxRank says.
const maxRank = 32

// ScanArray reads a nested (or flat) JSON array, or a bare scalar, of one datatype and infers its shape: a rectangular
// array of any rank up to lim.MaxRank. It returns the raw tensor data. field is the path that an error names.
// The error is an *Error.
//
// Numbers are rounded to the nearest value of the datatype (FP16 and BF16 by way of FP64), and refused if they are too
// large for it; an integer datatype takes integers only. BOOL takes true and false, BYTES takes strings.
func ScanArray(field string, src []byte, dt Datatype, lim Limits) (shape []int64, data []byte, err error) {
	if !dt.Valid() {
		return nil, nil, Invalidf(field, "the datatype is not one of the Open Inference Protocol")
	}
	if len(src) > lim.MaxBytes {
		return nil, nil, under(field, errTooLarge(len(src), lim))
	}
	s, fault := newScanner(src)
	if fault != nil {
		return nil, nil, under(field, fault)
	}
	// An element takes a byte at least, and a comma from the next.
	atMost := min(bytes.Count(src, []byte{','})+1, len(src)/2+1, lim.MaxElements)
	a := newArrayScan(s, dt, atMost, lim)
	if fault = a.value(0); fault == nil {
		fault = s.end()
	}
	if fault != nil {
		return nil, nil, under(field, fault)
	}
	shape = a.shape()
	if _, err := CheckShape(field, shape, lim); err != nil {
		return nil, nil, err
	}
	return shape, a.data, nil
}

// scanTensor reads JSON data of a known shape, which has n elements: flat, or nested exactly as the shape says.
func scanTensor(s *scanner, dt Datatype, shape []int64, n int, lim Limits) ([]byte, *Error) {
	if n > (len(s.src)-s.pos)/2+1 { // an element takes a byte at least, and a comma from the next
		if err := s.skip(0); err != nil {
			return nil, err
		}
		return nil, Invalidf("", "expected %d elements for the shape, there are fewer", n)
	}
	lim.MaxElements = n
	a := newArrayScan(s, dt, n, lim)
	a.known = true
	if err := a.value(0); err != nil {
		return nil, err
	}
	got := a.shape()
	if len(got) == 1 || len(shape) == 0 && len(got) == 0 { // flat
		if a.count != n {
			return nil, Invalidf("", "expected %d elements for the shape, got %d", n, a.count)
		}
		return a.data, nil
	}
	// What lies below a dimension of 0 cannot be seen in the data.
	if len(got) > len(shape) || len(got) < len(shape) && (len(got) == 0 || got[len(got)-1] != 0) {
		return nil, Invalidf("", "expected a flat array, or one nested %d deep as the shape is, got one nested %d deep", len(shape), len(got))
	}
	for i := range got {
		if got[i] != shape[i] {
			return nil, Invalidf("", "expected an array nested as the shape says: dimension %d is %d in the shape and %d in the data", i, shape[i], got[i])
		}
	}
	return a.data, nil
}

// arrayScan reads one array and infers its shape as it goes.
type arrayScan struct {
	*scanner
	dt      Datatype
	data    []byte
	count   int
	limit   int
	known   bool // the limit is what a shape asks for
	quick   bool // quickFloats may be tried
	maxRank int
	rank    int            // of the array, -1 until its first scalar or empty array is seen
	dims    [maxRank]int64 // -1 until the first array of that depth is complete
}

// newArrayScan prepares for about atMost elements; the caller vouches that this is in proportion to the text.
func newArrayScan(s *scanner, dt Datatype, atMost int, lim Limits) *arrayScan {
	size := dt.Size()
	if dt == Bytes {
		size = 8
	}
	a := &arrayScan{scanner: s, dt: dt, limit: lim.MaxElements, quick: dt == FP32 || dt == FP64, maxRank: min(lim.MaxRank, maxRank), rank: -1}
	a.data = make([]byte, 0, atMost*size)
	for i := range a.dims {
		a.dims[i] = -1
	}
	return a
}

// shape returns the shape that was found.
func (a *arrayScan) shape() []int64 {
	return append(make([]int64, 0, max(a.rank, 0)), a.dims[:max(a.rank, 0)]...)
}

// value reads an array or a scalar at a depth.
func (a *arrayScan) value(depth int) *Error {
	if a.peek() != '[' {
		if a.rank >= 0 && depth != a.rank {
			return a.mismatch("an array like the others of its depth")
		}
		a.rank = depth
		return a.element()
	}
	switch {
	case a.rank >= 0 && depth >= a.rank:
		return Invalidf("", "element %d: expected %s, found an array", a.count, kind(a.dt))
	case depth >= a.maxRank:
		return Invalidf("", "expected at most %d dimensions, the array is nested deeper", a.maxRank)
	}
	a.pos++
	n := int64(0)
	if a.peek() == ']' {
		a.pos++
		if a.rank < 0 {
			a.rank = depth + 1
		}
		return a.closed(depth, 0)
	}
	for {
		if a.quick && depth+1 == a.rank {
			quick := a.quickFloats()
			a.quick, n = quick > 0, n+quick // where one is not short the others seldom are
		}
		if err := a.item(depth, n); err != nil {
			return err
		}
		n++
		switch a.peek() {
		case ',':
			a.pos++
		case ']':
			a.pos++
			return a.closed(depth, n)
		default:
			return a.malformed("',' or ']'")
		}
	}
}

// quickFloats reads elements for as long as they are short decimals without an exponent and others follow, which most
// are, and returns how many. It stops before any that is not, or is not JSON, or not to be rounded twice.
func (a *arrayScan) quickFloats() (n int64) {
	const most = 15 // digits that a float64 holds exactly
	src, at := a.src, a.pos
	for ; a.count < a.limit; a.count++ {
		i := at
		for i < len(src) && src[i] == ' ' {
			i++
		}
		negative := i < len(src) && src[i] == '-'
		if negative {
			i++
		}
		first, digits := i, uint64(0)
		for ; i < len(src) && src[i]-'0' <= 9; i++ {
			digits = digits*10 + uint64(src[i]-'0')
		}
		whole, decimals := i-first, 0
		if whole == 0 || whole > 1 && src[first] == '0' {
			break
		}
		if i < len(src) && src[i] == '.' {
			i++
			for first = i; i < len(src) && src[i]-'0' <= 9; i++ {
				digits = digits*10 + uint64(src[i]-'0')
			}
			if decimals = i - first; decimals == 0 {
				break
			}
		}
		if whole+decimals > most || i == len(src) || src[i] != ',' {
			break
		}
		f := float64(digits)
		if decimals > 0 {
			f /= powersOfTen[decimals]
		}
		if negative {
			f = -f
		}
		if a.dt == FP64 {
			a.data = binary.LittleEndian.AppendUint64(a.data, math.Float64bits(f))
		} else {
			narrow, ok := narrowed(f)
			if !ok {
				break
			}
			a.data = binary.LittleEndian.AppendUint32(a.data, math.Float32bits(narrow))
		}
		at = i + 1
		n++
	}
	a.pos = at
	return n
}

// item reads the n-th item of an array at a depth.
func (a *arrayScan) item(depth int, n int64) *Error {
	if depth+1 == a.rank && a.peek() != '[' {
		return a.element()
	}
	err := a.value(depth + 1)
	if err != nil && depth+1 < a.rank {
		return under(at("", int(n)), err)
	}
	return err
}

// closed notes how many items the array at a depth has.
func (a *arrayScan) closed(depth int, n int64) *Error {
	if a.dims[depth] < 0 {
		a.dims[depth] = n
	}
	if want := a.dims[depth]; want != n {
		return Invalidf("", "the array is ragged: expected %d items as in those before it, got %d", want, n)
	}
	return nil
}

// element reads one scalar.
func (a *arrayScan) element() *Error {
	if a.count >= a.limit {
		if err := a.skip(0); err != nil {
			return err
		}
		if a.known {
			return Invalidf("", "expected %d elements for the shape, got more", a.limit)
		}
		return Invalidf("", "expected at most %d elements", a.limit)
	}
	a.count++
	switch a.dt {
	case Bool:
		return a.boolean()
	case Bytes:
		return a.str()
	default:
		return a.numeric()
	}
}

func (a *arrayScan) numeric() *Error {
	if c := a.peek(); c != '-' && (c < '0' || c > '9') {
		return a.prefix(a.mismatch(kind(a.dt)))
	}
	n, err := a.number()
	if err != nil {
		return a.prefix(err)
	}
	return a.convert(&n)
}

// prefix puts the number of the current element before the text of an error.
func (a *arrayScan) prefix(err *Error) *Error {
	return Errorf(err.Code, err.Field, "element %d: %s", a.count-1, err.Detail)
}

// convert appends a number as an element.
func (a *arrayScan) convert(n *number) *Error {
	var ok bool
	switch a.dt {
	case FP32:
		var f float32
		f, ok = n.float32()
		a.data = binary.LittleEndian.AppendUint32(a.data, math.Float32bits(f))
	case FP64:
		var f float64
		f, ok = n.float64()
		a.data = binary.LittleEndian.AppendUint64(a.data, math.Float64bits(f))
	case FP16, BF16:
		f, fits := n.float64()
		round := half
		if a.dt == BF16 {
			round = brain
		}
		var bits uint16
		bits, ok = round(f)
		ok = ok && fits
		a.data = binary.LittleEndian.AppendUint16(a.data, bits)
	default:
		if !n.integer {
			return Invalidf("", "element %d: expected an integer for %s, got %s", a.count-1, a.dt, excerpt(n.token))
		}
		a.data, ok = appendInteger(a.data, a.dt, n)
	}
	if !ok {
		return Invalidf("", "element %d: %s does not fit %s", a.count-1, excerpt(n.token), a.dt)
	}
	return nil
}

// appendInteger appends an integer as an element of an integer datatype, false if it does not fit.
func appendInteger(data []byte, dt Datatype, n *number) ([]byte, bool) {
	var v uint64
	var ok bool
	if dt >= Int8 && dt <= Int64 {
		var signed int64
		signed, ok = n.int(8 * dt.Size())
		v = uint64(signed) //nolint:gosec // two's complement is the raw form
	} else {
		v, ok = n.uint(8 * dt.Size())
	}
	return appendLittleEndian(data, dt.Size(), v), ok
}

// appendLittleEndian appends the lowest size bytes of v.
func appendLittleEndian(data []byte, size int, v uint64) []byte {
	for range size {
		data = append(data, byte(v))
		v >>= 8
	}
	return data
}

func (a *arrayScan) boolean() *Error {
	switch {
	case a.word("true"):
		a.data = append(a.data, 1)
	case a.word("false"):
		a.data = append(a.data, 0)
	default:
		return a.prefix(a.mismatch(kind(Bool)))
	}
	return nil
}

func (a *arrayScan) str() *Error {
	if a.peek() != '"' {
		return a.prefix(a.mismatch(kind(Bytes)))
	}
	start := len(a.data)
	data, err := a.appendString(append(a.data, 0, 0, 0, 0))
	if err != nil {
		return a.prefix(err)
	}
	binary.LittleEndian.PutUint32(data[start:], uint32(len(data)-start-4)) //nolint:gosec // bounded by the text's length
	a.data = data
	return nil
}

// kind says in words what JSON an element of a datatype is.
func kind(dt Datatype) string {
	switch dt {
	case Bool:
		return "true or false"
	case Bytes:
		return "a string"
	case FP16, BF16, FP32, FP64:
		return "a number"
	default:
		return "an integer"
	}
}
