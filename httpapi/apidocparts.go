package httpapi

import (
	"maps"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sheafml/sheaf/httpapi/openapi"
	"github.com/sheafml/sheaf/job"
)

const docIntroduction = `Sheaf runs predictions: submit a job, then poll, wait or be told; or submit and wait in one call.

Every error is a problem (RFC 9457) whose ` + "`type`" + ` is stable; GET on it explains it. Under ` + "`/v2`" + ` it is plain JSON with
one member more, ` + "`error`" + `, and of files and batches there is an ` + "`error`" + ` as OpenAI's clients read it. A path that is not here is answered 404 ` + "`/problems/not-found`" + `, a method that a path does not take 405
` + "`/problems/method-not-allowed`" + ` with ` + "`Allow`" + `. HEAD is taken wherever GET is.

Answers may gain members, and requests optional ones, within ` + "`/v1`" + `: ignore what you do not know.`

// Tags of operations.
const (
	tagJobs     = "Jobs"
	tagWebhooks = "Webhooks"
	tagBatches  = "Batches"
	tagModels   = "Models"
	tagOIP      = "Open Inference Protocol"
	tagAdmin    = "Administration"
	tagService  = "Service"
)

func docTags() []*huma.Tag {
	return []*huma.Tag{
		{Name: tagJobs, Description: "Submit jobs, see them, cancel them."},
		{Name: tagWebhooks, Description: "Be told when a job is finished: a job may name a URL, its webhook."},
		{Name: tagBatches, Description: "Files of requests, run on the server in the slack. Routes and objects are those of OpenAI's files and batches, so that its clients work."},
		{Name: tagModels, Description: "What can be asked, and of whom."},
		{Name: tagOIP, Description: "The protocol of KServe and Triton over REST, with binary tensor data, so that their clients work unchanged. What is inferred is a job like any other."},
		{Name: tagAdmin, Description: "The queue, and the jobs that could not be served. For callers with the scope admin."},
		{Name: tagService, Description: "The server itself, and what it says of itself."},
	}
}

// docHeaders are the headers of answers that mean something to a client.
func docHeaders() map[string]*huma.Header {
	text := func(description, example string) *huma.Header {
		return &huma.Header{Description: description, Schema: &huma.Schema{Type: huma.TypeString}, Example: example}
	}
	one := 1.0
	whole := func(description string, example int) *huma.Header {
		return &huma.Header{Description: description, Schema: &huma.Schema{Type: huma.TypeInteger, Minimum: &one}, Example: example}
	}
	return map[string]*huma.Header{
		"Location": {
			Description: "The path of the job, or of the batch.", Schema: &huma.Schema{Type: huma.TypeString, Format: "uri-reference"},
			Example: "/v1/jobs/0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11.i4821-0",
		},
		"Retry-After":        whole("Seconds until it makes sense to ask again.", 2),
		"Preference-Applied": text("What of Prefer was followed.", "wait=5"),
		"Vary":               text("The headers of the request that the answer depends on.", "Prefer"),
		"WWW-Authenticate":   text("How to say who is calling.", challenge),
		"RateLimit-Policy":   text("How many jobs the caller may submit (q) in how many seconds (w), if that is limited.", `"default";q=200;w=2`),
		"RateLimit":          text("How many of them are left (r), and in how many seconds all are again (t).", `"default";r=150;t=1`),
		"ETag":               text("Send it back as If-None-Match.", `"3f2a…"`),
		headerJSONLength:     whole("The length of the JSON before the binary data.", 312),
		"Content-Security-Policy": text("What a browser may load for the page.",
			openapi.ContentSecurityPolicy),
	}
}

