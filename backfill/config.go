package backfill

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// Config holds the settings of a Run. Start from DefaultConfig.
type Config struct {
	// Flight is how many jobs are in flight at a time. Together they should keep every worker busy, and no more: what is
	// in flight when a process is killed may be computed once more.
	Flight int
	// MaxAhead bounds the bytes of parts that are in hand: read, in flight, or waiting for one before them to be written.
	MaxAhead int64
	// CommitEvery is how often what was written is made last.
	CommitEvery time.Duration
	// MaxErrors stops the run when more units than this are bad; negative: never.
	MaxErrors int64
	// MaxRate bounds the units that are asked a second; 0: nothing does.
	MaxRate float64
	// Windows are the times of day in which units are asked; none: always.
	Windows []Window
	// Ordered has parts written in the order of the input. Else they are written as they come.
	Ordered bool
}

// DefaultConfig returns the defaults: 16 jobs in flight, 64 MiB in hand, a commit every two seconds, every error borne.
func DefaultConfig() Config {
	return Config{Flight: 16, MaxAhead: 64 << 20, CommitEvery: 2 * time.Second, MaxErrors: -1}
}

// Validate names every fault of the settings at once.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Flight < 1 || c.Flight > 4096 {
		bad("jobs in flight %d: 1 to 4096 are expected", c.Flight)
	}
	if c.MaxAhead < 1 {
		bad("bytes in hand %d: more than 0 are expected", c.MaxAhead)
	}
	if c.CommitEvery <= 0 {
		bad("pause between commits %s: more than 0 is expected", c.CommitEvery)
	}
	if c.MaxRate < 0 {
		bad("maximum rate %g: 0 (no bound) or more is expected", c.MaxRate)
	}
	for _, w := range c.Windows {
		if err := w.validate(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Deps is what a Run stands on. Jobs, Task and Key are needed.
type Deps struct {
	Jobs Jobs
	Task Task
	// Key is what the keys of all jobs begin with. Another backfill must have another.
	Key string
	// Logger gets what goes wrong on the way, at warning level. Nil is silent.
	Logger *slog.Logger
}

func (d *Deps) validate() error {
	var errs []error
	for _, f := range []struct {
		name    string
		missing bool
	}{{"Jobs", d.Jobs == nil}, {"Task", d.Task == nil}, {"Key", d.Key == ""}} {
		if f.missing {
			errs = append(errs, fmt.Errorf("%s is missing: a backfill needs it", f.name))
		}
	}
	return errors.Join(errs...)
}

// ErrTooManyErrors says that more units were bad than Config.MaxErrors allows.
var ErrTooManyErrors = errors.New("too many bad rows")

// ErrUnavailable says that what computes was full or out of reach for longer than it is waited for.
var ErrUnavailable = errors.New("no job was taken or answered")
