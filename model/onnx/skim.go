package onnx

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
)

// skimmer reads a protobuf message of any size from a stream and keeps only what its caller asks for. An ONNX file is
// mostly weights, up to gigabytes of them, and the names of the inputs stand between them.
type skimmer struct {
	r   *bufio.Reader
	pos int64
}

// protoField is the head of a field. varint is its value where the wire type is wireVarint; size is the number of bytes
// that follow where it is wireBytes.
type protoField struct {
	number int
	wire   int
	varint uint64
	size   int64
}

const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

var errNotProtobuf = errors.New("not a protobuf message")

// message reads a message of size bytes and calls fn for each field. What fn does not read of a field is skipped.
func (s *skimmer) message(size int64, fn func(f protoField) error) error {
	end := s.pos + size
	for s.pos < end {
		f, err := s.head(end)
		if err != nil {
			return err
		}
		next := s.pos + f.size
		if err := fn(f); err != nil {
			return err
		}
		if err := s.skip(next - s.pos); err != nil {
			return err
		}
	}
	if s.pos != end {
		return errNotProtobuf
	}
	return nil
}

// head reads the head of a field of a message that ends at end.
func (s *skimmer) head(end int64) (protoField, error) {
	tag, err := s.varint()
	if err != nil {
		return protoField{}, err
	}
	if tag>>3 == 0 || tag>>3 > math.MaxInt32 {
		return protoField{}, errNotProtobuf
	}
	f := protoField{number: int(tag >> 3), wire: int(tag & 7)}
	switch f.wire {
	case wireVarint:
		f.varint, err = s.varint()
		return f, err
	case wireFixed64:
		f.size = 8
	case wireFixed32:
		f.size = 4
	case wireBytes:
		n, err := s.varint()
		if err != nil {
			return protoField{}, err
		}
		if n > math.MaxInt64/2 {
			return protoField{}, errNotProtobuf
		}
		f.size = int64(n)
	default:
		return protoField{}, errNotProtobuf
	}
	if f.size > end-s.pos {
		return protoField{}, fmt.Errorf("%w: a field is longer than what is left", errNotProtobuf)
	}
	return f, nil
}

func (s *skimmer) varint() (uint64, error) {
	var v uint64
	for shift := 0; shift < 64; shift += 7 {
		b, err := s.r.ReadByte()
		if err != nil {
			return 0, noEOF(err)
		}
		s.pos++
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, errNotProtobuf
}

// text reads a string field.
func (s *skimmer) text(f protoField) (string, error) {
	const limit = 1 << 16
	if f.wire != wireBytes || f.size > limit {
		return "", errNotProtobuf
	}
	b := make([]byte, f.size)
	n, err := io.ReadFull(s.r, b)
	s.pos += int64(n)
	return string(b), noEOF(err)
}

func (s *skimmer) skip(n int64) error {
	if n < 0 {
		return errNotProtobuf
	}
	for n > 0 {
		k, err := s.r.Discard(int(min(n, math.MaxInt32)))
		s.pos += int64(k)
		n -= int64(k)
		if err != nil {
			return noEOF(err)
		}
	}
	return nil
}

// noEOF turns the end of the stream inside a message into an error that says so.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
