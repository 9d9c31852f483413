package queue_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

var errRefused = errors.New("refused")

// sweepRefusing sweeps; fail says what is made of a message. It returns the messages that came.
func sweepRefusing(t testing.TB, q *queue.Queue, floors *queue.Floors, limit int, fail func(seq uint64) error) (seqs []uint64, more bool, err error) {
	t.Helper()
	more, err = q.Sweep(t.Context(), floors, limit, func(s *queue.Stranded) error {
		seqs = append(seqs, s.Seq)
		return fail(s.Seq)
	})
	return seqs, more, err
}

// stranded makes n messages be given up, as a sweep has seen once, and returns the queue and their sequences.
func stranded(t testing.TB, n int) (*queue.Queue, *queue.Floors, []uint64) {
	t.Helper()
	q := stranding(t, nil)
	heard := advisories(t, q)
	s := source(t, q, job.Interactive, "digits")
	seqs := make([]uint64, n)
	for i := range seqs {
		seqs[i] = publish(t, q, newJob(t, nil)).Seq
	}
	exhaust(t, s, n, heard)
	floors := new(queue.Floors)
	sweep(t, q, floors, n)
	return q, floors, seqs
}

// A message that cannot be settled keeps a sweep from no other one, and is found again.
func TestASweepPassesOverWhatFails(t *testing.T) {
	q, floors, seqs := stranded(t, 3)
	for range 2 {
		got, more, err := sweepRefusing(t, q, floors, 10, func(seq uint64) error {
			if seq == seqs[0] {
				return errRefused
			}
			return nil
		})
		if !slices.Equal(got, seqs) || more || !errors.Is(err, errRefused) {
			t.Errorf("found %v of %v, more %v, error %v", got, seqs, more, err)
		}
	}
}

// Messages that fail do not use up the limit of one sweep after the other.
func TestASweepGoesOnBehindWhatFailed(t *testing.T) {
	q, floors, seqs := stranded(t, 5)
	refuse := func(uint64) error { return errRefused }
	for i, want := range []struct {
		seqs []uint64
		more bool
	}{{seqs[:2], true}, {seqs[2:4], true}, {seqs[4:], false}, {seqs[:2], true}} {
		got, more, err := sweepRefusing(t, q, floors, 2, refuse)
		if !slices.Equal(got, want.seqs) || more != want.more || !errors.Is(err, errRefused) {
			t.Errorf("sweep %d found %v, more %v, error %v; expected %v", i+1, got, more, err, want)
		}
	}
}

// When the store or NATS is out of reach a sweep ends, and the next one goes on behind the message that it ended at.
func TestASweepEndsWhenItIsTold(t *testing.T) {
	for _, cause := range []error{queue.ErrEndSweep, queue.ErrUnavailable} {
		q, floors, seqs := stranded(t, 3)
		got, _, err := sweepRefusing(t, q, floors, 10, func(uint64) error { return fmt.Errorf("%w: %w", cause, errRefused) })
		if !slices.Equal(got, seqs[:1]) || !errors.Is(err, errRefused) {
			t.Errorf("%v: found %v, error %v", cause, got, err)
		}
		for _, want := range [][]uint64{seqs[1:], seqs} {
			if got, _ := sweep(t, q, floors, 10); !slices.Equal(got, want) {
				t.Errorf("%v: a sweep after it found %v, expected %v", cause, got, want)
			}
		}
	}
}

// Of very many errors a sweep names a few.
func TestASweepNamesSomeErrors(t *testing.T) {
	q, floors, _ := stranded(t, 11)
	_, _, err := sweepRefusing(t, q, floors, 20, func(seq uint64) error { return fmt.Errorf("refused %d", seq) })
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) || len(joined.Unwrap()) != 9 || joined.Unwrap()[8].Error() != "and 3 more" {
		t.Errorf("the error is %v", err)
	}
}

// A lane that cannot be looked at keeps a sweep from no other one.
func TestASweepPassesOverALane(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	cfg.Bulk.MaxDeliver, cfg.Bulk.AckWait = 2, 200*time.Millisecond
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	heard := advisories(t, q)
	s := source(t, q, job.Bulk, "digits")
	lost := publish(t, q, newJob(t, func(j *job.Job) { j.Lane = job.Bulk }))
	exhaust(t, s, 1, heard)
	_, js := operator(t, cfg.URL)
	if err := js.DeleteStream(t.Context(), job.Interactive.String()); err != nil {
		t.Fatal(err)
	}
	var floors queue.Floors
	for i, want := range [][]uint64{nil, {lost.Seq}, {lost.Seq}} {
		got, _, err := sweepRefusing(t, q, &floors, 10, func(uint64) error { return nil })
		if !slices.Equal(got, want) || err == nil {
			t.Errorf("sweep %d found %v, error %v; expected %v", i+1, got, err, want)
		}
	}
}
