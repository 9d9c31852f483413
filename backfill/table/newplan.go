package table

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// NewPlan maps columns to the inputs of a model: as want says, and where it says nothing by what the columns are. A table
// without any column, such as an empty file, gets a plan by which no row can be asked.
func NewPlan(columns []Column, info *model.Info, want Want) (*Plan, error) {
	sig := &info.Signature
	p := &planner{columns: columns, info: info, want: want, id: -1}
	plan := &Plan{Batchable: sig.Batchable, ID: -1, Limits: job.DefaultLimits()}
	for i := range sig.Inputs {
		shape := slices.Clone(sig.Inputs[i].Shape)
		if sig.Batchable {
			shape = shape[1:]
		}
		plan.Inputs = append(plan.Inputs, PlanInput{Name: sig.Inputs[i].Name, Datatype: sig.Inputs[i].Datatype, Shape: shape})
	}
	if err := p.checkWant(plan.Inputs); err != nil {
		return nil, err
	}
	if len(columns) == 0 {
		return plan, nil
	}
	if want.ID != "" {
		if p.id = p.find(want.ID); p.id < 0 {
			return nil, fmt.Errorf("the ID column %q is not in the table, which has %s", want.ID, p.list(nil))
		}
		plan.ID = p.id
	}
	for i := range plan.Inputs {
		if err := p.assign(&plan.Inputs[i], len(plan.Inputs)); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

// planner is what is known while a plan is made.
type planner struct {
	columns []Column
	info    *model.Info
	want    Want
	id      int
}

func (p *planner) checkWant(inputs []PlanInput) error {
	var known []string
	for i := range inputs {
		known = append(known, inputs[i].Name)
	}
	for name := range p.want.Inputs {
		if !slices.Contains(known, name) {
			return fmt.Errorf("model %s has no input %s: its inputs are %s", p.info.Key(), quote(name), quoted(known))
		}
	}
	if p.want.InputColumn == "" {
		return nil
	}
	if len(inputs) > 1 {
		return fmt.Errorf("model %s has the inputs %s: say which column each takes (--input %s=COLUMN), one input column is not enough",
			p.info.Key(), quoted(known), known[0])
	}
	if len(p.want.Inputs) > 0 {
		return fmt.Errorf("the column of input %q is given twice: as the input column %s, and by --input", known[0], quote(p.want.InputColumn))
	}
	return nil
}

// assign finds the columns of one input.
func (p *planner) assign(in *PlanInput, inputs int) error {
	patterns := p.want.Inputs[in.Name]
	if p.want.InputColumn != "" {
		patterns = []string{p.want.InputColumn}
	}
	if len(patterns) > 0 {
		return p.explicit(in, patterns)
	}
	if c := p.find(in.Name); c >= 0 && p.free(c) && p.suits(in, c) {
		p.take(in, c)
		return nil
	}
	if inputs > 1 {
		return p.lost(in, "there is no column of this name that suits it")
	}
	return p.guess(in)
}

// explicit maps an input as the user said.
func (p *planner) explicit(in *PlanInput, patterns []string) error {
	var chosen []int
	for _, pattern := range patterns {
		found := p.match(pattern)
		if len(found) == 0 {
			return fmt.Errorf("input %q: no column is %s; the table has %s", in.Name, quote(pattern), p.list(nil))
		}
		for _, c := range found {
			if slices.Contains(chosen, c) {
				return fmt.Errorf("input %q: the column %s is named twice, by %s the second time", in.Name, quote(p.columns[c].Name), quote(pattern))
			}
			chosen = append(chosen, c)
		}
	}
	if len(chosen) == 1 {
		c := chosen[0]
		if n := elements(in.Shape); p.scalar(c) && n > 1 {
			return fmt.Errorf("input %q takes %s in a row, and column %s has one %s", in.Name, amount(in, n), quote(p.columns[c].Name), p.columns[c].Kind)
		}
		p.take(in, c)
		return nil
	}
	for _, c := range chosen {
		if p.columns[c].Kind == List {
			return fmt.Errorf("input %q: column %s is a list, and a list is a whole row: name it alone, or only columns of single values", in.Name, quote(p.columns[c].Name))
		}
	}
	shape, ok := fitShape(in.Shape, []int64{int64(len(chosen))})
	if !ok {
		return fmt.Errorf("input %q takes %s in a row, %d columns are named: %s", in.Name, amount(in, elements(in.Shape)), len(chosen), p.list(chosen))
	}
	in.Columns, in.Shape = chosen, shape
	return nil
}

// take maps an input to one column.
func (p *planner) take(in *PlanInput, c int) {
	in.Columns, in.List = []int{c}, !p.scalar(c)
	if !in.List {
		in.Shape, _ = fitShape(in.Shape, nil)
	}
}

// guess maps the only input of a model by what the columns are.
func (p *planner) guess(in *PlanInput) error {
	for _, fits := range []func(c int) bool{
		func(c int) bool {
			return slices.Contains([]string{"input", "inputs", "features", "x"}, p.columns[c].Name) && p.suits(in, c)
		},
		func(c int) bool { return p.columns[c].Kind == List && p.suits(in, c) },
	} {
		found := p.all(fits)
		if len(found) > 1 {
			return p.ambiguous(in, found)
		}
		if len(found) == 1 {
			p.take(in, found[0])
			return nil
		}
	}
	singles := p.all(func(c int) bool { return p.single(in, c) })
	n := elements(in.Shape)
	switch {
	case len(singles) > 0 && len(singles) == n && n == 1:
		p.take(in, singles[0])
		return nil
	case len(singles) > 0 && len(singles) == n:
		in.Columns = singles
		return nil
	case n == 1 && len(singles) > 1:
		return p.ambiguous(in, singles)
	case len(singles) == 0:
		return p.lost(in, "no column has such values")
	}
	return p.lost(in, fmt.Sprintf("%d columns have such values", len(singles)))
}

// suits reports whether the one column may have whole rows of an input.
func (p *planner) suits(in *PlanInput, c int) bool {
	column := &p.columns[c]
	switch column.Kind {
	case List:
		if column.Length < 0 {
			return true
		}
		_, ok := fitShape(in.Shape, []int64{int64(column.Length)})
		return ok || severalVary(in.Shape)
	case Unknown:
		return true
	case Object:
		return false
	case Integer, Number, Bool, Text:
	}
	return elements(in.Shape) == 1 && p.single(in, c)
}

// single reports whether a column has single values of an input's datatype.
func (p *planner) single(in *PlanInput, c int) bool {
	kind := p.columns[c].Kind
	switch in.Datatype {
	case job.Bytes:
		return kind == Text
	case job.Bool:
		return kind == Bool
	case job.FP16, job.BF16, job.FP32, job.FP64:
		return kind == Integer || kind == Number
	default:
		return kind == Integer
	}
}

// scalar reports whether the cells of a column are single values.
func (p *planner) scalar(c int) bool {
	switch p.columns[c].Kind {
	case Integer, Number, Bool, Text:
		return true
	case Unknown, List, Object:
	}
	return false
}

// free reports whether a column may be taken without being named.
func (p *planner) free(c int) bool {
	return c != p.id && !strings.HasPrefix(p.columns[c].Name, Reserved)
}

func (p *planner) all(fits func(c int) bool) []int {
	var found []int
	for c := range p.columns {
		if p.free(c) && fits(c) {
			found = append(found, c)
		}
	}
	return found
}

// find returns the place of a column, -1 if there is none.
func (p *planner) find(name string) int {
	return slices.IndexFunc(p.columns, func(c Column) bool { return c.Name == name })
}

// match returns the columns that a pattern names, in the order of the table. A column's own name is no pattern.
func (p *planner) match(pattern string) []int {
	if c := p.find(pattern); c >= 0 {
		return []int{c}
	}
	if !strings.Contains(pattern, "*") {
		return nil
	}
	return p.all(func(c int) bool { return matches(p.columns[c].Name, pattern) })
}

// matches reports whether a name fits a pattern in which "*" stands for any text.
func matches(name, pattern string) bool {
	parts := strings.Split(pattern, "*")
	first, last := parts[0], parts[len(parts)-1]
	if len(name) < len(first)+len(last) || !strings.HasPrefix(name, first) || !strings.HasSuffix(name, last) {
		return false
	}
	rest := name[len(first) : len(name)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return true
}

func (p *planner) name(c int) string { return clip(p.columns[c].Name) }
