package httpapi

import (
	"errors"
	"fmt"
	"time"
)

// StreamConfig holds the settings of the routes that are about many jobs.
type StreamConfig struct {
	// BulkMaxJobs bounds the lines of one bulk request.
	BulkMaxJobs int
	// MaxBulkRequests bounds the bulk requests at a time; those beyond are refused.
	MaxBulkRequests int
	// BulkPatience is how long a bulk request waits for a queue that takes nothing, and for its caller's rate.
	BulkPatience time.Duration
	// MaxFileBytes bounds a file of requests that is uploaded for a batch.
	MaxFileBytes int64
	// MaxFileStreams bounds the requests at a time that send such a file, or read one of a batch; those beyond are refused.
	MaxFileStreams int
	// LookupMaxIDs bounds the ids of one look-up.
	LookupMaxIDs int
	// EventsMaxIDs bounds the ids of one stream of events.
	EventsMaxIDs int
	// EventsHeartbeat is how often a stream on which nothing happens sends a comment.
	EventsHeartbeat time.Duration
	// EventsMaxTime is how long a stream lasts. Its client comes back.
	EventsMaxTime time.Duration
}

// DefaultStreamConfig returns the defaults.
func DefaultStreamConfig() StreamConfig {
	return StreamConfig{
		BulkMaxJobs:     100_000,
		MaxBulkRequests: 16,
		BulkPatience:    30 * time.Second,
		MaxFileBytes:    512 << 20,
		MaxFileStreams:  64,
		LookupMaxIDs:    10_000,
		EventsMaxIDs:    1000,
		EventsHeartbeat: 15 * time.Second,
		EventsMaxTime:   10 * time.Minute,
	}
}

// validate names every fault of the settings.
func (c *StreamConfig) validate() error {
	var errs []error
	for _, f := range []struct {
		name  string
		value int
	}{
		{"BulkMaxJobs", c.BulkMaxJobs},
		{"MaxBulkRequests", c.MaxBulkRequests},
		{"MaxFileStreams", c.MaxFileStreams},
		{"LookupMaxIDs", c.LookupMaxIDs},
		{"EventsMaxIDs", c.EventsMaxIDs},
	} {
		if f.value < 1 {
			errs = append(errs, fmt.Errorf("%s is %d: at least 1 is needed", f.name, f.value))
		}
	}
	if c.MaxFileBytes < 1 {
		errs = append(errs, fmt.Errorf("MaxFileBytes is %d: at least 1 is needed", c.MaxFileBytes))
	}
	for _, f := range []struct {
		name  string
		value time.Duration
	}{
		{"BulkPatience", c.BulkPatience},
		{"EventsHeartbeat", c.EventsHeartbeat},
		{"EventsMaxTime", c.EventsMaxTime},
	} {
		if f.value <= 0 {
			errs = append(errs, fmt.Errorf("%s is %s: it must be positive", f.name, f.value))
		}
	}
	return errors.Join(errs...)
}
