package worker

import (
	"encoding/json"
	"mime"

	"github.com/sheafml/sheaf/job"
)

// reply is what a job's Reply inbox is sent.
type reply struct {
	header map[string]string
	body   []byte
}

// newReply encodes a result for the job's inbox in the encoding of its request: a success as a ModelInferResponse,
// everything else as problem details (RFC 9457). The decoder has made sure that the inbox is none of the server's
// subjects, nor one of ours.
func newReply(t *task, r *job.Result) *reply {
	out := &reply{header: map[string]string{job.HeaderID: r.ID.String(), job.HeaderState: r.State.String()}}
	switch {
	case r.State != job.Succeeded:
		out.header[job.HeaderContentType] = job.ContentTypeProblem
		out.body = problem(r)
	case wantsJSON(t):
		out.header[job.HeaderContentType] = job.ContentTypeJSON
		out.body = job.AppendResponseJSON(nil, r)
	default:
		out.header[job.HeaderContentType] = job.ContentTypeProtobuf
		out.body = job.AppendResponseProtobuf(nil, r)
	}
	return out
}

func wantsJSON(t *task) bool {
	header := t.message.delivery.Envelope.Header
	if header == nil {
		return false
	}
	kind, _, err := mime.ParseMediaType(header(job.HeaderContentType))
	return err == nil && kind == job.ContentTypeJSON
}

// problem writes the problem details of a job that did not succeed.
func problem(r *job.Result) []byte {
	e := r.Error
	if e == nil {
		e = job.Errorf(job.CodeInternal, "", "the job ended as %s", r.State)
	}
	status, title := e.Code.Problem()
	body, err := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
		Field  string `json:"field,omitempty"`
		ID     string `json:"id"`
	}{Type: "/problems/" + string(e.Code), Title: title, Status: status, Detail: e.Detail, Field: e.Field, ID: r.ID.String()})
	if err != nil {
		return nil // strings always encode
	}
	return body
}
