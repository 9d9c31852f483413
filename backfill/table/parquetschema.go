package table

import (
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding"
	"github.com/parquet-go/parquet-go/format"
)

// pqSource is a column of a source, for a sink that copies it.
type pqSource struct {
	node *parquet.Column
	col  *pqColumn // nil if cells cannot be read
	// empty says that the column has no type and no values: pandas makes it of None alone.
	empty bool
}

// leafElements lists what the file says of its leaves. The library keeps not all of it.
func leafElements(f *parquet.File) []*format.SchemaElement {
	var leaves []*format.SchemaElement
	schema := f.Metadata().Schema
	for i := range schema {
		if schema[i].Type.Valid {
			leaves = append(leaves, &schema[i])
		}
	}
	return leaves
}

// newPQColumn looks at a column; nil if it has several leaves, or one of an unknown type.
func newPQColumn(node *parquet.Column, leaves []*format.SchemaElement) (*pqColumn, Column) {
	object := Column{Name: node.Name(), Kind: Object, Length: -1, source: pqSource{node: node}}
	leaf := node
	for !leaf.Leaf() {
		if len(leaf.Columns()) != 1 {
			return nil, object
		}
		leaf = leaf.Columns()[0]
	}
	c := &pqColumn{name: node.Name(), leaf: leaf.Index(), list: leaf.MaxRepetitionLevel() > 0}
	c.maxRep, c.maxDef, c.listDef, c.elementDef = levels(node)
	kind := Integer
	switch leaf.Type().Kind() {
	case parquet.Boolean:
		c.kind, c.width, kind = encoding.Boolean, 1, Bool
	case parquet.Int32:
		c.kind, c.width = encoding.Int32, 4
	case parquet.Int64:
		c.kind, c.width = encoding.Int64, 8
	case parquet.Float:
		c.kind, c.width, kind = encoding.Float, 4, Number
	case parquet.Double:
		c.kind, c.width, kind = encoding.Double, 8, Number
	case parquet.ByteArray:
		c.kind, kind = encoding.ByteArray, Text
	case parquet.FixedLenByteArray:
		c.kind, c.width, kind = encoding.FixedLenByteArray, leaf.Type().Length(), Text
	default: // INT96, or none
		if logical := leaves[leaf.Index()].LogicalType; node.Leaf() {
			_, none := logical.Value.(*format.NullType)
			object.source = pqSource{node: node, empty: none}
		}
		return nil, object
	}
	if logical := leaf.Type().LogicalType(); logical != nil {
		switch l := logical.Value.(type) {
		case *format.IntType:
			c.unsigned = !l.IsSigned
		case *format.DecimalType:
			// The widest that others write has 76 digits, in 32 bytes.
			if l.Scale < 0 || l.Scale > 76 || c.kind == encoding.FixedLenByteArray && c.width > 32 {
				return nil, object
			}
			c.means, c.scale, kind = decimal10, int(l.Scale), Number
		case *format.DateType:
			if c.kind == encoding.Int32 {
				c.means, kind = date, Text
			}
		case *format.TimestampType:
			if c.kind == encoding.Int64 && l.Unit.Value != nil {
				c.means, c.unit, kind = local, l.Unit.Value.Duration(), Text
				if l.IsAdjustedToUTC {
					c.means = instant
				}
			}
		case *format.TimeType:
			if c.kind != encoding.Boolean && c.width <= 8 && l.Unit.Value != nil && kind == Integer {
				c.means, c.unit, kind = clock, l.Unit.Value.Duration(), Text
			}
		}
	}
	if _, ok := leaves[c.leaf].LogicalType.Value.(*format.Float16Type); ok && c.kind == encoding.FixedLenByteArray && c.width == 2 {
		c.means, kind = half, Number
	}
	if c.list {
		kind = List
	}
	return c, Column{Name: node.Name(), Kind: kind, Length: -1, source: pqSource{node: node, col: c}}
}

// levels counts the levels of a column with one leaf. From listDef on there is a list, though it may be empty, and from
// elementDef on there is an element of the innermost one, though it may be null.
func levels(node *parquet.Column) (maxRep, maxDef, listDef, elementDef byte) {
	for {
		switch {
		case node.Repeated():
			if maxRep == 0 {
				listDef = maxDef
			}
			maxRep++
			maxDef++
			elementDef = maxDef
		case node.Optional():
			maxDef++
		}
		if node.Leaf() {
			return maxRep, maxDef, listDef, elementDef
		}
		node = node.Columns()[0]
	}
}
