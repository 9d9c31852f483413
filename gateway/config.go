package gateway

import (
	"errors"
	"fmt"
	"time"
)

// Config holds the settings of a Gateway. Start from [DefaultConfig].
type Config struct {
	// MaxWait caps what a client may ask to wait; a longer wish is not an error, its wait ends here.
	MaxWait time.Duration
	// SubmitTimeout bounds how long a job may take to be accepted while NATS is out of reach.
	SubmitTimeout time.Duration
	// LookupTimeout bounds one look-up, and the write of a cancel or of an end that a deadline brings.
	LookupTimeout time.Duration
	// PollInterval is how often all waiters together are looked up, in case that a notice was lost.
	PollInterval time.Duration
	// MaxWaiters bounds the jobs that are waited for at a time, one by most requests, several by a [Watch]; requests beyond
	// are refused.
	MaxWaiters int
}

// DefaultConfig returns the defaults: waits of 60 s at most, 10,000 waiters.
func DefaultConfig() Config {
	return Config{
		MaxWait:       60 * time.Second,
		SubmitTimeout: 10 * time.Second,
		LookupTimeout: 5 * time.Second,
		PollInterval:  500 * time.Millisecond,
		MaxWaiters:    10_000,
	}
}

// Validate names every fault of the settings.
func (c *Config) Validate() error {
	var errs []error
	for _, f := range []struct {
		name  string
		value time.Duration
	}{
		{"MaxWait", c.MaxWait},
		{"SubmitTimeout", c.SubmitTimeout},
		{"LookupTimeout", c.LookupTimeout},
		{"PollInterval", c.PollInterval},
	} {
		if f.value <= 0 {
			errs = append(errs, fmt.Errorf("%s is %s: it must be positive", f.name, f.value))
		}
	}
	if c.MaxWaiters < 1 {
		errs = append(errs, fmt.Errorf("MaxWaiters is %d: at least 1 is needed", c.MaxWaiters))
	}
	return errors.Join(errs...)
}
