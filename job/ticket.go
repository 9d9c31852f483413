package job

import (
	"errors"
	"strconv"
	"strings"
)

// Lane is one of the two queues of a model.
type Lane uint8

// The lanes. Interactive work goes first; bulk work fills the slack.
const (
	Interactive Lane = iota
	Bulk
)

// Lanes lists every lane, in the order of precedence.
func Lanes() []Lane { return []Lane{Interactive, Bulk} }

// String returns the lane's name, which is also its stream's and the second token of its subjects.
func (l Lane) String() string {
	if l == Bulk {
		return "bulk"
	}
	return "interactive"
}

// ParseLane is the inverse of Lane.String.
func ParseLane(s string) (Lane, error) {
	for _, l := range Lanes() {
		if s == l.String() {
			return l, nil
		}
	}
	return 0, errors.New(`a lane is "interactive" or "bulk"`)
}

func (l Lane) letter() byte {
	if l == Bulk {
		return 'b'
	}
	return 'i'
}

// Ticket is what a client holds for a job: the ID and the place where the job waits. It makes looking up the state,
// the position and cancelling O(1) without an index. It is opaque to clients.
//
//	0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11.i4821-3
//	job ID                               lane, stream sequence - place in the message
//
// The ticket of a job with an Idempotency-Key ends in "-" and the fingerprint of its request, in hexadecimal.
type Ticket struct {
	ID    ID
	Lane  Lane
	Seq   uint64 // stream sequence of the message; 0 in a ticket that is only a job ID
	Index int    // place of the job in its message
	// Fingerprint is the job's, if it has one: an ID that derives from a key may come to stand for another request.
	Fingerprint uint64
}

// Bare reports whether the ticket is only a job ID. Only a finished job can be found by it.
func (t Ticket) Bare() bool { return t.Seq == 0 }

// String returns the text form of the ticket.
func (t Ticket) String() string { return string(t.Append(make([]byte, 0, 68))) }

// Append appends the text form of the ticket to b.
func (t Ticket) Append(b []byte) []byte {
	b = t.ID.append(b)
	if t.Bare() {
		return b
	}
	b = append(b, '.', t.Lane.letter())
	b = strconv.AppendUint(b, t.Seq, 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, int64(t.Index), 10)
	if t.Fingerprint != 0 {
		b = append(b, '-')
		b = strconv.AppendUint(b, t.Fingerprint, 16)
	}
	return b
}

// maxTicketIndex bounds what a ticket may claim as its place; no sheaf is that large.
const maxTicketIndex = 1 << 20

var errTicket = errors.New(`not a job id: expected what submit returned as "id", or a UUID`)

// ParseTicket reads a ticket, or a bare job ID. It accepts exactly what Ticket.String writes, but for the case of the
// UUID's letters.
func ParseTicket(s string) (Ticket, error) {
	head, tail, placed := strings.Cut(s, ".")
	id, err := ParseID(head)
	if err != nil {
		return Ticket{}, errTicket
	}
	t := Ticket{ID: id}
	if !placed {
		return t, nil
	}
	switch {
	case strings.HasPrefix(tail, "i"):
		t.Lane = Interactive
	case strings.HasPrefix(tail, "b"):
		t.Lane = Bulk
	default:
		return Ticket{}, errTicket
	}
	seq, index, ok := strings.Cut(tail[1:], "-")
	index, mark, marked := strings.Cut(index, "-")
	if !ok || !canonicalNumber(seq) || !canonicalNumber(index) {
		return Ticket{}, errTicket
	}
	t.Seq, err = strconv.ParseUint(seq, 10, 64)
	if err != nil || t.Seq == 0 {
		return Ticket{}, errTicket
	}
	t.Index, err = strconv.Atoi(index)
	if err != nil || t.Index >= maxTicketIndex {
		return Ticket{}, errTicket
	}
	if marked {
		t.Fingerprint, err = strconv.ParseUint(mark, 16, 64)
		if err != nil || t.Fingerprint == 0 || strconv.FormatUint(t.Fingerprint, 16) != mark {
			return Ticket{}, errTicket
		}
	}
	return t, nil
}

func canonicalNumber(s string) bool {
	if s == "" || len(s) > 1 && s[0] == '0' {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
