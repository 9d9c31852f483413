package table

import (
	"bytes"
	"fmt"
	"io"
)

// nextCSV returns the next record of a CSV that is not blank; io.EOF at the end. Most records are a line without quotes.
func (f *feed) nextCSV(delimiter byte) (record, error) {
	for {
		if f.pos == len(f.buf) && !f.more() {
			return record{}, f.fault()
		}
		end := f.lineEnd()
		if end < 0 {
			if len(f.buf)-f.pos > f.max {
				return f.overlong()
			}
			return record{}, f.fault()
		}
		if bytes.IndexByte(f.buf[f.pos:end], '"') >= 0 {
			return f.quoted(delimiter, end-f.pos)
		}
		if r := f.take(end, 1); len(r.text) > 0 {
			return r, nil
		}
	}
}

// quoted returns a record that has quotes, and so may go on over lines. Where a quote is opened and never closed, or the
// record becomes too long, only the first line is taken for a bad record, so that those after it are read.
func (f *feed) quoted(delimiter byte, firstLine int) (record, error) {
	q := quotes{feed: f, delimiter: delimiter}
	fault := q.record()
	if f.end != nil && f.end != io.EOF && q.starved { //nolint:errorlint // a Reader returns io.EOF itself
		return record{}, f.fault()
	}
	end := f.pos + q.at
	if q.long && fault == "" {
		fault = fmt.Sprintf("the row is longer than %d bytes", f.max)
	}
	if q.long || q.unclosed {
		end = f.pos + firstLine
	}
	r := f.take(end, int64(bytes.Count(f.buf[f.pos:end], []byte{'\n'}))+1)
	r.fault = fault
	return r, nil
}

// quotes finds the end of a record. Its places are relative to the feed's, because reading moves the buffer.
type quotes struct {
	*feed
	delimiter byte
	at        int
	starved   bool // the file ended
	long      bool // the limit was reached
	unclosed  bool
}

// has reports whether there is a byte at a place.
func (q *quotes) has(at int) bool {
	if at > q.max {
		q.long = true
		return false
	}
	for q.pos+at >= len(q.buf) {
		if !q.more() {
			q.starved = true
			return false
		}
	}
	return true
}

func (q *quotes) byte(at int) byte { return q.buf[q.pos+at] }

// record finds the end of the record, and says what is wrong with it.
func (q *quotes) record() (fault string) {
	for q.has(q.at) {
		if q.byte(q.at) == '"' {
			if fault := q.skipQuoted(); fault != "" {
				return fault
			}
		}
		last, bare := q.skipPlain()
		if bare {
			q.toLineEnd()
			return "a quote stands within a field that does not begin with one"
		}
		if last {
			return ""
		}
	}
	return ""
}

// skipQuoted goes to what follows a quoted field.
func (q *quotes) skipQuoted() (fault string) {
	at := q.at + 1
	for {
		for {
			if !q.has(at) {
				q.unclosed = true
				return fmt.Sprintf("a quote is opened and not closed, in all that follows or in %d bytes", q.max)
			}
			end := min(len(q.buf), q.pos+q.max+1)
			i := bytes.IndexByte(q.buf[q.pos+at:end], '"')
			if i >= 0 {
				at += i + 1
				break
			}
			at = end - q.pos
		}
		if !q.has(at) {
			q.at = at
			return ""
		}
		if q.byte(at) != '"' {
			break
		}
		at++
	}
	q.at = at
	switch c := q.byte(at); {
	case c == q.delimiter, c == '\n':
		return ""
	case c == '\r' && (!q.has(at+1) || q.byte(at+1) == '\n'):
		return ""
	}
	q.toLineEnd()
	return "something follows the closing quote of a field"
}

// skipPlain goes behind the next delimiter, or to the end of the record.
func (q *quotes) skipPlain() (last, bare bool) {
	for q.has(q.at) {
		switch q.byte(q.at) {
		case q.delimiter:
			q.at++
			return false, false
		case '\n':
			return true, false
		case '"':
			return false, true
		}
		q.at++
	}
	return true, false
}

func (q *quotes) toLineEnd() {
	for q.has(q.at) && q.byte(q.at) != '\n' {
		q.at++
	}
}

// appendFields splits a record. It takes what is wrong with quotes as it stands.
func appendFields(fields [][]byte, text []byte, delimiter byte) [][]byte {
	if bytes.IndexByte(text, '"') >= 0 {
		return appendQuoted(fields, text, delimiter)
	}
	start := 0
	for i, c := range text {
		if c == delimiter {
			fields = append(fields, text[start:i:i])
			start = i + 1
		}
	}
	return append(fields, text[start:])
}

// nthField returns one field of a record, nil if it has fewer.
func nthField(text []byte, delimiter byte, n int) []byte {
	if bytes.IndexByte(text, '"') >= 0 {
		if fields := appendQuoted(nil, text, delimiter); n < len(fields) {
			return fields[n]
		}
		return nil
	}
	for ; n > 0; n-- {
		i := bytes.IndexByte(text, delimiter)
		if i < 0 {
			return nil
		}
		text = text[i+1:]
	}
	if i := bytes.IndexByte(text, delimiter); i >= 0 {
		text = text[:i]
	}
	return text
}

func appendQuoted(fields [][]byte, text []byte, delimiter byte) [][]byte {
	for {
		var field []byte
		if len(text) > 0 && text[0] == '"' {
			field, text = cutQuoted(text[1:])
		}
		end := bytes.IndexByte(text, delimiter)
		rest := text
		if end >= 0 {
			rest = text[:end:end]
		}
		if field == nil {
			field = rest
		} else if len(rest) > 0 { // what should not be there
			field = append(bytes.Clone(field), rest...)
		}
		fields = append(fields, field)
		if end < 0 {
			return fields
		}
		text = text[end+1:]
	}
}

// cutQuoted returns what stands before the closing quote, and what follows that.
func cutQuoted(text []byte) (field, rest []byte) {
	escaped := false
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\r':
			escaped = escaped || i+1 < len(text) && text[i+1] == '\n'
		case '"':
			if i+1 < len(text) && text[i+1] == '"' {
				escaped = true
				i++
				continue
			}
			return unquote(text[:i:i], escaped), text[i+1:]
		}
	}
	return unquote(text, escaped), nil
}

func unquote(field []byte, escaped bool) []byte {
	if escaped {
		field = bytes.ReplaceAll(field, []byte(`""`), []byte{'"'})
		field = bytes.ReplaceAll(field, []byte("\r\n"), []byte{'\n'})
	}
	if field == nil {
		field = []byte{}
	}
	return field
}
