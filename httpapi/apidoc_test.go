package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// routesOf are the routes of an API, as its index has them, with their OpenAPI paths.
func routesOf(t testing.TB, r *rig) (routes []struct{ Method, Path, Scope string }) {
	t.Helper()
	var index struct {
		Routes []struct{ Method, Path, Scope string }
	}
	if err := json.Unmarshal([]byte(r.do(t, "GET", "/", "").body), &index); err != nil {
		t.Fatal(err)
	}
	index.Routes = append(index.Routes, struct{ Method, Path, Scope string }{"GET", "/", ""})
	return index.Routes
}

func TestEveryRouteIsDocumented(t *testing.T) {
	r, _ := guarded(t, nil)
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			OperationID string
			Summary     string
			Tags        []string
			Security    []map[string][]string
			Responses   map[string]any
		}
	}
	if err := json.Unmarshal([]byte(r.do(t, "GET", "/openapi.json", "").body), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		t.Errorf("the document is of OpenAPI %q", doc.OpenAPI)
	}
	ids := make(map[string]string)
	routes := routesOf(t, r)
	for _, rt := range routes {
		name := rt.Method + " " + rt.Path
		o, ok := doc.Paths[rt.Path][strings.ToLower(rt.Method)]
		if !ok || o.OperationID == "" || len(o.Tags) != 1 || o.Summary == "" || len(o.Responses) < 2 {
			t.Errorf("%s is not documented: add it to the operations of its kind, see type operation", name)
			continue
		}
		if ids[o.OperationID] != "" {
			t.Errorf("%s and %s are both the operation %s", name, ids[o.OperationID], o.OperationID)
		}
		ids[o.OperationID] = name
		var scope string
		for _, need := range o.Security {
			scope = strings.Join(need["bearer"], " ")
		}
		if scope != rt.Scope {
			t.Errorf("%s: the document says scope %q, the index %q", name, scope, rt.Scope)
		}
	}
	documented := 0
	for _, methods := range doc.Paths {
		documented += len(methods)
	}
	if documented != len(routes) {
		t.Errorf("%d operations are documented, and there are %d routes", documented, len(routes))
	}
}

func TestDocumentOfOpenAPI(t *testing.T) {
	open, guardedRig := newRig(t, nil), func() *rig { r, _ := guarded(t, nil); return r }()
	if a := open.do(t, "GET", "/openapi.json", ""); !strings.Contains(a.body, `"security":[{},{"bearer":["submit"]}]`) || strings.Contains(a.body, "/v1/admin") {
		t.Error("without authentication it is no choice, or routes are documented that there are not")
	}
	if a := guardedRig.do(t, "GET", "/openapi.json", ""); !strings.Contains(a.body, `"security":[{"bearer":["submit"]}]`) || strings.Contains(a.body, `"security":[{},`) {
		t.Error("with authentication the document says that there is another way")
	}
}

