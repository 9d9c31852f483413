package openapi

import (
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
)

const schemaPrefix = "#/components/schemas/"

// Schemas collects the schemas of a document, each under its name. Of huma's registry it differs in three ways: answers may
// gain members, so an object takes any unless it is closed; no list is null; and the name of a type that begins with "doc"
// loses that, since the type is there for the documentation alone.
type Schemas struct {
	registry huma.Registry
	closed   map[*huma.Schema]bool
}

// NewSchemas returns an empty collection.
func NewSchemas() *Schemas {
	return &Schemas{huma.NewMapRegistry(schemaPrefix, nameOf), make(map[*huma.Schema]bool)}
}

// Registry returns the registry to put into the document's components.
func (s *Schemas) Registry() huma.Registry { return s.registry }

// Alias makes one type look as another does.
func (s *Schemas) Alias(t, as reflect.Type) { s.registry.RegisterTypeAlias(t, as) }

// Of returns the schema of a type: a reference, if the type has a name.
func (s *Schemas) Of(t reflect.Type) *huma.Schema {
	schema := s.registry.Schema(t, true, "")
	for _, named := range s.registry.Map() {
		s.relax(named)
	}
	s.relax(schema)
	return schema
}

// Named returns the schema of a type that has a name, not a reference to it, to be completed.
func (s *Schemas) Named(t reflect.Type) *huma.Schema {
	schema := s.Of(t)
	if schema.Ref == "" {
		return schema
	}
	return s.registry.SchemaFromRef(schema.Ref)
}

// Put names a schema that no type stands for, and returns a reference to it.
func (s *Schemas) Put(name string, schema *huma.Schema) *huma.Schema {
	s.registry.Map()[name] = schema
	return Ref(name)
}

// Ref refers to a named schema.
func Ref(name string) *huma.Schema { return &huma.Schema{Ref: schemaPrefix + name} }

// nameOf names the schema of a type.
func nameOf(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name := t.Name()
	if name == "" {
		name = hint
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "doc"), "View")
	first, size := utf8.DecodeRuneInString(name)
	return string(unicode.ToUpper(first)) + name[size:]
}

// relax undoes what the registry supposes of objects and lists.
func (s *Schemas) relax(of *huma.Schema) {
	if of == nil {
		return
	}
	if of.Type == huma.TypeArray {
		of.Nullable = false
	}
	switch more := of.AdditionalProperties.(type) {
	case bool:
		if !s.closed[of] {
			of.AdditionalProperties = nil
		}
	case *huma.Schema:
		s.relax(more)
	}
	s.relax(of.Items)
	for _, p := range of.Properties {
		s.relax(p)
	}
}

// Close makes an object refuse members that it does not have.
func (s *Schemas) Close(object *huma.Schema) {
	object.AdditionalProperties = false
	s.closed[object] = true
}
