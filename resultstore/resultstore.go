package resultstore

import (
	"context"
	"errors"
	"time"

	"github.com/sheafml/sheaf/job"
)

// ErrUnavailable says that the store cannot be reached or does not take writes now; trying again later may succeed.
var ErrUnavailable = errors.New("the result store is unavailable")

// ErrClosed says that the store was closed by this process.
var ErrClosed = errors.New("the result store is closed")

// MaxRecordBytes is the largest record that a store takes, in bytes. It is what Redis takes as one string by default.
const MaxRecordBytes = 512 << 20

// Entry is one terminal record to write.
type Entry struct {
	ID     job.ID
	Record []byte        // as job.AppendRecord makes it; never empty
	TTL    time.Duration // 0: the store's default
}

// Outcome says what became of one Entry.
type Outcome struct {
	// Won: the record stands in the store and is ours (also if an earlier, unanswered try of the same bytes wrote it).
	Won bool
	// Existing is the record that stood there first, if we did not win.
	Existing []byte
	Err      error
}

// Store keeps terminal records. Redis and Memory implement it; consumers declare the narrow interface that they use.
type Store interface {
	// Finish writes each record if its key is free, in one round trip; outcomes[i] belongs to entries[i]. The error is
	// the first of the outcomes' or of the connection; wraps ErrUnavailable where another try may succeed. The store
	// does not keep the entries' bytes: the caller may use them again.
	Finish(ctx context.Context, entries []Entry) (outcomes []Outcome, err error)
	// Get returns the records of the IDs, nil where there is none, in one round trip.
	Get(ctx context.Context, ids ...job.ID) (records [][]byte, err error)
	// Delete drops the records of the IDs, in one round trip, for whoever keeps what they say elsewhere. It is no error if
	// there is none. An attempt at such a job that is still under way may write one again.
	Delete(ctx context.Context, ids ...job.ID) error
	// Ping reports nil when the store can be read and written.
	Ping(ctx context.Context) error
	Close() error
}

var (
	_ Store = (*Redis)(nil)
	_ Store = (*Memory)(nil)
)

// fault returns what is wrong with the entry itself, nil if nothing is.
func (e *Entry) fault() error {
	switch {
	case len(e.Record) == 0:
		return errors.New("expected a record, the entry has none")
	case len(e.Record) > MaxRecordBytes:
		return errors.New("the record is larger than 512 MiB, which is more than a store takes")
	case e.TTL < 0:
		return errors.New("the record's time to live is negative")
	}
	return nil
}

// firstError returns the error of the first outcome that has one.
func firstError(outcomes []Outcome) error {
	for i := range outcomes {
		if outcomes[i].Err != nil {
			return outcomes[i].Err
		}
	}
	return nil
}

// failAll is the outcomes of n entries whose batch failed as a whole.
func failAll(n int, err error) []Outcome {
	outcomes := make([]Outcome, n)
	for i := range outcomes {
		outcomes[i].Err = err
	}
	return outcomes
}
