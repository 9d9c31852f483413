// Package resultstore is the skeleton of the seam; see the functions.
package resultstore

import (
	"context"
	"errors"
	"time"

	"github.com/sheafml/sheaf/job"
)

// ErrUnavailable says that the store cannot be reached or does not take writes now; trying again later may succeed.
var ErrUnavailable = errors.New("the result store is unavailable")

// Entry is one terminal record to write.
type Entry struct {
	ID     job.ID
	Record []byte        // as job.AppendRecord makes it
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
	// the first of the outcomes' or of the connection; wraps ErrUnavailable where another try may succeed.
	Finish(ctx context.Context, entries []Entry) (outcomes []Outcome, err error)
	// Get returns the records of the IDs, nil where there is none, in one round trip.
	Get(ctx context.Context, ids ...job.ID) (records [][]byte, err error)
	// Ping reports nil when the store can be read and written.
	Ping(ctx context.Context) error
	Close() error
}
