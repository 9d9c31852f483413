package batch

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// records keeps the records of batches, under tenant and ID.
type records struct{ bucket *queue.Bucket }

func (k records) get(ctx context.Context, tenant, id string) (*record, uint64, error) {
	if _, ok := jobID(id); !ok || !job.ValidName(tenant) {
		return nil, 0, job.ErrNotFound
	}
	value, revision, err := k.bucket.GetRevision(ctx, tenant+"/"+id)
	if err != nil {
		return nil, 0, err
	}
	r, err := decodeRecord(value)
	return r, revision, err
}

// create stores the record of a new batch, unless it has one.
func (k records) create(ctx context.Context, r *record) error {
	value, err := r.encode()
	if err != nil {
		return err
	}
	if err := k.bucket.Create(ctx, r.Tenant+"/"+r.ID, value); err != nil && !errors.Is(err, queue.ErrExists) {
		return err
	}
	return nil
}

// change has fn change a record, on top of whatever others have. An error of fn ends it.
func (k records) change(ctx context.Context, tenant, id string, fn func(*record) error) (*record, error) {
	for {
		r, revision, err := k.get(ctx, tenant, id)
		if err != nil {
			return nil, err
		}
		if err := fn(r); err != nil {
			return r, err
		}
		value, err := r.encode()
		if err != nil {
			return nil, err
		}
		err = k.bucket.Update(ctx, tenant+"/"+id, value, revision)
		if err == nil || !errors.Is(err, queue.ErrChanged) {
			return r, err
		}
		if err := rest(ctx, changedPause); err != nil {
			return nil, err
		}
	}
}

// errTaken says that another runner has the batch: it was not heard of for too long.
var errTaken = errors.New("another runner has taken the batch over")

// ledger is the record of the batch that a runner works on. It writes under the runner's name only.
type ledger struct {
	records records
	runner  string
	patient time.Duration // how long a store that is out of reach is waited for

	mu       sync.Mutex
	now      *record
	revision uint64
	changes  int
}

// get returns the record as it was known last. It must not be changed.
func (l *ledger) get() *record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

// refresh reads the record again.
func (l *ledger) refresh(ctx context.Context) (*record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now, l.read(ctx)
}

func (l *ledger) read(ctx context.Context) error {
	r, revision, err := l.records.get(ctx, l.now.Tenant, l.now.ID)
	if err != nil {
		return err
	}
	if revision < l.revision {
		return nil // a replica that lags: what is known is newer
	}
	if r.Runner != l.runner {
		return errTaken
	}
	l.now, l.revision = r, revision
	return nil
}

// take makes the runner the one that counts.
func (l *ledger) take(ctx context.Context) error {
	r, revision, err := l.records.get(ctx, l.now.Tenant, l.now.ID)
	if err != nil {
		return err
	}
	r.Runner = l.runner
	r.Starts++
	value, err := r.encode()
	if err != nil {
		return err
	}
	if revision, err = l.records.bucket.Replace(ctx, r.Tenant+"/"+r.ID, value, revision); err != nil {
		return err
	}
	l.now, l.revision = r, revision
	return nil
}

// change has fn change the record, on top of what others have changed meanwhile. It is done once, also if an answer is
// lost on the way. A store that is out of reach is waited for.
func (l *ledger) change(ctx context.Context, fn func(*record) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes++
	name := l.runner + "-" + strconv.Itoa(l.changes)
	until := time.Now().Add(l.patient)
	sure := true // that the record which is known is the one that stands there
	for {
		err := l.try(ctx, name, &sure, fn)
		if !errors.Is(err, queue.ErrUnavailable) && !errors.Is(err, queue.ErrChanged) {
			return err
		}
		sure = false
		if time.Now().After(until) {
			return err
		}
		pause := storePause
		if errors.Is(err, queue.ErrChanged) {
			pause = changedPause
		}
		if wait := rest(ctx, pause); wait != nil {
			return fmt.Errorf("%w: %w", err, wait)
		}
	}
}

// storePause is the pause between two tries, changedPause the one after a value that somebody else has changed.
const (
	storePause   = 100 * time.Millisecond
	changedPause = 2 * time.Millisecond
)

func (l *ledger) try(ctx context.Context, name string, sure *bool, fn func(*record) error) error {
	if !*sure {
		if err := l.read(ctx); err != nil {
			return err
		}
		*sure = true
		if l.now.Change == name {
			return nil // it was done, and only its answer was lost
		}
	}
	next, err := l.now.clone()
	if err != nil {
		return err
	}
	if err := fn(next); err != nil {
		return err
	}
	next.Change = name
	value, err := next.encode()
	if err != nil {
		return err
	}
	revision, err := l.records.bucket.Replace(ctx, next.Tenant+"/"+next.ID, value, l.revision)
	if err != nil {
		return err
	}
	l.now, l.revision = next, revision
	return nil
}

// clone copies the record, so that whoever holds the old one goes on undisturbed.
func (r *record) clone() (*record, error) {
	b, err := r.encode()
	if err != nil {
		return nil, err
	}
	return decodeRecord(b)
}

// rest waits, or returns ctx's error.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
