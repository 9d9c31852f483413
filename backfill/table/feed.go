package table

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// record is the text of a row, without the end of its line.
type record struct {
	text  []byte
	line  int64  // its first, from 1
	start int64  // of its text in the file
	next  int64  // where what follows it begins
	after int64  // the line of that
	fault string // why it cannot be read, if so
}

const (
	// chunk is how much is read at once.
	chunk      = 512 << 10
	firstChunk = 64 << 10 // of a file that may be small
	// excess is how much of a row that is too long is kept.
	excess = 1 << 10
)

// feed cuts a text into records. What it has handed out is never overwritten.
type feed struct {
	r    io.Reader
	buf  []byte
	pos  int   // what is before it has been handed out
	base int64 // where buf begins in the file
	line int64 // of what stands at pos
	max  int   // bytes of a record
	end  error // why there is no more; io.EOF at the end of the file
}

func newFeed(r io.Reader, at Place, most int) *feed {
	return &feed{r: r, base: at.Offset, line: max(1, at.Line), max: most}
}

// offset is where the next record begins.
func (f *feed) offset() int64 { return f.base + int64(f.pos) }

// more reads more; false if there is none.
func (f *feed) more() bool {
	if f.end != nil {
		return false
	}
	if len(f.buf) == cap(f.buf) {
		rest := f.buf[f.pos:]
		size := chunk
		if f.buf == nil {
			size = firstChunk
		}
		grown := make([]byte, len(rest), max(size, 2*len(rest)))
		copy(grown, rest)
		f.buf, f.base, f.pos = grown, f.offset(), 0
	}
	for range 100 {
		n, err := f.r.Read(f.buf[len(f.buf):cap(f.buf)])
		f.buf = f.buf[:len(f.buf)+n]
		f.end = err
		if n > 0 || err != nil {
			return n > 0
		}
	}
	f.end = io.ErrNoProgress
	return false
}

// skipMark skips the byte order mark that a text in UTF-8 may begin with.
func (f *feed) skipMark() {
	mark := []byte("\xef\xbb\xbf")
	for len(f.buf) < len(mark) && f.more() {
	}
	if bytes.HasPrefix(f.buf, mark) {
		f.pos = len(mark)
	}
}

// skip goes on to an offset.
func (f *feed) skip(offset int64) error {
	for f.offset() < offset {
		if f.pos == len(f.buf) && !f.more() {
			if f.end != io.EOF { //nolint:errorlint // a Reader returns io.EOF itself
				return f.fault()
			}
			return fmt.Errorf("the input ends at byte %d, before the place to go on from, %d: it is another one than before", f.offset(), offset)
		}
		f.pos += int(min(int64(len(f.buf)-f.pos), offset-f.offset()))
	}
	return nil
}

// fault is why there is no more to read.
func (f *feed) fault() error {
	switch {
	case f.end == io.EOF: //nolint:errorlint // a Reader returns io.EOF itself
		return io.EOF
	case errors.Is(f.end, io.ErrUnexpectedEOF):
		return fmt.Errorf("line %d: the compressed file is cut short, it ends within its data: %w", f.line, f.end)
	}
	return fmt.Errorf("read line %d: %w", f.line, f.end)
}

// lineEnd returns where the line that begins at pos ends: the place of its '\n', or of the end of the file. It is -1 if
// the line is longer than the limit, or the file at fault.
func (f *feed) lineEnd() int {
	for from := 0; ; {
		if i := bytes.IndexByte(f.buf[f.pos+from:], '\n'); i >= 0 {
			if from+i > f.max {
				return -1
			}
			return f.pos + from + i
		}
		if from = len(f.buf) - f.pos; from > f.max {
			return -1
		}
		if !f.more() {
			if f.end != io.EOF { //nolint:errorlint // as above
				return -1
			}
			return len(f.buf)
		}
	}
}

// take hands out what stands before end, which is that of a line.
func (f *feed) take(end int, lines int64) record {
	text := f.buf[f.pos:end:end]
	r := record{text: trimReturn(text), line: f.line, start: f.offset()}
	f.pos = end
	if f.pos < len(f.buf) {
		f.pos++ // the '\n'
	}
	f.line += lines
	r.next, r.after = f.offset(), f.line
	return r
}

func trimReturn(text []byte) []byte {
	if n := len(text); n > 0 && text[n-1] == '\r' {
		return text[: n-1 : n-1]
	}
	return text
}

// overlong hands out the beginning of a line that is longer than the limit, and skips the rest.
func (f *feed) overlong() (record, error) {
	r := record{
		text: bytes.Clone(f.buf[f.pos:min(f.pos+min(excess, f.max), len(f.buf))]), line: f.line, start: f.offset(),
		fault: fmt.Sprintf("the row is longer than %d bytes", f.max),
	}
	for {
		if i := bytes.IndexByte(f.buf[f.pos:], '\n'); i >= 0 {
			f.pos += i + 1
			break
		}
		f.pos = len(f.buf)
		if !f.more() {
			if f.end != io.EOF { //nolint:errorlint // as above
				return record{}, f.fault()
			}
			break
		}
	}
	f.line++
	r.next, r.after = f.offset(), f.line
	return r, nil
}

// nextLine returns the next line that is not blank; io.EOF at the end.
func (f *feed) nextLine() (record, error) {
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
		if r := f.take(end, 1); skipSpace(r.text, 0) < len(r.text) {
			return r, nil
		}
	}
}
