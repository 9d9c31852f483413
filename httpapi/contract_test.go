package httpapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// contract holds every answer of an API against the OpenAPI document that this API itself serves: the status, the media
// type, the headers, the type of a problem and the body have to be what the document says, and nothing beside. What a
// request that was taken says has to be documented too.
type contract struct {
	doc      document
	mux      *http.ServeMux
	compiler *jsonschema.Compiler
	mu       sync.Mutex // of the compiler
}

// document is what of an OpenAPI document the contract needs; references are followed already.
type document struct {
	Paths map[string]map[string]*documented `json:"paths"`
}

type documented struct {
	ID          string `json:"operationId"`
	Parameters  []documentedParameter
	RequestBody *struct {
		Required bool
		Content  map[string]documentedBody
	}
	Responses map[string]struct {
		Headers map[string]struct {
			Schema map[string]any
		}
		Content map[string]documentedBody
	}
	pointer string
}

type documentedParameter struct{ Name, In string }

type documentedBody struct {
	Problems []string `json:"x-problem-types"`
}

// contracts are kept, since making one takes longer than most tests.
var contracts = struct {
	sync.Mutex
	by map[string]*contract
}{by: make(map[string]*contract)}

// contractOf reads the document of an API. What decides over it are the routes that there are, and whether callers have
// to say who they are.
func contractOf(t testing.TB, api http.Handler, d *deps) *contract {
	t.Helper()
	kind := fmt.Sprint(d.Operator != nil, d.Gatherer != nil, d.Auth != nil, d.Batches != nil)
	contracts.Lock()
	defer contracts.Unlock()
	if c := contracts.by[kind]; c != nil {
		return c
	}
	w := httptest.NewRecorder()
	api.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/openapi.json", nil))
	c, err := newContract(w.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	contracts.by[kind] = c
	return c
}

func newContract(text []byte) (*contract, error) {
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	resolved, err := json.Marshal(follow(whole, whole))
	if err != nil {
		return nil, err
	}
	c := &contract{mux: http.NewServeMux(), compiler: jsonschema.NewCompiler()}
	if err := json.Unmarshal(resolved, &c.doc); err != nil {
		return nil, err
	}
	for path, methods := range c.doc.Paths {
		for method, o := range methods {
			for _, said := range o.Responses {
				for name, header := range said.Headers {
					said.Headers[http.CanonicalHeaderKey(name)] = header
				}
			}
			o.pointer = "/paths/" + escapePointer(path) + "/" + method
		}
		pattern := path
		if path == "/" {
			pattern = "/{$}"
		}
		c.mux.Handle(pattern, http.NotFoundHandler())
	}
	c.compiler.DefaultDraft(jsonschema.Draft2020)
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource(requestSchemas, whole); err != nil {
		return nil, err
	}
	return c, c.compiler.AddResource(answerSchemas, strict(whole, false))
}

// The document as it is for requests, and with every object closed for answers.
const (
	requestSchemas = "http://document.test/requests.json"
	answerSchemas  = "http://document.test/answers.json"
)

// follow replaces references to anything but schemas by what they refer to.
func follow(whole, v any) any {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok && !strings.HasPrefix(ref, "#/components/schemas/") {
			at := whole
			for _, key := range strings.Split(ref, "/")[1:] {
				m, _ := at.(map[string]any)
				at = m[key]
			}
			if at == nil {
				panic("the document refers to " + ref + ", which it does not have")
			}
			return follow(whole, at)
		}
		out := make(map[string]any, len(v))
		for key, value := range v {
			out[key] = follow(whole, value)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = follow(whole, v[i])
		}
		return out
	}
	return v
}

// strict closes every object of a schema: an answer may gain members, but not without a word in the document.
func strict(v any, schema bool) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v)+1)
		for key, value := range v {
			out[key] = strict(value, schema || key == "schemas" || key == "schema")
		}
		_, open := out["additionalProperties"]
		if _, members := out["properties"].(map[string]any); schema && members && !open && out["type"] == "object" {
			out["additionalProperties"] = false
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = strict(v[i], schema)
		}
		return out
	}
	return v
}

