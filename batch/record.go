package batch

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/sheafml/sheaf/job"
)

// order is a batch as its message carries it: all that is needed to run it.
type order struct {
	ID       string    `json:"id"`
	Tenant   string    `json:"tenant"`
	Spec     Spec      `json:"spec"`
	Created  time.Time `json:"created"`
	Deadline time.Time `json:"deadline"`
	Cut      cut       `json:"cut"`
}

func (o *order) encode() ([]byte, error) {
	b, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode batch %s: %w", o.ID, err)
	}
	return b, nil
}

// cut is where the input is cut into parts. A batch keeps to it, since the keys of its jobs go by it.
type cut struct {
	Lines    int `json:"lines"`      // of a part
	Bytes    int `json:"bytes"`      // after which a part ends, at the end of the line
	MostLine int `json:"line_bytes"` // a longer line is bad
}

// record is what is known of a batch.
type record struct {
	order

	Status    Status    `json:"status"` // Cancelling is not stored: see cancelAsked
	Started   time.Time `json:"started,omitzero"`
	Finalized time.Time `json:"finalized,omitzero"`
	Ended     time.Time `json:"ended,omitzero"`
	Faults    []Fault   `json:"faults,omitempty"`

	CancelAsked time.Time `json:"cancel_asked,omitzero"`
	PauseAsked  bool      `json:"pause_asked,omitempty"`

	// Runner is who works on it, and Change the last change it made, so that it knows its own again.
	Runner string `json:"runner,omitempty"`
	Change string `json:"change,omitempty"`
	// Starts counts how often it was taken up without progress since.
	Starts  int    `json:"starts,omitempty"`
	Waiting string `json:"waiting,omitempty"`

	// Lines is how many lines the input has, once it was read; Validated says that it was.
	Lines     int64 `json:"lines,omitempty"`
	Validated bool  `json:"validated,omitempty"`
	// Done is how many parts from the first one on are done, Beyond are those that are done after one that is not.
	Done   int64   `json:"done,omitempty"`
	Beyond []int64 `json:"beyond,omitempty"`
	Rows   int64   `json:"rows,omitempty"`
	Rate   float64 `json:"rate,omitempty"`

	Results output `json:"results"`
	Errors  output `json:"errors"`
}

// output is one of the files that a batch writes, in segments.
type output struct {
	Segments []segment `json:"segments,omitempty"`
}

// segment is a piece of a file: an object.
type segment struct {
	Name  string `json:"n"` // the end of the object's
	Bytes int64  `json:"b"`
	Lines int64  `json:"l"`
}

func (o *output) bytes() (n int64) {
	for i := range o.Segments {
		n += o.Segments[i].Bytes
	}
	return n
}

func (o *output) lines() (n int64) {
	for i := range o.Segments {
		n += o.Segments[i].Lines
	}
	return n
}

func (r *record) out(of Output) *output {
	if of == Errors {
		return &r.Errors
	}
	return &r.Results
}

// isDone reports whether a part is done.
func (r *record) isDone(part int64) bool {
	if part < r.Done {
		return true
	}
	_, found := slices.BinarySearch(r.Beyond, part)
	return found
}

// finish notes that parts are done.
func (r *record) finish(parts []int64) {
	for _, p := range parts {
		if r.isDone(p) {
			continue
		}
		at, _ := slices.BinarySearch(r.Beyond, p)
		r.Beyond = slices.Insert(r.Beyond, at, p)
	}
	n := 0
	for n < len(r.Beyond) && r.Beyond[n] == r.Done {
		r.Done++
		n++
	}
	r.Beyond = slices.Delete(r.Beyond, 0, n)
}

func newRecord(o *order) record { return record{order: *o, Status: Validating} }

func (r *record) encode() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode the record of batch %s: %w", r.ID, err)
	}
	return b, nil
}

func decodeRecord(b []byte) (*record, error) {
	var r record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("the record of a batch cannot be read: %w", err)
	}
	return &r, nil
}

// status is what its owner is told.
func (r *record) status() Status {
	if !r.Status.Final() && !r.CancelAsked.IsZero() {
		return Cancelling
	}
	return r.Status
}

// counts are sums over what is recorded.
func (r *record) counts() Counts {
	return Counts{Total: r.Lines, Completed: r.Results.lines(), Failed: r.Errors.lines()}
}

// view is the batch as its owner sees it.
func (r *record) view(retention time.Duration) Batch {
	b := Batch{
		ID: r.ID, Object: "batch", Endpoint: r.Spec.Endpoint, Model: r.Spec.Model, Version: r.Spec.Version,
		InputFile: r.Spec.InputFile, InputURL: r.Spec.InputURL, OutputURL: r.Spec.OutputURL, ErrorURL: r.Spec.ErrorURL,
		CompletionWindow: r.Spec.Window, Status: r.status(), Metadata: r.Spec.Metadata,
		CreatedAt: unix(r.Created), InProgressAt: unix(r.Started), ExpiresAt: unix(r.Deadline), FinalizingAt: unix(r.Finalized),
		CancellingAt: unix(r.CancelAsked), RequestCounts: r.counts(), Rows: r.Rows,
		OutputBytes: r.Results.bytes(), ErrorBytes: r.Errors.bytes(),
		Webhook: r.Spec.Webhook, MaxRate: r.Spec.MaxRate, Windows: r.Spec.Windows,
	}
	if len(r.Faults) > 0 {
		b.Errors = &Faults{Object: "list", Data: r.Faults}
	}
	if !r.Status.Final() {
		b.Paused, b.Waiting = r.PauseAsked, r.Waiting
		if b.Status == InProgress && !b.Paused && b.Waiting == "" && r.Rate > 0 {
			b.Rate = r.Rate
			left := b.RequestCounts.Total - b.RequestCounts.Completed - b.RequestCounts.Failed
			b.ETA = int64(float64(left)/r.Rate) + 1
		}
		return b
	}
	switch r.Status {
	case Completed:
		b.CompletedAt = unix(r.Ended)
	case Failed:
		b.FailedAt = unix(r.Ended)
	case Expired:
		b.ExpiredAt = unix(r.Ended)
	default:
		b.CancelledAt = unix(r.Ended)
	}
	b.DeletedAt = unix(r.Ended.Add(retention))
	if b.OutputBytes > 0 {
		b.OutputFile = outputID(r.ID, Results)
	}
	if b.ErrorBytes > 0 {
		b.ErrorFile = outputID(r.ID, Errors)
	}
	return b
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// jobID is the UUID in a batch's ID; false if it is none.
func jobID(id string) (job.ID, bool) {
	if len(id) != len(batchPrefix)+32 || id[:len(batchPrefix)] != batchPrefix {
		return job.ID{}, false
	}
	h := id[len(batchPrefix):]
	u, err := job.ParseID(h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:])
	return u, err == nil
}
