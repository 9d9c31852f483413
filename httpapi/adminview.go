package httpapi

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// The types here are the JSON of the routes under /v1/admin. They are exported for who speaks them: `sheaf dead` and
// `sheaf queue` print the same, whether they ask NATS or this API.

// DeadSelection says which dead letters are meant; see queue.DeadFilter. A time is RFC 3339, or a duration before now.
type DeadSelection struct {
	Lane      string   `json:"lane,omitempty"`
	Model     string   `json:"model,omitempty"`
	Tenant    string   `json:"tenant,omitempty"`
	Reason    string   `json:"reason,omitempty"`
	Code      string   `json:"code,omitempty"`
	OlderThan string   `json:"older_than,omitempty"`
	NewerThan string   `json:"newer_than,omitempty"`
	Job       string   `json:"job,omitempty"`
	Seqs      []uint64 `json:"seqs,omitempty"`
	MaxSeq    uint64   `json:"max_seq,omitempty"`
}

// Filter reads the selection. The error names every fault.
func (s *DeadSelection) Filter(now time.Time) (queue.DeadFilter, error) {
	f := queue.DeadFilter{
		Lane: s.Lane, Model: s.Model, Tenant: s.Tenant, Reason: s.Reason, Code: job.Code(s.Code), Seqs: s.Seqs, MaxSeq: s.MaxSeq,
	}
	var faults []error
	for _, at := range []struct {
		name, text string
		into       *time.Time
	}{{"older_than", s.OlderThan, &f.OlderThan}, {"newer_than", s.NewerThan, &f.NewerThan}} {
		var err error
		if *at.into, err = parseAge(at.name, at.text, now); err != nil {
			faults = append(faults, err)
		}
	}
	if s.Job != "" {
		t, err := job.ParseTicket(s.Job)
		if err != nil {
			faults = append(faults, job.Invalidf("job", "expected the id of a job"))
		}
		f.Job = t.ID
	}
	if slices.Contains(s.Seqs, 0) {
		faults = append(faults, job.Invalidf("seqs", "expected the numbers of dead letters, such as 17"))
	}
	return f, errors.Join(append(faults, f.Validate())...)
}

// parseAge reads a time, or how long before now one is. "" is none.
func parseAge(field, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, job.Invalidf(field, "expected a time such as 2006-01-02T15:04:05Z, or how long ago, such as 1h")
}

// parseAhead reads a time to come, or how long from now one is. "" is none.
func parseAhead(field, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		var d time.Duration
		if d, err = time.ParseDuration(s); err == nil {
			t = now.Add(d)
		}
	}
	if err != nil || !t.After(now) {
		return time.Time{}, job.Invalidf(field, "expected a time to come such as 2006-01-02T15:04:05Z, or how long from now, such as 1h")
	}
	return t, nil
}

// DeadLetter is a dead letter.
type DeadLetter struct {
	Seq         uint64     `json:"seq"`
	Time        time.Time  `json:"time"`
	Lane        string     `json:"lane"`
	Model       string     `json:"model,omitempty"`
	Tenant      string     `json:"tenant,omitempty"`
	Subject     string     `json:"subject,omitempty"`
	Code        job.Code   `json:"code,omitempty"`
	Reason      string     `json:"reason"`
	Jobs        []job.ID   `json:"jobs"`
	Attempts    int        `json:"attempts,omitempty"`
	History     []string   `json:"history,omitempty"`
	OriginalSeq uint64     `json:"original_seq,omitempty"`
	Published   *time.Time `json:"published,omitempty"`
	Bytes       int        `json:"bytes"`
	Truncated   bool       `json:"truncated,omitempty"`

	// What GET /v1/admin/dead/{seq} has beside the above.
	Headers    map[string][]string `json:"headers,omitempty"`
	Contents   []DeadJob           `json:"contents,omitempty"`
	Unreadable string              `json:"unreadable,omitempty"` // why there are no contents, or not all
}

// DeadJob is a job of a dead letter.
type DeadJob struct {
	ID        job.ID      `json:"id"`
	Version   string      `json:"model_version,omitempty"`
	RequestID string      `json:"request_id,omitempty"`
	CreatedAt time.Time   `json:"created_at"`
	Deadline  *time.Time  `json:"deadline,omitempty"`
	Inputs    []DeadInput `json:"inputs,omitempty"`
	Error     string      `json:"error,omitempty"` // why it cannot be read
}

