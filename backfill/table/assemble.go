package table

import (
	"encoding/binary"
	"slices"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// elements is how many elements a shape has, -1 if that varies.
func elements(shape []int64) int {
	if slices.Contains(shape, -1) {
		return -1
	}
	return job.Elements(shape)
}

func severalVary(shape []int64) bool {
	vary := 0
	for _, d := range shape {
		if d < 0 {
			vary++
		}
	}
	return vary > 1
}

// fitShape returns the shape of a row whose data is nested as got, if it fits want: nested as want says (dimensions of 1 at
// the front may be missing), or flat with as many elements, where one dimension may vary. A bare value is a flat list of one.
func fitShape(want, got []int64) ([]int64, bool) {
	for front := want; len(front) >= len(got); front = front[1:] {
		if len(front) == len(got) && fits(front, got) {
			shape := slices.Clone(want)
			copy(shape[len(want)-len(got):], got)
			return shape, true
		}
		if len(front) == 0 || front[0] != 1 {
			break
		}
	}
	if len(got) > 1 {
		return nil, false
	}
	n, product, vary := int64(1), int64(1), -1
	if len(got) == 1 {
		n = got[0]
	}
	for i, d := range want {
		switch {
		case d >= 0:
			product *= d
		case vary >= 0:
			return nil, false
		default:
			vary = i
		}
	}
	shape := slices.Clone(want)
	if vary >= 0 {
		if product == 0 || n%product != 0 {
			return nil, false
		}
		shape[vary] = n / product
		return shape, true
	}
	return shape, product == n
}

func fits(want, got []int64) bool {
	for i, d := range want {
		if d >= 0 && got[i] != d {
			return false
		}
	}
	return true
}

// errShape is the error of a row whose list has another shape than the input.
func errShape(column string, in *PlanInput, got []int64) *job.Error {
	n := elements(in.Shape)
	if len(got) == 1 && n >= 0 {
		return job.Invalidf(column, "expected %d elements, got %d", n, got[0])
	}
	return job.Invalidf(column, "expected the shape %s, got %s", model.FormatShape(in.Shape), model.FormatShape(got))
}

// assembler makes the Decoded of a block, row by row. Between begin and either end or fail, a decoder appends the raw
// elements of each input to its data and, where the input's shape varies, sets its shape.
type assembler struct {
	plan   *Plan
	inputs []rowData
	row    int
	groups []*gathered
	byKey  map[string]*gathered
	key    []byte
	varies bool
	bad    []Bad
}

// rowData takes the elements of one row, or in a plan whose shapes do not vary of all good rows so far.
type rowData struct {
	data  []byte
	start int     // of the row
	shape []int64 // of the row
}

// gathered is a group to be.
type gathered struct {
	rows   []int
	shapes [][]int64
	data   [][]byte
}

// newAssembler prepares for a block of so many rows.
func newAssembler(p *Plan, rows int) *assembler {
	a := &assembler{plan: p, inputs: make([]rowData, len(p.Inputs))}
	for i := range p.Inputs {
		n := elements(p.Inputs[i].Shape)
		a.inputs[i].shape = p.Inputs[i].Shape
		if n < 0 || !p.Batchable {
			a.varies = true
		}
	}
	for i := range p.Inputs {
		if size := p.Inputs[i].Datatype.Size() * elements(p.Inputs[i].Shape); !a.varies && size > 0 {
			const most = 64 << 20 // a shape is not believed beyond this before there is data
			a.inputs[i].data = make([]byte, 0, min(size*rows, most))
		}
	}
	if !a.varies {
		a.groups = []*gathered{{rows: make([]int, 0, rows)}}
	}
	return a
}

// begin starts a row.
func (a *assembler) begin(row int) {
	a.row = row
	for i := range a.inputs {
		in := &a.inputs[i]
		if a.varies {
			in.data = in.data[:0]
		}
		in.start, in.shape = len(in.data), a.plan.Inputs[i].Shape
	}
}

// fail drops the row and notes why.
func (a *assembler) fail(err *job.Error) {
	for i := range a.inputs {
		a.inputs[i].data = a.inputs[i].data[:a.inputs[i].start]
	}
	a.bad = append(a.bad, Bad{Row: a.row, Err: err})
}

// end keeps the row, unless it is too large for a job.
func (a *assembler) end() {
	size := 0
	for i := range a.inputs {
		size += len(a.inputs[i].data) - a.inputs[i].start
	}
	if size > a.plan.Limits.MaxBytes {
		a.fail(job.Errorf(job.CodeTooLarge, "", "the row has %d bytes, a job takes at most %d", size, a.plan.Limits.MaxBytes))
		return
	}
	if !a.varies {
		a.groups[0].rows = append(a.groups[0].rows, a.row)
		return
	}
	g := a.group()
	g.rows = append(g.rows, a.row)
	for i := range a.inputs {
		g.data[i] = append(g.data[i], a.inputs[i].data...)
	}
}

// group finds or makes the group of the row's shapes.
func (a *assembler) group() *gathered {
	a.key = a.key[:0]
	for i := range a.inputs {
		for _, d := range a.inputs[i].shape {
			a.key = binary.AppendVarint(a.key, d)
		}
	}
	if g := a.byKey[string(a.key)]; g != nil && a.plan.Batchable {
		return g
	}
	g := &gathered{data: make([][]byte, len(a.inputs))}
	for i := range a.inputs {
		g.shapes = append(g.shapes, slices.Clone(a.inputs[i].shape))
	}
	if a.byKey == nil {
		a.byKey = map[string]*gathered{}
	}
	a.byKey[string(a.key)] = g
	a.groups = append(a.groups, g)
	return g
}

// decoded returns what has been gathered.
func (a *assembler) decoded() Decoded {
	d := Decoded{Bad: a.bad}
	for _, g := range a.groups {
		if len(g.rows) == 0 {
			continue
		}
		group := Group{Rows: g.rows, Inputs: make([]job.Tensor, len(a.inputs))}
		for i := range a.inputs {
			in := &a.plan.Inputs[i]
			shape, data := in.Shape, a.inputs[i].data
			if a.varies {
				shape, data = g.shapes[i], g.data[i]
			}
			if a.plan.Batchable {
				shape = append([]int64{int64(len(g.rows))}, shape...)
			}
			group.Inputs[i] = job.Tensor{Name: in.Name, Datatype: in.Datatype, Shape: slices.Clone(shape), Data: data}
		}
		d.Groups = append(d.Groups, group)
	}
	return d
}

// unmapped returns the error of every row of a plan that was made for a table without columns; nil for any other.
func unmapped(p *Plan) *job.Error {
	for i := range p.Inputs {
		if len(p.Inputs[i].Columns) == 0 {
			return job.Invalidf(p.Inputs[i].Name, "no column of the table was found for this input")
		}
	}
	return nil
}
