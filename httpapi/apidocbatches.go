package httpapi

import (
	"maps"
	"net/http"
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sheafml/sheaf/batch"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
)

const (
	exampleFile  = "file-0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11"
	exampleBatch = "batch_0198f3c27b1e7c339d5f3c6b7a2f8e12"

	exampleFileJSON = `{"id":"` + exampleFile + `","object":"file","bytes":13700,"created_at":1772366400,"expires_at":1772971200,` +
		`"filename":"requests.jsonl","purpose":"batch","status":"processed"}`

	exampleBatchJSON = `{"id":"` + exampleBatch + `","object":"batch","endpoint":"/v1/models/digits/predict","model":"digits","model_version":"1",` +
		`"input_file_id":"` + exampleFile + `","completion_window":"24h","status":"in_progress","created_at":1772366400,"in_progress_at":1772366401,` +
		`"expires_at":1772452800,"request_counts":{"total":1000,"completed":416,"failed":2},"metadata":{"run":"7"},` +
		`"rows":416,"rate":350.5,"eta_seconds":2,"output_bytes":93201,"error_bytes":412}`

	exampleRequestLine = `{"custom_id":"a","method":"POST","url":"/v1/models/digits/predict","body":{"input":` + exampleRow + `}}` + "\n"

	exampleResultLine = `{"id":"batch_req_0198f3c27b1e7c339d5f3c6b7a2f8e12_1","custom_id":"a","response":{"status_code":200,` +
		`"request_id":"0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11","body":{"prediction":[0.25,0.75],"model":"digits","model_version":"1"}},"error":null}` + "\n"

	exampleErrorLine = `{"id":"batch_req_0198f3c27b1e7c339d5f3c6b7a2f8e12_2","custom_id":"b","response":null,` +
		`"error":{"code":"invalid","message":"expected an array of shape [64], got [3]","param":"input","line":2}}` + "\n"
)

type docFile struct {
	ID        string `json:"id" doc:"Opaque."`
	Object    string `json:"object" enum:"file"`
	Bytes     int64  `json:"bytes" minimum:"0"`
	CreatedAt int64  `json:"created_at" doc:"Unix seconds, as all times of files and batches."`
	ExpiresAt int64  `json:"expires_at,omitempty" doc:"When it is deleted."`
	Filename  string `json:"filename"`
	Purpose   string `json:"purpose" enum:"batch,batch_output"`
	Status    string `json:"status" enum:"processed"`
}

type docFileList struct {
	Object  string    `json:"object" enum:"list"`
	Data    []docFile `json:"data"`
	FirstID string    `json:"first_id,omitempty"`
	LastID  string    `json:"last_id,omitempty" doc:"What after takes for the next page."`
	HasMore bool      `json:"has_more"`
}

type docFileDeleted struct {
	ID      string `json:"id"`
	Object  string `json:"object" enum:"file"`
	Deleted bool   `json:"deleted"`
}

type docBatchRequest struct {
	InputFile        string            `json:"input_file_id,omitempty" doc:"A file that was uploaded; either this or input_url."`
	InputURL         string            `json:"input_url,omitempty" format:"uri" doc:"A file elsewhere, where the server allows it."`
	OutputURL        string            `json:"output_url,omitempty" format:"uri" doc:"Where the answers are copied to at the end, where the server allows it."`
	ErrorURL         string            `json:"error_url,omitempty" format:"uri" doc:"Where the lines that failed are copied to."`
	Endpoint         string            `json:"endpoint,omitempty" doc:"The route that each line is a request of: …/predict, answered with predictions, or …/jobs, with all outputs." example:"/v1/models/digits/predict"`
	Model            string            `json:"model,omitempty" doc:"Instead of endpoint: the predictions of this model."`
	Version          string            `json:"model_version,omitempty" doc:"The version; without it the one that is served now. The batch keeps to it."`
	Plain            bool              `json:"plain,omitempty" doc:"Each line is a body, or just its input, without custom_id, method and url; its number is its custom_id."`
	CompletionWindow string            `json:"completion_window,omitempty" doc:"What is not done within this time is left: the batch expires." example:"24h"`
	Metadata         map[string]string `json:"metadata,omitempty" doc:"16 texts at most."`
	Webhook          string            `json:"webhook,omitempty" format:"uri" doc:"A URL that is told of the end."`
	MaxRate          float64           `json:"max_rate,omitempty" minimum:"0" doc:"Lines a second at most; 0 is no bound."`
	Windows          []string          `json:"windows,omitempty" doc:"Times of day in which it may run." example:"[\"22:00-06:00\"]"`
	LinesPerJob      int               `json:"lines_per_job,omitempty" minimum:"0" doc:"How many lines make one job; 0 leaves it to the server."`
	Ordered          bool              `json:"ordered,omitempty" doc:"The answers come in the order of the lines."`
}

