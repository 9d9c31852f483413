package httpapi

import (
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sheafml/sheaf/httpapi/openapi"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// The types here are how bodies look that are read and written without encoding/json. Nothing else uses them; the contract
// test holds that they are true.

type docInputTensor struct {
	Name     string         `json:"name" minLength:"1" doc:"Of the input, as the model has it." example:"x"`
	Datatype docDatatype    `json:"datatype"`
	Shape    []docDimension `json:"shape" maxItems:"8" doc:"With the batch axis first, if the model has one." example:"[1,64]"`
	Data     docValue       `json:"data"`
}

type docTensor struct {
	Name     string         `json:"name" doc:"Of the output." example:"probabilities"`
	Datatype docDatatype    `json:"datatype"`
	Shape    []docDimension `json:"shape" example:"[1,10]"`
	Data     []docElement   `json:"data" doc:"The elements, flat and row-major."`
}

type docWantedOutput struct {
	Name string `json:"name" minLength:"1" doc:"Of the output, as the model has it." example:"probabilities"`
}

type docJobRequest struct {
	Input        docValue                `json:"input,omitempty"`
	Inputs       []docInputTensor        `json:"inputs,omitempty" minItems:"1" doc:"Every input of the model, by name."`
	Outputs      []docWantedOutput       `json:"outputs,omitempty" doc:"The outputs that are wanted, in this order. Without it all of them."`
	Parameters   map[string]docParameter `json:"parameters,omitempty" doc:"They travel with the job; jobs share a batch only if theirs agree."`
	ID           string                  `json:"id,omitempty" doc:"The client's own name for the request. It travels with the job."`
	Lane         docLane                 `json:"lane,omitempty"`
	Webhook      string                  `json:"webhook,omitempty" format:"uri" doc:"A URL that is told when the job is finished." example:"https://app.example.com/hooks/sheaf"`
	ModelName    string                  `json:"model_name,omitempty" doc:"If given, the same as in the path."`
	ModelVersion string                  `json:"model_version,omitempty" doc:"A version of the model; if the path has one, the same."`
}

type docJob struct {
	ID         string      `json:"id" doc:"Opaque. It is what GET and DELETE take." example:"0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11.i4821-0"`
	Status     string      `json:"status" enum:"queued,running,succeeded,failed,canceled,expired" doc:"The last four are final."`
	Model      string      `json:"model,omitempty" example:"digits"`
	Version    string      `json:"model_version,omitempty" doc:"The version that was asked for, or that has computed it." example:"1"`
	CreatedAt  docTime     `json:"created_at,omitempty"`
	FinishedAt docTime     `json:"finished_at,omitempty"`
	Attempts   int         `json:"attempts,omitempty" minimum:"1" doc:"How often it was tried."`
	Position   int         `json:"position,omitempty" minimum:"0" doc:"How many are before it in the queue."`
	ETA        int         `json:"eta_ms,omitempty" minimum:"0" doc:"When it may be finished, in milliseconds from now: an estimate."`
	Outputs    []docTensor `json:"outputs,omitempty" doc:"Of a job that has succeeded."`
	Omitted    bool        `json:"outputs_omitted,omitempty" doc:"Of what a webhook is sent: the outputs are too large for that."`
	Error      *docProblem `json:"error,omitempty" doc:"Of a job that has not."`
	Timings    *docTimings `json:"timings,omitempty"`
}

type docTimings struct {
	Queue     float64 `json:"queue_ms" minimum:"0" doc:"From the submit to the worker."`
	BatchWait float64 `json:"batch_wait_ms" minimum:"0" doc:"For the batch to be run."`
	Infer     float64 `json:"infer_ms" minimum:"0" doc:"The run of the batch."`
	BatchRows int     `json:"batch_rows,omitempty" minimum:"1" doc:"How many rows the batch had."`
}

type docPrediction struct {
	Prediction docNested   `json:"prediction"`
	ID         string      `json:"id" doc:"Of the job." example:"0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11.i4821-0"`
	Model      string      `json:"model,omitempty" example:"digits"`
	Version    string      `json:"model_version,omitempty" example:"1"`
	Timings    *docTimings `json:"timings,omitempty"`
}

type docProblem struct {
	Type      string             `json:"type" format:"uri-reference" doc:"Stable: switch on it. GET on it explains it." example:"/problems/invalid"`
	Title     string             `json:"title"`
	Status    int                `json:"status" minimum:"400" maximum:"599"`
	Detail    string             `json:"detail,omitempty" doc:"What is wrong this time, for people."`
	Instance  string             `json:"instance,omitempty" format:"uri-reference" doc:"The job, or the path, that it is about."`
	Field     string             `json:"field,omitempty" doc:"Where in the request it is." example:"inputs[0].shape"`
	Expected  []model.TensorSpec `json:"expected,omitempty" doc:"What the model takes or gives."`
	ID        string             `json:"id,omitempty" doc:"The job that it is about."`
	JobStatus string             `json:"job_status,omitempty" enum:"queued,running,succeeded,failed,canceled,expired" doc:"Of that job."`
	Count     int                `json:"count,omitempty" doc:"How many match, where that is not what the request says."`
}

type docTensorSpec struct {
	Name     string      `json:"name" example:"x"`
	Datatype docDatatype `json:"datatype"`
	Shape    []int64     `json:"shape" doc:"-1 is a dimension that varies." example:"[-1,64]"`
}

type (
	docDatatype  string
	docDimension string
	docElement   string
	docNested    string
	docValue     string
	docParameter string
	docLane      string
	docTime      string
	docUUID      string
)

// Schema implements huma.SchemaProvider.
func (docDatatype) Schema(huma.Registry) *huma.Schema { return openapi.Ref("Datatype") }

// Schema implements huma.SchemaProvider.
func (docDimension) Schema(huma.Registry) *huma.Schema {
	zero := 0.0
	return &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: &zero}
}