// parameters are those that several routes take, by place and name.
func (d *apiDoc) parameters() map[string]*huma.Param {
	const name = `^[A-Za-z0-9][A-Za-z0-9._-]*$`
	few := 128
	most := maxKey
	one, least := 1, 1.0
	list := make(map[string]*huma.Param)
	add := func(in, name, text string, schema *huma.Schema, example any) {
		list[in+"-"+name] = &huma.Param{Name: name, In: in, Required: in == "path", Description: text, Schema: schema, Example: example}
	}
	text := func() *huma.Schema { return &huma.Schema{Type: huma.TypeString, MinLength: &one} }
	add("path", "model", "The name of a model.", &huma.Schema{Type: huma.TypeString, Pattern: name, MaxLength: &few}, "digits")
	add("path", "version", "A version of the model.", &huma.Schema{Type: huma.TypeString, Pattern: name, MaxLength: &few}, "1")
	add("path", "id", "The id that the submit has answered with.", text(), exampleTicket)
	add("path", "file", "The id of a file.", text(), exampleFile)
	add("path", "batch", "The id of a batch.", text(), exampleBatch)
	add("path", "problem", "The last part of a problem's type.", d.problemCodes(), "invalid")
	add("path", "seq", "The number of a dead letter.", sequence(), 17)
	add("path", "lane", "The lane.", openapi.Ref("LaneName"), "bulk")
	add("path", "asset", "A file of the page.", &huma.Schema{Type: huma.TypeString, Enum: anyOf(openapi.Assets())}, openapi.Assets()[0])
	add("query", "lane", "The lane of the job. A member `lane` of the body says the same.", openapi.Ref("LaneName"), "bulk")
	add("query", "limit", "How many are listed at most.", &huma.Schema{Type: huma.TypeInteger, Minimum: &least}, 20)
	add("query", "after", "The last id of the page before.", &huma.Schema{Type: huma.TypeString}, exampleBatch)
	add("query", "order", "The newest come first.", &huma.Schema{Type: huma.TypeString, Enum: []any{"desc"}}, "desc")
	add("query", "wait", "How long to wait for the job to be finished: a time such as 20s or 500ms, or whole seconds. The server waits 60 s at most, unless it is set otherwise.",
		&huma.Schema{Type: huma.TypeString, Pattern: `^(\d+|(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+)$`}, "20s")
	add("header", "Prefer", "RFC 7240. wait=N is how many seconds to wait for the result, respond-async is not to wait. What else it says is ignored.",
		&huma.Schema{Type: huma.TypeString}, "wait=5")
	add("header", headerKey, "Makes a repeated submit the same job, or batch: a key that was used before, with the same request, answers with the one that there is; with another request 422 `/problems/key-reused`. 1 to 255 printable ASCII characters.",
		&huma.Schema{Type: huma.TypeString, MinLength: &one, MaxLength: &most, Pattern: `^[ -~]+$`}, "order-4711")
	add("header", job.HeaderDeadline, "When the result is of no more use: RFC 3339, or milliseconds since the Unix epoch. A job that is not finished by then ends as `expired`.",
		&huma.Schema{Type: huma.TypeString}, "2031-01-02T15:04:05Z")
	add("header", job.HeaderTraceParent, "W3C trace context; what is none is ignored.", &huma.Schema{Type: huma.TypeString}, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	add("header", headerJSONLength, "The length of the JSON that the body begins with, if binary data follows it.", sequence(), nil)
	add("header", "Last-Event-ID", "The id of the last event that was got; an EventSource sends it by itself.", &huma.Schema{Type: huma.TypeString}, nil)
	add("header", "If-None-Match", "The ETag of the answer that is there already.", &huma.Schema{Type: huma.TypeString}, nil)
	return list
}

// submitParameters are those of every route that submits.
func submitParameters() []*huma.Param {
	return parameters("query-lane", "header-Prefer", "header-"+headerKey, "header-"+job.HeaderDeadline, "header-"+job.HeaderTraceParent)
}

const exampleTicket = "0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11.i4821-0"

func sequence() *huma.Schema {
	one := 1.0
	return &huma.Schema{Type: huma.TypeInteger, Minimum: &one}
}

func anyOf[T any](list []T) []any {
	all := make([]any, len(list))
	for i := range list {
		all[i] = list[i]
	}
	return all
}

func (d *apiDoc) problemCodes() *huma.Schema {
	var codes []any
	for i := range problemTypes {
		codes = append(codes, string(problemTypes[i].code))
	}
	return &huma.Schema{Type: huma.TypeString, Enum: codes}
}

// examples are one of each problem, as it is told under /v1, of batches, and under /v2.
func (d *apiDoc) examples() map[string]*huma.Example {
	all := make(map[string]*huma.Example)
	for i := range problemTypes {
		t := &problemTypes[i]
		value := map[string]any{"type": t.uri(), "title": t.title, "status": t.status, "detail": "…"}
		all[string(t.code)] = &huma.Example{Summary: t.title, Description: t.text, Value: value}
		v2 := map[string]any{"error": "…"}
		maps.Copy(v2, value)
		batch := map[string]any{"error": map[string]any{"message": "…", "type": t.uri(), "code": t.code}}
		maps.Copy(batch, value)
		all["batch-"+string(t.code)] = &huma.Example{Summary: t.title, Description: t.text, Value: batch}
		all["v2-"+string(t.code)] = &huma.Example{Summary: t.title, Description: t.text, Value: v2}
	}
	return all
}

// The digit of examples/digit.json: a body that the bundled model takes.
const exampleRow = `[0,0,6,14,16,16,2,0,0,5,16,13,11,16,0,0,0,0,7,2,15,12,0,0,0,0,0,7,16,13,1,0,0,0,0,0,6,15,10,0,0,0,0,0,0,15,9,0,0,0,3,11,8,16,6,0,0,0,7,16,16,8,0,0]`

const exampleTimings = `"timings":{"queue_ms":0.4,"batch_wait_ms":0.1,"infer_ms":0.3,"batch_rows":1}`
