package table

import (
	"unicode/utf8"

	"github.com/sheafml/sheaf/job"
)

// maxDepth bounds the nesting of a row.
const maxDepth = 64

// lineScan reads a line of JSON from left to right, and verifies all of it. Where the text goes wrong, pos stays.
type lineScan struct {
	src []byte
	pos int
}

// fault is the error of a line that is not JSON, or not of the kind.
func (s *lineScan) fault() *job.Error {
	if s.pos >= len(s.src) {
		return job.Errorf(job.CodeMalformed, "", "not JSON: the line ends at byte %d, within its data", s.pos)
	}
	r, _ := utf8.DecodeRune(s.src[s.pos:])
	return job.Errorf(job.CodeMalformed, "", "not JSON: byte %d is %q", s.pos, r)
}

func (s *lineScan) peek() byte {
	s.pos = skipSpace(s.src, s.pos)
	if s.pos < len(s.src) {
		return s.src[s.pos]
	}
	return 0
}

// end reports whether nothing follows.
func (s *lineScan) end() bool {
	s.peek()
	return s.pos == len(s.src)
}

// open consumes the start of an object or a list; done says that it ends right there.
func (s *lineScan) open(closer byte) (done bool) {
	s.pos++
	if s.peek() == closer {
		s.pos++
		return true
	}
	return false
}

// after consumes what stands after an item: a comma, or the end of the object or list.
func (s *lineScan) after(closer byte) (done, ok bool) {
	switch s.peek() {
	case ',':
		s.pos++
		return false, true
	case closer:
		s.pos++
		return true, true
	}
	return false, false
}

// name consumes a member's name and its colon. The name is without escapes, and aliases the line where it had none.
func (s *lineScan) name() (name []byte, ok bool) {
	if s.peek() != '"' {
		return nil, false
	}
	start := s.pos
	plain, ok := s.skipString()
	if !ok {
		return nil, false
	}
	name = s.src[start+1 : s.pos-1]
	if !plain {
		name = unescape(s.src[start:s.pos])
	}
	if s.peek() != ':' {
		return nil, false
	}
	s.pos++
	s.peek()
	return name, true
}

// unescape returns what a JSON string that has been verified stands for.
func unescape(token []byte) []byte {
	lim := job.DefaultLimits()
	lim.MaxBytes = len(token)
	_, data, err := job.ScanArray("", token, job.Bytes, lim)
	if err != nil || len(data) < 4 { // half of a surrogate pair
		return token
	}
	return data[4:]
}

// skip consumes one value.
func (s *lineScan) skip(depth int) bool {
	if depth > maxDepth {
		return false
	}
	switch c := s.peek(); c {
	case '{':
		if s.open('}') {
			return true
		}
		for {
			if _, ok := s.name(); !ok || !s.skip(depth+1) {
				return false
			}
			if done, ok := s.after('}'); done || !ok {
				return ok
			}
		}
	case '[':
		if s.open(']') {
			return true
		}
		s.pos = skipNumbers(s.src, s.pos)
		for {
			if !s.skip(depth + 1) {
				return false
			}
			if done, ok := s.after(']'); done || !ok {
				return ok
			}
		}
	case '"':
		_, ok := s.skipString()
		return ok
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		_, end := scanDecimal(s.src, s.pos)
		if end < 0 {
			return false
		}
		s.pos = end
		return true
	}
}

// skipNumbers consumes numbers of a list as they usually are, each with the comma after it. It leaves at least one item.
func skipNumbers(src []byte, pos int) int {
	for i := pos; ; pos = i {
		if i < len(src) && src[i] == '-' {
			i++
		}
		first := i
		for i < len(src) && src[i]-'0' <= 9 {
			i++
		}
		if i == first || i-first > 1 && src[first] == '0' {
			return pos
		}
		if i < len(src) && src[i] == '.' {
			i++
			first = i
			for i < len(src) && src[i]-'0' <= 9 {
				i++
			}
			if i == first {
				return pos
			}
		}
		if i >= len(src) || src[i] != ',' {
			return pos
		}
		i++
		if i < len(src) && src[i] == ' ' {
			i++
		}
	}
}

func (s *lineScan) word(w string) bool {
	if len(s.src)-s.pos < len(w) || string(s.src[s.pos:s.pos+len(w)]) != w {
		return false
	}
	s.pos += len(w)
	return true
}

// skipString consumes a string; plain says that it has no escapes.
func (s *lineScan) skipString() (plain, ok bool) {
	plain = true
	for i := s.pos + 1; i < len(s.src); i++ {
		switch c := s.src[i]; {
		case c == '"':
			s.pos = i + 1
			return plain, true
		case c < 0x20:
			s.pos = i
			return false, false
		case c == '\\':
			plain = false
			n := escapeLength(s.src[i:])
			if n == 0 {
				s.pos = i
				return false, false
			}
			i += n - 1
		}
	}
	s.pos = len(s.src)
	return false, false
}

// escapeLength is how long the escape is that a text begins with, 0 if it is none.
func escapeLength(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) < 6 {
			return 0
		}
		for _, c := range b[2:6] {
			if c-'0' > 9 && (c|0x20)-'a' > 5 {
				return 0
			}
		}
		return 6
	}
	return 0
}

// members calls member for each member of an object with the text of its value, and returns false where the text goes
// wrong or member does not want to go on. s stands at the object.
func (s *lineScan) members(member func(name, value []byte) bool) bool {
	if s.peek() != '{' {
		return false
	}
	if s.open('}') {
		return true
	}
	for {
		name, ok := s.name()
		if !ok {
			return false
		}
		start := s.pos
		if !s.skip(1) || !member(name, s.src[start:s.pos:s.pos]) {
			return false
		}
		if done, ok := s.after('}'); done || !ok {
			return ok
		}
	}
}
