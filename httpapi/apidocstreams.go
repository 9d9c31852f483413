package httpapi

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/httpapi/openapi"
	"github.com/sheafml/sheaf/job"
)

type docBulkAccepted struct {
	Index     int    `json:"index" minimum:"0" doc:"Of the line, from 0."`
	ID        string `json:"id" doc:"Of the job."`
	Status    string `json:"status" enum:"queued"`
	RequestID string `json:"request_id,omitempty" doc:"The id that the line had."`
}

type docBulkRefused struct {
	Index     int        `json:"index" minimum:"0" doc:"Of the line, from 0."`
	RequestID string     `json:"request_id,omitempty" doc:"The id that the line had."`
	Error     docProblem `json:"error"`
}

type docBulkEnd struct {
	Done     bool        `json:"done" doc:"Every line was read. If not, error says why, and the lines from the first that has no answer on were not."`
	Accepted int         `json:"accepted" minimum:"0"`
	Refused  int         `json:"refused" minimum:"0"`
	Error    *docProblem `json:"error,omitempty"`
}

type docJobMissing struct {
	ID    string     `json:"id" doc:"As it was asked for."`
	Error docProblem `json:"error"`
}

type docIDList struct {
	IDs []string `json:"ids" minItems:"1" doc:"Of jobs."`
}

type docLookup struct {
	IDs     []string `json:"ids" minItems:"1" doc:"Of jobs."`
	Outputs bool     `json:"outputs,omitempty" default:"true" doc:"false leaves outputs out."`
}

const mediaEvents = "text/event-stream"

// streamOperations are those of many jobs.
func (d *apiDoc) streamOperations() map[string]operation {
	s := d.schemas
	lookup, list := schemaOf[docLookup](d), schemaOf[docIDList](d)
	for _, ref := range []*huma.Schema{lookup, list} {
		body := s.Registry().SchemaFromRef(ref.Ref)
		s.Close(body)
		body.Properties["ids"].Items = jobID()
	}
	line := s.Put("BulkLine", &huma.Schema{
		OneOf:       []*huma.Schema{schemaOf[docBulkAccepted](d), schemaOf[docBulkRefused](d), schemaOf[docBulkEnd](d)},
		Description: "A line of the answer to a bulk submit: of a line that was accepted, of one that was not, or the last.",
	})
	either := s.Put("JobOrProblem", &huma.Schema{
		AnyOf:       []*huma.Schema{schemaOf[docJob](d), schemaOf[docJobMissing](d)},
		Description: "A job, or why nothing can be said of it.",
	})
	bulk := d.bulk(line)
	version := bulk
	version.id = "submitManyToVersion"
	about := append(bodyProblems(), job.CodeInvalid, gateway.CodeUnavailable, gateway.CodeTooManyWaiters)
	events := operation{
		id: "streamJob", tag: tagJobs,
		text: "Each `job` event is the job as GET gives it: at once, and whenever its status changes. When all are finished, the event `end` comes, and the " +
			"stream ends. An unknown id is an event with `id` and `error`. A stream may end before, and an EventSource comes back by itself.",
		params: parameters("header-Last-Event-ID"),
		answers: replies{
			http.StatusOK:        answer("Server-sent events. The data of `job` is a JobOrProblem.", mediaEvents, d.event(either), ""),
			http.StatusNoContent: {Description: "To who comes back with the Last-Event-ID `end`: there is no more to come."},
		},
		problems: []job.Code{gateway.CodeUnavailable, gateway.CodeTooManyWaiters},
	}
	ofSome, ofMany := events, events
	ofSome.id, ofSome.problems = "streamSomeJobs", []job.Code{job.CodeMalformed, job.CodeInvalid, job.CodeTooLarge, gateway.CodeUnavailable, gateway.CodeTooManyWaiters}
	explode, one := true, 1
	ofSome.params = append(parameters("header-Last-Event-ID"), &huma.Param{
		Name: "id", In: "query", Required: true, Explode: &explode, Description: "The id of a job; as often as there are jobs.",
		Schema: &huma.Schema{Type: huma.TypeArray, Items: jobID(), MinItems: &one}, Example: exampleTicket,
	})
	ofMany.id, ofMany.problems = "streamManyJobs", about
	ofMany.body = bodyJSON("The ids.", true, list, map[string]string{"one": `{"ids":["` + exampleTicket + `"]}`})
	return map[string]operation{
		"POST /v1/models/{model}/bulk":                    bulk,
		"POST /v1/models/{model}/versions/{version}/bulk": version,
		"POST /v1/jobs/lookup": {
			id: "lookUpJobs", tag: tagJobs, text: "The lines come in the order of the ids.",
			body: bodyJSON("The ids.", true, lookup, map[string]string{"without outputs": `{"ids":["` + exampleTicket + `"],"outputs":false}`}),
			answers: replies{http.StatusOK: answer("A line for each id. That one is missing means that the answer was cut off.", mediaLines, either,
				exampleSucceeded+"\n")},
			problems: about,
		},
		"GET /v1/jobs/{id}/events": events,
		"GET /v1/jobs/events":      ofSome,
		"POST /v1/jobs/events":     ofMany,
	}
}

