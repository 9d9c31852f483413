package table

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"github.com/sheafml/sheaf/job"
)

// jsonlSink writes JSON lines.
type jsonlSink struct {
	*output
	spec Spec
	keys [][]byte // of the predictions, `"name":`
	id   []byte   // of the ID column
	own  []string // members that are written here, and dropped from the row as it was
}

func newJSONLSink(f File, spec Spec, mark *Mark) (Sink, error) {
	s := &jsonlSink{spec: spec}
	for _, p := range spec.Predicted {
		s.keys = append(s.keys, key(p.Column))
		s.own = append(s.own, p.Column)
	}
	if spec.Errors {
		s.own = []string{ColumnLine, ColumnError}
	}
	if err := checkSpec(&spec); err != nil {
		return nil, err
	}
	if spec.ID >= 0 && spec.ID < len(spec.Columns) {
		s.id = key(spec.Columns[spec.ID].Name)
	}
	var err error
	s.output, err = newOutput(f, spec.Compression, mark, nil)
	return s, err
}

// checkSpec refuses results in which two columns would have one name.
func checkSpec(spec *Spec) error {
	if spec.Errors {
		return nil
	}
	var names []string
	if !spec.Join {
		names = []string{ColumnRow}
		if spec.ID >= 0 && spec.ID < len(spec.Columns) {
			names = append(names, spec.Columns[spec.ID].Name)
		}
	}
	for _, p := range spec.Predicted {
		names = append(names, p.Column)
	}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("two columns of the output would be named %s; rename the one of the input", clip(name))
		}
	}
	return nil
}

func key(name string) []byte { return append(appendString(nil, name), ':') }

// Encode implements Sink.
func (s *jsonlSink) Encode(b Block, answers []Answer) (Piece, error) {
	dst := make([]byte, 0, s.guess(b, len(answers)))
	var rows answerRows
	for i := range answers {
		a := &answers[i]
		switch {
		case s.spec.Errors:
			dst = s.appendOriginal(dst, b, a.Row)
			dst = append(comma(dst), `"`+ColumnLine+`":`...)
			dst = strconv.AppendInt(dst, b.Line(a.Row), 10)
			dst = append(dst, `,"`+ColumnError+`":`...)
			dst = append(appendString(dst, reason(a.Err)), "}\n"...)
			continue
		case s.spec.Join:
			dst = s.appendOriginal(dst, b, a.Row)
		default:
			dst = append(dst, `{"`+ColumnRow+`":`...)
			dst = strconv.AppendInt(dst, b.Place().Row+int64(a.Row)+1, 10)
			if s.id != nil {
				dst = append(append(dst, ','), s.id...)
				dst = b.AppendCell(dst, a.Row, s.spec.ID)
			}
		}
		for k := range s.spec.Predicted {
			row, err := rows.row(a, &s.spec.Predicted[k])
			if err != nil {
				return nil, err
			}
			dst = append(comma(dst), s.keys[k]...)
			dst = job.AppendNestedJSON(dst, &row)
		}
		dst = append(dst, "}\n"...)
	}
	return textPiece{dst, len(answers)}, nil
}

// guess is about how many bytes a piece has.
func (s *jsonlSink) guess(b Block, rows int) int {
	size := 32
	for i := range s.spec.Predicted {
		p := &s.spec.Predicted[i]
		size += len(p.Column) + 4 + 14*max(1, elements(p.Shape))
	}
	if j, ok := b.(*jsonlBlock); ok && (s.spec.Join || s.spec.Errors) && len(j.records) > 0 {
		size += len(j.records[0].text)
	}
	return rows * min(size, 1<<16)
}

// reason is what a file of errors says.
func reason(err *job.Error) string {
	if err == nil {
		return "unknown"
	}
	return err.Error()
}

// comma appends one unless the object has no member yet.
func comma(dst []byte) []byte {
	if dst[len(dst)-1] == '{' {
		return dst
	}
	return append(dst, ',')
}

// appendOriginal appends a row as it was, as an object that is still open, without the members that are written here.
func (s *jsonlSink) appendOriginal(dst []byte, b Block, row int) []byte {
	switch b := b.(type) {
	case *jsonlBlock:
		return s.appendLine(dst, &b.records[row])
	case *csvBlock:
		return s.appendFields(dst, b, &b.records[row])
	}
	dst = append(dst, '{')
	for c := range s.spec.Columns {
		if name := s.spec.Columns[c].Name; !slices.Contains(s.own, name) {
			dst = append(appendString(comma(dst), name), ':')
			dst = b.AppendCell(dst, row, c)
		}
	}
	return dst
}

// appendFields appends a record of a CSV.
func (s *jsonlSink) appendFields(dst []byte, b *csvBlock, r *record) []byte {
	fields := appendFields(make([][]byte, 0, len(b.columns)+1), r.text, b.delimiter)
	if r.fault != "" || len(fields) != len(b.columns) {
		return appendRaw(dst, r.text)
	}
	dst = append(dst, '{')
	for c := range b.columns {
		if name := b.columns[c].Name; !slices.Contains(s.own, name) {
			dst = append(appendString(comma(dst), name), ':')
			dst = appendCellJSON(dst, b.columns[c].Kind, fields[c])
		}
	}
	return dst
}

// appendRaw appends a row that cannot be written otherwise.
func appendRaw(dst, text []byte) []byte {
	return appendString(append(dst, `{"`+ColumnRaw+`":`...), text)
}

// appendLine appends a line as it was.
func (s *jsonlSink) appendLine(dst []byte, r *record) []byte {
	line := lineScan{src: r.text}
	if r.fault != "" || invalidUTF8(r.text) >= 0 {
		return appendRaw(dst, r.text)
	}
	if line.peek() == '[' {
		start := line.pos
		if !line.skip(0) || !line.end() {
			return appendRaw(dst, r.text)
		}
		return append(append(dst, `{"`+bareColumn+`":`...), bytes.TrimSpace(r.text[start:])...)
	}
	start, doubled, empty := line.pos, false, true
	ok := line.members(func(name, _ []byte) bool {
		empty = false
		doubled = doubled || s.owns(name)
		return true
	})
	end := line.pos
	switch {
	case !ok || !line.end():
		return appendRaw(dst, r.text)
	case empty:
		return append(dst, '{')
	case !doubled:
		return append(dst, bytes.TrimRight(r.text[start:end-1], " \t\r")...)
	}
	dst = append(dst, '{')
	line.pos = start
	line.members(func(name, value []byte) bool {
		if !s.owns(name) {
			dst = append(appendString(comma(dst), name), ':')
			dst = append(dst, value...)
		}
		return true
	})
	return dst
}

func (s *jsonlSink) owns(name []byte) bool {
	return slices.Contains(s.own, string(name))
}
