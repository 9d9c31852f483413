package main

import (
	"errors"
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
)

const (
	idOne   = "0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11"
	idOther = "0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e12"
)

// testRow expects class 7.
func testRow() *row {
	r := &row{}
	r.expected[7] = 1
	return r
}

// right is a finished job with that result; change makes it something else.
func right(change func(*outcome)) *outcome {
	o := &outcome{state: "succeeded", finished: 1000, n: classes}
	o.values[7] = 1
	if change != nil {
		change(o)
	}
	return o
}

// ended is a job that ended without a result, at so many milliseconds.
func ended(state string, at int64) *outcome {
	return &outcome{state: state, finished: at, why: "it is so"}
}

func TestLedgerJudges(t *testing.T) {
	queued := &outcome{state: "queued"}
	for _, c := range []struct {
		name string
		do   func(l *ledger, e *entry)
		want verdict
	}{
		{"a good life", func(l *ledger, e *entry) {
			l.accept(e, idOne+".i1-0", time.Now())
			l.saw(e, false, queued, "a shim")
			l.saw(e, false, right(nil), "a shim")
			l.saw(e, true, right(nil), "another shim")
			l.settle(e, right(nil))
		}, verdict{}},
		{"canceled, as somebody wanted", func(l *ledger, e *entry) {
			l.accept(e, idOne+".i1-0", time.Now())
			l.cancel(e)
			l.saw(e, false, ended("canceled", 900), "a shim")
			l.settle(e, ended("canceled", 900))
		}, verdict{}},
		{"a cancel that came too late", func(l *ledger, e *entry) {
			l.accept(e, idOne+".i1-0", time.Now())
			l.cancel(e)
			l.settle(e, right(nil))
		}, verdict{}},
		{"canceled, and yet finished", func(l *ledger, e *entry) {
			l.accept(e, idOne+".i1-0", time.Now())
			l.cancel(e)
			l.saw(e, false, ended("canceled", 900), "a shim")
			l.settle(e, right(nil))
		}, verdict{Flipped: 1}},
		{"canceled, and nobody wanted it", func(l *ledger, e *entry) {
			l.accept(e, idOne+".i1-0", time.Now())
			l.settle(e, ended("canceled", 900))
		}, verdict{Wrong: 1}},
		{"expired at its deadline", func(l *ledger, e *entry) {
			l.hurry(e, time.UnixMilli(2000))
			l.hurry(e, time.UnixMilli(800))
			l.accept(e, idOne+".i1-0", time.Now())
			l.settle(e, ended("expired", 900))
		}, verdict{}},
		{"expired before its deadline", func(l *ledger, e *entry) {
			l.hurry(e, time.UnixMilli(2000))
			l.accept(e, idOne+".i1-0", time.Now())
			l.settle(e, ended("expired", 900))
		}, verdict{Wrong: 1}},
		{"expired without a deadline", func(l *ledger, e *entry) {
			l.accept(e, idOne+".i1-0", time.Now())
			l.settle(e, ended("expired", 900))
		}, verdict{Wrong: 1}},
		{"never accepted, no result", func(l *ledger, e *entry) {
			l.doubt(e)
			l.settle(e, nil)
		}, verdict{}},
		{"never accepted, wrong result", func(l *ledger, e *entry) {
			l.doubt(e)
			l.settle(e, right(func(o *outcome) { o.values[7] = 0.9 }))
		}, verdict{Wrong: 1}},
		{"accepted, no result", func(l *ledger, e *entry) {
			l.accept(e, idOne+".i1-0", time.Now())
			l.settle(e, nil)
		}, verdict{Lost: 1}},
		{"finished, then no record", func(l *ledger, e *entry) {
			l.accept(e, idOne+".i1-0", time.Now())
			l.saw(e, false, right(nil), "a shim")
			l.settle(e, nil)
		}, verdict{Lost: 1, Flipped: 1}},
		{"failed", func(l *ledger, e *entry) {
			l.accept(e, idOne+".i1-0", time.Now())
			l.settle(e, right(func(o *outcome) { o.state = "failed" }))
		}, verdict{Wrong: 1}},
		{"too few numbers", func(l *ledger, e *entry) {
			l.settle(e, right(func(o *outcome) { o.n = 9 }))
		}, verdict{Wrong: 1}},
		{"a neighbour's result", func(l *ledger, e *entry) {
			l.settle(e, right(func(o *outcome) { o.values[7], o.values[3] = 0, 1 }))
		}, verdict{Wrong: 1}},
		{"within the tolerance", func(l *ledger, e *entry) {
			l.settle(e, right(func(o *outcome) { o.values[7] -= 5e-6 }))
		}, verdict{}},
		{"wrong is counted once a job", func(l *ledger, e *entry) {
			bad := right(func(o *outcome) { o.values[7] = 0 })
			l.saw(e, false, bad, "a shim")
			l.saw(e, true, bad, "a shim")
			l.settle(e, bad)
		}, verdict{Wrong: 1}},
		{"finished, then queued", func(l *ledger, e *entry) {
			l.saw(e, false, right(nil), "a shim")
			l.saw(e, true, queued, "a shim")
		}, verdict{Flipped: 1}},
		{"an answer that was overtaken", func(l *ledger, e *entry) {
			l.saw(e, false, right(nil), "a shim")
			l.saw(e, false, queued, "a shim")
		}, verdict{}},
		{"finished twice at different times", func(l *ledger, e *entry) {
			l.saw(e, false, right(nil), "a shim")
			l.settle(e, right(func(o *outcome) { o.finished++ }))
		}, verdict{Flipped: 1}},
		{"accepted as another job", func(l *ledger, e *entry) {
			l.accept(e, idOther+".i1-0", time.Now())
		}, verdict{Wrong: 1}},
		{"accepted twice at two places", func(l *ledger, e *entry) {
			l.accept(e, idOne+".i1-0", time.Now())
			l.accept(e, idOne+".i9-0", time.Now())
			l.settle(e, right(nil))
		}, verdict{}},
		{"accepted under no ID", func(l *ledger, e *entry) {
			l.accept(e, "?", time.Now())
		}, verdict{Wrong: 1}},
		{"unknown to a shim", func(l *ledger, e *entry) {
			l.accept(e, idOne+".i1-0", time.Now())
			l.vanished(e, "a shim")
			l.settle(e, right(nil))
		}, verdict{Vanished: 1}},
		{"a record that cannot be read", func(l *ledger, e *entry) {
			l.damaged(e, errors.New("cut off"))
		}, verdict{Wrong: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l ledger
			id, err := job.ParseID(idOne)
			if err != nil {
				t.Fatal(err)
			}
			c.do(&l, l.begin("http", testRow(), id))
			got := l.verdict
			if got.Lost != c.want.Lost || got.Wrong != c.want.Wrong || got.Flipped != c.want.Flipped || got.Vanished != c.want.Vanished {
				t.Errorf("expected lost %d, wrong %d, flipped %d, vanished %d; got %+v", c.want.Lost, c.want.Wrong, c.want.Flipped, c.want.Vanished, got)
			}
			if got.clean() != (len(got.Evidence) == 0) {
				t.Errorf("the evidence does not fit the verdict: %+v", got)
			}
		})
	}
}

func TestLedgerCounts(t *testing.T) {
	var l ledger
	done, open, unclear, refused := l.begin("bulk", testRow(), job.ID{}), l.begin("bulk", testRow(), job.ID{}),
		l.begin("http", testRow(), job.ID{1}), l.begin("http", testRow(), job.ID{2})
	l.accept(done, idOne+".b1-0", time.Now())
	l.accept(open, idOther+".b1-1", time.Now())
	l.doubt(done)
	l.doubt(unclear)
	l.doubt(unclear)
	l.refuse(refused)
	l.settle(done, right(func(o *outcome) { o.attempts = 2 }))
	want := counts{Submitted: 4, Accepted: 2, UnclearTries: 3, Unclear: 1, Refused: 1, Finished: 1}
	if got := l.counts(); got != want {
		t.Errorf("expected %+v, got %+v", want, got)
	}
	if got := l.redelivered(); got != 1 {
		t.Errorf("expected 1 result of a redelivery, got %d", got)
	}
}
