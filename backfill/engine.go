// Package backfill asks a model for many rows: it packs them into jobs, keeps a bounded number of those in flight on the
// bulk lane, and hands the answers back, in order if told to.
//
// Run knows neither files nor HTTP: what it reads and writes is a [Task], who computes is [Jobs].
package backfill

import (
	"context"

	"github.com/sheafml/sheaf/job"
)

// Task is what a backfill reads and writes. Parts are numbered from 0 and are cut at the same places each time, so that
// their jobs have the same keys each time; a task that goes on where another run ended leaves out what is done.
type Task interface {
	// Next returns the next part that is to be done; io.EOF at the end. It is called on one goroutine.
	Next(ctx context.Context) (Part, error)
	// Decode says what is to be asked for a part. Each unit is in one group or in refused. It is called on many goroutines.
	Decode(p Part) (groups []Group, refused []Answer)
	// Encode is given one answer for each unit of the part, sorted by unit. It is called on many goroutines.
	Encode(p Part, answers []Answer) (any, error)
	// Write takes what Encode made, once for each part, on one goroutine.
	Write(ctx context.Context, p Part, encoded any) error
	// Commit makes what was written last beyond a crash. It is called on the goroutine of Write, every Config.CommitEvery,
	// and at the end, also of a run that was stopped.
	Commit(ctx context.Context) error
}

// Part is a piece of the input that becomes one job, unless shapes differ within it or a unit spoils it.
type Part struct {
	Index int64
	Units int
	Bytes int // about what it takes in memory
	Value any // the task's own
}

// Unit is what is answered as one: a row of a file, a line of a batch.
type Unit struct {
	Index int // in its part
	Rows  int // of the batch axis
}

// Group is what one job asks.
type Group struct {
	Inputs []job.Tensor // the first dimension is the sum of the units' rows
	Units  []Unit
}

// Answer is what became of a unit: rows of outputs, or why not.
type Answer struct {
	Unit    int
	Outputs []job.Tensor // of the whole job
	At      int          // its first row in them
	Rows    int
	Result  *job.Result // of the job; nil if the unit was refused before
	Err     *job.Error
}

// Jobs computes. Key makes a repeated call the same job, and is given for nothing else. Do returns when the job is finished, succeeded or not; an error
// says that it never will be, or ctx's.
type Jobs interface {
	Do(ctx context.Context, key string, inputs []job.Tensor) (job.Result, error)
	// Forget says that the results of these keys stand elsewhere now. It is best effort.
	Forget(ctx context.Context, keys []string)
}
