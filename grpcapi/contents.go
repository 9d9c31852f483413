package grpcapi

import (
	"encoding/binary"
	"math"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/inferencepb"
)

// contents returns the raw data of a tensor as typed contents. FP16 and BF16 have none.
func contents(t *job.Tensor) *inferencepb.InferTensorContents {
	c := &inferencepb.InferTensorContents{}
	switch t.Datatype {
	case job.Bool:
		c.BoolContents = elements(t, func(b []byte) bool { return b[0] != 0 })
	case job.Int8:
		c.IntContents = elements(t, func(b []byte) int32 { return int32(int8(b[0])) }) //nolint:gosec // two's complement is the raw form
	case job.Int16:
		c.IntContents = elements(t, func(b []byte) int32 { return int32(int16(binary.LittleEndian.Uint16(b))) }) //nolint:gosec // as above
	case job.Int32:
		c.IntContents = elements(t, func(b []byte) int32 { return int32(binary.LittleEndian.Uint32(b)) }) //nolint:gosec // as above
	case job.Int64:
		c.Int64Contents = elements(t, func(b []byte) int64 { return int64(binary.LittleEndian.Uint64(b)) }) //nolint:gosec // as above
	case job.Uint8:
		c.UintContents = elements(t, func(b []byte) uint32 { return uint32(b[0]) })
	case job.Uint16:
		c.UintContents = elements(t, func(b []byte) uint32 { return uint32(binary.LittleEndian.Uint16(b)) })
	case job.Uint32:
		c.UintContents = elements(t, binary.LittleEndian.Uint32)
	case job.Uint64:
		c.Uint64Contents = elements(t, binary.LittleEndian.Uint64)
	case job.FP32:
		c.Fp32Contents = elements(t, func(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) })
	case job.FP64:
		c.Fp64Contents = elements(t, func(b []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(b)) })
	case job.Bytes:
		c.BytesContents = bytesElements(t.Data)
	case job.FP16, job.BF16:
	}
	return c
}

// elements converts each element of raw data.
func elements[T any](t *job.Tensor, convert func([]byte) T) []T {
	size := t.Datatype.Size()
	list := make([]T, 0, len(t.Data)/size)
	for b := t.Data; len(b) >= size; b = b[size:] {
		list = append(list, convert(b))
	}
	return list
}

// bytesElements splits the raw data of BYTES, each element after its length.
func bytesElements(b []byte) [][]byte {
	var list [][]byte
	for len(b) >= 4 {
		n := uint64(binary.LittleEndian.Uint32(b))
		b = b[4:]
		if n > uint64(len(b)) {
			break
		}
		list = append(list, b[:n:n])
		b = b[n:]
	}
	return list
}