type docBatch struct {
	ID               string            `json:"id" doc:"Opaque."`
	Object           string            `json:"object" enum:"batch"`
	Endpoint         string            `json:"endpoint" example:"/v1/models/digits/predict"`
	Model            string            `json:"model" example:"digits"`
	Version          string            `json:"model_version,omitempty" example:"1"`
	Errors           *docFaults        `json:"errors,omitempty" doc:"Why the batch failed."`
	InputFile        string            `json:"input_file_id,omitempty"`
	InputURL         string            `json:"input_url,omitempty"`
	CompletionWindow string            `json:"completion_window" example:"24h"`
	Status           string            `json:"status" enum:"validating,in_progress,finalizing,completed,failed,expired,cancelling,cancelled" doc:"completed, failed, expired and cancelled are final."`
	OutputFile       string            `json:"output_file_id,omitempty" doc:"Once it has ended, if there are answers."`
	ErrorFile        string            `json:"error_file_id,omitempty" doc:"Once it has ended, if lines have failed."`
	OutputURL        string            `json:"output_url,omitempty"`
	ErrorURL         string            `json:"error_url,omitempty"`
	CreatedAt        int64             `json:"created_at" doc:"Unix seconds, as all times of files and batches."`
	InProgressAt     int64             `json:"in_progress_at,omitempty"`
	ExpiresAt        int64             `json:"expires_at,omitempty" doc:"The end of its completion window."`
	FinalizingAt     int64             `json:"finalizing_at,omitempty"`
	CompletedAt      int64             `json:"completed_at,omitempty"`
	FailedAt         int64             `json:"failed_at,omitempty"`
	ExpiredAt        int64             `json:"expired_at,omitempty"`
	CancellingAt     int64             `json:"cancelling_at,omitempty"`
	CancelledAt      int64             `json:"cancelled_at,omitempty"`
	RequestCounts    docCounts         `json:"request_counts"`
	Metadata         map[string]string `json:"metadata,omitempty"`
	Rows             int64             `json:"rows" minimum:"0" doc:"That were predicted: a line may have several."`
	Rate             float64           `json:"rate,omitempty" doc:"Lines a second, of late."`
	ETA              int64             `json:"eta_seconds,omitempty" doc:"Until the end, at that rate."`
	Paused           bool              `json:"paused,omitempty"`
	Waiting          string            `json:"waiting,omitempty" doc:"For what, in words."`
	OutputBytes      int64             `json:"output_bytes" minimum:"0" doc:"Of answers, so far."`
	ErrorBytes       int64             `json:"error_bytes" minimum:"0"`
	DeletedAt        int64             `json:"files_expire_at,omitempty" doc:"When the batch and what it has written are deleted."`
	Webhook          string            `json:"webhook,omitempty"`
	MaxRate          float64           `json:"max_rate,omitempty"`
	Windows          []string          `json:"windows,omitempty"`
}

type docCounts struct {
	Total     int64 `json:"total" minimum:"0" doc:"Lines of the input; 0 until it was read."`
	Completed int64 `json:"completed" minimum:"0"`
	Failed    int64 `json:"failed" minimum:"0"`
}

type docFaults struct {
	Object string     `json:"object" enum:"list"`
	Data   []docFault `json:"data"`
}