// The examples are what people copy: each has to be what its schema says.
func TestExamplesAreTrue(t *testing.T) {
	r, _ := guarded(t, nil)
	whole, err := jsonschema.UnmarshalJSON(strings.NewReader(r.do(t, "GET", "/openapi.json", "").body))
	if err != nil {
		t.Fatal(err)
	}
	c, err := newContract([]byte(r.do(t, "GET", "/openapi.json", "").body))
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	check := func(of, pointer string, content any) {
		body, _ := content.(map[string]any)
		examples := []any{}
		if one, ok := body["example"]; ok {
			examples = append(examples, one)
		}
		more, _ := body["examples"].(map[string]any)
		for _, one := range more {
			examples = append(examples, one.(map[string]any)["value"])
		}
		for _, example := range examples {
			if text, ok := example.(string); ok && strings.Contains(pointer, "ndjson") {
				lines := strings.Split(strings.TrimSpace(text), "\n")
				if example, err = jsonschema.UnmarshalJSON(strings.NewReader(lines[0])); err != nil {
					t.Errorf("%s: %v", pointer, err)
				}
			}
			schema, err := c.schema(of, pointer+"/schema")
			if err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(example); err != nil {
				t.Errorf("an example under %s: %v", pointer, err)
			}
			checked++
		}
	}
	resolved := follow(whole, whole).(map[string]any)
	for path, methods := range resolved["paths"].(map[string]any) {
		for method, operation := range methods.(map[string]any) {
			at := "/paths/" + escapePointer(path) + "/" + method
			o := operation.(map[string]any)
			if body, ok := o["requestBody"].(map[string]any); ok {
				for media, content := range body["content"].(map[string]any) {
					check(requestSchemas, at+"/requestBody/content/"+escapePointer(media), content)
				}
			}
			for status, response := range o["responses"].(map[string]any) {
				contents, _ := response.(map[string]any)["content"].(map[string]any)
				for media, content := range contents {
					check(answerSchemas, at+"/responses/"+status+"/content/"+escapePointer(media), content)
				}
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d examples were found", checked)
	}
}

func TestDocumentIsCacheable(t *testing.T) {
	r := newRig(t, nil)
	for _, path := range []string{"/openapi.json", "/docs", "/docs/page.css"} {
		first := r.do(t, "GET", path, "")
		tag := first.header.Get("ETag")
		if first.status != 200 || tag == "" || first.header.Get("Cache-Control") != "no-cache" {
			t.Fatalf("%s: status %d, %v", path, first.status, first.header)
		}
		for _, have := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
			if a := r.do(t, "GET", path, "", "If-None-Match", have); a.status != 304 || a.body != "" || a.header.Get("ETag") != tag {
				t.Errorf("%s, If-None-Match %s: status %d, %d bytes", path, have, a.status, len(a.body))
			}
		}
		if a := r.do(t, "GET", path, "", "If-None-Match", `"other"`); a.status != 200 || a.body != first.body {
			t.Errorf("%s: status %d for who has another", path, a.status)
		}
	}
	r.do(t, "GET", "/docs/page.go", "").problem(t, 404, "not-found")
}

// Links, and whatever else a page may load or send to.
var reference = regexp.MustCompile(`(?i)(?:(?:href|src|srcset|action|data|poster)\s*=\s*["']|url\(\s*["']?|@import\s*["'])([^"'\s>)]+)`)

func TestPageOfDocs(t *testing.T) {
	r, _ := guarded(t, nil)
	a := r.do(t, "GET", "/docs", "")
	if a.status != 200 || a.header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("status %d, %v", a.status, a.header)
	}
	policy := strings.Split(a.header.Get("Content-Security-Policy"), "; ")
	for _, want := range []string{"default-src 'none'", "style-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} {
		if !slices.Contains(policy, want) {
			t.Errorf("the policy lacks %s: %s", want, policy)
		}
	}
	if strings.Contains(a.body, "<script") || strings.Contains(a.body, "style=") || strings.Contains(a.body, "ZgotmplZ") {
		t.Error("the page has a script or a style of its own, or a template refused what it was given")
	}
	page := a.body + r.do(t, "GET", "/docs/page.css", "").body
	for _, m := range reference.FindAllStringSubmatch(page, -1) {
		switch to := m[1]; {
		case strings.HasPrefix(to, "#"):
			if !strings.Contains(a.body, `id="`+to[1:]+`"`) {
				t.Errorf("the page links to %s, which it does not have", to)
			}
		case strings.Contains(to, ":") || strings.HasPrefix(to, "/"):
			t.Errorf("the page refers to %s", to)
		default:
			if got := r.do(t, "GET", "/"+to, ""); got.status != 200 {
				t.Errorf("the page refers to %s: %d", to, got.status)
			}
		}
	}
	for _, rt := range routesOf(t, r) {
		if !strings.Contains(a.body, "</span> <code>"+rt.Path+"</code></a></h3>") {
			t.Errorf("the page lacks %s %s", rt.Method, rt.Path)
		}
	}
	host := strings.TrimPrefix(r.server.URL, "http://")
	for _, want := range []string{"curl -sS http://" + host + "/v1/models/digits ", "curl -sS -X DELETE ", `Authorization: Bearer $SHEAF_API_KEY`} {
		if !strings.Contains(strings.NewReplacer("&#34;", `"`, "&#39;", "'").Replace(a.body), want) {
			t.Errorf("no command on the page has %s", want)
		}
	}
}

