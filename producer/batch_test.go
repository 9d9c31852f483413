package producer_test

import (
	"errors"
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

// outcomes collects what a batch says of its requests.
type outcomes struct {
	t    *testing.T
	subs map[int]producer.Submission
	errs map[int]error
}

func newOutcomes(t *testing.T) *outcomes {
	t.Helper()
	return &outcomes{t, map[int]producer.Submission{}, map[int]error{}}
}

func (o *outcomes) done(i int, s *producer.Submission, err error) {
	if _, twice := o.subs[i]; twice || o.errs[i] != nil {
		o.t.Errorf("request %d was reported twice", i)
	}
	if err != nil {
		o.errs[i] = err
		return
	}
	o.subs[i] = *s
}

// A batch of both lanes, with keys and without, with bad requests between: each comes to its own end.
func TestBatch(t *testing.T) {
	p, q := setup(t, nil)
	var requests []producer.Request
	for i := range 200 {
		r := request(byte(i), 0, 0)
		r.Lane = job.Lanes()[i%2]
		switch i % 10 {
		case 3:
			r = request(1) // wrong shape
		case 5:
			r.Model = "nobody"
		case 6:
			r.IdempotencyKey = string(rune('a' + i))
		case 8:
			r.Deadline = time.Now().Add(time.Hour)
		}
		requests = append(requests, r)
	}
	o := newOutcomes(t)
	b := p.NewBatch(requests, o.done)
	if len(o.errs) != 40 || b.Left() != 160 {
		t.Fatalf("%d are refused and %d left, expected 40 and 160", len(o.errs), b.Left())
	}
	if err := b.Send(t.Context()); err != nil || b.Left() != 0 {
		t.Fatalf("%v, %d left", err, b.Left())
	}
	values := map[job.ID]byte{}
	for lane, n := range map[job.Lane]int{job.Interactive: 100, job.Bulk: 60} {
		for _, j := range collect(t, q, lane, n) {
			values[j.ID] = j.Inputs[0].Data[0]
		}
	}
	for i, s := range o.subs {
		if v, ok := values[s.Ticket.ID]; !ok || v != byte(i) || s.Ticket.Lane != job.Lanes()[i%2] || s.Duplicate || s.Deadline.IsZero() != (i%10 != 8) {
			t.Errorf("request %d: %+v has the job of %d", i, s, v)
		}
	}

	// The same keys again: the same jobs; and another request under one of them.
	again := []producer.Request{requests[6], requests[16]}
	again[1].Inputs = request(9, 9, 9).Inputs
	o2 := newOutcomes(t)
	b = p.NewBatch(again, o2.done)
	if err := b.Send(t.Context()); err != nil || !o2.subs[0].Duplicate || o2.subs[0].Ticket != o.subs[6].Ticket {
		t.Errorf("%v, %+v, expected %+v", err, o2, o.subs[6])
	}
}

// What a full queue does not take is sent again later, as the same jobs, or given up.
func TestBatchInAFullQueue(t *testing.T) {
	p, q := setup(t, func(c *producer.Config) {
		c.Queue.Bulk.MaxMsgs, c.Queue.Bulk.MaxMsgsPerSubject, c.Queue.Publish.MaxJobs = 2, 2, 10
	})
	var requests []producer.Request
	for i := range 50 {
		r := request(byte(i), 0, 0)
		r.Lane = job.Bulk
		requests = append(requests, r)
	}
	o := newOutcomes(t)
	b := p.NewBatch(requests, o.done)
	err := b.Send(t.Context())
	if !producer.MayPass(err) || len(o.subs) != 20 || b.Left() != 30 {
		t.Fatalf("%v, %d are accepted and %d left", err, len(o.subs), b.Left())
	}
	seen := map[byte]bool{}
	for _, j := range collect(t, q, job.Bulk, 20) {
		seen[j.Inputs[0].Data[0]] = true
	}
	if err := b.Send(t.Context()); !producer.MayPass(err) || b.Left() != 10 {
		t.Fatalf("%v, %d left", err, b.Left())
	}
	for _, j := range collect(t, q, job.Bulk, 20) {
		if seen[j.Inputs[0].Data[0]] {
			t.Errorf("request %d was accepted twice", j.Inputs[0].Data[0])
		}
	}
	b.Refuse(err)
	var refusal *producer.Refusal
	if b.Left() != 0 || len(o.subs) != 40 || len(o.errs) != 10 || !errors.As(o.errs[49], &refusal) {
		t.Errorf("%d accepted, %d refused, the last for %v", len(o.subs), len(o.errs), o.errs[49])
	}
}
