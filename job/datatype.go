package job

import "fmt"

// Datatype is a tensor datatype of the Open Inference Protocol. The values are part of the wire contract of records.
type Datatype uint8

// The datatypes of the Open Inference Protocol.
const (
	Bool   Datatype = 1
	Uint8  Datatype = 2
	Uint16 Datatype = 3
	Uint32 Datatype = 4
	Uint64 Datatype = 5
	Int8   Datatype = 6
	Int16  Datatype = 7
	Int32  Datatype = 8
	Int64  Datatype = 9
	FP16   Datatype = 10
	FP32   Datatype = 11
	FP64   Datatype = 12
	Bytes  Datatype = 13 // elements of any length, each after its length as 4 bytes little-endian
	BF16   Datatype = 14
)

var datatypes = [...]struct {
	name string
	size int
}{
	Bool: {"BOOL", 1}, Uint8: {"UINT8", 1}, Uint16: {"UINT16", 2}, Uint32: {"UINT32", 4}, Uint64: {"UINT64", 8},
	Int8: {"INT8", 1}, Int16: {"INT16", 2}, Int32: {"INT32", 4}, Int64: {"INT64", 8},
	FP16: {"FP16", 2}, FP32: {"FP32", 4}, FP64: {"FP64", 8}, Bytes: {"BYTES", 0}, BF16: {"BF16", 2},
}

// Valid reports whether d is one of the protocol's datatypes.
func (d Datatype) Valid() bool { return d >= Bool && int(d) < len(datatypes) }

// String returns the protocol's name, such as "FP32".
func (d Datatype) String() string {
	if d.Valid() {
		return datatypes[d].name
	}
	return fmt.Sprintf("Datatype(%d)", uint8(d))
}

// Size returns the bytes of one element, 0 for BYTES, whose elements vary.
func (d Datatype) Size() int {
	if d.Valid() {
		return datatypes[d].size
	}
	return 0
}

// ParseDatatype is the inverse of Datatype.String.
func ParseDatatype(s string) (Datatype, error) {
	for d := Bool; d.Valid(); d++ {
		if datatypes[d].name == s {
			return d, nil
		}
	}
	return 0, fmt.Errorf("not a datatype of the Open Inference Protocol")
}