// jobID is the schema of a job's id, which is opaque.
func jobID() *huma.Schema {
	one := 1
	return &huma.Schema{Type: huma.TypeString, MinLength: &one}
}

// event is the schema of a server-sent event: of a job, with the data, or the one at the end.
func (d *apiDoc) event(data *huma.Schema) *huma.Schema {
	of := func(name string, data *huma.Schema) *huma.Schema {
		return &huma.Schema{
			Type: huma.TypeObject, Required: []string{"event", "id", "data"},
			Properties: map[string]*huma.Schema{
				"event": {Type: huma.TypeString, Enum: []any{name}}, "id": {Type: huma.TypeString},
				"data": {Type: huma.TypeString, Description: "JSON.", Extensions: map[string]any{"contentMediaType": job.ContentTypeJSON, "contentSchema": data}},
			},
		}
	}
	none := 0
	return &huma.Schema{OneOf: []*huma.Schema{
		d.schemas.Put("JobEvent", of("job", data)),
		d.schemas.Put("EndEvent", of("end", &huma.Schema{Type: huma.TypeObject, MaxProperties: &none})),
	}}
}

// bulk documents the bulk route, whose answer consists of lines of the schema.
func (d *apiDoc) bulk(line *huma.Schema) operation {
	row := `{"id":"a","input":` + exampleRow + `}` + "\n"
	return operation{
		id: "submitMany", tag: tagJobs,
		text: "Each line of the body is what `…/jobs` takes; the answer has a line for each, in the same order, and is sent while the body still comes. The last line has " +
			"`done`; without it the answer was cut off. Jobs go into the lane bulk unless `lane` says otherwise. With an Idempotency-Key the key of line i is `<key>/<i>`, " +
			"so that the whole body may be sent again.",
		params: parameters("query-lane", "header-"+headerKey, "header-"+job.HeaderDeadline, "header-"+job.HeaderTraceParent),
		body: &huma.RequestBody{
			Description: "One JSON document a line.",
			Content:     map[string]*huma.MediaType{mediaLines: {Schema: openapi.Ref("JobRequest"), Example: row}},
		},
		answers: replies{http.StatusOK: answer("A line for each line, and one at the end.", mediaLines, line,
			`{"index":0,"id":"`+exampleTicket+`","status":"queued","request_id":"a"}`+"\n"+`{"done":true,"accepted":1,"refused":0}`+"\n")},
		problems: []job.Code{job.CodeMalformed, job.CodeInvalid, job.CodeUnknownModel, gateway.CodeMediaType, gateway.CodeBusy, gateway.CodeUnavailable},
	}
}
