package httpapi

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// headerJSONLength says, of a request and of an answer with binary data, how long the JSON before it is.
const headerJSONLength = "Inference-Header-Content-Length"

// mediaBinary is the media type of a body with binary data. Some clients send it with a body that is JSON alone.
const mediaBinary = "application/octet-stream"

// splitBody divides a body into the JSON and what follows it. Without the header all of it is JSON.
func splitBody(body []byte, lengths []string) (text, data []byte, err error) {
	if len(lengths) == 0 {
		return body, nil, nil
	}
	n, err := strconv.ParseUint(lengths[0], 10, 63)
	if err != nil || len(lengths) > 1 || n == 0 || n > uint64(len(body)) {
		return nil, nil, malformed(headerJSONLength, fmt.Sprintf("expected the length of the JSON that the body begins with: a whole number, at most the body's %d bytes", len(body)))
	}
	return body[:n], body[n:], nil
}

// isBinary reports whether an output is wanted binary.
func (q *oipRequest) isBinary(wanted []string, name string) bool {
	for i := range wanted {
		if binary, said := q.outputs[i]; said && wanted[i] == name {
			return binary
		}
	}
	return q.binary
}

// send answers with the result of a job that has succeeded: its outputs in the JSON, or after it where they are wanted
// binary.
func (q *oipRequest) send(w *response, s *submission, r *job.Result) {
	size := 512
	for i := range r.Outputs {
		t := &r.Outputs[i]
		size += len(t.Data) + 128
		if !q.isBinary(s.Request.Outputs, t.Name) {
			size += 2 * len(t.Data)
		}
	}
	o := object{b: append(make([]byte, 0, size), '{')}
	o.text("model_name", r.Model)
	o.text("model_version", r.Version)
	o.text("id", s.Request.RequestID)
	o.key("parameters")
	in := object{b: append(o.b, '{')}
	in.string("sheaf_job_id", w.ticket)
	o.b = in.end()
	o.key("outputs")
	o.b = append(o.b, '[')
	var after []*job.Tensor
	for i := range r.Outputs {
		t := &r.Outputs[i]
		if i > 0 {
			o.b = append(o.b, ',')
		}
		if q.isBinary(s.Request.Outputs, t.Name) {
			after = append(after, t)
			o.b = appendBinaryOutput(o.b, t)
		} else {
			o.b = job.AppendTensorJSON(o.b, t)
		}
	}
	o.b = append(o.b, ']')
	b := o.end()
	if len(after) == 0 {
		sendJSON(w, http.StatusOK, b)
		return
	}
	h := w.Header()
	h.Set(headerJSONLength, strconv.Itoa(len(b)))
	h.Set("Content-Type", mediaBinary)
	for _, t := range after {
		b = append(b, t.Data...)
	}
	send(w, http.StatusOK, b)
}

// appendBinaryOutput appends the JSON of an output whose data follows it.
func appendBinaryOutput(b []byte, t *job.Tensor) []byte {
	o := object{b: append(b, '{')}
	o.string("name", t.Name)
	o.key("shape")
	o.b = append(o.b, model.FormatShape(t.Shape)...)
	o.string("datatype", t.Datatype.String())
	o.key("parameters")
	in := object{b: append(o.b, '{')}
	in.int("binary_data_size", len(t.Data))
	o.b = in.end()
	return o.end()
}