// DeadInput is an input of it.
type DeadInput struct {
	Name     string          `json:"name"`
	Datatype string          `json:"datatype"`
	Shape    []int64         `json:"shape"`
	Data     json.RawMessage `json:"data,omitempty"`
}

// NewDeadLetter makes the JSON form of a letter, without what only one that was asked for by itself has.
func NewDeadLetter(l *queue.DeadLetter) DeadLetter {
	v := DeadLetter{
		Seq: l.Seq, Time: l.Time.UTC(), Lane: l.Lane, Model: l.Model, Tenant: l.Tenant, Subject: l.Subject, Code: l.Code,
		Reason: l.Reason, Jobs: l.Jobs, Attempts: l.Attempts, History: l.History, OriginalSeq: l.OriginalSeq,
		Published: instant(l.Published), Bytes: l.Size, Truncated: l.Truncated,
	}
	if v.Jobs == nil {
		v.Jobs = []job.ID{}
	}
	return v
}

// NewWholeDeadLetter makes the JSON form of a letter that queue.DeadLetterAt has returned; data asks for the inputs' data.
func NewWholeDeadLetter(l *queue.DeadLetter, data bool) DeadLetter {
	v := NewDeadLetter(l)
	v.Headers = l.Header
	decoded, err := l.Decode()
	if err != nil {
		v.Unreadable = err.Error()
	}
	for i := range decoded {
		j := &decoded[i].Job
		d := DeadJob{ID: j.ID, Version: j.Version, RequestID: j.RequestID, CreatedAt: j.CreatedAt.UTC(), Deadline: instant(j.Deadline)}
		if decoded[i].Err != nil {
			d.Error = decoded[i].Err.Error()
		}
		for k := range j.Inputs {
			t := &j.Inputs[k]
			in := DeadInput{Name: t.Name, Datatype: t.Datatype.String(), Shape: t.Shape}
			if data {
				in.Data = tensorData(t)
			}
			d.Inputs = append(d.Inputs, in)
		}
		v.Contents = append(v.Contents, d)
	}
	return v
}

// tensorData is the flat array of a tensor.
func tensorData(t *job.Tensor) json.RawMessage {
	var whole struct {
		Data json.RawMessage `json:"data"`
	}
	if json.Unmarshal(job.AppendTensorJSON(nil, t), &whole) != nil {
		return nil // numbers that JSON has no form for
	}
	return whole.Data
}

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// DeadList is a page of dead letters. Count is how many match in all, on whatever page, up to MaxSeq.
type DeadList struct {
	Count   int          `json:"count"`
	MaxSeq  uint64       `json:"max_seq"`
	Letters []DeadLetter `json:"letters"`
	// Cursor is where the next page begins; absent if there is none.
	Cursor string `json:"cursor,omitempty"`
}

// What a DeadEvent may say.
const (
	DeadRequeued = "requeued"
	DeadPurged   = "purged"
	DeadSkipped  = "skipped" // it cannot be requeued, and is left as it was
	DeadGone     = "gone"    // somebody else was faster
	DeadFailed   = "failed"  // it may be tried again
)

// DeadEvent is a line of the answer to a requeue or a purge: what became of one letter. The last line has only Done.
type DeadEvent struct {
	Seq    uint64        `json:"seq,omitempty"`
	Status string        `json:"status,omitempty"`
	Jobs   []RequeuedJob `json:"jobs,omitempty"`
	Reason string        `json:"reason,omitempty"`
	Done   *DeadSummary  `json:"done,omitempty"`
}

// RequeuedJob is a job that died, and the id of the new one.
type RequeuedJob struct {
	Old string `json:"old"`
	New string `json:"new"`
}

// DeadSummary counts letters; Jobs counts the new jobs. Error says why it ended before all were done.
type DeadSummary struct {
	Done    int    `json:"done"`
	Jobs    int    `json:"jobs,omitempty"`
	Skipped int    `json:"skipped,omitempty"`
	Gone    int    `json:"gone,omitempty"`
	Failed  int    `json:"failed,omitempty"`
	Error   string `json:"error,omitempty"`
}

