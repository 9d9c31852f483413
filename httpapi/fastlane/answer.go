package fastlane

import (
	"net/http"
	"strconv"
	"time"
)

// Answer is what a Handler writes: Begin, then Set for each header, then End.
type Answer struct {
	lane    *Lane
	b       []byte
	ended   bool
	closing bool      // no other request is taken from the connection
	now     time.Time // when it was ended
}

// Begin begins an answer with a status, and throws away one that was begun before.
func (a *Answer) Begin(status int) {
	a.ended = false
	a.b = append(a.b[:0], "HTTP/1.1 "...)
	a.b = strconv.AppendInt(a.b, int64(status), 10)
	a.b = append(a.b, ' ')
	a.b = append(a.b, http.StatusText(status)...)
	a.b = append(a.b, "\r\n"...)
	a.b = append(a.b, a.lane.header...)
}

// Set adds a header. What no header may hold becomes a space.
func (a *Answer) Set(name, value string) {
	a.b = append(a.b, name...)
	a.b = append(a.b, ": "...)
	from := len(a.b)
	a.b = append(a.b, value...)
	for i := from; i < len(a.b); i++ {
		if a.b[i] == '\r' || a.b[i] == '\n' {
			a.b[i] = ' '
		}
	}
	a.b = append(a.b, "\r\n"...)
}

// End ends the answer with its body.
func (a *Answer) End(now time.Time, body []byte) {
	if a.lane.closing.Load() {
		a.closing = true
		a.b = append(a.b, "Connection: close\r\n"...)
	}
	a.b = append(a.b, "Date: "...)
	a.b = append(a.b, a.lane.date(now)...)
	a.b = append(a.b, "\r\nContent-Length: "...)
	a.b = strconv.AppendInt(a.b, int64(len(body)), 10)
	a.b = append(a.b, "\r\n\r\n"...)
	a.b = append(a.b, body...)
	a.ended, a.now = true, now
}

// dated is a second, and how a header says it.
type dated struct {
	second int64
	text   []byte
}

func (l *Lane) date(now time.Time) []byte {
	second := now.Unix()
	if d := l.dated.Load(); d != nil && d.second == second {
		return d.text
	}
	d := &dated{second, now.UTC().AppendFormat(nil, http.TimeFormat)}
	l.dated.Store(d)
	return d.text
}
