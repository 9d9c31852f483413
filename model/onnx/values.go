package onnx

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unsafe"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/sheafml/sheaf/job"
)

// newStrings makes the tensor of strings of input i from BYTES elements.
func newStrings(i int, shape []int64, parts [][]byte) (ort.Value, error) {
	n := job.Elements(shape)
	if n < 0 {
		return nil, errShort
	}
	list := make([]string, 0, n)
	for _, part := range parts {
		for len(part) > 0 {
			if len(part) < 4 || len(list) == n {
				return nil, errShort
			}
			size := int(binary.LittleEndian.Uint32(part))
			if size > len(part)-4 {
				return nil, errShort
			}
			element := part[4 : 4+size]
			// The binding passes C strings, which end at the first NUL: the model would see another text.
			if bytes.IndexByte(element, 0) >= 0 {
				return nil, job.Invalidf(fmt.Sprintf("inputs[%d].data", i), "element %d of the batch has a NUL byte, which a string of this model cannot have", len(list))
			}
			list = append(list, string(element))
			part = part[4+size:]
		}
	}
	if len(list) != n {
		return nil, errShort
	}
	t, err := ort.NewStringTensor(shape)
	if err != nil {
		return nil, err
	}
	if err := t.SetContents(list); err != nil {
		_ = t.Destroy()
		return nil, err
	}
	return t, nil
}

// stringBytes returns the shape and the BYTES elements of a tensor of strings.
func stringBytes(v ort.Value) ([]int64, []byte, error) {
	t, ok := v.(*ort.StringTensor)
	if !ok {
		return nil, nil, fmt.Errorf("expected strings, got %T", v)
	}
	shape := t.GetShape()
	var list []string
	var err error
	if len(shape) == 0 { // of which the binding believes that it has no elements
		list = make([]string, 1)
		list[0], err = t.GetElement(0)
	} else {
		list, err = t.GetContents()
	}
	if err != nil {
		return nil, nil, err
	}
	size := 0
	for _, s := range list {
		size += 4 + len(s)
	}
	data := make([]byte, 0, size)
	for _, s := range list {
		data = job.AppendBytesElement(data, []byte(s))
	}
	return shape, data, nil
}

// tensorBytes returns the shape and the data of a tensor that the runtime has allocated. The binding has copied it into
// Go's memory already, where it outlives the tensor.
func tensorBytes(v ort.Value) ([]int64, []byte, error) {
	var data []byte
	switch t := v.(type) {
	case *ort.Tensor[float32]:
		data = view(t.GetData())
	case *ort.Tensor[float64]:
		data = view(t.GetData())
	case *ort.Tensor[int8]:
		data = view(t.GetData())
	case *ort.Tensor[int16]:
		data = view(t.GetData())
	case *ort.Tensor[int32]:
		data = view(t.GetData())
	case *ort.Tensor[int64]:
		data = view(t.GetData())
	case *ort.Tensor[uint8]:
		data = view(t.GetData())
	case *ort.Tensor[uint16]:
		data = view(t.GetData())
	case *ort.Tensor[uint32]:
		data = view(t.GetData())
	case *ort.Tensor[uint64]:
		data = view(t.GetData())
	case *ort.Tensor[bool]:
		data = view(t.GetData())
	default:
		return nil, nil, fmt.Errorf("expected a tensor, got %T", v)
	}
	return v.GetShape(), data, nil
}

// scalar is a value without dimensions whose content can be read as bytes.
type scalar interface {
	ort.Value
	bytes() []byte
}

type scalarOf[T ort.TensorData] struct{ *ort.Scalar[T] }

func (s scalarOf[T]) bytes() []byte { return view([]T{s.GetData()}) }

// newScalar makes a value without dimensions from its content; no parts at all is zero.
func newScalar(d job.Datatype, parts [][]byte) (ort.Value, error) {
	switch d {
	case job.Bool:
		return scalarFrom[bool](parts)
	case job.Uint8:
		return scalarFrom[uint8](parts)
	case job.Uint16:
		return scalarFrom[uint16](parts)
	case job.Uint32:
		return scalarFrom[uint32](parts)
	case job.Uint64:
		return scalarFrom[uint64](parts)
	case job.Int8:
		return scalarFrom[int8](parts)
	case job.Int16:
		return scalarFrom[int16](parts)
	case job.Int32:
		return scalarFrom[int32](parts)
	case job.Int64:
		return scalarFrom[int64](parts)
	case job.FP32:
		return scalarFrom[float32](parts)
	case job.FP64:
		return scalarFrom[float64](parts)
	case job.FP16, job.BF16, job.Bytes:
	}
	return nil, fmt.Errorf("there are no scalars of %s", d)
}

func scalarFrom[T ort.TensorData](parts [][]byte) (ort.Value, error) {
	content := make([]T, 1)
	if parts != nil {
		if err := gather(view(content), parts); err != nil {
			return nil, err
		}
	}
	s, err := ort.NewScalar(content[0])
	if err != nil {
		return nil, err
	}
	return scalarOf[T]{s}, nil
}

// scalarBytes returns the content of what newScalar made.
func scalarBytes(v ort.Value) []byte {
	if s, ok := v.(scalar); ok {
		return s.bytes()
	}
	return nil
}

// view returns the memory of a slice of numbers as bytes, which are little-endian on every platform that ONNX Runtime
// and Sheaf run on.
func view[T ort.TensorData](s []T) []byte {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), len(s)*int(unsafe.Sizeof(s[0]))) //nolint:gosec // numbers have no padding and no pointers
}
