package table

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

// bareColumn is the column of a row that is a bare array.
const bareColumn = "input"

// jsonlSource reads JSON lines.
type jsonlSource struct {
	*rows
	columns []Column
}

func openJSONL(in Input, c Compression, o Options) (Source, error) {
	rows, err := openRows(in, c, o, (*feed).nextLine)
	if err != nil {
		return nil, err
	}
	s := &jsonlSource{rows: rows}
	rows.begin()
	if s.columns, err = jsonlColumns(rows.sample); err == nil {
		err = rows.goOn(o.At, c)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Columns implements Source.
func (s *jsonlSource) Columns() []Column { return s.columns }

// Read implements Source.
func (s *jsonlSource) Read(n int) (Block, error) {
	c, err := s.cut(n)
	if err != nil {
		return nil, err
	}
	return &jsonlBlock{cut: c, columns: s.columns}, nil
}

// jsonlColumns tells the columns by the first lines.
func jsonlColumns(sample []record) ([]Column, error) {
	var g guesses
	objects, lines := 0, 0
	for i := range sample {
		if sample[i].fault != "" {
			continue
		}
		lines++
		s := lineScan{src: sample[i].text}
		if s.peek() == '[' {
			start := s.pos
			if s.skip(0) && s.end() {
				objects++
				g.column(bareColumn).json(s.src[start:s.pos])
			}
			continue
		}
		if check := s; !check.skip(0) || !check.end() {
			continue
		}
		if s.members(func(name, value []byte) bool { g.column(string(name)).json(value); return true }) {
			objects++
		}
	}
	if lines > 0 && objects == 0 {
		return nil, fmt.Errorf("none of the first %d lines is a JSON object or a JSON array: is this file JSON lines?", lines)
	}
	return g.columns(), nil
}

// jsonlBlock is lines.
type jsonlBlock struct {
	cut
	columns []Column
}

// AppendCell implements Block.
func (b *jsonlBlock) AppendCell(dst []byte, row, column int) []byte {
	want := b.columns[column].Name
	s := lineScan{src: b.records[row].text}
	if b.records[row].fault != "" {
		return append(dst, "null"...)
	}
	if s.peek() == '[' {
		if start := s.pos; want == bareColumn && s.skip(0) && s.end() {
			return appendValue(dst, s.src[start:s.pos])
		}
		return append(dst, "null"...)
	}
	var found []byte
	s.members(func(name, value []byte) bool {
		if string(name) == want {
			found = value
		}
		return found == nil
	})
	if found == nil {
		return append(dst, "null"...)
	}
	return appendValue(dst, found)
}

// Decode implements Block.
func (b *jsonlBlock) Decode(p *Plan) Decoded {
	a := newAssembler(p, len(b.records))
	d := newJSONLDecoder(p, a, b.columns)
	for row := range b.records {
		a.begin(row)
		err := unmapped(p)
		if err == nil {
			err = d.decode(&b.records[row])
		}
		if err != nil {
			a.fail(err)
		} else {
			a.end()
		}
	}
	return a.decoded()
}

// appendValue appends JSON that stands in a line.
func appendValue(dst, value []byte) []byte {
	if !utf8.Valid(value) {
		value = bytes.ToValidUTF8(value, []byte("\uFFFD"))
	}
	return append(dst, value...)
}
