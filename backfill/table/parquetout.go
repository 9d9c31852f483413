package table

import (
	"fmt"
	"reflect"

	"github.com/parquet-go/parquet-go"

	"github.com/sheafml/sheaf/job"
)

// pqOut is a column that is written.
type pqOut struct {
	name string
	node parquet.Node
	what pqWhat
	from int // the column of the source, or the place among Spec.Predicted
	kind Kind
	list bool

	// Of the leaf, as the schema has it.
	leaf           *parquet.Column
	maxRep, maxDef byte
}

// pqWhat is where the cells of a written column come from.
type pqWhat uint8

const (
	pqRow pqWhat = iota
	pqLine
	pqError
	pqCopied   // from a Parquet source, as it is there
	pqJSON     // from another source, by its JSON
	pqPredicts // of the model
)

// pqColumns lists what is written, in order.
func pqColumns(spec *Spec) ([]pqOut, error) {
	var out []pqOut
	source := func(i int) error {
		c := &spec.Columns[i]
		if from, ok := c.source.(pqSource); ok {
			if from.col == nil {
				if spec.Errors {
					return nil // what was never read cannot be wrong
				}
				if from.empty {
					out = append(out, pqOut{name: c.Name, node: pqNode(Text), what: pqJSON, from: i, kind: Text})
					return nil
				}
				return fmt.Errorf("column %s is of a nested or unknown type, which is not copied; leave it out of the input", clip(c.Name))
			}
			out = append(out, pqOut{name: c.Name, node: pqLike(from.node, from.col), what: pqCopied, from: i})
			return nil
		}
		out = append(out, pqOut{name: c.Name, node: pqNode(c.Kind), what: pqJSON, from: i, kind: c.Kind})
		return nil
	}
	if spec.Join || spec.Errors {
		for i := range spec.Columns {
			name := spec.Columns[i].Name
			if spec.Errors && (name == ColumnLine || name == ColumnError) || spec.predicts(name) {
				continue
			}
			if err := source(i); err != nil {
				return nil, err
			}
		}
	}
	switch {
	case spec.Errors:
		return append(out, pqOut{name: ColumnLine, node: parquet.Int(64), what: pqLine}, pqOut{name: ColumnError, node: parquet.String(), what: pqError}), nil
	case !spec.Join:
		out = append(out, pqOut{name: ColumnRow, node: parquet.Int(64), what: pqRow})
		if spec.ID >= 0 && spec.ID < len(spec.Columns) {
			if err := source(spec.ID); err != nil {
				return nil, err
			}
		}
	}
	for i := range spec.Predicted {
		p := &spec.Predicted[i]
		o := pqOut{name: p.Column, node: pqElement(p.Datatype), what: pqPredicts, from: i, list: elements(p.Shape) != 1}
		if o.list {
			o.node = parquet.List(o.node)
		}
		out = append(out, o)
	}
	return out, nil
}

// predicts reports whether results have a prediction of that name, which replaces the column of the source.
func (s *Spec) predicts(name string) bool {
	for i := range s.Predicted {
		if !s.Errors && s.Predicted[i].Column == name {
			return true
		}
	}
	return false
}

// pqLike is a node of the same type and levels as one of a source, without how that one was encoded.
func pqLike(n *parquet.Column, col *pqColumn) parquet.Node {
	var like parquet.Node
	switch children := n.Columns(); {
	case n.Leaf():
		like = pqLikeLeaf(n, col)
	case children[0].Repeated() && children[0].Leaf():
		like = parquet.List(pqLikeLeaf(children[0], col))
	case children[0].Repeated():
		like = parquet.List(pqLike(children[0].Columns()[0], col))
	default:
		like = parquet.Group{children[0].Name(): pqLike(children[0], col)}
	}
	switch {
	case n.Optional():
		return parquet.Optional(like)
	case n.Repeated():
		return parquet.Repeated(like)
	}
	return like
}

// pqLikeLeaf is the type of a leaf. The library cannot write floats of 16 bits, so these become wider.
func pqLikeLeaf(n *parquet.Column, col *pqColumn) parquet.Node {
	if col.means == half {
		return parquet.Leaf(parquet.FloatType)
	}
	return parquet.Leaf(n.Type())
}

// pqNode is how cells of a kind are written.
func pqNode(k Kind) parquet.Node {
	switch k {
	case Integer:
		return parquet.Optional(parquet.Int(64))
	case Number:
		return parquet.Optional(parquet.Leaf(parquet.DoubleType))
	case Bool:
		return parquet.Optional(parquet.Leaf(parquet.BooleanType))
	case Text, List, Object, Unknown: // lists and objects as JSON
	}
	return parquet.Optional(parquet.String())
}

// pqElement is how elements of a datatype are written.
func pqElement(dt job.Datatype) parquet.Node {
	switch dt {
	case job.Bool:
		return parquet.Leaf(parquet.BooleanType)
	case job.Uint8, job.Uint16, job.Uint32:
		return parquet.Uint(32)
	case job.Uint64:
		return parquet.Uint(64)
	case job.Int8, job.Int16, job.Int32:
		return parquet.Int(32)
	case job.Int64:
		return parquet.Int(64)
	case job.FP64:
		return parquet.Leaf(parquet.DoubleType)
	case job.Bytes:
		return parquet.String()
	case job.FP16, job.BF16, job.FP32:
	}
	return parquet.Leaf(parquet.FloatType)
}

// pqGroup is a group whose fields keep their order.
type pqGroup struct {
	parquet.Group
	fields []parquet.Field
}

// Fields implements parquet.Node.
func (g *pqGroup) Fields() []parquet.Field { return g.fields }

// pqField is a column of the schema.
type pqField struct {
	parquet.Node
	name string
}

// Name implements parquet.Field.
func (f *pqField) Name() string { return f.name }

// Value implements parquet.Field. Nobody writes Go values.
func (f *pqField) Value(base reflect.Value) reflect.Value { return base }

func pqSchema(columns []pqOut) *parquet.Schema {
	g := &pqGroup{Group: parquet.Group{}}
	for _, c := range columns {
		g.Group[c.name] = c.node
		g.fields = append(g.fields, &pqField{c.node, c.name})
	}
	return parquet.NewSchema("rows", g)
}
