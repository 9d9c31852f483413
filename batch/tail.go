package batch

import (
	"bytes"
	"context"
	"strconv"
	"time"
)

// segmentBytes is the size that a segment grows to.
const segmentBytes = 4 << 20

// tail is the end of an output that one runner writes.
//
// Each commit stores an object. So that their number stays in proportion to the bytes, also where commits bring little,
// a commit stores the last small segments once more, with the new lines in one object, when these are no smaller: a byte
// is written a few times at most. The objects have names of the runner's own: one that has lost the batch overwrites none.
type tail struct {
	s      *Service
	of     Output
	prefix string // of the names of segments
	count  int

	open  []segment // the last segments of the record that are this runner's, not full yet
	kept  []byte    // their content
	fresh []byte    // what was written since
	lines int64     // in it
}

func (t *tail) append(b []byte, lines int64) {
	t.fresh = append(t.fresh, b...)
	t.lines += lines
}

// change is what a commit changes of an output.
type change struct {
	none     bool
	drop     int // segments at the end of the record
	segment  segment
	replaced []string // objects
	content  []byte
	old      int // bytes of content that were stored before
}

// store stores what is fresh. Nothing counts before the change is applied to the record and settled.
func (t *tail) store(ctx context.Context, r *record) (change, error) {
	if len(t.fresh) == 0 {
		return change{none: true}, nil
	}
	c := change{segment: segment{Bytes: int64(len(t.fresh)), Lines: t.lines}}
	from := len(t.kept)
	for i := len(t.open) - 1; i >= 0 && t.open[i].Bytes <= c.segment.Bytes; i-- {
		c.drop++
		c.segment.Bytes += t.open[i].Bytes
		c.segment.Lines += t.open[i].Lines
		c.replaced = append(c.replaced, r.object(t.of, &t.open[i]))
		from -= int(t.open[i].Bytes)
	}
	t.count++
	c.segment.Name = t.prefix + "-" + strconv.Itoa(t.count)
	c.old = len(t.kept) - from
	c.content = append(bytes.Clone(t.kept[from:]), t.fresh...)
	name := r.object(t.of, &c.segment)
	err := patiently(ctx, func() error {
		_, err := t.s.objects.Put(ctx, name, nil, bytes.NewReader(c.content))
		return err
	})
	return c, err
}

// apply makes the change to the record's output.
func (c *change) apply(o *output) {
	if c.none {
		return
	}
	o.Segments = append(o.Segments[:len(o.Segments)-c.drop], c.segment)
}

// settle notes that the record has the change.
func (t *tail) settle(c change) {
	if c.none {
		return
	}
	t.fresh, t.lines = t.fresh[:0], 0
	t.open = append(t.open[:len(t.open)-c.drop], c.segment)
	t.kept = append(t.kept, c.content[c.old:]...)
	if len(t.kept) >= segmentBytes {
		t.open, t.kept = nil, nil
	}
	if cap(t.fresh) > 2*segmentBytes {
		t.fresh = nil
	}
}

// meter knows how many lines a second there were of late.
type meter struct{ marks []mark }

type mark struct {
	at    time.Time
	lines int64 // until then
}

const (
	meterMarks = 15
	meterFor   = 30 * time.Second
)

// observe counts lines that were done by now, and returns the rate.
func (m *meter) observe(now time.Time, lines int64) float64 {
	if len(m.marks) > 0 {
		lines += m.marks[len(m.marks)-1].lines
	}
	m.marks = append(m.marks, mark{now, lines})
	for len(m.marks) > 2 && (len(m.marks) > meterMarks || now.Sub(m.marks[0].at) > meterFor) {
		m.marks = m.marks[1:]
	}
	first := m.marks[0]
	if d := now.Sub(first.at); d > 0 {
		return float64(lines-first.lines) / d.Seconds()
	}
	return 0
}
