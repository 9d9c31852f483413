package onnx

import (
	"fmt"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/sheafml/sheaf/job"
)

// elements pairs ONNX's numbers of datatypes, which are ONNX Runtime's too, with the protocol's.
var elements = [...]job.Datatype{
	ort.TensorElementDataTypeFloat:    job.FP32,
	ort.TensorElementDataTypeUint8:    job.Uint8,
	ort.TensorElementDataTypeInt8:     job.Int8,
	ort.TensorElementDataTypeUint16:   job.Uint16,
	ort.TensorElementDataTypeInt16:    job.Int16,
	ort.TensorElementDataTypeInt32:    job.Int32,
	ort.TensorElementDataTypeInt64:    job.Int64,
	ort.TensorElementDataTypeString:   job.Bytes,
	ort.TensorElementDataTypeBool:     job.Bool,
	ort.TensorElementDataTypeFloat16:  job.FP16,
	ort.TensorElementDataTypeDouble:   job.FP64,
	ort.TensorElementDataTypeUint32:   job.Uint32,
	ort.TensorElementDataTypeUint64:   job.Uint64,
	ort.TensorElementDataTypeBFloat16: job.BF16,
}

// datatypeOf returns the protocol's datatype for ONNX's number.
func datatypeOf(elem int64) (job.Datatype, bool) {
	if elem < 0 || elem >= int64(len(elements)) || elements[elem] == 0 {
		return 0, false
	}
	return elements[elem], true
}

// elementOf is the inverse of datatypeOf.
func elementOf(d job.Datatype) ort.TensorElementDataType {
	for elem, datatype := range elements {
		if datatype == d {
			return ort.TensorElementDataType(elem)
		}
	}
	return ort.TensorElementDataTypeUndefined
}

// elemName names a datatype that the protocol lacks.
func elemName(elem int64) string {
	switch elem {
	case ort.TensorElementDataTypeComplex64:
		return "complex64"
	case ort.TensorElementDataTypeComplex128:
		return "complex128"
	case 17, 18, 19, 20:
		return "float8"
	case ort.TensorElementDataTypeUint4:
		return "uint4"
	case ort.TensorElementDataTypeInt4:
		return "int4"
	default:
		return fmt.Sprintf("number %d of onnx.TensorProto", elem)
	}
}