// Schema implements huma.SchemaProvider.
func (docElement) Schema(huma.Registry) *huma.Schema { return openapi.Ref("Element") }

// Schema implements huma.SchemaProvider.
func (docNested) Schema(huma.Registry) *huma.Schema { return openapi.Ref("Nested") }

// Schema implements huma.SchemaProvider.
func (docValue) Schema(huma.Registry) *huma.Schema { return openapi.Ref("Value") }

// Schema implements huma.SchemaProvider.
func (docParameter) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeString}, {Type: huma.TypeNumber}, {Type: huma.TypeBoolean}}}
}

// Schema implements huma.SchemaProvider.
func (docLane) Schema(huma.Registry) *huma.Schema { return openapi.Ref("LaneName") }

// Schema implements huma.SchemaProvider.
func (docTime) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time"}
}

// Schema implements huma.SchemaProvider.
func (docUUID) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "uuid"}
}

// prepare puts into the collection what no Go type says.
func (d *apiDoc) prepare() {
	s := d.schemas
	s.Alias(reflect.TypeFor[model.TensorSpec](), reflect.TypeFor[docTensorSpec]())
	s.Alias(reflect.TypeFor[job.ID](), reflect.TypeFor[docUUID]())
	var datatypes, lanes []any
	for t := job.Bool; t.Valid(); t++ {
		datatypes = append(datatypes, t.String())
	}
	for _, lane := range job.Lanes() {
		lanes = append(lanes, lane.String())
	}
	s.Put("Datatype", &huma.Schema{Type: huma.TypeString, Enum: datatypes, Description: "Of the Open Inference Protocol."})
	s.Put("LaneName", &huma.Schema{Type: huma.TypeString, Enum: lanes, Description: "interactive goes before bulk."})
	number, text, boolean := &huma.Schema{Type: huma.TypeNumber}, &huma.Schema{Type: huma.TypeString}, &huma.Schema{Type: huma.TypeBoolean}
	s.Put("Value", &huma.Schema{
		OneOf:       []*huma.Schema{number, text, boolean, {Type: huma.TypeArray, Items: openapi.Ref("Value")}},
		Description: "A rectangular array, nested by its shape, or flat where the shape is given beside it. BOOL is true and false, BYTES strings, everything else numbers.",
	})
	s.Put("Element", &huma.Schema{
		OneOf:       []*huma.Schema{number, text, boolean, {Type: "null"}},
		Description: "One element of a tensor: true or false of BOOL, a string of BYTES, else a number. NaN and infinity are null.",
	})
	s.Put("Nested", &huma.Schema{
		OneOf:       []*huma.Schema{openapi.Ref("Element"), {Type: huma.TypeArray, Items: openapi.Ref("Nested")}},
		Description: "The data of a tensor, nested by its shape, as numpy's tolist() gives it.",
	})
	request := s.Named(reflect.TypeFor[docJobRequest]())
	s.Close(request)
	request.OneOf = []*huma.Schema{{Required: []string{"input"}}, {Required: []string{"inputs"}}}
	request.Description = "Either `input`, for a model with one input, or `inputs`. With one level of nesting less than the model's rank `input` is a single row."
}
