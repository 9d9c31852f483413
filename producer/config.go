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
	// RetryMax is the longest pause of SubmitAll between two tries at a queue that is full or out of reach.
	RetryMax time.Duration
	// Logger is told of broken announcements. Nil is silent.
	Logger *slog.Logger
	// Reach is told of each step of the crash table. Nil, as outside tests, is nobody.
	Reach failpoint.Hook
}

// DefaultConfig returns the defaults: NATS on this machine, chunks of 256 jobs, 4 in flight.
func DefaultConfig() Config {
	return Config{
		Queue:       queue.DefaultConfig(),
		Limits:      job.DefaultLimits(),
		ChunkJobs:   256,
		MaxInFlight: 4,
		RetryMax:    2 * time.Second,
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
	if c.RetryMax <= 0 {
		errs = append(errs, fmt.Errorf("RetryMax is %s: it must be positive", c.RetryMax))
	}
	if err := c.Limits.Validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
