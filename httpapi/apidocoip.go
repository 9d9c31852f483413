package httpapi

import (
	"maps"
	"net/http"
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// The types here are the bodies of the Open Inference Protocol. See apidoctypes.go.

type docInferenceInput struct {
	Name       string             `json:"name" minLength:"1" example:"x"`
	Datatype   docDatatype        `json:"datatype"`
	Shape      []docDimension     `json:"shape" example:"[1,64]"`
	Data       docValue           `json:"data,omitempty"`
	Parameters *docInputParameter `json:"parameters,omitempty"`
}

type docInputParameter struct {
	Size docDimension `json:"binary_data_size,omitempty"`
}

type docInferenceWanted struct {
	Name       string              `json:"name" minLength:"1" example:"probabilities"`
	Parameters *docWantedParameter `json:"parameters,omitempty"`
}

type docWantedParameter struct {
	Binary bool `json:"binary_data,omitempty" doc:"This output comes after the JSON. It overrules binary_data_output."`
}

type docInferenceRequest struct {
	ID         string                 `json:"id,omitempty" doc:"It comes back as it was." example:"7"`
	Parameters *docInferenceParameter `json:"parameters,omitempty"`
	Inputs     []docInferenceInput    `json:"inputs" minItems:"1"`
	Outputs    []docInferenceWanted   `json:"outputs,omitempty" doc:"Those that are wanted, in this order. Without it all of them."`
}

type docInferenceParameter struct {
	Timeout  docDimension `json:"timeout,omitempty"`
	Priority docDimension `json:"priority,omitempty"`
	Binary   bool         `json:"binary_data_output,omitempty" doc:"All outputs come after the JSON."`
}

type docInferenceResponse struct {
	Model      string                     `json:"model_name" example:"digits"`
	Version    string                     `json:"model_version,omitempty" example:"1"`
	ID         string                     `json:"id,omitempty" doc:"Of the request."`
	Parameters docInferenceResponseParams `json:"parameters"`
	Outputs    []docTensor                `json:"outputs"`
}

type docInferenceResponseParams struct {
	Job string `json:"sheaf_job_id" doc:"What GET /v1/jobs/{id} takes."`
}

type docServerMetadata struct {
	Name       string   `json:"name" example:"sheaf"`
	Version    string   `json:"version"`
	Extensions []string `json:"extensions"`
}

type docModelMetadata struct {
	Name     string             `json:"name" example:"digits"`
	Versions []string           `json:"versions"`
	Platform string             `json:"platform" example:"onnxruntime_onnx"`
	Inputs   []model.TensorSpec `json:"inputs"`
	Outputs  []model.TensorSpec `json:"outputs"`
}

type docModelConfig struct {
	Name     string         `json:"name" example:"digits"`
	Platform string         `json:"platform"`
	MaxBatch int            `json:"max_batch_size" minimum:"0" doc:"0: the model has no batch axis."`
	Input    []configTensor `json:"input"`
	Output   []configTensor `json:"output"`
}

type docModelReady struct {
	Name  string `json:"name"`
	Ready bool   `json:"ready"`
}

type docRepositoryModel struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	State   string `json:"state" enum:"READY"`
	Reason  string `json:"reason"`
}

type docServerLive struct {
	Live bool `json:"live"`
}

type docServerReady struct {
	Ready bool `json:"ready"`
}

// inferBody is the body of …/infer.
func (d *apiDoc) inferBody() *huma.RequestBody {
	body := bodyJSON("As JSON, or with binary data after the JSON: then Inference-Header-Content-Length is the length of the JSON, and each input "+
		"whose data is there says by its parameter binary_data_size how many bytes are its. See docs/open-inference-protocol.md.",
		true, schemaOf[docInferenceRequest](d), map[string]string{
			"tensor": `{"id":"7","inputs":[{"name":"x","shape":[1,64],"datatype":"FP32","data":` + exampleRow + `}]}`,
		})
	body.Content[mediaBinary] = &huma.MediaType{Schema: binarySchema()}
	return body
}

func binarySchema() *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "binary", Description: "JSON, then the tensors' data, little-endian and row-major."}
}

