package httpapi

import (
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"
)

// object writes the members of one JSON object in the order of the calls. It is there for answers that carry tensors,
// which are appended as they are; encoding/json would parse them once more.
type object struct {
	b    []byte // begins after the opening brace
	more bool
}

// key begins a member; its value is appended to o.b.
func (o *object) key(name string) {
	if o.more {
		o.b = append(o.b, ',')
	}
	o.more = true
	o.b = append(o.b, '"')
	o.b = append(o.b, name...)
	o.b = append(o.b, '"', ':')
}

func (o *object) string(name, value string) {
	o.key(name)
	o.b = appendString(o.b, value)
}

// text writes a string member, and nothing for "".
func (o *object) text(name, value string) {
	if value != "" {
		o.string(name, value)
	}
}

func (o *object) int(name string, value int) {
	o.key(name)
	o.b = strconv.AppendInt(o.b, int64(value), 10)
}

// time writes an instant in RFC 3339 with milliseconds, and nothing for the zero one.
func (o *object) time(name string, t time.Time) {
	if t.IsZero() {
		return
	}
	o.key(name)
	o.b = append(o.b, '"')
	o.b = t.UTC().AppendFormat(o.b, "2006-01-02T15:04:05.000Z07:00")
	o.b = append(o.b, '"')
}

// millis writes a duration in milliseconds with microsecond precision.
func (o *object) millis(name string, d time.Duration) {
	o.key(name)
	o.b = strconv.AppendFloat(o.b, float64(d.Microseconds())/1000, 'f', -1, 64)
}

func (o *object) end() []byte { return append(o.b, '}') }

// appendString appends s as a JSON string. What is not UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			quoted, err := json.Marshal(s)
			if err != nil { // cannot be: a string has a JSON form
				return append(b, '"', '"')
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
