package job

import (
	"encoding/binary"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of inference.InferTensorContents.
const (
	contentsBool   = 1
	contentsInt    = 2
	contentsInt64  = 3
	contentsUint   = 4
	contentsUint64 = 5
	contentsFP32   = 6
	contentsFP64   = 7
	contentsBytes  = 8
)

// contentsField returns the number and the name of the field that the elements of a datatype travel in, 0 if there is
// none, and the wire type of one element.
func contentsField(dt Datatype) (num uint64, name string, wire uint64) {
	switch dt {
	case Bool:
		return contentsBool, "bool_contents", wireVarint
	case Int8, Int16, Int32:
		return contentsInt, "int_contents", wireVarint
	case Int64:
		return contentsInt64, "int64_contents", wireVarint
	case Uint8, Uint16, Uint32:
		return contentsUint, "uint_contents", wireVarint
	case Uint64:
		return contentsUint64, "uint64_contents", wireVarint
	case FP32:
		return contentsFP32, "fp32_contents", wireFixed32
	case FP64:
		return contentsFP64, "fp64_contents", wireFixed64
	case Bytes:
		return contentsBytes, "bytes_contents", wireBytes
	case FP16, BF16:
	}
	return 0, "", 0
}

// contentsReader converts the typed contents of one tensor to raw data.
type contentsReader struct {
	dt    Datatype
	limit int // elements that the shape asks for
	count int
	data  []byte
	num   uint64
	name  string
	wire  uint64
}

// input reads the contents of an InferInputTensor. If they are there several times, protobuf merges them.
func (c *contentsReader) input(tensor []byte) *Error {
	c.num, c.name, c.wire = contentsField(c.dt)
	f := fieldReader{rest: tensor}
	for f.next() {
		if f.tag != inputContents<<3|wireBytes {
			continue
		}
		if err := c.message(f.bytes); err != nil {
			return err
		}
	}
	return nil
}

// message reads an InferTensorContents.
func (c *contentsReader) message(b []byte) *Error {
	f := fieldReader{rest: b}
	for f.next() {
		num := f.tag >> 3
		switch {
		case num < contentsBool || num > contentsBytes:
		case c.num == 0 && elementsIn(&f):
			return Invalidf("", "%s has no typed contents: use raw_input_contents", c.dt)
		case num != c.num && elementsIn(&f):
			return Invalidf("", "expected the elements of %s in %s, found them in another field", c.dt, c.name)
		case num != c.num:
		case f.tag == c.num<<3|c.wire:
			if err := c.one(&f); err != nil {
				return err
			}
		case f.tag == c.num<<3|wireBytes:
			if err := c.packed(f.bytes); err != nil {
				return err
			}
		}
	}
	if f.bad {
		return errProtobuf("", "InferTensorContents")
	}
	return nil
}

// elementsIn reports whether a field of contents has elements: an empty packed field has none, and a field of the wrong
// wire type is an unknown one.
func elementsIn(f *fieldReader) bool {
	wire := f.tag & 7
	switch f.tag >> 3 {
	case contentsBytes:
		return wire == wireBytes
	case contentsFP32:
		return wire == wireFixed32 || wire == wireBytes && len(f.bytes) > 0
	case contentsFP64:
		return wire == wireFixed64 || wire == wireBytes && len(f.bytes) > 0
	default:
		return wire == wireVarint || wire == wireBytes && len(f.bytes) > 0
	}
}

// one reads a field of one element.
func (c *contentsReader) one(f *fieldReader) *Error {
	if c.dt == Bytes {
		if err := c.room(1); err != nil {
			return err
		}
		c.data = AppendBytesElement(c.data, f.bytes)
		return nil
	}
	return c.element(f.num)
}

// packed reads a field of any number of elements.
func (c *contentsReader) packed(b []byte) *Error {
	if size := c.dt.Size(); c.wire != wireVarint { // FP32 and FP64 are raw data already
		if len(b)%size != 0 {
			return errProtobuf("."+c.name, "InferTensorContents")
		}
		if err := c.room(len(b) / size); err != nil {
			return err
		}
		if c.data == nil {
			c.data = slices.Clip(b)
		} else {
			c.data = append(c.data, b...)
		}
		return nil
	}
	if c.data == nil {
		c.data = make([]byte, 0, min(c.limit, len(b))*c.dt.Size())
	}
	for len(b) > 0 {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return errProtobuf("."+c.name, "InferTensorContents")
		}
		if err := c.element(v); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// element appends one number, in its wire form, as raw data.
func (c *contentsReader) element(v uint64) *Error {
	if err := c.room(1); err != nil {
		return err
	}
	fits := true
	switch c.dt {
	case Bool:
		if v > 1 {
			v = 1
		}
	case Int8, Int16, Int32:
		signed := int32(v) //nolint:gosec // an int32 field keeps its low bits
		v = uint64(signed) //nolint:gosec // two's complement is the raw form
		if unused := 32 - 8*c.dt.Size(); signed < math.MinInt32>>unused || signed > math.MaxInt32>>unused {
			return Invalidf("."+c.name, "element %d: %d does not fit %s", c.count-1, signed, c.dt)
		}
	case Uint8, Uint16, Uint32:
		v = uint64(uint32(v)) //nolint:gosec // a uint32 field keeps its low bits
		fits = v <= math.MaxUint32>>(32-8*c.dt.Size())
	case FP32:
		c.data = binary.LittleEndian.AppendUint32(c.data, uint32(v)) //nolint:gosec // of a fixed32
		return nil
	case Int64, Uint64, FP64, FP16, BF16, Bytes:
	}
	if !fits {
		return Invalidf("."+c.name, "element %d: %d does not fit %s", c.count-1, v, c.dt)
	}
	c.data = appendLittleEndian(c.data, c.dt.Size(), v)
	return nil
}

// room counts n more elements.
func (c *contentsReader) room(n int) *Error {
	c.count += n
	if c.count > c.limit {
		return Invalidf("."+c.name, "expected %d elements for the shape, got more", c.limit)
	}
	return nil
}
