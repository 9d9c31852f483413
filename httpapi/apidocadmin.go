package httpapi

import (
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
)

// docPause is the body of a pause.
type docPause struct {
	Model string `json:"model,omitempty" doc:"That model alone. Without it all of the lane." example:"digits"`
	Until string `json:"until,omitempty" doc:"RFC 3339, or a duration from now. Without it until it is resumed." example:"2h"`
}

// docResume is the body of a resume.
type docResume struct {
	Model string `json:"model,omitempty" doc:"That model alone. Without it all of the lane." example:"digits"`
}

// adminOperations are those of administrators.
func (d *apiDoc) adminOperations() map[string]operation {
	type queueList struct {
		Lanes []Lane `json:"lanes"`
	}
	for _, t := range []reflect.Type{reflect.TypeFor[deadAct](), reflect.TypeFor[docPause](), reflect.TypeFor[docResume]()} {
		d.schemas.Close(d.schemas.Named(t))
	}
	d.schemas.Named(reflect.TypeFor[deadAct]()).Properties["seqs"].Items = sequence()
	const (
		letter = `{"seq":17,"time":"2026-03-01T12:00:00Z","lane":"bulk","model":"digits","tenant":"default","code":"exhausted",` +
			`"reason":"exhausted: 3 attempts","jobs":["0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11"],"attempts":3,"bytes":412}`
		lane = `{"lane":"bulk","messages":0,"bytes":0,"max_messages":1000000,"max_bytes":-1,"max_messages_per_tenant":100000,"paused":false,"models":[]}`
		act  = `{"model":"digits","confirm":1}`
	)
	events := answer("A line for each letter, and a last one with the sums. Its absence means that the answer was cut off.",
		mediaLines, schemaOf[DeadEvent](d), `{"seq":17,"status":"purged"}`+"\n"+`{"done":{"done":1}}`+"\n")
	onMany := append(bodyProblems(), job.CodeInvalid, gateway.CodeUnavailable, codeCountChanged)
	paused := replies{http.StatusOK: answerJSON("How the lane stands now.", schemaOf[Lane](d), lane)}
	onLane := append(bodyProblems(), job.CodeInvalid, gateway.CodeUnavailable, codeNotFound)
	return map[string]operation{
		"GET /v1/admin/dead": {
			id: "listDeadLetters", tag: tagAdmin, text: "A page of those that match, and how many do in all.",
			params:   d.deadParameters(),
			answers:  replies{http.StatusOK: answerJSON("The page.", schemaOf[DeadList](d), `{"count":1,"max_seq":17,"letters":[`+letter+`]}`)},
			problems: []job.Code{job.CodeMalformed, job.CodeInvalid, gateway.CodeUnavailable},
		},
		"GET /v1/admin/dead/{seq}": {
			id: "getDeadLetter", tag: tagAdmin,
			params:   []*huma.Param{{Name: "data", In: "query", Description: "With the inputs' data.", Schema: &huma.Schema{Type: huma.TypeBoolean}}},
			answers:  replies{http.StatusOK: answerJSON("The letter.", schemaOf[DeadLetter](d), letter)},
			problems: []job.Code{job.CodeMalformed, job.CodeInvalid, codeUnknownLetter, gateway.CodeUnavailable},
		},
		"POST /v1/admin/dead/requeue": {
			id: "requeueDeadLetters", tag: tagAdmin,
			text: "It acts on all that match, if they are as many as `confirm` says. The jobs get new ids.",
			body: bodyJSON("Which ones.", false, schemaOf[deadAct](d), map[string]string{"model": act}), answers: replies{http.StatusOK: events}, problems: onMany,
		},
		"POST /v1/admin/dead/purge": {
			id: "purgeDeadLetters", tag: tagAdmin, text: "It acts on all that match, if they are as many as `confirm` says.",
			body: bodyJSON("Which ones.", false, schemaOf[deadAct](d), map[string]string{"model": act}), answers: replies{http.StatusOK: events}, problems: onMany,
		},
		"GET /v1/admin/queues": {
			id: "listQueues", tag: tagAdmin, problems: []job.Code{gateway.CodeUnavailable},
			answers: replies{http.StatusOK: answerJSON("The lanes.", schemaOf[queueList](d), `{"lanes":[`+lane+`]}`)},
		},
		"POST /v1/admin/queues/{lane}/pause": {
			id: "pauseQueue", tag: tagAdmin, answers: paused, problems: onLane,
			body: bodyJSON("What, and for how long.", false, schemaOf[docPause](d), map[string]string{"for 2 hours": `{"until":"2h"}`}),
		},
		"POST /v1/admin/queues/{lane}/resume": {
			id: "resumeQueue", tag: tagAdmin, answers: paused, problems: onLane,
			body: bodyJSON("What.", false, schemaOf[docResume](d), map[string]string{"all": `{}`}),
		},
	}
}

// deadParameters are the query of GET /v1/admin/dead.
func (d *apiDoc) deadParameters() []*huma.Param {
	query := func(name, text string, schema *huma.Schema) *huma.Param {
		return &huma.Param{Name: name, In: "query", Description: text, Schema: schema}
	}
	text := func() *huma.Schema { return &huma.Schema{Type: huma.TypeString} }
	zero, most := 0.0, float64(maxDeadPage)
	explode := true
	seqs := query("seqs", "Those of these numbers.", &huma.Schema{Type: huma.TypeArray, Items: sequence()})
	seqs.Explode = &explode
	return []*huma.Param{
		query("lane", "Those of the lane.", text()),
		query("model", "Those of the model.", text()),
		query("tenant", "Those of the tenant.", text()),
		query("reason", "Those whose reason contains this.", text()),
		query("code", "Those with the code.", text()),
		query("older_than", "Those from before: RFC 3339, or how long ago, such as 1h.", text()),
		query("newer_than", "Those from after: RFC 3339, or how long ago, such as 1h.", text()),
		query("job", "The one with the job.", text()),
		seqs,
		query("max_seq", "Those up to the number.", &huma.Schema{Type: huma.TypeInteger, Minimum: &zero}),
		query("limit", "How many a page has; 0 only counts.", &huma.Schema{Type: huma.TypeInteger, Minimum: &zero, Maximum: &most, Default: defaultDeadPage}),
		query("cursor", "Of the page before.", text()),
	}
}
