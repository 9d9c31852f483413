package openapi

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// ContentSecurityPolicy is what the page needs: its own style, and nothing else.
const ContentSecurityPolicy = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

//go:embed page.html page.css
var files embed.FS

// Assets names the files that the page refers to, relative to a folder of its own name.
func Assets() []string { return []string{"page.css"} }

// Asset returns one of them.
func Asset(name string) (media string, body []byte, ok bool) {
	if !slices.Contains(Assets(), name) {
		return "", nil, false
	}
	body, err := files.ReadFile(name)
	return "text/css; charset=utf-8", body, err == nil
}

// page is what the template shows.
type page struct {
	Doc    *huma.OpenAPI
	Groups []group
	Types  []namedSchema
}

// group is a tag with its operations.
type group struct {
	Tag        *huma.Tag
	Operations []shown
}

// shown is an operation, its references followed.
type shown struct {
	*huma.Operation
	Parameters []*huma.Param
	Body       *huma.MediaType
	BodyType   string
	Answers    []shownAnswer
	Scopes     []string
	Curl       string
}

// shownAnswer is an answer, its references followed.
type shownAnswer struct {
	Status  string
	Text    string
	Headers []shownHeader
	Content []shownContent
}

type shownHeader struct{ Name, Text string }

type shownContent struct {
	Media    string
	Schema   *huma.Schema
	Example  string
	Problems []string
}

type namedSchema struct {
	Name   string
	Schema *huma.Schema
}

// Document is a rendered document: a page that is the same for everybody but for the server that its commands name.
type Document []byte

// placeholder stands for the server's URL. No host may be named so.
const placeholder = "http://server.invalid"

// Page renders a document. The operations are in the order of the page.
func Page(doc *huma.OpenAPI, operations []*huma.Operation) (Document, error) {
	v := viewer{doc, operations, placeholder}
	tmpl, err := template.New("page.html").Funcs(template.FuncMap{"type": typeOf, "name": refName, "anchor": anchor, "props": propertiesOf, "inline": inline, "paragraphs": paragraphs, "lower": strings.ToLower}).ParseFS(files, "page.html")
	if err != nil {
		return nil, fmt.Errorf("read the page's template: %w", err)
	}
	var out bytes.Buffer
	if err := tmpl.Execute(&out, v.page()); err != nil {
		return nil, fmt.Errorf("render the page: %w", err)
	}
	return out.Bytes(), nil
}

// For returns the page as the server gives it that is reached by the scheme and the host.
func (d Document) For(scheme, host string) []byte {
	return bytes.ReplaceAll(d, []byte(placeholder), []byte(originOf(scheme, host)))
}

// plainHost is a host that a command may have without being quoted.
var plainHost = regexp.MustCompile(`^[A-Za-z0-9.:\[\]-]+$`)

// originOf is the URL that commands on the page begin with. A client may say anything of its host.
func originOf(scheme, host string) string {
	if !plainHost.MatchString(host) {
		host = net.JoinHostPort("localhost", "8080")
	}
	return scheme + "://" + host
}

// viewer follows the references of a document.
type viewer struct {
	doc        *huma.OpenAPI
	operations []*huma.Operation
	origin     string
}

func (v *viewer) page() page {
	p := page{Doc: v.doc}
	for _, tag := range v.doc.Tags {
		g := group{Tag: tag}
		for _, o := range v.operations {
			if slices.Contains(o.Tags, tag.Name) {
				g.Operations = append(g.Operations, v.show(o))
			}
		}
		if len(g.Operations) > 0 {
			p.Groups = append(p.Groups, g)
		}
	}
	all := v.doc.Components.Schemas.Map()
	for _, name := range sortedKeys(all) {
		p.Types = append(p.Types, namedSchema{name, all[name]})
	}
	return p
}

func (v *viewer) show(o *huma.Operation) shown {
	s := shown{Operation: o}
	for _, p := range o.Parameters {
		s.Parameters = append(s.Parameters, v.parameter(p))
	}
	if o.RequestBody != nil {
		for _, media := range sortedKeys(o.RequestBody.Content) {
			if s.Body == nil {
				s.Body, s.BodyType = o.RequestBody.Content[media], media
			}
		}
	}
	for _, status := range sortedKeys(o.Responses) {
		s.Answers = append(s.Answers, v.answer(status, o.Responses[status]))
	}
	for _, need := range o.Security {
		s.Scopes = append(s.Scopes, need["bearer"]...)
	}
	s.Curl = v.curl(&s)
	return s
}

func (v *viewer) parameter(p *huma.Param) *huma.Param {
	if p.Ref == "" {
		return p
	}
	return v.doc.Components.Parameters[lastOf(p.Ref)]
}

func (v *viewer) answer(status string, r *huma.Response) shownAnswer {
	a := shownAnswer{Status: status, Text: r.Description}
	for _, name := range sortedKeys(r.Headers) {
		h := r.Headers[name]
		if h.Ref != "" {
			h = v.doc.Components.Headers[lastOf(h.Ref)]
		}
		a.Headers = append(a.Headers, shownHeader{name, h.Description})
	}
	for _, media := range sortedKeys(r.Content) {
		c := r.Content[media]
		s := shownContent{Media: media, Schema: c.Schema, Example: exampleText(c)}
		for _, name := range sortedKeys(c.Examples) {
			if c.Examples[name].Ref != "" {
				s.Problems = append(s.Problems, name)
			}
		}
		a.Content = append(a.Content, s)
	}
	return a
}

// exampleText is the first example of a body.
func exampleText(m *huma.MediaType) string {
	value := m.Example
	for _, name := range sortedKeys(m.Examples) {
		if value == nil {
			value = m.Examples[name].Value
		}
	}
	switch value := value.(type) {
	case nil:
		return ""
	case string:
		return value
	}
	b, err := json.Marshal(value)
	if err != nil {
		return ""
	}
	return string(b)
}