func TestPageOfDocsBelievesNoHost(t *testing.T) {
	r := newRig(t, nil)
	req := httptest.NewRequestWithContext(t.Context(), "GET", "/docs", nil)
	req.Host = "evil$(id)'<b>"
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	if w.Code != 200 || strings.Contains(w.Body.String(), "evil") || !strings.Contains(w.Body.String(), "http://localhost:8080/v1/models") {
		t.Errorf("status %d, or a command has what a client sent as its host", w.Code)
	}
}

// A contract that lets everything pass proves nothing.
func TestContractNoticesBreaches(t *testing.T) {
	r := newRig(t, nil)
	c := contractOf(t, r.api.Handler(), &r.deps)
	answer := func(status int, media, body string, header ...string) *recording {
		w := &recording{ResponseWriter: httptest.NewRecorder(), status: status}
		w.body.WriteString(body)
		if media != "" {
			w.Header().Set("Content-Type", media)
		}
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		return w
	}
	const queued, problem = `{"id":"x","status":"queued"}`, `{"type":"/problems/%s","title":"t","status":404}`
	const media, oops = "application/json", "application/problem+json"
	for _, tc := range []struct {
		name, method, path, sent string
		got                      *recording
		want                     string
	}{
		{"nothing wrong", "GET", "/v1/jobs/x", "", answer(200, media, queued, "Retry-After", "1"), ""},
		{"a problem", "GET", "/v1/jobs/x", "", answer(404, oops, fmt.Sprintf(problem, "unknown-job")), ""},
		{"no route", "GET", "/nothing", "", answer(404, oops, fmt.Sprintf(problem, "not-found")), ""},
		{"no route, answered", "GET", "/nothing", "", answer(200, media, `{}`), "nothing is documented there"},
		{"no method, answered", "PUT", "/v1/jobs/x", "", answer(200, media, queued), "nothing is documented there"},
		{"status", "GET", "/v1/jobs/x", "", answer(418, media, queued), "no such status"},
		{"media type", "GET", "/v1/jobs/x", "", answer(200, "text/plain", queued), "Content-Type"},
		{"header", "GET", "/v1/jobs/x", "", answer(200, media, queued, "X-New", "1"), "X-New"},
		{"value of a header", "GET", "/v1/jobs/x", "", answer(200, media, queued, "Retry-After", "soon"), "Retry-After"},
		{"member", "GET", "/v1/jobs/x", "", answer(200, media, `{"id":"x","status":"queued","mood":"good"}`), "mood"},
		{"member of a member", "GET", "/v1/jobs/x", "", answer(200, media, `{"id":"x","status":"failed","error":{"type":"/problems/inference","title":"t","status":422,"x":1}}`), "/error"},
		{"missing member", "GET", "/v1/jobs/x", "", answer(200, media, `{"id":"x"}`), "status"},
		{"enumeration", "GET", "/v1/jobs/x", "", answer(200, media, `{"id":"x","status":"bored"}`), "status"},
		{"type", "GET", "/v1/jobs/x", "", answer(200, media, `{"id":7,"status":"queued"}`), "/id"},
		{"format", "GET", "/v1/jobs/x", "", answer(200, media, `{"id":"x","status":"queued","created_at":"now"}`), "created_at"},
		{"problem of another route", "GET", "/v1/jobs/x", "", answer(404, oops, fmt.Sprintf(problem, "unknown-model")), "unknown-model"},
		{"body of none", "GET", "/docs", "", answer(304, "", "x"), "documents no body"},
		{"query", "GET", "/v1/jobs/x?color=red", "", answer(200, media, queued), "color"},
		{"body that was taken", "POST", "/v1/models/digits/jobs", `{"input":[1],"color":"red"}`, answer(202, media, queued), "color"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := httptest.NewRequestWithContext(t.Context(), tc.method, tc.path, http.NoBody)
			err := c.check(req, []byte(tc.sent), tc.got)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("expected %q: %v", tc.want, err)
			}
		})
	}
}
