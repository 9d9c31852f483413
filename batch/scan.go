package batch

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// line is a line of the input that is not blank.
type line struct {
	number int64  // from 1, blank ones counted
	text   []byte // without its end; nil: it is too long
}

// piece is the lines of one part of the input.
type piece struct {
	index int64
	lines []line
	bytes int
}

// scanner cuts an input into parts: at the same places each time.
type scanner struct {
	cut   cut
	r     *bufio.Reader
	lines int64 // physical ones that were read
	count int64 // those that are not blank
	parts int64
}

func newScanner(r io.Reader, c cut) *scanner {
	return &scanner{cut: c, r: bufio.NewReaderSize(r, 256<<10)}
}

// next returns the next part; io.EOF at the end.
func (s *scanner) next() (*piece, error) {
	p := &piece{index: s.parts}
	for len(p.lines) < s.cut.Lines && p.bytes < s.cut.Bytes {
		l, err := s.line()
		if errors.Is(err, io.EOF) {
			if len(p.lines) == 0 {
				return nil, io.EOF
			}
			break
		}
		if err != nil {
			return nil, err
		}
		p.lines = append(p.lines, l)
		p.bytes += len(l.text)
	}
	s.parts++
	return p, nil
}

// bom is what some editors put before UTF-8.
var bom = []byte("\xef\xbb\xbf")

// line returns the next line that is not blank; io.EOF if there is none.
func (s *scanner) line() (line, error) {
	for {
		text, long, err := s.read()
		if err != nil && (!errors.Is(err, io.EOF) || len(text) == 0 && !long) {
			return line{}, err
		}
		s.lines++
		if s.lines == 1 {
			text = bytes.TrimPrefix(text, bom)
		}
		text = bytes.TrimSpace(text)
		if long {
			text = nil
		} else if len(text) == 0 {
			continue
		}
		s.count++
		return line{number: s.lines, text: text}, nil
	}
}

// read returns the text up to the end of a line, or of the input. Of a line that is too long no more is kept than is
// needed to know it.
func (s *scanner) read() (text []byte, long bool, err error) {
	for {
		part, err := s.r.ReadSlice('\n')
		if !long {
			text = append(text, part...)
		}
		if len(bytes.TrimRight(text, "\r\n")) > s.cut.MostLine {
			text, long = nil, true
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return text, long, err
		}
	}
}