// oipOperations are those of the Open Inference Protocol.
func (d *apiDoc) oipOperations() map[string]operation {
	problem := *d.schemas.Named(reflect.TypeFor[docProblem]())
	problem.Properties = maps.Clone(problem.Properties)
	problem.Properties["error"] = &huma.Schema{Type: huma.TypeString, Description: "The field and the detail, which the protocol's clients show."}
	problem.Required = append(slices.Clone(problem.Required), "error")
	d.schemas.Put("InferenceProblem", &problem)
	parameters := d.schemas.Named(reflect.TypeFor[docInferenceParameter]())
	parameters.AdditionalProperties = docParameter("").Schema(d.schemas.Registry())
	parameters.Description = "Those that are not here travel with the job; jobs share a batch only if theirs agree."
	result := answerJSON("The outputs.", schemaOf[docInferenceResponse](d),
		`{"model_name":"digits","model_version":"1","id":"7","parameters":{"sheaf_job_id":"`+exampleTicket+`"},`+
			`"outputs":[{"name":"probabilities","shape":[1,2],"datatype":"FP32","data":[0.25,0.75]}]}`,
		"Location", "Preference-Applied", headerJSONLength)
	result.Content[mediaBinary] = &huma.MediaType{Schema: binarySchema()}
	all := map[string]operation{
		"GET /v2": {
			id: "getServerMetadata", tag: tagOIP,
			answers: replies{http.StatusOK: answerJSON("The server.", schemaOf[docServerMetadata](d), "")},
		},
		"GET /v2/health/live": {
			id: "getServerLive", tag: tagOIP,
			answers: replies{http.StatusOK: answerJSON("It lives.", schemaOf[docServerLive](d), `{"live":true}`)},
		},
		"GET /v2/health/ready": {
			id: "getServerReady", tag: tagOIP, text: "By the same checks as /readyz.",
			answers:  replies{http.StatusOK: answerJSON("It is ready.", schemaOf[docServerReady](d), `{"ready":true}`)},
			problems: []job.Code{gateway.CodeUnavailable},
		},
		"POST /v2/repository/index": {
			id: "getRepositoryIndex", tag: tagOIP,
			text:    "Every version of every model that is announced. A body is not read: all of them are ready.",
			answers: replies{http.StatusOK: answerJSON("The models.", schemaOf[[]docRepositoryModel](d), `[{"name":"digits","version":"1","state":"READY","reason":""}]`)},
		},
	}
	for _, act := range []string{"load", "unload"} {
		all["POST /v2/repository/models/{model}/"+act] = operation{
			id: act + "Model", tag: tagOIP, text: "It is always refused.",
			problems: []job.Code{gateway.CodeUnsupported},
		}
	}
	for _, of := range []struct{ path, suffix string }{{"/v2/models/{model}", ""}, {"/v2/models/{model}/versions/{version}", "Version"}} {
		unknown := []job.Code{job.CodeUnknownModel}
		all["GET "+of.path] = operation{
			id: "getModel" + of.suffix + "Metadata", tag: tagOIP, problems: unknown,
			answers: replies{http.StatusOK: answerJSON("The model.", schemaOf[docModelMetadata](d), "")},
		}
		all["GET "+of.path+"/ready"] = operation{
			id: "getModel" + of.suffix + "Ready", tag: tagOIP, problems: unknown,
			answers: replies{http.StatusOK: answerJSON("It is announced.", schemaOf[docModelReady](d), `{"name":"digits","ready":true}`)},
		}
		all["GET "+of.path+"/config"] = operation{
			id: "getModel" + of.suffix + "Config", tag: tagOIP, problems: unknown,
			text:    "What Triton's clients ask for, to learn whether a model has a batch axis, which `dims` leaves out.",
			answers: replies{http.StatusOK: answerJSON("The configuration.", schemaOf[docModelConfig](d), "")},
		}
		all["POST "+of.path+"/infer"] = operation{
			id: "infer" + of.suffix, tag: tagOIP,
			text: "Of the parameters `timeout` is the microseconds after which the answer is of no more use, `priority` is taken and without effect. " +
				"It waits as `/v1/models/{model}/predict` does.",
			params: append(submitParameters(), parameter("header-"+headerJSONLength)), body: d.inferBody(),
			answers:  replies{http.StatusOK: result},
			problems: append(askProblems(), gateway.CodeUnsupported),
		}
	}
	return all
}