type docFault struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Param   string `json:"param,omitempty"`
	Line    int64  `json:"line,omitempty"`
}

type docBatchList struct {
	Object  string     `json:"object" enum:"list"`
	Data    []docBatch `json:"data"`
	FirstID string     `json:"first_id,omitempty"`
	LastID  string     `json:"last_id,omitempty" doc:"What after takes for the next page."`
	HasMore bool       `json:"has_more"`
}

type docRequestLine struct {
	CustomID string        `json:"custom_id" maxLength:"512" doc:"Yours, and unique in the file: by it the answer is known again."`
	Method   string        `json:"method" enum:"POST"`
	URL      string        `json:"url" doc:"The endpoint of the batch."`
	Body     docJobRequest `json:"body"`
}

type docResultLine struct {
	ID       string          `json:"id"`
	CustomID string          `json:"custom_id"`
	Response docLineResponse `json:"response"`
	Error    docNothing      `json:"error"`
}

type docLineResponse struct {
	Status    int         `json:"status_code" enum:"200"`
	RequestID string      `json:"request_id" doc:"Of the job that has computed it, with other lines."`
	Body      docLineBody `json:"body"`
}

type docLineBody struct {
	Prediction docNested   `json:"prediction,omitempty" doc:"Of …/predict."`
	Status     string      `json:"status,omitempty" enum:"succeeded" doc:"Of …/jobs."`
	Outputs    []docTensor `json:"outputs,omitempty" doc:"Of …/jobs."`
	Model      string      `json:"model"`
	Version    string      `json:"model_version"`
}

type docErrorLine struct {
	ID       string       `json:"id"`
	CustomID *string      `json:"custom_id" nullable:"true" doc:"null if the line has none that can be read."`
	Response docNothing   `json:"response"`
	Error    docLineError `json:"error"`
}

type docLineError struct {
	Code    string `json:"code" doc:"The last part of the problem's type."`
	Message string `json:"message"`
	Param   string `json:"param,omitempty" doc:"Where in the line it is."`
	Line    int64  `json:"line" minimum:"1"`
}

type docOpenAIError struct {
	Message string `json:"message"`
	Type    string `json:"type"`
	Code    string `json:"code" doc:"The last part of the type."`
	Param   string `json:"param,omitempty"`
}

type docNothing string

// Schema implements huma.SchemaProvider.
func (docNothing) Schema(huma.Registry) *huma.Schema { return &huma.Schema{Type: "null"} }

