package httpapi

import (
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
)

type docWebhookSecret struct {
	Secret string `json:"secret" example:"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"`
}

type docRedelivery struct {
	ID string `json:"id" doc:"Of the job."`
}

type docWebhook struct {
	Type      string  `json:"type" enum:"job.succeeded,job.failed,job.canceled,job.expired"`
	Timestamp docTime `json:"timestamp"`
	Data      docJob  `json:"data"`
}

// webhookOperations are those of webhooks.
func (d *apiDoc) webhookOperations() map[string]operation {
	return map[string]operation{
		"POST /v1/jobs/{id}/webhook": {
			id: "redeliverWebhook", tag: tagWebhooks,
			answers:  replies{http.StatusAccepted: answerJSON("The delivery is queued.", schemaOf[docRedelivery](d), `{"id":"`+exampleTicket+`"}`)},
			problems: append(findProblems(), gateway.CodeUnfinished, gateway.CodeNoWebhook, gateway.CodeFull),
		},
		"GET /v1/webhooks/secret": {
			id: "getWebhookSecret", tag: tagWebhooks, text: "It is the same for all jobs of the tenant.",
			answers:  replies{http.StatusOK: answerJSON("The secret.", schemaOf[docWebhookSecret](d), `{"secret":"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}`)},
			problems: []job.Code{gateway.CodeUnsupported, gateway.CodeUnavailable},
		},
	}
}

// webhooks documents what is sent to the webhook of a job.
func (d *apiDoc) webhooks() map[string]*huma.PathItem {
	header := func(name, text, example string) *huma.Param {
		return &huma.Param{Name: name, In: "header", Required: true, Description: text, Schema: &huma.Schema{Type: huma.TypeString}, Example: example}
	}
	return map[string]*huma.PathItem{"jobEnded": {Post: &huma.Operation{
		OperationID: "jobEnded", Tags: []string{tagWebhooks}, Summary: "What the webhook of a job is sent when the job is finished",
		Description: "Signed as Standard Webhooks say. It is sent again, with growing pauses, until it is answered 2xx.",
		Parameters: []*huma.Param{
			header("webhook-id", "The same each time that it is sent.", "msg_0198f3c2"),
			header("webhook-timestamp", "When it was sent, in seconds since the Unix epoch.", "1772366400"),
			header("webhook-signature", "v1, and the HMAC-SHA256 of id, timestamp and body in base64; several, separated by spaces, while a secret is being changed.", "v1,K5oZ…"),
		},
		RequestBody: bodyJSON("The job, as GET gives it.", true, schemaOf[docWebhook](d), map[string]string{
			"succeeded": `{"type":"job.succeeded","timestamp":"2026-03-01T12:00:00.012Z","data":` + exampleSucceeded + `}`,
		}),
		Responses: map[string]*huma.Response{
			"2XX": {Description: "It was got."}, "410": {Description: "Nothing more is wanted: it is not sent again."},
			"default": {Description: "It is sent again."},
		},
	}}}
}

// predictRequest is what /predict takes: whoever waits has no use for a webhook.
func (d *apiDoc) predictRequest() *huma.Schema {
	request := *d.schemas.Named(reflect.TypeFor[docJobRequest]())
	properties := make(map[string]*huma.Schema, len(request.Properties))
	for name, schema := range request.Properties {
		if name != "webhook" {
			properties[name] = schema
		}
	}
	request.Properties = properties
	schema := d.schemas.Put("PredictRequest", &request)
	d.schemas.Close(&request)
	return schema
}
