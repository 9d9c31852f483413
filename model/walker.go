package model

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// walker reads a tree of YAML nodes into settings and collects every fault on the way. The decoder of the YAML package
// would speak of Go types where it meets an unknown key, and stop at the first duration that it cannot read.
type walker struct{ errs []error }

// key is one key that a mapping may have and what reads its value.
type key struct {
	name string
	read func(n *yaml.Node, path string)
}

func (w *walker) fault(n *yaml.Node, path, format string, args ...any) {
	if path != "" {
		path += ": "
	}
	w.errs = append(w.errs, fmt.Errorf("line %d: %s%s", n.Line, path, fmt.Sprintf(format, args...)))
}

// fields reads a mapping whose keys are known.
func (w *walker) fields(n *yaml.Node, path string, keys []key) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		w.fault(n, path, "expected keys and values")
		return
	}
	seen := make(map[string]int, len(keys))
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if line, twice := seen[name.Value]; twice {
			w.fault(name, path, "key %q is there already in line %d", name.Value, line)
			continue
		}
		seen[name.Value] = name.Line
		read := readerOf(keys, name.Value)
		if read == nil {
			w.fault(name, path, "unknown key %q: expected one of %s", name.Value, keyNames(keys))
			continue
		}
		sub := name.Value
		if path != "" {
			sub = path + "." + sub
		}
		read(resolve(value), sub)
	}
}

func (w *walker) text(dst *string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if n.Kind != yaml.ScalarNode {
			w.fault(n, path, "expected a text")
			return
		}
		if !isNull(n) {
			*dst = n.Value
		}
	}
}

func (w *walker) integer(dst *int, lowest, highest int) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		v, err := strconv.Atoi(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil || v < lowest || v > highest {
			w.fault(n, path, "expected a whole number from %d to %d, got %s", lowest, highest, show(n))
			return
		}
		*dst = v
	}
}

func (w *walker) boolean(dst *bool) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if n.Kind != yaml.ScalarNode || n.Value != "true" && n.Value != "false" {
			w.fault(n, path, "expected true or false, got %s", show(n))
			return
		}
		*dst = n.Value == "true"
	}
}

func (w *walker) duration(dst *time.Duration) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		d, err := time.ParseDuration(n.Value)
		if n.Kind != yaml.ScalarNode || err != nil || d < 0 {
			w.fault(n, path, "expected a duration such as 250ms, 30s or 1h30m, got %s", show(n))
			return
		}
		*dst = d
	}
}

// texts reads a mapping with keys of the user's own choice.
func (w *walker) texts(dst *map[string]string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		if isNull(n) {
			return
		}
		if n.Kind != yaml.MappingNode {
			w.fault(n, path, "expected keys and values")
			return
		}
		m := make(map[string]string, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			name, value := n.Content[i], resolve(n.Content[i+1])
			if _, twice := m[name.Value]; twice {
				w.fault(name, path, "key %q is there twice", name.Value)
			}
			if value.Kind != yaml.ScalarNode {
				w.fault(value, path+"."+name.Value, "expected a text")
				continue
			}
			m[name.Value] = value.Value
		}
		*dst = m
	}
}

func readerOf(keys []key, name string) func(*yaml.Node, string) {
	for _, k := range keys {
		if k.name == name {
			return k.read
		}
	}
	return nil
}

func keyNames(keys []key) string {
	list := make([]string, len(keys))
	for i, k := range keys {
		list[i] = k.name
	}
	return strings.Join(list, ", ")
}

// resolve follows an alias to what it stands for.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// show writes a value for an error.
func show(n *yaml.Node) string {
	switch n.Kind {
	case yaml.ScalarNode:
		return quoteName(n.Value)
	case yaml.SequenceNode:
		return "a list"
	default:
		return "keys and values"
	}
}