// batchOperations are those of batches and their files.
func (d *apiDoc) batchOperations() map[string]operation {
	problem := *d.schemas.Named(reflect.TypeFor[docProblem]())
	problem.Properties = maps.Clone(problem.Properties)
	problem.Properties["error"] = schemaOf[docOpenAIError](d)
	problem.Required = append(slices.Clone(problem.Required), "error")
	d.schemas.Put("BatchProblem", &problem)
	file, one := schemaOf[docFile](d), schemaOf[docBatch](d)
	known := answerJSON("The batch.", one, exampleBatchJSON)
	find := []job.Code{codeUnknownBatch, gateway.CodeUnavailable}
	act := func(id, text string) operation {
		return operation{
			id: id, tag: tagBatches, text: text, answers: replies{http.StatusOK: known},
			problems: append(find, codeBatchFinished),
		}
	}
	lines := func(id, text string, schema *huma.Schema, example string) operation {
		return operation{
			id: id, tag: tagBatches,
			text: "Each line is there as soon as it counts, and for good. Without `follow` the answer ends with what there is now. An answer that is cut off is no whole " +
				"one: go on with `from`.",
			params:   d.lineParams(),
			answers:  replies{http.StatusOK: answer(text, mediaLines, schema, example)},
			problems: append(append(codesOfTransfer(), find...), job.CodeMalformed),
		}
	}
	upload := append(codesOfTransfer(), job.CodeMalformed, job.CodeInvalid, job.CodeTooLarge, gateway.CodeMediaType, gateway.CodeSlowBody, codeTooManyBatches, gateway.CodeFull)
	content := answer("The bytes.", mediaFile, &huma.Schema{Type: huma.TypeString, Format: "binary"}, "")
	return map[string]operation{
		"POST /v1/files": {
			id: "uploadFile", tag: tagBatches, text: "Each line of the file is a request; a batch names it. It is kept for a week, unless the server is set otherwise.",
			body: d.form(), answers: replies{http.StatusOK: answerJSON("The file.", file, exampleFileJSON)}, problems: upload,
		},
		"GET /v1/files": {
			id: "listFiles", tag: tagBatches,
			params: append(parameters("query-limit", "query-after", "query-order"), &huma.Param{
				Name: "purpose", In: "query", Description: "Of the files; those that were uploaded have the purpose batch.", Schema: &huma.Schema{Type: huma.TypeString},
			}),
			answers: replies{http.StatusOK: answerJSON("A page of them.", schemaOf[docFileList](d),
				`{"object":"list","data":[`+exampleFileJSON+`],"first_id":"`+exampleFile+`","last_id":"`+exampleFile+`","has_more":false}`)},
			problems: []job.Code{job.CodeMalformed, gateway.CodeUnavailable},
		},
		"GET /v1/files/{file}": {
			id: "getFile", tag: tagBatches, answers: replies{http.StatusOK: answerJSON("The file.", file, exampleFileJSON)},
			problems: []job.Code{codeUnknownFile, gateway.CodeUnavailable},
		},
		"GET /v1/files/{file}/content": {
			id: "getFileContent", tag: tagBatches, text: "That of a batch which is not finished ends where the batch is now.",
			answers: replies{http.StatusOK: content}, problems: append(codesOfTransfer(), codeUnknownFile),
		},
		"DELETE /v1/files/{file}": {
			id: "deleteFile", tag: tagBatches, text: "What a batch has written is deleted with the batch.",
			answers: replies{http.StatusOK: answerJSON("It is deleted.", schemaOf[docFileDeleted](d),
				`{"id":"`+exampleFile+`","object":"file","deleted":true}`)},
			problems: []job.Code{codeUnknownFile, codeFileInUse, job.CodeInvalid, gateway.CodeUnavailable},
		},
		"POST /v1/batches": d.createBatch(upload),
		"GET /v1/batches": {
			id: "listBatches", tag: tagBatches, params: parameters("query-limit", "query-after", "query-order"),
			answers: replies{http.StatusOK: answerJSON("A page of them.", schemaOf[docBatchList](d),
				`{"object":"list","data":[`+exampleBatchJSON+`],"first_id":"`+exampleBatch+`","last_id":"`+exampleBatch+`","has_more":false}`)},
			problems: []job.Code{job.CodeMalformed, gateway.CodeUnavailable},
		},
		"GET /v1/batches/{batch}": {id: "getBatch", tag: tagBatches, answers: replies{http.StatusOK: known}, problems: find},
		"POST /v1/batches/{batch}/cancel": act("cancelBatch", "It is `cancelling` until what is in hand has been recorded, and then `cancelled`. What is done is kept. "+
			"Canceling again changes nothing."),
		"POST /v1/batches/{batch}/pause":  act("pauseBatch", "Until it is resumed, or its completion window is over."),
		"POST /v1/batches/{batch}/resume": act("resumeBatch", ""),
		"GET /v1/batches/{batch}/results": lines("getBatchResults", "The answers.", schemaOf[docResultLine](d), exampleResultLine),
		"GET /v1/batches/{batch}/errors":  lines("getBatchErrors", "The lines that have failed.", schemaOf[docErrorLine](d), exampleErrorLine),
	}
}

