package worker

import (
	"errors"
	"fmt"
	"time"

	"github.com/sheafml/sheaf/job"
)

// Config says how a pool works. Start from DefaultConfig.
type Config struct {
	// DrainTimeout is how long batches in flight may take to finish after a shutdown began.
	DrainTimeout time.Duration
	// MaxAttempts is how often a job is tried before it is given up: a failed record and a dead letter. See Retry, which
	// a model may have of its own.
	MaxAttempts int
	// Limits bounds what is believed of a message.
	Limits job.Limits
	// ReserveBulk is the share of rows that the bulk lane gets while both lanes have work, 0 to 0.5.
	// Beyond it, bulk only fills what interactive batches leave free.
	ReserveBulk float64
	// BulkSlice bounds the time that bulk rows add to a run with interactive jobs, which wait for it. It is for models that
	// take milliseconds a row. 0 is no bound.
	BulkSlice time.Duration
	// ExpressInstances is how many instances a model has besides its own, for what would wait for a run of others:
	// interactive jobs overtake runs of bulk there, and those of one tenant the runs that are mostly another's who has more
	// waiting. It is never more than the model's own. The run that is overtaken goes on, so the model may use one more CPU,
	// and the memory of its activations, for each meanwhile. 0 is none: then everybody waits for the run that he meets.
	ExpressInstances int
	// YieldNice is how far runs of bulk, and those of tenants who flood while there are others, step back behind all other
	// threads, if they take 2 ms or more: 1 to 19 as nice(1) has it, 0 not at all. It counts within the worker's control
	// group: in its container, if it has one. Only Linux has it.
	YieldNice int
	// Ahead is how much work, in time at the measured speed, is fetched before it is needed, for each lane of a model.
	// At least two batches are held ahead.
	Ahead time.Duration
	// LeaseFraction bounds Ahead: no more work is held than fits into this share of a lease (AckWait).
	LeaseFraction float64
	// BufferBytes bounds the messages held ahead for one lane of a model, by their size. Like Ahead it is divided among the
	// shares of tenants that have more to bring than fits, and exceeded, up to 2.7 times with 8 shares, while their number
	// changes.
	BufferBytes int
	// Settlers is how many batches of a model may be written to the result store while all its instances compute.
	Settlers int
	// RunTimeout is how long one run of a model may take. A batch that takes longer is stopped and its jobs are run alone;
	// a job that takes longer alone has failed.
	RunTimeout time.Duration
	// FetchWait is how long one request for messages waits when there are none.
	FetchWait time.Duration
	// RetryDelay is the delay of a redelivery after a failure that may pass, such as memory running out. It doubles with
	// each attempt up to RetryDelayMax; the actual delay is between half of it and all of it, and ends with the job's
	// deadline at the latest.
	RetryDelay    time.Duration
	RetryDelayMax time.Duration
	// OutageDelay is the pause after a failed request to NATS or to the result store. It doubles up to OutageDelayMax,
	// with jitter as above.
	OutageDelay    time.Duration
	OutageDelayMax time.Duration
	// SweepInterval is how often, on average, the lanes are searched for messages that JetStream has given up and nobody
	// heard of.
	SweepInterval time.Duration
}

// DefaultConfig returns the settings that fit most models.
func DefaultConfig() Config {
	return Config{
		DrainTimeout:     25 * time.Second,
		MaxAttempts:      5,
		Limits:           job.DefaultLimits(),
		ReserveBulk:      0.1,
		BulkSlice:        time.Millisecond,
		ExpressInstances: 8,
		YieldNice:        19,
		Ahead:            50 * time.Millisecond,
		LeaseFraction:    0.1,
		BufferBytes:      64 << 20,
		Settlers:         1,
		RunTimeout:       5 * time.Minute,
		FetchWait:        time.Second,
		RetryDelay:       250 * time.Millisecond,
		RetryDelayMax:    5 * time.Second,
		OutageDelay:      50 * time.Millisecond,
		OutageDelayMax:   2 * time.Second,
		SweepInterval:    time.Minute,
	}
}

// expressLimit is far beyond what a machine has use for.
const expressLimit = 64

// Validate names every fault at once.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"DrainTimeout", c.DrainTimeout},
		{"Ahead", c.Ahead},
		{"RunTimeout", c.RunTimeout},
		{"FetchWait", c.FetchWait},
		{"RetryDelay", c.RetryDelay},
		{"OutageDelay", c.OutageDelay},
		{"SweepInterval", c.SweepInterval},
	} {
		if d.value <= 0 {
			bad("%s is %v: it must be positive", d.name, d.value)
		}
	}
	if c.MaxAttempts < 1 || c.MaxAttempts > attemptsLimit {
		bad("MaxAttempts is %d: expected 1 to %d", c.MaxAttempts, attemptsLimit)
	}
	if c.ReserveBulk < 0 || c.ReserveBulk > 0.5 {
		bad("ReserveBulk is %v: expected a share between 0 and 0.5", c.ReserveBulk)
	}
	if c.BulkSlice < 0 {
		bad("BulkSlice is %v: it must not be negative; 0 is no bound", c.BulkSlice)
	}
	if c.ExpressInstances < 0 || c.ExpressInstances > expressLimit {
		bad("ExpressInstances is %d: expected 0 to %d", c.ExpressInstances, expressLimit)
	}
	if c.YieldNice < 0 || c.YieldNice > 19 {
		bad("YieldNice is %d: expected 0 to 19", c.YieldNice)
	}
	if c.LeaseFraction <= 0 || c.LeaseFraction > 1 {
		bad("LeaseFraction is %v: expected a share above 0 and at most 1", c.LeaseFraction)
	}
	if c.BufferBytes < 1 {
		bad("BufferBytes is %d: it must be positive", c.BufferBytes)
	}
	if c.Settlers < 0 {
		bad("Settlers is %d: it must not be negative", c.Settlers)
	}
	if c.RetryDelayMax < c.RetryDelay {
		bad("RetryDelayMax is %v: it must not be below RetryDelay (%v)", c.RetryDelayMax, c.RetryDelay)
	}
	if c.OutageDelayMax < c.OutageDelay {
		bad("OutageDelayMax is %v: it must not be below OutageDelay (%v)", c.OutageDelayMax, c.OutageDelay)
	}
	if err := c.Limits.Validate(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("worker settings: %w", err)
	}
	return nil
}
