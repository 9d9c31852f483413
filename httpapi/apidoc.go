package httpapi

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/httpapi/openapi"
	"github.com/sheafml/sheaf/job"
)

// operation documents a route, beside what the table of routes says of it. A new route needs one: add it to the list of its
// kind (jobOperations and so on) under the route's method and path. TestEveryRouteIsDocumented looks for it, and every answer
// that a test of this package gets is held against what it says: see contract_test.go.
type operation struct {
	id       string            // camelCase; generated clients call their function so
	tag      string            // one of the tags
	text     string            // Markdown, if the route's about does not say it all
	params   []*huma.Param     // besides those of the path
	body     *huma.RequestBody // nil: none is read
	answers  replies           // those that are no problems
	problems []job.Code        // besides those that every route has
}

type replies map[int]*huma.Response

// operations are those of all routes that there may be, by method and path.
func (d *apiDoc) operations() map[string]operation {
	all := make(map[string]operation)
	for _, some := range []map[string]operation{d.serverOperations(), d.jobOperations(), d.streamOperations(), d.webhookOperations(), d.batchOperations(), d.modelOperations(), d.oipOperations(), d.adminOperations()} {
		maps.Copy(all, some)
	}
	return all
}

// apiDoc makes the document.
type apiDoc struct {
	api     *API
	schemas *openapi.Schemas
}

// document makes the OpenAPI document of a table of routes, and lists its operations in the order of the table.
func (a *API) document(table []route) (*huma.OpenAPI, []*huma.Operation) {
	d := &apiDoc{a, openapi.NewSchemas()}
	d.prepare()
	documented := d.operations()
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "Sheaf", Version: cmp.Or(a.cfg.Version, "unknown"), Description: docIntroduction,
			License: &huma.License{Name: "Apache 2.0", Identifier: "Apache-2.0"},
		},
		Servers: []*huma.Server{{URL: "/", Description: "The server that gave this document."}},
		Components: &huma.Components{
			Schemas: d.schemas.Registry(), Headers: docHeaders(), Parameters: d.parameters(), Examples: d.examples(),
			SecuritySchemes: map[string]*huma.SecurityScheme{"bearer": {
				Type: "http", Scheme: "bearer",
				Description: "An API key (`sheaf key create`), or a token of the issuer that the server trusts. The roles of a requirement are the scopes that it needs.",
			}},
		},
		Tags: docTags(), Webhooks: d.webhooks(),
	}
	list := make([]*huma.Operation, len(table))
	for i := range table {
		rt := &table[i]
		list[i] = d.operation(rt, documented[rt.method+" "+rt.path])
		doc.AddOperation(list[i])
	}
	return doc, list
}

// pathParameter finds the parameters of a pattern; {$} is none.
var pathParameter = regexp.MustCompile(`\{(\w+)\}`)

// operation makes the OpenAPI form of one route.
func (d *apiDoc) operation(rt *route, o operation) *huma.Operation {
	out := &huma.Operation{
		Method: rt.method, Path: strings.TrimSuffix(rt.path, "{$}"), OperationID: o.id, Summary: strings.ToUpper(rt.about[:1]) + rt.about[1:],
		Description: o.text, RequestBody: o.body, Responses: make(map[string]*huma.Response),
	}
	if o.tag != "" {
		out.Tags = []string{o.tag}
	}
	for _, name := range pathParameter.FindAllStringSubmatch(rt.path, -1) {
		out.Parameters = append(out.Parameters, parameter("path-"+name[1]))
	}
	out.Parameters = append(out.Parameters, o.params...)
	problems := append([]job.Code{job.CodeInternal}, o.problems...)
	if rt.scope != anybody {
		out.Security = []map[string][]string{{"bearer": {string(rt.scope)}}}
		if d.api.deps.Auth == nil {
			out.Security = append([]map[string][]string{{}}, out.Security...)
		}
		problems = append(problems, gateway.CodeUnauthorized, gateway.CodeForbidden, gateway.CodeUnavailable)
	}
	for status, answer := range o.answers {
		out.Responses[strconv.Itoa(status)] = answer
	}
	d.addProblems(out, problems, rt.path)
	for _, r := range out.Responses {
		if rt.scope == auth.Submit && rt.method == http.MethodPost {
			addHeader(r, "RateLimit-Policy", "RateLimit")
		}
		if slices.ContainsFunc(o.params, func(p *huma.Param) bool { return p.Ref == parameter("header-Prefer").Ref }) {
			addHeader(r, "Vary")
		}
	}
	return out
}