// createBatch documents the route that makes batches; upload are the problems of one that brings its lines.
func (d *apiDoc) createBatch(upload []job.Code) operation {
	schema := schemaOf[docBatchRequest](d)
	d.schemas.Close(d.schemas.Named(reflect.TypeFor[docBatchRequest]()))
	body := bodyJSON("What is to be done; or, as `"+mediaLines+"`, the lines themselves, and the rest in the query.", true, schema, map[string]string{
		"file": `{"input_file_id":"` + exampleFile + `","endpoint":"/v1/models/digits/predict","completion_window":"24h"}`,
	})
	body.Content[mediaLines] = &huma.MediaType{Schema: schemaOf[docRequestLine](d), Example: exampleRequestLine}
	query := func(name, text string, schema *huma.Schema) *huma.Param {
		return &huma.Param{Name: name, In: "query", Description: text + " Only with `" + mediaLines + "`, as the member of that name.", Schema: schema}
	}
	text := func() *huma.Schema { return &huma.Schema{Type: huma.TypeString} }
	yes := func() *huma.Schema { return &huma.Schema{Type: huma.TypeBoolean} }
	none := 0.0
	explode := true
	windows := query("windows", "Times of day.", &huma.Schema{Type: huma.TypeArray, Items: text()})
	windows.Explode = &explode
	made := answerJSON("The batch.", schemaOf[docBatch](d), exampleBatchJSON, "Location")
	made.Links = batchLinks()
	return operation{
		id: "createBatch", tag: tagBatches,
		text: "It is accepted when it is answered, and comes to an end whatever happens to the server. A line that is bad fails alone. " +
			"With an Idempotency-Key it is safe to send it again: the answer is the batch that there is.",
		params: append(parameters("header-"+headerKey),
			query("endpoint", "The route that each line is a request of.", text()), query("model", "Instead of endpoint.", text()),
			query("model_version", "The version.", text()), query("completion_window", "The time that it has.", text()),
			query("webhook", "Who is told of the end.", text()), query("output_url", "Where the answers go.", text()), query("error_url", "Where the errors go.", text()),
			query("max_rate", "Lines a second.", &huma.Schema{Type: huma.TypeNumber, Minimum: &none}), windows,
			query("lines_per_job", "Lines of a job.", &huma.Schema{Type: huma.TypeInteger, Minimum: &none}),
			query("plain", "Lines are bodies.", yes()), query("ordered", "In the order of the lines.", yes()),
		),
		body:     body,
		answers:  replies{http.StatusOK: made},
		problems: append(upload, job.CodeUnknownModel, codeUnknownFile, gateway.CodeRateLimited, gateway.CodeKeyReused),
	}
}

// batchLinks say what a batch's id is good for.
func batchLinks() map[string]*huma.Link {
	links := make(map[string]*huma.Link)
	for name, text := range map[string]string{
		"getBatch": "Poll it.", "getBatchResults": "Its answers.", "getBatchErrors": "The lines that have failed.",
		"pauseBatch": "Let it rest.", "resumeBatch": "Let it go on.", "cancelBatch": "Cancel it.",
	} {
		links[name] = &huma.Link{OperationID: name, Parameters: map[string]any{"batch": "$response.body#/id"}, Description: text}
	}
	return links
}

// form documents a form with a file.
func (d *apiDoc) form() *huma.RequestBody {
	return &huma.RequestBody{Required: true, Description: "The purpose, and the file.", Content: map[string]*huma.MediaType{mediaForm: {Schema: &huma.Schema{
		Type: huma.TypeObject, Required: []string{"purpose", "file"}, AdditionalProperties: false,
		Properties: map[string]*huma.Schema{
			"purpose": {Type: huma.TypeString, Enum: []any{batch.PurposeBatch}},
			"file":    {Type: huma.TypeString, Format: "binary", Description: "JSON lines."},
		},
	}}}}
}

func (d *apiDoc) lineParams() []*huma.Param {
	none := 0.0
	return []*huma.Param{
		{Name: "from", In: "query", Description: "How many lines to leave out: those that are there already.", Schema: &huma.Schema{Type: huma.TypeInteger, Minimum: &none}, Example: 1000},
		{Name: "follow", In: "query", Description: "Go on until the batch has ended.", Schema: &huma.Schema{Type: huma.TypeBoolean}, Example: true},
	}
}