func escapePointer(s string) string {
	return url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(s))
}

// schema compiles the schema under a JSON pointer of one of the two.
func (c *contract) schema(of, pointer string) (*jsonschema.Schema, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.compiler.Compile(of + "#" + pointer)
}

// wrap returns a handler that reports every breach as an error of the test. Through it net/http is not told of a body that is
// too large, and so does not close the connection: a test of that takes the API's own handler.
func (c *contract) wrap(t testing.TB, h http.Handler) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tape := &recording{ResponseWriter: w}
		sent := &bytes.Buffer{}
		request := r
		if r.Body != nil {
			request = r.WithContext(r.Context())
			request.Body = &tee{r.Body, sent}
		}
		h.ServeHTTP(tape, request)
		if tape.status == 0 && r.Context().Err() != nil {
			return // the client has gone, and nobody was answered
		}
		if tape.status == 0 {
			tape.status = http.StatusOK
		}
		if err := c.check(r, sent.Bytes(), tape); err != nil {
			t.Errorf("contract: %s %s answered %d: %v\n%.600s", r.Method, r.URL, tape.status, err, tape.body.String())
		}
	})
}

// common are headers that every answer may have, and none is documented for.
var common = []string{ //nolint:gochecknoglobals // a constant list
	"Allow", "Cache-Control", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Date", "X-Accel-Buffering",
	// Of security, and for pages of other origins.
	"Content-Security-Policy", "Cross-Origin-Resource-Policy", "Referrer-Policy", "Strict-Transport-Security", "X-Content-Type-Options",
	"Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Vary",
}

// check compares one exchange with the document.
func (c *contract) check(r *http.Request, sent []byte, got *recording) error {
	_, pattern := c.mux.Handler(&http.Request{Method: "GET", URL: r.URL, Host: r.Host})
	path := strings.TrimSuffix(pattern, "{$}")
	method := strings.ToLower(r.Method)
	if method == "head" {
		method = "get"
	}
	o := c.doc.Paths[path][method]
	media, _, _ := mime.ParseMediaType(got.Header().Get("Content-Type"))
	if o == nil {
		return undocumented(r.Method, pattern != "", got, media)
	}
	said, ok := o.Responses[strconv.Itoa(got.status)]
	if !ok {
		return fmt.Errorf("%s documents no such status", o.ID)
	}
	for name, values := range got.Header() {
		documentedHeader, ok := said.Headers[name]
		switch {
		case slices.Contains(common, name):
		case !ok:
			return fmt.Errorf("%s does not document the header %s: %s", o.ID, name, values)
		case documentedHeader.Schema["type"] == "integer":
			if n, err := strconv.Atoi(values[0]); err != nil || n < 1 {
				return fmt.Errorf("the header %s is %q, expected a number", name, values[0])
			}
		}
	}
	if len(said.Content) == 0 {
		if got.body.Len() > 0 || media != "" {
			return fmt.Errorf("%s documents no body, and Content-Type is %q", o.ID, media)
		}
		return nil
	}
	body, ok := said.Content[media]
	if !ok {
		return fmt.Errorf("%s does not document Content-Type %q", o.ID, media)
	}
	if r.Method != http.MethodHead {
		if err := c.checkBody(o, strconv.Itoa(got.status), media, got.body.Bytes(), body.Problems); err != nil {
			return fmt.Errorf("%s: %w", o.ID, err)
		}
	}
	if got.status < 300 {
		return c.checkRequest(o, r, sent)
	}
	return nil
}

