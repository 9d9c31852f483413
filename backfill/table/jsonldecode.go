package table

import (
	"unicode/utf8"

	"github.com/sheafml/sheaf/job"
)

// jsonlDecoder makes tensors of lines.
type jsonlDecoder struct {
	a     *assembler
	p     *Plan
	slots []slot
	uses  [][]int // for each input the slots of its columns
	// byName finds the slots. habit is what it found for each place of a member in the lines before, since lines are alike.
	byName map[string]int
	habit  []habit
	row    int // of the slots' values
}

// slot is a column that is needed.
type slot struct {
	name  string
	alone int // the input that takes just this column as a list of numbers, -1 if it is otherwise
	value []byte
	row   int // that has been seen last
}

type habit struct {
	name []byte
	slot int
}

func newJSONLDecoder(p *Plan, a *assembler, columns []Column) *jsonlDecoder {
	d := &jsonlDecoder{a: a, p: p, byName: map[string]int{}}
	for i := range p.Inputs {
		in := &p.Inputs[i]
		uses := make([]int, len(in.Columns))
		for k, c := range in.Columns {
			at, ok := d.byName[columns[c].Name]
			if !ok {
				at = len(d.slots)
				d.byName[columns[c].Name] = at
				d.slots = append(d.slots, slot{name: columns[c].Name, alone: -1})
				if in.List {
					d.slots[at].alone = i
				}
			} else {
				d.slots[at].alone = -1
			}
			uses[k] = at
		}
		d.uses = append(d.uses, uses)
	}
	return d
}

func (d *jsonlDecoder) decode(r *record) *job.Error {
	if r.fault != "" {
		return job.Errorf(job.CodeMalformed, "", "%s", r.fault)
	}
	d.row++
	s := lineScan{src: r.text}
	var refused *job.Error // what is wrong with a value is said if all is JSON
	ok := false
	switch s.peek() {
	case '{':
		refused, ok = d.object(&s)
	case '[':
		refused, ok = d.bare(&s)
	default:
		refused, ok = job.Invalidf("", "expected a JSON object or a JSON array"), s.skip(0)
	}
	if !ok || !s.end() {
		return s.fault()
	}
	if at := invalidUTF8(r.text); at >= 0 {
		return job.Errorf(job.CodeMalformed, "", "not JSON: byte %d is not UTF-8", at)
	}
	if refused != nil {
		return refused
	}
	return d.assemble()
}

// object reads the members that are needed and verifies the others.
func (d *jsonlDecoder) object(s *lineScan) (refused *job.Error, ok bool) {
	if s.open('}') {
		return nil, true
	}
	for n := 0; ; n++ {
		name, ok := s.name()
		if !ok {
			return nil, false
		}
		at := d.find(n, name)
		if at >= 0 && d.slots[at].row == d.row && refused == nil {
			refused = job.Invalidf(d.slots[at].name, "the row has this member twice")
		}
		if at >= 0 && refused == nil {
			d.slots[at].row = d.row
			refused, ok = d.value(s, &d.slots[at])
		} else {
			ok = s.skip(1)
		}
		if !ok {
			return nil, false
		}
		if done, ok := s.after('}'); done || !ok {
			return refused, ok
		}
	}
}

// value reads the value of a needed column: a list of numbers at once, the others are only noted.
func (d *jsonlDecoder) value(s *lineScan, slot *slot) (refused *job.Error, ok bool) {
	slot.value = nil
	if slot.alone >= 0 {
		end, err := d.a.appendNumbers(slot.alone, slot.name, s.src, s.pos)
		if end >= 0 {
			s.pos = end
			return err, true
		}
	}
	start := s.pos
	if !s.skip(1) {
		return nil, false
	}
	slot.value = s.src[start:s.pos:s.pos]
	return nil, true
}

// find returns the slot of the n-th member, -1 if it is not needed.
func (d *jsonlDecoder) find(n int, name []byte) int {
	if n < len(d.habit) && string(d.habit[n].name) == string(name) {
		return d.habit[n].slot
	}
	at, ok := d.byName[string(name)]
	if !ok {
		at = -1
	}
	const most = 4096 // members of a hostile row
	switch {
	case n < len(d.habit):
		d.habit[n] = habit{name, at}
	case n < most:
		d.habit = append(d.habit, habit{name, at})
	}
	return at
}

// bare reads a row that is an array. If another column is needed it is missing, which assemble says.
func (d *jsonlDecoder) bare(s *lineScan) (refused *job.Error, ok bool) {
	at, ok := d.byName[bareColumn]
	if !ok {
		return nil, s.skip(0)
	}
	d.slots[at].row = d.row
	return d.value(s, &d.slots[at])
}

// assemble reads the values that were only noted.
func (d *jsonlDecoder) assemble() *job.Error {
	for i := range d.slots {
		if d.slots[i].row != d.row {
			return job.Invalidf(d.slots[i].name, "the row has no such member")
		}
	}
	for i, uses := range d.uses {
		for _, at := range uses {
			slot := &d.slots[at]
			var err *job.Error
			switch {
			case slot.value == nil: // its numbers have been read
			case d.p.Inputs[i].List:
				err = d.a.appendJSON(i, slot.name, slot.value)
			default:
				err = d.a.appendScalar(i, slot.name, slot.value)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// invalidUTF8 returns the first byte that is not UTF-8, -1 if there is none.
func invalidUTF8(text []byte) int {
	if utf8.Valid(text) {
		return -1
	}
	at := 0
	for at < len(text) {
		r, size := utf8.DecodeRune(text[at:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		at += size
	}
	return at
}
