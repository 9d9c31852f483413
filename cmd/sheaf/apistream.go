package main

import (
	"github.com/spf13/pflag"

	"github.com/sheafml/sheaf/httpapi"
)

// streamFlags adds the settings of the routes that are about many jobs.
func streamFlags(fs *pflag.FlagSet, cfg *httpapi.StreamConfig) {
	fs.IntVar(&cfg.BulkMaxJobs, "bulk-max-jobs", cfg.BulkMaxJobs, "lines that one bulk request may have")
	fs.IntVar(&cfg.MaxBulkRequests, "max-bulk-requests", cfg.MaxBulkRequests, "bulk requests that may be in hand at the same time; those beyond are answered 503 at once")
	fs.DurationVar(&cfg.BulkPatience, "bulk-patience", cfg.BulkPatience, "how long a bulk request waits for a queue that takes nothing, or for its caller's rate limit")
	fs.IntVar(&cfg.MaxFileStreams, "max-file-streams", cfg.MaxFileStreams, "requests that may send or read files of batches at the same time; those beyond are answered 503 at once")
	fs.IntVar(&cfg.LookupMaxIDs, "lookup-max-ids", cfg.LookupMaxIDs, "jobs that one request may look up")
	fs.IntVar(&cfg.EventsMaxIDs, "events-max-ids", cfg.EventsMaxIDs, "jobs that one stream of events may be about; each counts as a waiter")
	fs.DurationVar(&cfg.EventsHeartbeat, "events-heartbeat", cfg.EventsHeartbeat, "how often a stream of events on which nothing happens sends a comment")
	fs.DurationVar(&cfg.EventsMaxTime, "events-max-time", cfg.EventsMaxTime, "how long a stream of events lasts before its client has to come back")
	asSettings(fs, "bulk-max-jobs", "max-bulk-requests", "bulk-patience", "max-file-streams", "lookup-max-ids", "events-max-ids", "events-heartbeat", "events-max-time")
}
