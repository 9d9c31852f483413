package openapi

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// curl is a command that calls the operation, with the document's examples.
func (v *viewer) curl(o *shown) string {
	path := o.Path
	var headers []string
	query := url.Values{}
	for _, p := range o.Parameters {
		if !p.Required {
			continue
		}
		example := fmt.Sprint(p.Example)
		switch p.In {
		case "path":
			path = strings.ReplaceAll(path, "{"+p.Name+"}", url.PathEscape(example))
		case "query":
			query.Set(p.Name, example)
		case "header":
			headers = append(headers, p.Name+": "+example)
		}
	}
	target := v.origin + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	words := []string{"curl", "-sS"}
	if o.Method != "GET" && (o.Method != "POST" || o.Body == nil) {
		words = append(words, "-X", o.Method)
	}
	words = append(words, quote(target))
	if len(o.Scopes) > 0 && len(o.Security) == len(o.Scopes) {
		words = append(words, `-H "Authorization: Bearer $SHEAF_API_KEY"`)
	}
	form := o.Body != nil && o.BodyType == "multipart/form-data"
	if o.Body != nil && !form {
		headers = append(headers, "Content-Type: "+o.BodyType)
	}
	for _, h := range headers {
		words = append(words, "-H", quote(h))
	}
	switch {
	case form:
		words = append(words, parts(o.Body.Schema)...)
	case o.Body != nil:
		words = append(words, "-d", quote(exampleText(o.Body)))
	}
	return strings.Join(words, " ")
}

// parts are those of a form, files last.
func parts(s *huma.Schema) (words []string) {
	var files []string
	for _, name := range sortedKeys(s.Properties) {
		switch p := s.Properties[name]; {
		case p.Format == "binary":
			files = append(files, "-F", quote(name+"=@FILE"))
		case len(p.Enum) > 0:
			words = append(words, "-F", quote(fmt.Sprintf("%s=%v", name, p.Enum[0])))
		}
	}
	return append(words, files...)
}

// quote makes a word of a shell.
func quote(s string) string {
	if plainWord(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func plainWord(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:,=@%+") == ""
}
