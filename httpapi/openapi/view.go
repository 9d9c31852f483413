package openapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// lastOf is the name that a reference ends with.
func lastOf(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

// refName is the name of the schema that another refers to, directly or as a list of it; "" is none.
func refName(s *huma.Schema) string {
	switch {
	case s == nil:
		return ""
	case s.Ref != "":
		return lastOf(s.Ref)
	case s.Items != nil:
		return refName(s.Items)
	}
	if values, ok := s.AdditionalProperties.(*huma.Schema); ok {
		return refName(values)
	}
	return ""
}

func anchor(name string) string { return "type-" + name }

// typeOf says in a few words what a schema takes.
func typeOf(s *huma.Schema) string {
	switch {
	case s == nil:
		return ""
	case s.Ref != "":
		return lastOf(s.Ref)
	case len(s.Enum) > 0:
		return join(s.Enum, " | ")
	case len(s.OneOf) > 0 && s.Type == "":
		list := make([]string, len(s.OneOf))
		for i, one := range s.OneOf {
			list[i] = typeOf(one)
		}
		return strings.Join(list, " | ")
	case s.Type == huma.TypeArray:
		return "list of " + typeOf(s.Items)
	case s.Type == "":
		return "anything"
	}
	if values, ok := s.AdditionalProperties.(*huma.Schema); ok {
		return "map to " + typeOf(values)
	}
	text := s.Type
	if s.Format != "" {
		text += " (" + s.Format + ")"
	}
	return text + bounds(s)
}

func bounds(s *huma.Schema) string {
	switch {
	case s.Minimum != nil && s.Maximum != nil:
		return fmt.Sprintf(", %v to %v", *s.Minimum, *s.Maximum)
	case s.Minimum != nil:
		return fmt.Sprintf(", %v or more", *s.Minimum)
	case s.Maximum != nil:
		return fmt.Sprintf(", %v or less", *s.Maximum)
	}
	return ""
}

func join(values []any, sep string) string {
	list := make([]string, len(values))
	for i, value := range values {
		b, err := json.Marshal(value)
		if err != nil {
			continue
		}
		list[i] = string(b)
	}
	return strings.Join(list, sep)
}

// property is a member of an object.
type property struct {
	Name     string
	Schema   *huma.Schema
	Required bool
}

// propertiesOf are the members of an object, those that are always there first.
func propertiesOf(s *huma.Schema) []property {
	var list []property
	for _, name := range sortedKeys(s.Properties) {
		list = append(list, property{name, s.Properties[name], slices.Contains(s.Required, name)})
	}
	slices.SortStableFunc(list, func(a, b property) int {
		switch {
		case a.Required == b.Required:
			return 0
		case a.Required:
			return -1
		}
		return 1
	})
	return list
}

// paragraphs divides a text at its empty lines.
func paragraphs(s string) []string { return strings.Split(s, "\n\n") }

// inline shows what of Markdown the texts use: code between backticks.
func inline(s string) template.HTML {
	var b strings.Builder
	for i, part := range strings.Split(s, "`") {
		part = template.HTMLEscapeString(part)
		if i%2 == 1 {
			part = "<code>" + part + "</code>"
		}
		b.WriteString(part)
	}
	return template.HTML(b.String()) //nolint:gosec // every part of it is escaped above
}
