package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// ErrEndSweep is for the function that Sweep calls: an error that wraps it ends the sweep, since no other message would
// fare better.
var ErrEndSweep = errors.New("the sweep ends here")

// Floors remembers how far the consumers were at the last sweep, and where one that was cut short goes on. One sweeper
// uses one at a time.
type Floors struct{ seen map[floorKey]floor }

type floorKey struct {
	lane     job.Lane
	consumer string
}

type floor struct {
	made time.Time // of the consumer: one that is made again begins anew
	seq  uint64
	goOn map[string]uint64 // for a filter: the sequence that the next sweep begins at, if it is not the first
}

// Sweep calls fn for up to limit messages that are stranded, and were so at the last sweep with the same Floors: what an
// acknowledgement that is on its way will remove in a moment is left alone. more says that there were others.
//
// What fails is found again by a later sweep, and keeps this one from nothing else: neither a message that fn returns an
// error for, nor a lane that cannot be looked at. Sweep returns all of these errors, of many the first few. It ends early
// if ctx does, or if fn's error wraps ErrEndSweep or ErrUnavailable. A sweep that ends before it has seen everything goes
// on behind what failed the next time.
func (q *Queue) Sweep(ctx context.Context, floors *Floors, limit int, fn func(*Stranded) error) (more bool, err error) {
	s := sweeper{q: q, floors: floors, left: limit, fn: fn}
	for _, lane := range job.Lanes() {
		if s.ended {
			break
		}
		s.sweepLane(ctx, lane)
	}
	return s.more, s.err()
}

// sweeper is one sweep.
type sweeper struct {
	q      *Queue
	floors *Floors
	left   int // messages that it may still call fn for
	fn     func(*Stranded) error

	more   bool
	ended  bool
	faults []error
	others int // faults that are only counted
}

// keepFaults bounds the faults that are named.
const keepFaults = 8

func (s *sweeper) fault(err error) {
	if len(s.faults) < keepFaults {
		s.faults = append(s.faults, err)
		return
	}
	s.others++
}

func (s *sweeper) err() error {
	if s.others > 0 {
		s.faults = append(s.faults, fmt.Errorf("and %d more", s.others))
	}
	return errors.Join(s.faults...)
}

func (s *sweeper) sweepLane(ctx context.Context, lane job.Lane) {
	consumers, err := s.q.consumers(ctx, lane)
	if err != nil {
		s.fault(err) // what is known of its floors stays
		s.ended = ctx.Err() != nil
		return
	}
	ripe := s.floors.rise(lane, consumers)
	for i, c := range consumers {
		if ripe[i] == 0 {
			continue
		}
		at := s.floors.seen[floorKey{lane, c.Name}]
		for _, filter := range filtersOf(&c.Config) {
			err := s.sweepSubject(ctx, lane, c.Name, filter, ripe[i], at.goOn)
			if err != nil {
				s.fault(err)
			}
			if s.ended || errors.Is(err, ErrUnavailable) {
				return
			}
		}
	}
}

// rise notes how far the consumers of a lane are, and returns for each the sequence up to which it was so before.
func (f *Floors) rise(lane job.Lane, consumers []*jetstream.ConsumerInfo) []uint64 {
	before := f.seen
	f.seen = make(map[floorKey]floor, len(before))
	for key, was := range before {
		if key.lane != lane {
			f.seen[key] = was
		}
	}
	ripe := make([]uint64, len(consumers))
	for i, c := range consumers {
		key := floorKey{lane, c.Name}
		now := floor{made: c.Created, seq: behind(c)}
		if was, ok := before[key]; ok && was.made.Equal(now.made) {
			ripe[i], now.goOn = min(was.seq, now.seq), was.goOn
		}
		if now.goOn == nil {
			now.goOn = make(map[string]uint64)
		}
		f.seen[key] = now
	}
	return ripe
}

// sweepSubject calls fn for what the subject has up to a sequence. It returns an error if it could not look.
func (s *sweeper) sweepSubject(ctx context.Context, lane job.Lane, consumer, filter string, upTo uint64, goOn map[string]uint64) error {
	next := max(1, goOn[filter])
	delete(goOn, filter)
	behindOthers := next > 1
	cutShort := func() {
		// What was settled is gone, so only what failed is a reason not to begin at the front again.
		if behindOthers {
			goOn[filter] = next
		}
	}
	for next <= upTo {
		if s.left <= 0 {
			s.more = true
			cutShort()
			return nil
		}
		m, err := s.q.messageAt(ctx, lane.String(), next, filter)
		if errors.Is(err, job.ErrNotFound) || err == nil && m.Sequence > upTo {
			return nil
		}
		if err != nil {
			s.ended = ctx.Err() != nil
			cutShort()
			return fmt.Errorf("look for messages that were given up, lane %s: %w", lane, err)
		}
		s.left--
		next = m.Sequence + 1
		err = s.fn(newStranded(lane, consumer, 0, m))
		if err == nil {
			continue
		}
		behindOthers = true
		s.fault(fmt.Errorf("message %d of lane %s: %w", m.Sequence, lane, err))
		if errors.Is(err, ErrEndSweep) || errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			s.ended = true
			cutShort()
			return nil
		}
	}
	return nil
}
