package table

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"github.com/sheafml/sheaf/job"
)

// csvSink writes CSV. A row of a file of errors has the fields that it had: missing ones are empty, those too many stand
// in the last column, with the delimiters between them.
type csvSink struct {
	*output
	spec   Spec
	kept   []int // columns of the source that are written
	counts []int // how many columns each prediction has; -1: one of JSON
}

func newCSVSink(f File, spec Spec, mark *Mark) (Sink, error) {
	if err := checkSpec(&spec); err != nil {
		return nil, err
	}
	s := &csvSink{spec: spec}
	var added []string
	if spec.Errors {
		added = []string{ColumnLine, ColumnError}
	} else {
		for i := range spec.Predicted {
			p := &spec.Predicted[i]
			n := elements(p.Shape)
			switch {
			case n == 1:
				added = append(added, p.Column)
			case n < 1:
				n = -1
				added = append(added, p.Column)
			default:
				for k := range n {
					added = append(added, p.Column+"_"+strconv.Itoa(k))
				}
			}
			s.counts = append(s.counts, n)
		}
	}
	var names []string
	switch {
	case spec.Errors || spec.Join:
		for c := range spec.Columns {
			if !slices.Contains(added, spec.Columns[c].Name) {
				s.kept = append(s.kept, c)
				names = append(names, spec.Columns[c].Name)
			}
		}
	default:
		names = []string{ColumnRow}
		if spec.ID >= 0 && spec.ID < len(spec.Columns) {
			s.kept = []int{spec.ID}
			names = append(names, spec.Columns[spec.ID].Name)
		}
	}
	var header []byte
	for _, name := range append(names, added...) {
		header = append(appendField(header, []byte(name), spec.Delimiter), spec.Delimiter)
	}
	header[len(header)-1] = '\n'
	var err error
	s.output, err = newOutput(f, spec.Compression, mark, header)
	return s, err
}

// csvRow writes rows of a piece.
type csvRow struct {
	*csvSink
	dst    []byte
	fields [][]byte
	cell   []byte
	rows   answerRows
	// byName finds the columns of members of lines.
	byName map[string]int
}

// Encode implements Sink.
func (s *csvSink) Encode(b Block, answers []Answer) (Piece, error) {
	w := csvRow{csvSink: s, dst: make([]byte, 0, len(answers)*s.guess(b))}
	for i := range answers {
		a := &answers[i]
		start := len(w.dst)
		if !s.spec.Errors && !s.spec.Join {
			w.dst = strconv.AppendInt(w.dst, b.Place().Row+int64(a.Row)+1, 10)
		}
		w.original(b, a.Row, start)
		if s.spec.Errors {
			w.next(start)
			w.dst = strconv.AppendInt(w.dst, b.Line(a.Row), 10)
			w.dst = append(w.dst, s.spec.Delimiter)
			w.dst = appendField(w.dst, []byte(reason(a.Err)), s.spec.Delimiter)
		} else {
			for k := range s.spec.Predicted {
				if err := w.prediction(a, k, start); err != nil {
					return nil, err
				}
			}
		}
		w.dst = append(w.dst, '\n')
	}
	return textPiece{w.dst, len(answers)}, nil
}

// guess is about how many bytes a row has.
func (s *csvSink) guess(b Block) int {
	size := 24
	for i := range s.spec.Predicted {
		size += 14 * max(1, s.counts[i])
	}
	if c, ok := b.(*csvBlock); ok && (s.spec.Join || s.spec.Errors) && len(c.records) > 0 {
		size += len(c.records[0].text)
	}
	return min(size, 1<<16)
}

// next begins a field, unless it is the first of the row.
func (w *csvRow) next(start int) {
	if len(w.dst) > start {
		w.dst = append(w.dst, w.spec.Delimiter)
	}
}

// original writes the columns of the source.
func (w *csvRow) original(b Block, row, start int) {
	if c, ok := b.(*csvBlock); ok {
		w.fromCSV(c, &c.records[row], start)
		return
	}
	if j, ok := b.(*jsonlBlock); ok && len(w.kept) > 1 {
		w.fromLine(j, &j.records[row])
		return
	}
	for i, c := range w.kept {
		if i > 0 || len(w.dst) > start {
			w.dst = append(w.dst, w.spec.Delimiter)
		}
		w.cell = b.AppendCell(w.cell[:0], row, c)
		w.dst = appendJSONField(w.dst, w.cell, w.spec.Delimiter)
	}
}

