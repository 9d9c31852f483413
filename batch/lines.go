package batch

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/sheafml/sheaf/backfill"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// maxCustomID bounds a custom_id, in bytes.
const maxCustomID = 512

// requestLine is a line of the input, as OpenAI has it.
type requestLine struct {
	CustomID *string         `json:"custom_id"`
	Method   string          `json:"method"`
	URL      string          `json:"url"`
	Body     json.RawMessage `json:"body"`
}

// asked is what is to be known of a line when its answer comes.
type asked struct {
	custom string // "" if the line names none
	single bool   // one row without its batch axis
}

// asker reads lines for a model.
type asker struct {
	endpoint string
	plain    bool
	info     model.Info
	limits   job.Limits
}

// read makes inputs of a line. The error is a *job.Error.
func (a *asker) read(l *line) (q asked, inputs []job.Tensor, rows int, err error) {
	if a.plain {
		q.custom = strconv.FormatInt(l.number, 10)
	}
	if l.text == nil {
		return q, nil, 0, job.Errorf(job.CodeTooLarge, "", "the line is longer than the server takes")
	}
	body := l.text
	if !a.plain {
		var r requestLine
		if body, err = a.unwrap(l.text, &r); r.CustomID != nil && len(*r.CustomID) <= maxCustomID {
			q.custom = *r.CustomID
		}
		if err != nil {
			return q, nil, 0, err
		}
	}
	j := job.Job{Model: a.info.Name, Version: a.info.Version}
	if q.single, err = a.inputs(body, &j); err != nil {
		return q, nil, 0, err
	}
	rows, err = a.info.Signature.Check(&j, a.limits)
	return q, j.Inputs, rows, err
}

// unwrap takes the body out of a line.
func (a *asker) unwrap(text []byte, r *requestLine) ([]byte, error) {
	if err := json.Unmarshal(text, r); err != nil {
		return nil, job.Errorf(job.CodeMalformed, "", `expected a JSON object {"custom_id", "method", "url", "body"}`)
	}
	switch {
	case r.CustomID == nil || *r.CustomID == "" || len(*r.CustomID) > maxCustomID:
		return nil, job.Invalidf("custom_id", "expected a text of 1 to %d bytes", maxCustomID)
	case r.Method != "POST":
		return nil, job.Invalidf("method", `expected "POST"`)
	case r.URL != a.endpoint:
		return nil, job.Invalidf("url", "expected the endpoint of the batch, %s", a.endpoint)
	case len(r.Body) == 0 || r.Body[0] != '{':
		return nil, job.Invalidf("body", "expected an object")
	}
	return r.Body, nil
}

// inputs reads a body: an object, or in a plain file the bare input.
func (a *asker) inputs(body []byte, j *job.Job) (single bool, err error) {
	if a.plain && !bytes.HasPrefix(body, []byte("{")) {
		j.Inputs, single, err = a.info.Signature.Shorthand(body, a.limits)
		return single, err
	}
	var m model.Members
	if err := job.DecodeRequestJSON(body, j, a.limits, m.Take); err != nil {
		return false, err
	}
	switch {
	case j.Version != a.info.Version:
		return false, job.Invalidf("model_version", "expected that of the batch, %s", a.info.Version)
	case len(j.Parameters) > 0:
		return false, job.Invalidf("parameters", "the requests of a batch take none")
	case len(j.Outputs) > 0:
		return false, job.Invalidf("outputs", "the requests of a batch are answered with what its endpoint answers")
	case m.Webhook != "":
		return false, job.Invalidf("webhook", "expected a webhook only of the batch")
	case m.Lane != "" && m.Lane != job.Bulk.String():
		return false, job.Invalidf("lane", "a batch runs on the bulk lane")
	}
	_, single, err = m.Inputs(j, &a.info.Signature, a.limits)
	return single, err
}

// writer writes the lines of answers.
type writer struct {
	batch      string // hex of its ID
	whole      bool   // all outputs, not only the prediction
	prediction string // the output that is the prediction
	batchable  bool
}

// good appends the line of an answer.
func (w *writer) good(to []byte, l *line, q *asked, a *backfill.Answer) ([]byte, error) {
	to = w.head(to, l, q)
	to = append(to, `,"response":{"status_code":200,"request_id":"`...)
	to = append(to, a.Result.ID.String()...)
	to = append(to, `","body":{`...)
	if w.whole {
		to = append(to, `"status":"succeeded","outputs":[`...)
	} else {
		to = append(to, `"prediction":`...)
	}
	for i := range a.Outputs {
		t := &a.Outputs[i]
		if !w.whole && t.Name != w.prediction {
			continue
		}
		rows := *t
		if w.batchable {
			var err error
			if rows, err = t.RowsAt(a.At, a.Rows); err != nil {
				return nil, err
			}
		}
		if w.whole {
			if to[len(to)-1] != '[' {
				to = append(to, ',')
			}
			to = job.AppendTensorJSON(to, &rows)
			continue
		}
		if q.single && len(rows.Shape) > 0 && rows.Shape[0] == 1 {
			rows.Shape = rows.Shape[1:]
		}
		to = job.AppendNestedJSON(to, &rows)
	}
	if w.whole {
		to = append(to, ']')
	}
	to = append(to, `,"model":`...)
	to = appendText(to, a.Result.Model)
	to = append(to, `,"model_version":`...)
	to = appendText(to, a.Result.Version)
	return append(to, "}},\"error\":null}\n"...), nil
}

// bad appends the line of an error.
func (w *writer) bad(to []byte, l *line, q *asked, e *job.Error) []byte {
	to = w.head(to, l, q)
	to = append(to, `,"response":null,"error":{"code":`...)
	to = appendText(to, string(e.Code))
	to = append(to, `,"message":`...)
	to = appendText(to, e.Detail)
	if e.Field != "" {
		to = append(to, `,"param":`...)
		to = appendText(to, e.Field)
	}
	to = append(to, `,"line":`...)
	to = strconv.AppendInt(to, l.number, 10)
	return append(to, "}}\n"...)
}

// head appends what every line begins with. The id is made of the batch and the line: it is the same whoever writes it.
func (w *writer) head(to []byte, l *line, q *asked) []byte {
	to = append(to, `{"id":"batch_req_`...)
	to = append(to, w.batch...)
	to = append(to, '_')
	to = strconv.AppendInt(to, l.number, 10)
	to = append(to, `","custom_id":`...)
	if q.custom == "" {
		return append(to, "null"...)
	}
	return appendText(to, q.custom)
}

// appendText appends a JSON string.
func appendText(to []byte, s string) []byte {
	b, err := json.Marshal(s)
	if err != nil { // cannot be: a string has a JSON form
		return append(to, `""`...)
	}
	return append(to, b...)
}
