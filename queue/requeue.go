package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sheafml/sheaf/job"
)

// ErrNotRequeued marks why a dead letter cannot be put back: it cannot be read, or has no body. It is still there.
var ErrNotRequeued = errors.New("the dead letter cannot be requeued")

// RequeuedJob is a job of a dead letter that was put back, as a job of its own.
type RequeuedJob struct {
	Old    job.ID
	Ticket job.Ticket // of the new job
}

// DeadOutcome is what became of one dead letter.
type DeadOutcome struct {
	Letter *DeadLetter
	// Jobs are the new jobs of a requeue.
	Jobs []RequeuedJob
	// Err wraps ErrNotRequeued if the letter is left as it was for a reason of its own. With any other error it may be
	// tried again. job.ErrNotFound: somebody else was faster.
	Err error
}

// Requeue puts the jobs of a dead letter back into their lane and then removes the letter. A job that died has its
// failed record, which stands; so each becomes a new job, created now, whose answer is found under its new ID. It has
// the deadline given, or, if that is zero, none of its own. Nobody waits at the old one's reply subject, so it has none.
//
// The new ID derives from the old one and the letter, so a requeue that is repeated, after a crash between its two
// steps, makes the same jobs.
func (q *Queue) Requeue(ctx context.Context, l *DeadLetter, deadline time.Time) ([]RequeuedJob, error) {
	if l.Body == nil {
		whole, err := q.DeadLetterAt(ctx, l.Seq)
		if err != nil {
			return nil, err
		}
		l = whole
	}
	jobs, err := requeued(l, deadline)
	if err != nil {
		return nil, fmt.Errorf("dead letter %d: %w: %w", l.Seq, ErrNotRequeued, err)
	}
	done := make([]RequeuedJob, len(jobs))
	for i := range jobs {
		ticket, _, err := q.Publish(ctx, &jobs[i].job)
		if errors.Is(err, ErrTooLarge) {
			return nil, fmt.Errorf("dead letter %d: %w: %w", l.Seq, ErrNotRequeued, err)
		}
		if err != nil {
			return nil, fmt.Errorf("requeue dead letter %d: %w", l.Seq, err)
		}
		done[i] = RequeuedJob{Old: jobs[i].old, Ticket: ticket}
	}
	if _, err := q.RemoveDead(ctx, l.Seq); err != nil {
		return done, err
	}
	return done, nil
}

type newJob struct {
	old job.ID
	job job.Job
}

// requeued makes the new jobs of a letter: all of them, or none.
func requeued(l *DeadLetter, deadline time.Time) ([]newJob, error) {
	decoded, err := l.Decode()
	if err != nil {
		return nil, err
	}
	if len(decoded) == 0 {
		return nil, errors.New("there is no job in it")
	}
	jobs := make([]newJob, len(decoded))
	for i := range decoded {
		if decoded[i].Err != nil {
			return nil, fmt.Errorf("job %s cannot be read: %w", decoded[i].Job.ID, decoded[i].Err)
		}
		j := decoded[i].Job
		old := j.ID
		j.ID = requeuedID(old, l)
		j.CreatedAt, j.Deadline, j.Reply = time.Now(), deadline, ""
		j.Idempotent = true // in a message of its own, so that the server knows a repeated one
		jobs[i] = newJob{old: old, job: j}
	}
	return jobs, nil
}

// requeuedID is the ID of the job that a letter's job becomes. A sequence is used again if the stream is lost, so the
// letter's time is part of it. No tenant can have this name, so no Idempotency-Key leads to it.
func requeuedID(old job.ID, l *DeadLetter) job.ID {
	key := append([]byte(nil), old[:]...)
	key = binary.BigEndian.AppendUint64(key, l.Seq)
	key = binary.BigEndian.AppendUint64(key, uint64(l.Time.UnixNano()))
	return job.DerivedID("\x00requeue", string(key))
}

// RequeueDead requeues every letter that matches, several at a time, and tells of each as it is done, one call at a
// time. It returns an error if it had to stop before the end; what was told of is done.
func (q *Queue) RequeueDead(ctx context.Context, f DeadFilter, deadline time.Time, tell func(DeadOutcome) error) error {
	return q.eachDead(ctx, f, tell, func(ctx context.Context, l *DeadLetter) ([]RequeuedJob, error) {
		return q.Requeue(ctx, l, deadline)
	})
}

// PurgeDead removes every letter that matches, and tells of each as RequeueDead does.
func (q *Queue) PurgeDead(ctx context.Context, f DeadFilter, tell func(DeadOutcome) error) error {
	return q.eachDead(ctx, f, tell, func(ctx context.Context, l *DeadLetter) ([]RequeuedJob, error) {
		there, err := q.RemoveDead(ctx, l.Seq)
		if err == nil && !there {
			err = job.ErrNotFound
		}
		return nil, err
	})
}

// deadAtOnce is how many letters are acted upon at a time.
const deadAtOnce = 16

func (q *Queue) eachDead(ctx context.Context, f DeadFilter, tell func(DeadOutcome) error, act func(context.Context, *DeadLetter) ([]RequeuedJob, error)) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(deadAtOnce)
	var mu sync.Mutex
	scan := q.DeadLetters(ctx, f, func(l *DeadLetter) error {
		group.Go(func() error {
			jobs, err := act(ctx, l)
			if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrClosed) || ctx.Err() != nil && err != nil {
				return err // the others would fare no better
			}
			mu.Lock()
			defer mu.Unlock()
			return tell(DeadOutcome{Letter: l, Jobs: jobs, Err: err})
		})
		return ctx.Err()
	})
	// What stopped the work is the better error than that the scan was then told to end.
	if err := group.Wait(); err != nil {
		return err
	}
	return scan
}
