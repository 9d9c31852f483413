package openapi

import (
	"fmt"
	"net/url"
	"strings"
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
	if o.Body != nil {
		headers = append(headers, "Content-Type: "+o.BodyType)
	}
	for _, h := range headers {
		words = append(words, "-H", quote(h))
	}
	if o.Body != nil {
		words = append(words, "-d", quote(exampleText(o.Body)))
	}
	return strings.Join(words, " ")
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
