package httpapi

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sheafml/sheaf/job"
)

type docIndex struct {
	Name   string `json:"name" example:"sheaf"`
	Routes []struct {
		Method string `json:"method"`
		Path   string `json:"path"`
		Scope  string `json:"scope,omitempty"`
		About  string `json:"about"`
	} `json:"routes"`
}

type docHealth struct {
	Status string `json:"status" enum:"ok"`
}

// serverOperations are those of the server itself.
func (d *apiDoc) serverOperations() map[string]operation {
	const plain = "text/plain"
	text := &huma.Schema{Type: huma.TypeString}
	unready := answerJSON("Something behind the API does not answer; checks says what.", schemaOf[readyView](d),
		`{"status":"unready","checks":{"nats":"out of reach","results":"ok"}}`, "Retry-After")
	metrics := answer("The metrics, as Prometheus reads them.", plain, text, "", "Vary")
	metrics.Content["application/openmetrics-text"] = &huma.MediaType{Schema: text}
	file := func(text, media string, headers ...string) replies {
		return replies{
			http.StatusOK:          answer(text, media, &huma.Schema{Type: huma.TypeString}, "", append(headers, "ETag")...),
			http.StatusNotModified: notModified(),
		}
	}
	conditional := parameters("header-If-None-Match")
	return map[string]operation{
		"GET /{$}": {
			id: "listRoutes", tag: tagService,
			answers: replies{http.StatusOK: answerJSON("The routes.", schemaOf[docIndex](d), "")},
		},
		"GET /problems/{problem}": {
			id: "explainProblem", tag: tagService, text: "The type of a problem is the path of this route.",
			answers:  replies{http.StatusOK: answer("What it means, and what to do.", plain, text, "")},
			problems: []job.Code{codeNotFound},
		},
		"GET /healthz": {
			id: "getHealth", tag: tagService,
			answers: replies{http.StatusOK: answerJSON("The process lives.", schemaOf[docHealth](d), `{"status":"ok"}`)},
		},
		"GET /readyz": {
			id: "getReadiness", tag: tagService,
			answers: replies{
				http.StatusOK: answerJSON("Everything behind the API answers.", schemaOf[readyView](d),
					`{"status":"ready","checks":{"nats":"ok","results":"ok"}}`),
				http.StatusServiceUnavailable: unready,
			},
		},
		"GET /metrics": {
			id: "getMetrics", tag: tagService, answers: replies{http.StatusOK: metrics},
		},
		"GET /openapi.json": {
			id: "getOpenAPI", tag: tagService, params: conditional,
			answers: replies{
				http.StatusOK:          answerJSON("The document: OpenAPI 3.1.", &huma.Schema{Type: huma.TypeObject}, "", "ETag"),
				http.StatusNotModified: notModified(),
			},
		},
		"GET /docs": {
			id: "getDocs", tag: tagService, params: conditional,
			text:    "Rendered on the server; it needs nothing from elsewhere.",
			answers: file("The page.", "text/html", "Content-Security-Policy", "Vary"),
		},
		"GET /docs/{asset}": {
			id: "getDocsAsset", tag: tagService, params: conditional,
			answers: file("The file.", "text/css"), problems: []job.Code{codeNotFound},
		},
	}
}

// notModified is the answer to who has it already.
func notModified() *huma.Response {
	r := &huma.Response{Description: "It has not changed."}
	addHeader(r, "ETag", "Vary", "Content-Security-Policy")
	return r
}