// NewDeadEvent makes the line of an outcome. done is what success is called.
func NewDeadEvent(o queue.DeadOutcome, done string) DeadEvent {
	e := DeadEvent{Seq: o.Letter.Seq, Status: done}
	for _, j := range o.Jobs {
		e.Jobs = append(e.Jobs, RequeuedJob{Old: j.Old.String(), New: j.Ticket.String()})
	}
	switch {
	case o.Err == nil:
		return e
	case errors.Is(o.Err, job.ErrNotFound):
		e.Status = DeadGone
	case errors.Is(o.Err, queue.ErrNotRequeued):
		e.Status, e.Reason = DeadSkipped, o.Err.Error()
	default:
		e.Status, e.Reason = DeadFailed, o.Err.Error()
	}
	return e
}

// Add counts an event.
func (s *DeadSummary) Add(e *DeadEvent) {
	switch e.Status {
	case DeadSkipped:
		s.Skipped++
	case DeadGone:
		s.Gone++
	case DeadFailed:
		s.Failed++
	default:
		s.Done++
		s.Jobs += len(e.Jobs)
	}
}

// Lane is how a lane stands. A limit of -1 is none.
type Lane struct {
	Lane                 string      `json:"lane"`
	Messages             uint64      `json:"messages"`
	Bytes                uint64      `json:"bytes"`
	MaxMessages          int64       `json:"max_messages"`
	MaxBytes             int64       `json:"max_bytes"`
	MaxMessagesPerTenant int64       `json:"max_messages_per_tenant"`
	Paused               bool        `json:"paused"`
	PausedUntil          *time.Time  `json:"paused_until,omitempty"` // absent for until it is resumed
	Models               []LaneModel `json:"models"`
}

// LaneModel is how a model stands in a lane, in messages.
type LaneModel struct {
	Model       string     `json:"model"`
	Waiting     uint64     `json:"waiting"`
	Running     int        `json:"running"`
	Redelivered int        `json:"redelivered"`
	Oldest      *time.Time `json:"oldest,omitempty"` // of those that wait
	Paused      bool       `json:"paused"`
	PausedUntil *time.Time `json:"paused_until,omitempty"`
	Partly      bool       `json:"partly_paused,omitempty"` // a pause or a resume was cut short; doing it again mends it
	Unserved    bool       `json:"unserved,omitempty"`      // no worker has ever served it in this lane
}

// NewLane makes the JSON form of a lane.
func NewLane(s *queue.LaneState) Lane {
	l := Lane{
		Lane: s.Lane.String(), Messages: s.Messages, Bytes: s.Bytes, MaxMessages: s.MaxMessages, MaxBytes: s.MaxBytes,
		MaxMessagesPerTenant: s.MaxMessagesPerTenant, Paused: !s.PausedUntil.IsZero(), PausedUntil: untilOf(s.PausedUntil),
		Models: make([]LaneModel, len(s.Models)),
	}
	for i := range s.Models {
		m := &s.Models[i]
		l.Models[i] = LaneModel{
			Model: m.Model, Waiting: m.Waiting, Running: m.Running, Redelivered: m.Redelivered, Oldest: instant(m.Oldest),
			Paused: !m.PausedUntil.IsZero(), PausedUntil: untilOf(m.PausedUntil), Partly: m.Partly, Unserved: m.Unserved,
		}
	}
	return l
}

func untilOf(t time.Time) *time.Time {
	if !t.Before(queue.PausedForever) {
		return nil
	}
	return instant(t)
}

// ParseSeq reads the sequence of a dead letter.
func ParseSeq(s string) (uint64, error) {
	seq, err := strconv.ParseUint(s, 10, 64)
	if err != nil || seq == 0 {
		return 0, job.Invalidf("seq", "expected the number of a dead letter, such as 17")
	}
	return seq, nil
}

// ParseAhead reads a time to come: RFC 3339, or a duration from now.
func ParseAhead(field, s string, now time.Time) (time.Time, error) { return parseAhead(field, s, now) }
