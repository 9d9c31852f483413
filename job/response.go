package job

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of inference.ModelInferResponse and its outputs.
const (
	responseModelName    = 1
	responseModelVersion = 2
	responseID           = 3
	responseOutputs      = 5
	responseRaw          = 6
)

// AppendResponseJSON appends the REST inference response of a succeeded result.
func AppendResponseJSON(dst []byte, r *Result) []byte {
	b := append(dst, `{"model_name":`...)
	b = appendJSONString(b, r.Model)
	if r.Version != "" {
		b = append(b, `,"model_version":`...)
		b = appendJSONString(b, r.Version)
	}
	if r.RequestID != "" {
		b = append(b, `,"id":`...)
		b = appendJSONString(b, r.RequestID)
	}
	b = append(b, `,"outputs":[`...)
	for i := range r.Outputs {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendTensorJSON(b, &r.Outputs[i])
	}
	return append(b, "]}"...)
}

// AppendResponseProtobuf appends the inference.ModelInferResponse of a succeeded result, with raw contents.
func AppendResponseProtobuf(dst []byte, r *Result) []byte {
	b := appendText(dst, responseModelName, r.Model)
	b = appendText(b, responseModelVersion, r.Version)
	b = appendText(b, responseID, r.RequestID)
	for i := range r.Outputs {
		t := &r.Outputs[i]
		hint := 16 + len(t.Name) + 2*len(t.Shape)
		var start int
		b, start = beginMessage(b, responseOutputs, hint)
		b = appendText(b, inputName, t.Name) // inputs and outputs number these three alike
		b = appendText(b, inputDatatype, t.Datatype.String())
		b = appendPackedShape(b, inputShape, t.Shape)
		b = endMessage(b, start, hint)
	}
	for i := range r.Outputs {
		b = protowire.AppendTag(b, responseRaw, protowire.BytesType)
		b = protowire.AppendBytes(b, r.Outputs[i].Data)
	}
	return b
}
