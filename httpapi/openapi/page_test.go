package openapi_test

import (
	"html"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"github.com/sheafml/sheaf/httpapi/openapi"
)

// documentOf is a document of one operation.
func documentOf(o *huma.Operation) *huma.OpenAPI {
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0", Info: &huma.Info{Title: "Test", Version: "1", Description: "A test of <b>markup</b> and `code`."},
		Tags: []*huma.Tag{{Name: "All"}}, Components: &huma.Components{Schemas: openapi.NewSchemas().Registry()},
	}
	o.Tags, o.OperationID = []string{"All"}, "it"
	doc.AddOperation(o)
	return doc
}

func pageOf(t *testing.T, o *huma.Operation, scheme, host string) string {
	t.Helper()
	page, err := openapi.Page(documentOf(o), []*huma.Operation{o})
	if err != nil {
		t.Fatal(err)
	}
	return string(page.For(scheme, host))
}

// What is copied from the page goes into a shell.
func TestCommandIsQuoted(t *testing.T) {
	text := &huma.Schema{Type: huma.TypeString}
	page := html.UnescapeString(pageOf(t, &huma.Operation{
		Method: "POST", Path: "/a/{b}", Summary: "s",
		Parameters: []*huma.Param{
			{Name: "b", In: "path", Required: true, Schema: text, Example: "x y/z"},
			{Name: "q", In: "query", Required: true, Schema: text, Example: "$(id)&c=`d`"},
			{Name: "X-H", In: "header", Required: true, Schema: text, Example: "it's"},
			{Name: "optional", In: "query", Schema: text, Example: "no"},
		},
		RequestBody: &huma.RequestBody{Content: map[string]*huma.MediaType{"text/plain": {Schema: text, Example: "don't $HOME"}}},
		Security:    []map[string][]string{{"bearer": {"submit"}}},
	}, "https", "api.example:8443"))
	want := `curl -sS 'https://api.example:8443/a/x%20y%2Fz?q=%24%28id%29%26c%3D%60d%60' -H "Authorization: Bearer $SHEAF_API_KEY" ` +
		`-H 'X-H: it'\''s' -H 'Content-Type: text/plain' -d 'don'\''t $HOME'`
	if !strings.Contains(page, want) {
		_, command, _ := strings.Cut(page, "curl -sS")
		t.Errorf("expected %s\ngot      curl -sS%.300s", want, command)
	}
}

// A form has a part for each of its members, the file last.
func TestCommandOfAForm(t *testing.T) {
	text := func(of ...any) *huma.Schema { return &huma.Schema{Type: huma.TypeString, Enum: of} }
	page := html.UnescapeString(pageOf(t, &huma.Operation{
		Method: "POST", Path: "/a", Summary: "s",
		RequestBody: &huma.RequestBody{Content: map[string]*huma.MediaType{"multipart/form-data": {Schema: &huma.Schema{
			Type: huma.TypeObject, Properties: map[string]*huma.Schema{"b": {Type: huma.TypeString, Format: "binary"}, "c": text("x y")},
		}}}},
	}, "http", "localhost"))
	if want := "curl -sS http://localhost/a -F 'c=x y' -F b=@FILE<"; !strings.Contains(page, want) {
		_, command, _ := strings.Cut(page, "curl -sS")
		t.Errorf("expected %s\ngot      curl -sS%.200s", want, command)
	}
}

func TestTextIsEscaped(t *testing.T) {
	page := pageOf(t, &huma.Operation{Method: "GET", Path: "/a", Summary: "<script>alert(1)</script> `<i>`"}, "http", "localhost")
	for _, bad := range []string{"<script", "<i>", "<b>markup"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	if !strings.Contains(page, "&lt;b&gt;markup") || !strings.Contains(page, "<code>code</code>") {
		t.Error("the text is not on the page")
	}
}
