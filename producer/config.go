package producer

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// Config holds the settings of a Producer.
type Config struct {
	// Queue is the connection that Connect opens; New does not look at it.
	Queue queue.Config
	// Limits bounds one request.
	Limits job.Limits
	// ChunkJobs is how many jobs SubmitAll hands to the queue at a time.
	ChunkJobs int
	// MaxInFlight is how many such chunks SubmitAll has in flight.
	MaxInFlight int
	// MaxSubmits is how many calls of Submit may be in flight in this process; those beyond are refused with ErrBusy.
	MaxSubmits int
	// DeadlineMargin is how many times the expected wait of a job has to fit into the time until its deadline; a job for
	// which it does not is refused with ErrTooLate. The wait is an estimate, and others submit too, so 1 is too little
	// for most. 0 refuses no job for its deadline.
	DeadlineMargin float64
	// RetryMax is the longest pause of SubmitAll between two tries at a queue that is full or out of reach.
	RetryMax time.Duration
	// Logger is told of broken announcements. Nil is silent.
	Logger *slog.Logger
	// Reach is told of each step of the crash table. Nil, as outside tests, is nobody.
	Reach failpoint.Hook
}

// DefaultConfig returns the defaults: NATS on this machine, chunks of 256 jobs, 4 in flight, 4096 submits in
// flight, and a margin of a quarter for deadlines.
func DefaultConfig() Config {
	return Config{
		Queue:          queue.DefaultConfig(),
		Limits:         job.DefaultLimits(),
		ChunkJobs:      256,
		MaxInFlight:    4,
		MaxSubmits:     4096,
		DeadlineMargin: 1.25,
		RetryMax:       2 * time.Second,
	}
}

// Validate names every fault of the settings.
func (c *Config) Validate() error {
	var errs []error
	if c.ChunkJobs < 1 {
		errs = append(errs, fmt.Errorf("ChunkJobs is %d: at least 1 is needed", c.ChunkJobs))
	}
	if c.MaxInFlight < 1 {
		errs = append(errs, fmt.Errorf("MaxInFlight is %d: at least 1 is needed", c.MaxInFlight))
	}
	if c.MaxSubmits < 1 {
		errs = append(errs, fmt.Errorf("MaxSubmits is %d: at least 1 is needed", c.MaxSubmits))
	}
	if c.DeadlineMargin != 0 && !(c.DeadlineMargin >= 1 && c.DeadlineMargin <= maxMargin) {
		errs = append(errs, fmt.Errorf("DeadlineMargin is %v: expected 1 to %d, or 0 to refuse no job for its deadline", c.DeadlineMargin, maxMargin))
	}
	if c.RetryMax <= 0 {
		errs = append(errs, fmt.Errorf("RetryMax is %s: it must be positive", c.RetryMax))
	}
	if err := c.Limits.Validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// maxMargin keeps a margin from refusing every job with a deadline.
const maxMargin = 100
