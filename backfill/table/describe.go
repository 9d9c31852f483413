package table

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// String says in a word what a cell is.
func (k Kind) String() string {
	switch k {
	case Integer:
		return "integer"
	case Number:
		return "number"
	case Bool:
		return "boolean"
	case Text:
		return "text"
	case List:
		return "list"
	case Object:
		return "object"
	case Unknown:
	}
	return "unknown"
}

// Describe says in a few lines what becomes of each column.
func (p *Plan) Describe(columns []Column) string {
	var b strings.Builder
	used := make([]bool, len(columns))
	for i := range p.Inputs {
		in := &p.Inputs[i]
		fmt.Fprintf(&b, "input %s %s %s: ", in.Name, in.Datatype, model.FormatShape(in.Shape))
		switch n := len(in.Columns); {
		case n == 0:
			b.WriteString("no column")
		case in.List:
			fmt.Fprintf(&b, "column %s, a row in each cell", clip(columns[in.Columns[0]].Name))
		case n <= 4:
			b.WriteString("column " + names(columns, in.Columns))
		default:
			fmt.Fprintf(&b, "%d columns, %s to %s", n, clip(columns[in.Columns[0]].Name), clip(columns[in.Columns[n-1]].Name))
		}
		b.WriteByte('\n')
		for _, c := range in.Columns {
			used[c] = true
		}
	}
	if p.ID >= 0 {
		fmt.Fprintf(&b, "passed through: %s\n", clip(columns[p.ID].Name))
		used[p.ID] = true
	}
	var ignored []int
	for c := range columns {
		if !used[c] {
			ignored = append(ignored, c)
		}
	}
	if len(ignored) > 0 {
		fmt.Fprintf(&b, "not asked: %s\n", names(columns, ignored))
	}
	return b.String()
}

// lost is the error of an input that no column could be found for. It says what to write.
func (p *planner) lost(in *PlanInput, why string) error {
	hint := "--input " + in.Name + "=COLUMN"
	if n := elements(in.Shape); n > 1 {
		hint += ", or =COLUMN,COLUMN… (* stands for any text)"
		if pattern := p.family(in, n); pattern != "" {
			hint = "--input '" + in.Name + "=" + pattern + "'"
		}
	}
	return fmt.Errorf("input %q of model %s takes %s in a row, and %s; the table has %s; say which to take: %s",
		in.Name, p.info.Key(), amount(in, elements(in.Shape)), why, p.list(nil), hint)
}

// ambiguous is the error of an input that more than one column suits.
func (p *planner) ambiguous(in *PlanInput, found []int) error {
	return fmt.Errorf("input %q of model %s could take each of the columns %s; say which: --input %s=%s",
		in.Name, p.info.Key(), names(p.columns, found), in.Name, p.name(found[0]))
}

// family looks for exactly n columns whose names differ in a number at the end.
func (p *planner) family(in *PlanInput, n int) string {
	count := map[string]int{}
	for c := range p.columns {
		stem := strings.TrimRight(p.columns[c].Name, "0123456789")
		if p.free(c) && p.single(in, c) && stem != p.columns[c].Name && stem != "" {
			count[stem]++
		}
	}
	for stem, have := range count {
		if have == n && len(p.match(stem+"*")) == n {
			return stem + "*"
		}
	}
	return ""
}

// list lists columns for an error, all of them for nil.
func (p *planner) list(which []int) string {
	if which == nil {
		which = make([]int, len(p.columns))
		for c := range which {
			which[c] = c
		}
		return fmt.Sprintf("the columns %s", kinds(p.columns, which))
	}
	return names(p.columns, which)
}

// fewNames is how many columns an error lists before it counts the rest.
const fewNames = 12

// kinds lists columns with what they are.
func kinds(columns []Column, which []int) string {
	return join(which, func(c int) string {
		kind := columns[c].Kind.String()
		if columns[c].Kind == List && columns[c].Length >= 0 {
			kind += " of " + strconv.Itoa(columns[c].Length)
		}
		return clip(columns[c].Name) + " (" + kind + ")"
	})
}

func names(columns []Column, which []int) string {
	return join(which, func(c int) string { return clip(columns[c].Name) })
}

func join(which []int, text func(c int) string) string {
	var list []string
	for i, c := range which {
		if i == fewNames {
			return strings.Join(list, ", ") + fmt.Sprintf(" and %d more", len(which)-i)
		}
		list = append(list, text(c))
	}
	return strings.Join(list, ", ")
}

// longName is how much of a name is shown.
const longName = 64

// clip shows a name that came from outside: cut where it is long, quoted where it is not plain.
func clip(name string) string {
	if name == "" || !job.ValidText(name, longName) || strings.ContainsAny(name, " ,=\"'") {
		return quote(name)
	}
	return name
}

// quote is clip with quotes always.
func quote(name string) string {
	if len(name) > longName {
		return strconv.Quote(name[:longName]) + "…"
	}
	return strconv.Quote(name)
}

func quoted(list []string) string {
	list = slices.Clone(list)
	for i := range list {
		list[i] = strconv.Quote(list[i])
	}
	return strings.Join(list, ", ")
}

// amount says how many elements a row of an input has.
func amount(in *PlanInput, n int) string {
	if n < 0 {
		return fmt.Sprintf("%s of shape %s", in.Datatype, model.FormatShape(in.Shape))
	}
	if len(in.Shape) > 1 {
		return fmt.Sprintf("%d %s of shape %s", n, in.Datatype, model.FormatShape(in.Shape))
	}
	return fmt.Sprintf("%d %s", n, in.Datatype)
}