// addProblems documents the problems that a route may answer with, by status.
func (d *apiDoc) addProblems(o *huma.Operation, codes []job.Code, path string) {
	slices.Sort(codes)
	for _, code := range slices.Compact(codes) {
		t := typeOf(code)
		status := strconv.Itoa(t.status)
		r := o.Responses[status]
		if r == nil {
			r = &huma.Response{}
			o.Responses[status] = r
		}
		if r.Content == nil {
			r.Content = make(map[string]*huma.MediaType)
		}
		media, schema, example := job.ContentTypeProblem, "Problem", string(code)
		switch {
		case isOIP(path):
			media, schema, example = job.ContentTypeJSON, "InferenceProblem", "v2-"+string(code)
		case isOpenAI(path):
			schema, example = "BatchProblem", "batch-"+string(code)
		}
		content := r.Content[media]
		if content == nil {
			content = &huma.MediaType{Schema: openapi.Ref(schema), Examples: make(map[string]*huma.Example), Extensions: make(map[string]any)}
			r.Content[media] = content
		}
		content.Examples[string(code)] = &huma.Example{Ref: "#/components/examples/" + example}
		known, _ := content.Extensions[problemsExtension].([]string)
		content.Extensions[problemsExtension] = append(known, t.uri())
		r.Description = strings.TrimSpace(r.Description + " " + t.title + ".")
		switch t.status {
		case http.StatusUnauthorized, http.StatusForbidden:
			addHeader(r, "WWW-Authenticate")
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			addHeader(r, "Retry-After")
		}
		switch code {
		case gateway.CodeTimeout:
			addHeader(r, "Location", "Retry-After", "Preference-Applied")
		case job.CodeInference, job.CodeExhausted, job.CodeExpired, job.CodeCanceled:
			addHeader(r, "Location", "Preference-Applied")
		default:
		}
	}
}

// problemsExtension lists the types of the problems that an answer may be.
const problemsExtension = "x-problem-types"

// addHeader documents headers of an answer.
func addHeader(r *huma.Response, names ...string) {
	if r.Headers == nil {
		r.Headers = make(map[string]*huma.Header)
	}
	for _, name := range names {
		r.Headers[name] = &huma.Header{Ref: "#/components/headers/" + name}
	}
}

// parameter refers to a parameter by its place and name, such as "query-wait".
func parameter(name string) *huma.Param { return &huma.Param{Ref: "#/components/parameters/" + name} }

func parameters(names ...string) []*huma.Param {
	list := make([]*huma.Param, len(names))
	for i, name := range names {
		list[i] = parameter(name)
	}
	return list
}

// schemaOf is the schema of a Go type.
func schemaOf[T any](d *apiDoc) *huma.Schema { return d.schemas.Of(reflect.TypeFor[T]()) }

// answer is one with a body.
func answer(text, media string, schema *huma.Schema, example string, headers ...string) *huma.Response {
	r := &huma.Response{Description: text, Content: map[string]*huma.MediaType{media: {Schema: schema, Example: exampleOf(media, example)}}}
	addHeader(r, headers...)
	return r
}

// answerJSON is one with a JSON document.
func answerJSON(text string, schema *huma.Schema, example string, headers ...string) *huma.Response {
	return answer(text, job.ContentTypeJSON, schema, example, headers...)
}

// exampleOf is the value of an example; "" is none.
func exampleOf(media, example string) any {
	switch {
	case example == "":
		return nil
	case media == job.ContentTypeJSON || strings.HasSuffix(media, "+json"):
		return json.RawMessage(example)
	}
	return example
}

// bodyJSON is a JSON body with examples by name.
func bodyJSON(text string, required bool, schema *huma.Schema, examples map[string]string) *huma.RequestBody {
	media := &huma.MediaType{Schema: schema, Examples: make(map[string]*huma.Example)}
	for name, example := range examples {
		media.Examples[name] = &huma.Example{Summary: name, Value: json.RawMessage(example)}
	}
	return &huma.RequestBody{Description: text, Required: required, Content: map[string]*huma.MediaType{job.ContentTypeJSON: media}}
}