// undocumented is the check of an answer of no operation: only two problems may be.
func undocumented(method string, known bool, got *recording, media string) error {
	var p struct{ Type string }
	_ = json.Unmarshal(got.body.Bytes(), &p)
	switch {
	case known && got.status == http.StatusMethodNotAllowed && p.Type == "/problems/method-not-allowed" && got.Header().Get("Allow") != "":
	case got.status == http.StatusNotFound && p.Type == "/problems/not-found":
	case method == http.MethodOptions && got.status == http.StatusNoContent && got.Header().Get("Vary") != "": // a page of another origin asks
	case got.status >= 300 && got.status < 400 && media == "text/html": // net/http cleans the path
	default:
		return fmt.Errorf("nothing is documented there, expected that as an answer, with Content-Type %q", media)
	}
	return nil
}

// checkBody compares a body with its schema, line by line if it consists of lines.
func (c *contract) checkBody(o *documented, status, media string, body []byte, problems []string) error {
	var docs [][]byte
	pointer := fmt.Sprintf("%s/responses/%s/content/%s/schema", o.pointer, status, escapePointer(media))
	switch {
	case media == "application/x-ndjson" && len(body) == 0: // no lines yet
	case media == "application/x-ndjson":
		docs = bytes.Split(bytes.TrimSpace(body), []byte("\n"))
	case media == "text/event-stream":
		pointer = "/components/schemas/JobOrProblem"
		for event := range bytes.SplitSeq(body, []byte("\n\n")) {
			if _, data, ok := bytes.Cut(event, []byte("\ndata: ")); ok && bytes.HasPrefix(event, []byte("event: job\n")) {
				docs = append(docs, data)
			}
		}
	case strings.HasSuffix(media, "json"):
		docs = [][]byte{body}
	default:
		return nil
	}
	schema, err := c.schema(answerSchemas, pointer)
	if err != nil {
		return err
	}
	for _, doc := range docs {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(doc))
		if err != nil {
			return err
		}
		if m, ok := v.(map[string]any); ok && problems != nil && !slices.Contains(problems, fmt.Sprint(m["type"])) {
			return fmt.Errorf("it may be one of %v, not %v", problems, m["type"])
		}
		if err := schema.Validate(v); err != nil {
			return err
		}
	}
	return nil
}

// checkRequest compares a request that was taken with what is documented.
func (c *contract) checkRequest(o *documented, r *http.Request, sent []byte) error {
	for name := range r.URL.Query() {
		if !slices.ContainsFunc(o.Parameters, func(p documentedParameter) bool { return p.In == "query" && p.Name == name }) {
			return fmt.Errorf("%s does not document the query %s", o.ID, name)
		}
	}
	if o.RequestBody == nil || len(sent) == 0 || len(sent) > mostKept {
		return nil
	}
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if _, lines := o.RequestBody.Content["application/x-ndjson"]; lines {
		return nil // each line is answered for itself
	}
	if media == "" || strings.HasSuffix(media, "+json") {
		media = "application/json"
	}
	if _, ok := o.RequestBody.Content[media]; !ok {
		return fmt.Errorf("%s does not document a body of %s", o.ID, media)
	}
	if media != "application/json" || r.Header.Get("Inference-Header-Content-Length") != "" {
		return nil
	}
	schema, err := c.schema(requestSchemas, o.pointer+"/requestBody/content/application~1json/schema")
	if err != nil {
		return err
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(sent))
	if err != nil {
		return err
	}
	if m, ok := v.(map[string]any); ok { // null is taken for what is not there, to be lenient
		maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	}
	if err := schema.Validate(v); err != nil {
		return fmt.Errorf("%s took a body that is not documented so: %w\n%s", o.ID, err, sent)
	}
	return nil
}

// recording keeps what is written.
type recording struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (w *recording) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recording) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	w.body.Write(b)
	return w.ResponseWriter.Write(b)
}

func (w *recording) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// mostKept bounds what is kept of a request's body, in bytes: a larger one is not checked.
const mostKept = 64 << 10

// tee keeps what is read.
type tee struct {
	io.ReadCloser
	kept *bytes.Buffer
}

func (t *tee) Read(b []byte) (int, error) {
	n, err := t.ReadCloser.Read(b)
	if t.kept.Len() <= mostKept {
		t.kept.Write(b[:n])
	}
	return n, err
}
