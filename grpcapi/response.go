package grpcapi

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/inferencepb"
)

// Names of parameters of an answer.
const (
	parameterJobID = "sheaf_job_id"
	parameterFinal = "triton_final_response"
)

// Field numbers of inference.ModelInferResponse and InferParameter, for what is written by hand.
const (
	responseParameters = 4
	mapKey             = 1
	mapValue           = 2
	choiceBool         = 1
	choiceString       = 3
)

// answer makes the ModelInferResponse of a job that has succeeded: with raw contents, or with typed ones where the
// request had those.
func (q *inference) answer(v *gateway.Job) any {
	r := *v.Result
	r.RequestID = q.Request.RequestID // of a repeated request, the first one's is in the record
	if q.typed && canBeTyped(r.Outputs) {
		m := typedResponse(&r)
		m.Parameters = map[string]*inferencepb.InferParameter{
			parameterJobID: {ParameterChoice: &inferencepb.InferParameter_StringParam{StringParam: v.Ticket.String()}},
		}
		if q.final {
			m.Parameters[parameterFinal] = &inferencepb.InferParameter{ParameterChoice: &inferencepb.InferParameter_BoolParam{BoolParam: true}}
		}
		return m
	}
	size := 256
	for i := range r.Outputs {
		size += len(r.Outputs[i].Data) + len(r.Outputs[i].Name) + 64
	}
	b := job.AppendResponseProtobuf(make([]byte, 0, size), &r)
	b = appendParameter(b, parameterJobID, func(b []byte) []byte {
		return protowire.AppendString(protowire.AppendTag(b, choiceString, protowire.BytesType), v.Ticket.String())
	})
	if q.final {
		b = appendParameter(b, parameterFinal, func(b []byte) []byte {
			return protowire.AppendVarint(protowire.AppendTag(b, choiceBool, protowire.VarintType), 1)
		})
	}
	return &frame{b}
}

// appendParameter appends an entry of the response's parameters.
func appendParameter(b []byte, name string, value func([]byte) []byte) []byte {
	var scratch [2][160]byte
	choice := value(scratch[0][:0])
	entry := protowire.AppendString(protowire.AppendTag(scratch[1][:0], mapKey, protowire.BytesType), name)
	entry = protowire.AppendBytes(protowire.AppendTag(entry, mapValue, protowire.BytesType), choice)
	return protowire.AppendBytes(protowire.AppendTag(b, responseParameters, protowire.BytesType), entry)
}

// canBeTyped reports whether all outputs have a typed form. Raw and typed contents are never mixed.
func canBeTyped(outputs []job.Tensor) bool {
	return !slices.ContainsFunc(outputs, func(t job.Tensor) bool { return t.Datatype == job.FP16 || t.Datatype == job.BF16 })
}

// response makes the ModelInferResponse of a succeeded result, with typed contents if that is wanted and can be.
func response(r *job.Result, typed bool) *inferencepb.ModelInferResponse {
	if typed && canBeTyped(r.Outputs) {
		return typedResponse(r)
	}
	m := bareResponse(r)
	for i := range r.Outputs {
		m.RawOutputContents = append(m.RawOutputContents, r.Outputs[i].Data)
	}
	return m
}

func typedResponse(r *job.Result) *inferencepb.ModelInferResponse {
	m := bareResponse(r)
	for i := range r.Outputs {
		m.Outputs[i].Contents = contents(&r.Outputs[i])
	}
	return m
}

// bareResponse is a response without contents.
func bareResponse(r *job.Result) *inferencepb.ModelInferResponse {
	m := &inferencepb.ModelInferResponse{ModelName: r.Model, ModelVersion: r.Version, Id: r.RequestID}
	for i := range r.Outputs {
		t := &r.Outputs[i]
		m.Outputs = append(m.Outputs, &inferencepb.ModelInferResponse_InferOutputTensor{
			Name: t.Name, Datatype: t.Datatype.String(), Shape: t.Shape,
		})
	}
	return m
}
