package job

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// Tensor is a named, dense, row-major array. The first dimension is the batch axis of a model that can be batched.
type Tensor struct {
	Name     string
	Datatype Datatype
	Shape    []int64
	// Data is the raw content: little-endian, row-major, one byte a BOOL; each element of BYTES follows its length
	// as 4 bytes. Decoders let it point into the message that they were given.
	Data []byte
}

// Elements returns the product of a shape, or -1 if a dimension is negative or the product exceeds math.MaxInt32.
// It allocates nothing, so it may be asked before a hostile shape is believed.
func Elements(shape []int64) int {
	n, zero := int64(1), false
	for _, d := range shape {
		switch {
		case d < 0 || d > math.MaxInt32:
			return -1
		case d == 0:
			zero = true
		default:
			if n *= d; n > math.MaxInt32 {
				return -1
			}
		}
	}
	if zero {
		return 0
	}
	return int(n)
}

// Rows returns the first dimension, or 1 for a scalar.
func (t *Tensor) Rows() int {
	if len(t.Shape) == 0 {
		return 1
	}
	return int(t.Shape[0])
}

// Check verifies the tensor by itself: a known datatype, a rank and a shape within limits, and data of exactly the
// length that shape and datatype ask for. field is the path that an error names, such as "inputs[0]".
func (t *Tensor) Check(field string, lim Limits) error {
	if t.Name == "" {
		return Invalidf(field+".name", "a tensor needs a name")
	}
	if !t.Datatype.Valid() {
		return errDatatype(field + ".datatype")
	}
	n, err := CheckShape(field, t.Shape, lim)
	if err != nil {
		return err
	}
	if t.Datatype == Bytes {
		return t.checkBytes(field, n)
	}
	if want := n * t.Datatype.Size(); len(t.Data) != want {
		return Invalidf(field+".data", "expected %d bytes for %d elements of %s, got %d", want, n, t.Datatype, len(t.Data))
	}
	if t.Datatype == Bool {
		for i, b := range t.Data {
			if b > 1 {
				return Invalidf(field+".data", "element %d: a BOOL is the byte 0 or 1, got %d", i, b)
			}
		}
	}
	return nil
}

func errDatatype(field string) *Error {
	return Invalidf(field, "expected one of BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES")
}

// CheckShape verifies rank, signs and size of a shape against the limits and returns its number of elements. A shape
// without elements is held to the limit as if its dimensions of 0 were 1, since code may well loop over the others.
func CheckShape(field string, shape []int64, lim Limits) (int, error) {
	if len(shape) > lim.MaxRank {
		return 0, Invalidf(field+".shape", "expected at most %d dimensions, got %d", lim.MaxRank, len(shape))
	}
	n, most, empty := int64(1), int64(lim.MaxElements), false
	for i, d := range shape {
		switch {
		case d < 0:
			return 0, Invalidf(field+".shape", "dimension %d is %d: a dimension cannot be negative", i, d)
		case d == 0:
			empty = true
		case n > most/d:
			return 0, Invalidf(field+".shape", "expected at most %d elements in a tensor, the shape has more", lim.MaxElements)
		default:
			n *= d
		}
	}
	if empty {
		return 0, nil
	}
	return int(n), nil
}

func (t *Tensor) checkBytes(field string, want int) error {
	rest, n := t.Data, 0
	for len(rest) > 0 {
		if len(rest) < 4 {
			return Invalidf(field+".data", "element %d: a BYTES element starts with its length as 4 bytes", n)
		}
		size := uint64(binary.LittleEndian.Uint32(rest))
		if size > uint64(len(rest)-4) { //nolint:gosec // at least 4 are left
			return Invalidf(field+".data", "element %d: its length says %d bytes, %d are left", n, size, len(rest)-4)
		}
		rest, n = rest[4+size:], n+1
	}
	if n != want {
		return Invalidf(field+".data", "expected %d elements of BYTES, got %d", want, n)
	}
	return nil
}

// AppendBytesElement appends one element of a BYTES tensor to dst.
func AppendBytesElement(dst, element []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(element))) //nolint:gosec // an element is bounded by the body's limit
	return append(dst, element...)
}

// ValidName reports whether s may name a model or a tenant: 1 to 128 letters, digits, '-', '_' and '.', starting with
// a letter or a digit.
func ValidName(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !alnum && (i == 0 || c != '-' && c != '_' && c != '.') {
			return false
		}
	}
	return true
}

// ValidText reports whether s is valid UTF-8 without control characters and at most limit bytes.
func ValidText(s string, limit int) bool {
	if len(s) > limit || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < 0x20 || r == 0x7f {
			return false
		}
	}
	return true
}
