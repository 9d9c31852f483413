package job

import (
	"strings"
	"time"
)

// Content types of a message body on NATS and of a request over HTTP.
const (
	ContentTypeSheaf    = "application/vnd.sheaf.v1+protobuf" // sheaf.v1.Sheaf: one or more jobs
	ContentTypeProtobuf = "application/x-protobuf"            // inference.ModelInferRequest
	ContentTypeJSON     = "application/json"                  // the Open Inference Protocol's REST body
	ContentTypeProblem  = "application/problem+json"          // RFC 9457
)

// Headers of a message on NATS.
const (
	HeaderID           = "Nats-Msg-Id"         // the job ID, a UUID
	HeaderContentType  = "Content-Type"        // one of the content types above
	HeaderDeadline     = "Sheaf-Deadline"      // RFC 3339, or milliseconds since the Unix epoch
	HeaderReply        = "Sheaf-Reply"         // an inbox that is sent the outcome
	HeaderWebhook      = "Sheaf-Webhook"       // a URL that is sent the outcome
	HeaderModelVersion = "Sheaf-Model-Version" // the version wanted
	HeaderTraceParent  = "traceparent"         // W3C trace context
	HeaderState        = "Sheaf-State"         // on an outcome: the terminal state
)

// Envelope is a message as the queue delivers it, before anything in it is believed.
type Envelope struct {
	Lane      Lane
	Tenant    string
	Model     string
	Published time.Time               // when JetStream stored it
	Header    func(key string) string // "" if absent
	Body      []byte
}

func (env *Envelope) header(key string) string {
	if env.Header == nil {
		return ""
	}
	return env.Header(key)
}

// contentType returns the media type of the body, in lower case and without parameters.
func (env *Envelope) contentType() string {
	s, _, _ := strings.Cut(env.header(HeaderContentType), ";")
	return strings.ToLower(strings.TrimSpace(s))
}

// Decoded is one job of a message. Where Err is set only the ID and the Webhook (and Lane, Tenant, Model from the
// subject) can be relied on: the job gets a failed record that says Err.
type Decoded struct {
	Job Job
	Err *Error
}
