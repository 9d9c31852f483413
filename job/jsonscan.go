package job

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of JSON that is only skipped.
const maxDepth = 64

// scanner reads JSON text from left to right. It is strict (RFC 8259) and expects that the text is valid UTF-8, which
// is checked once for the whole body. Its errors say the byte where the text goes wrong; their Field is empty or a
// suffix of the path, which callers put their own path before.
type scanner struct {
	src []byte
	pos int
}

// newScanner returns a scanner, or the error of a text that is not UTF-8.
func newScanner(src []byte) (*scanner, *Error) {
	if utf8.Valid(src) {
		return &scanner{src: src}, nil
	}
	pos := 0
	for pos < len(src) {
		r, size := utf8.DecodeRune(src[pos:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		pos += size
	}
	return nil, Errorf(CodeMalformed, "", "byte %d: not valid UTF-8", pos)
}

// peek skips white space and returns the next byte, 0 at the end. A NUL in the text is no value's start either.
func (s *scanner) peek() byte {
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; c {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// malformed is the error of a text that is not JSON.
func (s *scanner) malformed(expected string) *Error {
	if s.pos >= len(s.src) {
		return Errorf(CodeMalformed, "", "byte %d: the text ends here, expected %s", s.pos, expected)
	}
	r, _ := utf8.DecodeRune(s.src[s.pos:])
	return Errorf(CodeMalformed, "", "byte %d: expected %s, found %q", s.pos, expected, r)
}

// mismatch is the error of JSON that is of another kind than expected, or of a text that is not JSON.
func (s *scanner) mismatch(expected string) *Error {
	var found string
	switch c := s.peek(); {
	case c == '{':
		found = "an object"
	case c == '[':
		found = "an array"
	case c == '"':
		found = "a string"
	case c == '-' || c >= '0' && c <= '9':
		found = "a number"
	case s.word("true"):
		found = "true"
	case s.word("false"):
		found = "false"
	case s.word("null"):
		found = "null"
	default:
		return s.malformed(expected)
	}
	return Invalidf("", "expected %s, found %s", expected, found)
}

// word consumes a literal, if it is next.
func (s *scanner) word(w string) bool {
	s.peek()
	if len(s.src)-s.pos < len(w) || string(s.src[s.pos:s.pos+len(w)]) != w {
		return false
	}
	s.pos += len(w)
	return true
}

// end reports trailing text.
func (s *scanner) end() *Error {
	if s.peek() == 0 && s.pos == len(s.src) {
		return nil
	}
	return s.malformed("the end of the text")
}

// object calls member for each member of an object. member must consume the value, and not keep the name.
func (s *scanner) object(member func(name []byte) *Error) *Error {
	if s.peek() != '{' {
		return s.mismatch("an object")
	}
	s.pos++
	if s.peek() == '}' {
		s.pos++
		return nil
	}
	for {
		if s.peek() != '"' {
			return s.malformed("a member's name in double quotes")
		}
		name, err := s.stringBytes()
		if err != nil {
			return err
		}
		if s.peek() != ':' {
			return s.malformed("':'")
		}
		s.pos++
		if err := member(name); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.pos++
		case '}':
			s.pos++
			return nil
		default:
			return s.malformed("',' or '}'")
		}
	}
}

// array calls item for each element of an array. item must consume the value. Errors get the element's place.
func (s *scanner) array(item func(i int) *Error) *Error {
	if s.peek() != '[' {
		return s.mismatch("an array")
	}
	s.pos++
	if s.peek() == ']' {
		s.pos++
		return nil
	}
	for i := 0; ; i++ {
		if err := item(i); err != nil {
			return under(at("", i), err)
		}
		switch s.peek() {
		case ',':
			s.pos++
		case ']':
			s.pos++
			return nil
		default:
			return s.malformed("',' or ']'")
		}
	}
}

// skip consumes one value of any kind and verifies that it is JSON.
func (s *scanner) skip(depth int) *Error {
	if depth > maxDepth {
		return Errorf(CodeMalformed, "", "byte %d: nested more than %d deep", s.pos, maxDepth)
	}
	switch c := s.peek(); {
	case c == '{':
		return s.object(func([]byte) *Error { return s.skip(depth + 1) })
	case c == '[':
		return s.skipArray(depth)
	case c == '"':
		return s.skipString()
	case c == '-' || c >= '0' && c <= '9':
		_, err := s.number()
		return err
	case s.word("true"), s.word("false"), s.word("null"):
		return nil
	default:
		return s.malformed("a value")
	}
}

func (s *scanner) skipArray(depth int) *Error {
	s.pos++
	if s.peek() == ']' {
		s.pos++
		return nil
	}
	for {
		if err := s.skip(depth + 1); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.pos++
		case ']':
			s.pos++
			return nil
		default:
			return s.malformed("',' or ']'")
		}
	}
}

// raw consumes one value of any kind and returns its text.
func (s *scanner) raw() ([]byte, *Error) {
	s.peek()
	start := s.pos
	if err := s.skip(0); err != nil {
		return nil, err
	}
	return s.src[start:s.pos:s.pos], nil
}

// text consumes a string.
func (s *scanner) text() (string, *Error) {
	if s.peek() != '"' {
		return "", s.mismatch("a string")
	}
	b, err := s.stringBytes()
	return string(b), err
}

// stringBytes consumes the string that starts here. What it returns aliases the text if there are no escapes.
func (s *scanner) stringBytes() ([]byte, *Error) {
	if b, ok := s.plainString(); ok {
		return b, nil
	}
	return s.appendString(nil)
}

// plainString consumes a string without escapes and returns its bytes; false, and nothing consumed, if it has any or
// is malformed.
func (s *scanner) plainString() ([]byte, bool) {
	for i := s.pos + 1; i < len(s.src); i++ {
		switch c := s.src[i]; {
		case c == '"':
			b := s.src[s.pos+1 : i]
			s.pos = i + 1
			return b, true
		case c == '\\' || c < 0x20:
			return nil, false
		}
	}
	return nil, false
}

// appendString consumes the string that starts here and appends what it stands for.
func (s *scanner) appendString(dst []byte) ([]byte, *Error) {
	if b, ok := s.plainString(); ok {
		return append(dst, b...), nil
	}
	s.pos++
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; {
		case c == '"':
			s.pos++
			return dst, nil
		case c < 0x20:
			return nil, s.malformed("an escape for a control character")
		case c == '\\':
			r, err := s.escape()
			if err != nil {
				return nil, err
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, c)
			s.pos++
		}
	}
	return nil, s.malformed("the end of a string")
}

// skipString is appendString for a string that nobody wants.
func (s *scanner) skipString() *Error {
	if _, ok := s.plainString(); ok {
		return nil
	}
	_, err := s.appendString(nil)
	return err
}

// escape consumes one escape, or the two of a surrogate pair.
func (s *scanner) escape() (rune, *Error) {
	s.pos++ // the backslash
	if s.pos >= len(s.src) {
		return 0, s.malformed("an escape")
	}
	if c := s.src[s.pos]; c != 'u' {
		i := strings.IndexByte(`"\/bfnrt`, c)
		if i < 0 {
			return 0, s.malformed(`one of " \ / b f n r t u`)
		}
		s.pos++
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	start := s.pos - 1
	r, err := s.hex4()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if s.pos+1 < len(s.src) && s.src[s.pos] == '\\' && s.src[s.pos+1] == 'u' {
		s.pos++
		low, err := s.hex4()
		if err != nil {
			return 0, err
		}
		if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
			return r, nil
		}
	}
	return 0, Errorf(CodeMalformed, "", "byte %d: half of a surrogate pair stands alone, the string is not valid Unicode", start)
}

// hex4 consumes the 'u' and the four digits of an escape.
func (s *scanner) hex4() (rune, *Error) {
	s.pos++
	var r rune
	for range 4 {
		var c byte
		if s.pos < len(s.src) {
			c = s.src[s.pos]
		}
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, s.malformed("four hexadecimal digits")
		}
		s.pos++
	}
	return r, nil
}
