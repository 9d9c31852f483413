package job

import (
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Wire types as they stand in the low bits of a tag, so that tags can be constants: number<<3 | type.
const (
	wireVarint  = uint64(protowire.VarintType)
	wireFixed64 = uint64(protowire.Fixed64Type)
	wireBytes   = uint64(protowire.BytesType)
	wireFixed32 = uint64(protowire.Fixed32Type)
)

// fieldReader steps through the fields of one protobuf message. It allocates nothing and believes nothing: a length
// that reaches past the end is malformed. A field of a known number and another wire type is an unknown field, as
// protobuf has it.
type fieldReader struct {
	rest  []byte
	tag   uint64 // number<<3 | wire type of the current field
	num   uint64 // value of a varint, fixed32 or fixed64 field
	bytes []byte // value of a length-delimited field; aliases the message
	bad   bool   // the message ended in the middle of a field, or has an impossible one
}

// next steps to the next field. It returns false at the end of the message and at a malformed field.
func (f *fieldReader) next() bool {
	if len(f.rest) == 0 || f.bad {
		return false
	}
	num, typ, n := protowire.ConsumeTag(f.rest)
	if n < 0 || num > protowire.MaxValidNumber {
		f.bad = true
		return false
	}
	f.rest = f.rest[n:]
	f.tag = protowire.EncodeTag(num, typ)
	switch typ {
	case protowire.VarintType:
		f.num, n = protowire.ConsumeVarint(f.rest)
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(f.rest)
	case protowire.Fixed32Type:
		var v uint32
		v, n = protowire.ConsumeFixed32(f.rest)
		f.num = uint64(v)
	case protowire.Fixed64Type:
		f.num, n = protowire.ConsumeFixed64(f.rest)
	case protowire.StartGroupType, protowire.EndGroupType:
		n = protowire.ConsumeFieldValue(num, typ, f.rest)
	default:
		n = -1
	}
	if n < 0 {
		f.bad = true
		return false
	}
	f.rest = f.rest[n:]
	return true
}

// beginMessage appends the tag of an embedded message and room for its length, which hint estimates. endMessage puts
// the length in, and moves the message only if it needs another number of bytes than the hint did.
func beginMessage(dst []byte, num protowire.Number, hint int) (b []byte, start int) {
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	dst = protowire.AppendVarint(dst, uint64(hint)) //nolint:gosec // a hint is a sum of lengths
	return dst, len(dst)
}

func endMessage(b []byte, start, hint int) []byte {
	have := protowire.SizeVarint(uint64(hint)) //nolint:gosec // as above
	size := len(b) - start
	want := protowire.SizeVarint(uint64(size)) //nolint:gosec // a length
	if shift := want - have; shift != 0 {
		for range shift {
			b = append(b, 0)
		}
		copy(b[start+shift:], b[start:start+size])
		b = b[:start+shift+size]
	}
	protowire.AppendVarint(b[:start-have], uint64(size)) //nolint:gosec // a length
	return b
}

// interner makes strings of bytes and remembers the latest, since the jobs of a sheaf repeat their names.
type interner struct {
	recent [16]string
	next   int
}

// get returns b as a string if it is valid UTF-8.
func (in *interner) get(b []byte) (s string, ok bool) {
	if len(b) == 0 {
		return "", true
	}
	for i := range in.recent {
		if in.recent[i] == string(b) {
			return in.recent[i], true
		}
	}
	if !utf8.Valid(b) {
		return "", false
	}
	s = string(b)
	if len(s) <= maxText {
		in.recent[in.next%len(in.recent)] = s
		in.next++
	}
	return s, true
}

// text returns b as a string if it is valid UTF-8 without control characters, of at most maxText bytes.
func text(b []byte) (s string, ok bool) {
	if len(b) > maxText {
		return "", false
	}
	if s = string(b); !ValidText(s, maxText) {
		return "", false
	}
	return s, true
}

// maxText bounds names, versions and identifiers, in bytes.
const maxText = 1024
