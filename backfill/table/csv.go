package table

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/sheafml/sheaf/job"
)

// csvSource reads CSV.
type csvSource struct {
	*rows
	delimiter byte
	columns   []Column
}

func openCSV(in Input, c Compression, o Options) (Source, error) {
	rows, err := openRows(in, c, o, func(f *feed) (record, error) { return f.nextCSV(o.Delimiter) })
	if err != nil {
		return nil, err
	}
	s := &csvSource{rows: rows, delimiter: o.Delimiter}
	if err = s.begin(o.NoHeader); err == nil {
		err = rows.goOn(o.At, c)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// begin reads the header and looks at the first rows.
func (s *csvSource) begin(noHeader bool) error {
	var names []string
	if !noHeader {
		header, err := s.next(s.feed)
		if err == io.EOF { //nolint:errorlint // next returns io.EOF itself
			s.rows.begin()
			return nil // an empty file
		}
		if err != nil {
			return err
		}
		if names, err = s.header(&header); err != nil {
			return err
		}
	}
	s.rows.begin()
	var fields [][]byte
	if noHeader && len(s.sample) > 0 {
		fields = appendFields(nil, s.sample[0].text, s.delimiter)
		for i := range fields {
			names = append(names, "c"+strconv.Itoa(i))
		}
	}
	var g guesses
	for _, name := range names {
		g.column(name)
	}
	for i := range s.sample {
		fields = appendFields(fields[:0], s.sample[i].text, s.delimiter)
		if s.sample[i].fault != "" || len(fields) != len(names) {
			continue
		}
		for k, field := range fields {
			g.list[k].text(field)
		}
	}
	s.columns = g.columns()
	return nil
}

// header reads the names of the columns.
func (s *csvSource) header(r *record) ([]string, error) {
	if r.fault != "" {
		return nil, fmt.Errorf("line %d, the header: %s", r.line, r.fault)
	}
	fields := appendFields(nil, r.text, s.delimiter)
	names, numbers, seen := make([]string, len(fields)), 0, make(map[string]int, len(fields))
	for i, field := range fields {
		names[i] = string(field)
		if _, ok := appendTextFloat(nil, job.FP64, bytes.TrimSpace(field)); ok {
			numbers++
		}
		if k, ok := seen[names[i]]; ok {
			return nil, fmt.Errorf("line %d, the header: the columns %d and %d are both named %s; give each a name of its own", r.line, k+1, i+1, clip(names[i]))
		}
		seen[names[i]] = i
	}
	if numbers == len(fields) {
		return nil, fmt.Errorf("line %d, the header, has numbers instead of names: if the file has no header, say so (--no-header)", r.line)
	}
	return names, nil
}

// Columns implements Source.
func (s *csvSource) Columns() []Column { return s.columns }

// Read implements Source.
func (s *csvSource) Read(n int) (Block, error) {
	c, err := s.cut(n)
	if err != nil {
		return nil, err
	}
	return &csvBlock{cut: c, delimiter: s.delimiter, columns: s.columns}, nil
}

// csvBlock is records of a CSV.
type csvBlock struct {
	cut
	delimiter byte
	columns   []Column
}

// AppendCell implements Block.
func (b *csvBlock) AppendCell(dst []byte, row, column int) []byte {
	field := nthField(b.records[row].text, b.delimiter, column)
	if field == nil {
		return append(dst, "null"...)
	}
	return appendCellJSON(dst, b.columns[column].Kind, field)
}

// appendCellJSON appends a cell as what its column has.
func appendCellJSON(dst []byte, kind Kind, cell []byte) []byte {
	trimmed := bytes.TrimSpace(cell)
	switch kind {
	case Integer, Number, List, Object:
		if len(trimmed) == 0 {
			return append(dst, "null"...)
		}
		if trimmed[0] != '"' && isJSON(trimmed) {
			return append(dst, trimmed...)
		}
	case Bool:
		switch {
		case len(trimmed) == 0:
			return append(dst, "null"...)
		case bytes.EqualFold(trimmed, []byte("true")):
			return append(dst, "true"...)
		case bytes.EqualFold(trimmed, []byte("false")):
			return append(dst, "false"...)
		}
	case Unknown:
		if len(trimmed) == 0 {
			return append(dst, "null"...)
		}
	case Text:
	}
	return appendString(dst, cell)
}

// Decode implements Block.
func (b *csvBlock) Decode(p *Plan) Decoded {
	a := newAssembler(p, len(b.records))
	fields := make([][]byte, 0, len(b.columns))
	for row := range b.records {
		a.begin(row)
		r := &b.records[row]
		fields = appendFields(fields[:0], r.text, b.delimiter)
		err := unmapped(p)
		switch {
		case err != nil:
		case r.fault != "":
			err = job.Errorf(job.CodeMalformed, "", "%s", r.fault)
		case len(fields) != len(b.columns):
			err = job.Errorf(job.CodeMalformed, "", "expected %d fields as there are columns, got %d", len(b.columns), len(fields))
		default:
			err = b.decode(a, fields)
		}
		if err != nil {
			a.fail(err)
		} else {
			a.end()
		}
	}
	return a.decoded()
}

func (b *csvBlock) decode(a *assembler, fields [][]byte) *job.Error {
	for i := range a.plan.Inputs {
		in := &a.plan.Inputs[i]
		if in.List {
			c := in.Columns[0]
			value := bytes.TrimSpace(fields[c])
			if len(value) == 0 && in.Datatype != job.Bytes {
				return job.Invalidf(b.columns[c].Name, "expected a list, the cell is empty")
			}
			var err *job.Error
			if bytes.HasPrefix(value, []byte{'['}) {
				err = a.appendJSON(i, b.columns[c].Name, value)
			} else if err = a.appendText(i, b.columns[c].Name, fields[c]); err == nil {
				err = a.inputs[i].fit(in, b.columns[c].Name, nil)
			}
			if err != nil {
				return err
			}
			continue
		}
		for _, c := range in.Columns {
			if err := a.appendText(i, b.columns[c].Name, fields[c]); err != nil {
				return err
			}
		}
	}
	return nil
}
