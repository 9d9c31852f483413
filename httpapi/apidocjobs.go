package httpapi

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
)

// bodyProblems are those of a route that reads a body.
func bodyProblems() []job.Code {
	return []job.Code{job.CodeMalformed, job.CodeTooLarge, gateway.CodeMediaType, gateway.CodeSlowBody}
}

// submitProblems are those of a route that submits.
func submitProblems() []job.Code {
	return append(bodyProblems(), job.CodeInvalid, job.CodeUnknownModel, gateway.CodeKeyReused, gateway.CodeRateLimited,
		gateway.CodeTenantFull, gateway.CodeFull, gateway.CodeBusy, gateway.CodeOverloaded, gateway.CodeUnavailable)
}

// askProblems are those of a route that submits and waits: the job's are its own.
func askProblems() []job.Code {
	return append(submitProblems(), job.CodeInference, job.CodeExhausted, job.CodeExpired, job.CodeCanceled,
		gateway.CodeTimeout, gateway.CodeTooManyWaiters)
}

// findProblems are those of a route that looks a job up.
func findProblems() []job.Code {
	return []job.Code{gateway.CodeUnknownJob, gateway.CodeKeyReused, gateway.CodeUnavailable}
}

const (
	exampleQueued = `{"id":"` + exampleTicket + `","status":"queued","model":"digits","created_at":"2026-03-01T12:00:00.000Z","position":12,"eta_ms":350}`

	exampleSucceeded = `{"id":"` + exampleTicket + `","status":"succeeded","model":"digits","model_version":"1",` +
		`"created_at":"2026-03-01T12:00:00.000Z","finished_at":"2026-03-01T12:00:00.012Z","attempts":1,` +
		`"outputs":[{"name":"probabilities","shape":[1,2],"datatype":"FP32","data":[0.25,0.75]}],` + exampleTimings + `}`

	exampleCanceled = `{"id":"` + exampleTicket + `","status":"canceled","model":"digits","created_at":"2026-03-01T12:00:00.000Z","finished_at":"2026-03-01T12:00:01.000Z",` +
		`"error":{"type":"/problems/canceled","title":"The job was canceled","status":409,"detail":"canceled"}}`
)

// jobLinks say that a job's id is what getJob and cancelJob take.
func jobLinks() map[string]*huma.Link {
	id := map[string]any{"id": "$response.body#/id"}
	return map[string]*huma.Link{
		"getJob":    {OperationID: "getJob", Parameters: id, Description: "Poll it, or wait for it."},
		"cancelJob": {OperationID: "cancelJob", Parameters: id, Description: "Cancel it."},
	}
}

// jobBody is the body of a route that submits, of the schema.
func jobBody(schema *huma.Schema) *huma.RequestBody {
	return bodyJSON("The inputs.", true, schema, map[string]string{
		"row":    `{"input":` + exampleRow + `}`,
		"tensor": `{"inputs":[{"name":"x","shape":[1,64],"datatype":"FP32","data":` + exampleRow + `}],"outputs":[{"name":"probabilities"}],"id":"7"}`,
	})
}

// jobOperations are those of jobs.
func (d *apiDoc) jobOperations() map[string]operation {
	jobSchema := schemaOf[docJob](d)
	accepted := answerJSON("The job is accepted, and not finished yet.", jobSchema, exampleQueued, "Location", "Retry-After", "Preference-Applied")
	accepted.Links = jobLinks()
	done := answerJSON("The job is finished: with `Prefer: wait` within that time, or an earlier submit under the same Idempotency-Key was.", jobSchema, exampleSucceeded, "Location", "Preference-Applied")
	done.Links = jobLinks()
	submit := operation{
		id: "submitJob", tag: tagJobs,
		text: "Accepted is what the queue has acknowledged, and not before. Without `Prefer: wait=N` the answer comes at once. " +
			"With an Idempotency-Key it is safe to send it again, for example after a broken connection.",
		params: submitParameters(), body: jobBody(schemaOf[docJobRequest](d)),
		answers:  replies{http.StatusAccepted: accepted, http.StatusOK: done},
		problems: submitProblems(),
	}
	predict := operation{
		id: "predict", tag: tagJobs,
		text: "The answer is the data of the model's first output, or of the one that the model names, nested by its shape. A single row as " +
			"input is a single row as answer. The server waits 30 s unless it is set otherwise, or `Prefer: wait=N` says so; after that it " +
			"answers 504 and the job goes on, under `Location`.",
		params: submitParameters(), body: jobBody(d.predictRequest()),
		answers: replies{http.StatusOK: answerJSON("The prediction.", schemaOf[docPrediction](d),
			`{"prediction":[0.25,0.75],"id":"`+exampleTicket+`","model":"digits","model_version":"1",`+exampleTimings+`}`,
			"Location", "Preference-Applied")},
		problems: askProblems(),
	}
	state := answerJSON("The job: its state, or its result. Retry-After says when to ask again, until it is finished.", jobSchema, exampleSucceeded, "Retry-After")
	get := operation{
		id: "getJob", tag: tagJobs,
		text:   "With `wait` the answer comes when the job is finished, or the time is over.",
		params: parameters("query-wait"), answers: replies{http.StatusOK: state},
		problems: append(findProblems(), job.CodeMalformed, gateway.CodeTooManyWaiters),
	}
	cancel := operation{
		id: "cancelJob", tag: tagJobs,
		text:     "A job that runs is canceled too, if it is not finished before. Canceling again changes nothing.",
		answers:  replies{http.StatusOK: answerJSON("The job is canceled.", jobSchema, exampleCanceled)},
		problems: append(findProblems(), gateway.CodeFinished),
	}
	submitVersion, predictVersion := submit, predict
	submitVersion.id, predictVersion.id = "submitJobToVersion", "predictWithVersion"
	return map[string]operation{
		"POST /v1/models/{model}/jobs":                       submit,
		"POST /v1/models/{model}/versions/{version}/jobs":    submitVersion,
		"POST /v1/models/{model}/predict":                    predict,
		"POST /v1/models/{model}/versions/{version}/predict": predictVersion,
		"GET /v1/jobs/{id}":                                  get,
		"DELETE /v1/jobs/{id}":                               cancel,
	}
}

// modelOperations are those of models.
func (d *apiDoc) modelOperations() map[string]operation {
	type modelList struct {
		Models []modelView `json:"models"`
	}
	const digits = `{"name":"digits","version":"1","versions":["1"],"platform":"onnxruntime_onnx",` +
		`"inputs":[{"name":"x","datatype":"FP32","shape":[-1,64]}],"outputs":[{"name":"probabilities","datatype":"FP32","shape":[-1,10]}],` +
		`"batchable":true,"max_rows":64,"prediction":"probabilities"}`
	get := operation{
		id: "getModel", tag: tagModels, text: "Names, datatypes and shapes of its inputs and outputs, and what one request may ask for.",
		answers:  replies{http.StatusOK: answerJSON("The model, in its highest version or the one asked for.", schemaOf[modelView](d), digits)},
		problems: []job.Code{job.CodeUnknownModel},
	}
	version := get
	version.id = "getModelVersion"
	return map[string]operation{
		"GET /v1/models": {
			id: "listModels", tag: tagModels, text: "Every version of every model, by name, the highest version of each first.",
			answers: replies{http.StatusOK: answerJSON("The models.", schemaOf[modelList](d), `{"models":[`+digits+`]}`)},
		},
		"GET /v1/models/{model}":                    get,
		"GET /v1/models/{model}/versions/{version}": version,
	}
}