// fromLine writes the members of a line, which it looks through once.
func (w *csvRow) fromLine(b *jsonlBlock, r *record) {
	if w.byName == nil {
		w.byName = map[string]int{}
		for c := range b.columns {
			w.byName[b.columns[c].Name] = c
		}
		w.fields = make([][]byte, len(b.columns))
	}
	clear(w.fields)
	s := lineScan{src: r.text}
	if s.peek() == '[' {
		if c, ok := w.byName[bareColumn]; ok && s.skip(0) {
			w.fields[c] = bytes.TrimSpace(r.text[:s.pos])
		}
	} else {
		s.members(func(name, value []byte) bool {
			if c, ok := w.byName[string(name)]; ok {
				w.fields[c] = value
			}
			return true
		})
	}
	for i, c := range w.kept {
		if i > 0 {
			w.dst = append(w.dst, w.spec.Delimiter)
		}
		if w.fields[c] != nil {
			w.dst = appendJSONField(w.dst, w.fields[c], w.spec.Delimiter)
		}
	}
}

func (w *csvRow) fromCSV(b *csvBlock, r *record, start int) {
	all := len(w.kept) == len(b.columns)
	if w.spec.Join && all && b.delimiter == w.spec.Delimiter {
		w.dst = append(w.dst, r.text...)
		return
	}
	if !w.spec.Join && !w.spec.Errors { // no more than the ID is needed
		if len(w.kept) > 0 {
			w.dst = append(w.dst, w.spec.Delimiter)
			w.dst = appendField(w.dst, nthField(r.text, b.delimiter, w.kept[0]), w.spec.Delimiter)
		}
		return
	}
	w.fields = appendFields(w.fields[:0], r.text, b.delimiter)
	fields := w.fields
	if n := len(b.columns); len(fields) > n && n > 0 {
		fields[n-1] = bytes.Join(fields[n-1:], []byte{b.delimiter})
		fields = fields[:n]
	}
	for i, c := range w.kept {
		if i > 0 || len(w.dst) > start {
			w.dst = append(w.dst, w.spec.Delimiter)
		}
		if c < len(fields) {
			w.dst = appendField(w.dst, fields[c], w.spec.Delimiter)
		}
	}
}

// prediction writes the columns of one.
func (w *csvRow) prediction(a *Answer, k, start int) error {
	row, err := w.rows.row(a, &w.spec.Predicted[k])
	if err != nil {
		return err
	}
	w.next(start)
	n := w.counts[k]
	if n < 0 {
		w.cell = job.AppendNestedJSON(w.cell[:0], &row)
		w.dst = appendField(w.dst, w.cell, w.spec.Delimiter)
		return nil
	}
	if job.Elements(row.Shape) != n || row.Datatype.Size() > 0 && len(row.Data) != n*row.Datatype.Size() {
		return fmt.Errorf("column %s: a row has the shape %v, and %d columns are for it", w.spec.Predicted[k].Column, row.Shape, n)
	}
	for i, rest := 0, row.Data; i < n; i++ {
		if i > 0 {
			w.dst = append(w.dst, w.spec.Delimiter)
		}
		w.dst, rest = appendElement(w.dst, row.Datatype, rest, w.spec.Delimiter)
	}
	return nil
}

// appendField appends a field, in quotes if it needs them.
func appendField(dst, field []byte, delimiter byte) []byte {
	plain := len(field) == 0 || field[0] != ' ' && field[0] != '\t' && string(field) != `\.`
	for _, c := range field {
		if c == delimiter || c == '"' || c == '\n' || c == '\r' {
			plain = false
			break
		}
	}
	if plain {
		return append(dst, field...)
	}
	dst = append(dst, '"')
	for _, c := range field {
		if c == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

// appendJSONField appends a cell that is JSON: null is empty, a string its text, anything else stands as it is.
func appendJSONField(dst, cell []byte, delimiter byte) []byte {
	switch {
	case string(cell) == "null":
		return dst
	case cell[0] == '"':
		text := cell[1 : len(cell)-1]
		if bytes.IndexByte(text, '\\') >= 0 {
			text = unescape(cell)
		}
		return appendField(dst, text, delimiter)
	}
	return appendField(dst, cell, delimiter)
}
