package main

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/internal/telemetry"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// logFlags adds --log-level and --log-format.
func logFlags(cmd *cobra.Command) *telemetry.Config {
	cfg := telemetry.DefaultConfig()
	fs := cmd.Flags()
	fs.StringVar(&cfg.Level, "log-level", cfg.Level, "debug, info, warn or error")
	fs.StringVar(&cfg.Format, "log-format", cfg.Format, "text or json")
	asSettings(fs, "log-level", "log-format")
	return &cfg
}

func newLogger(w io.Writer, cfg *telemetry.Config) (*slog.Logger, error) {
	logger, err := telemetry.NewLogger(w, *cfg)
	return logger, withCode(exitUsage, err)
}

// natsFlags adds the settings of the connection to NATS.
func natsFlags(cmd *cobra.Command) *queue.Config {
	cfg := queue.DefaultConfig()
	fs := cmd.Flags()
	fs.StringVar(&cfg.URL, "nats-url", cfg.URL, "NATS server, or a comma-separated `LIST` of a cluster's")
	fs.StringVar(&cfg.CredsFile, "nats-creds", "", "credentials `FILE` of NATS")
	fs.StringVar(&cfg.NKeyFile, "nats-nkey", "", "`FILE` with the nkey seed for NATS")
	fs.StringVar(&cfg.TLS.CAFile, "nats-tls-ca", "", "PEM `FILE` of authorities to trust for NATS")
	fs.StringVar(&cfg.TLS.CertFile, "nats-tls-cert", "", "PEM `FILE` of the client certificate for NATS")
	fs.StringVar(&cfg.TLS.KeyFile, "nats-tls-key", "", "PEM `FILE` of its key")
	asSettings(fs, "nats-url", "nats-creds", "nats-nkey", "nats-tls-ca", "nats-tls-cert", "nats-tls-key")
	return &cfg
}

// publishFlags adds the settings of whoever submits jobs to the queue.
func publishFlags(cmd *cobra.Command, cfg *queue.Config) {
	fs := cmd.Flags()
	fs.IntVar(&cfg.Publish.MaxJobs, "sheaf-jobs", cfg.Publish.MaxJobs, "jobs that one message may carry")
	fs.IntVar(&cfg.Publish.MaxBytes, "sheaf-bytes", cfg.Publish.MaxBytes, "bytes that several jobs in one message may have")
	fs.DurationVar(&cfg.Publish.Linger, "sheaf-linger", cfg.Publish.Linger, "how long a message may wait for more jobs right after one that carried 8 or more; 0: not at all")
	fs.DurationVar(&cfg.Publish.Timeout, "publish-timeout", cfg.Publish.Timeout, "how long a publish is tried before it counts as failed")
	asSettings(fs, "sheaf-jobs", "sheaf-bytes", "sheaf-linger", "publish-timeout")
}

// laneFlags adds the settings of the streams, for whoever makes sure that they are there.
func laneFlags(cmd *cobra.Command, cfg *queue.Config) {
	fs := cmd.Flags()
	fs.IntVar(&cfg.Replicas, "replicas", cfg.Replicas, "servers of a NATS cluster that keep each stream: 1, 3 or 5")
	fs.DurationVar(&cfg.DuplicateWindow, "duplicate-window", cfg.DuplicateWindow, "how long NATS remembers the ID of a message")
	fs.IntVar(&cfg.TenantShares, "tenant-shares", cfg.TenantShares, "shares over which the tenants of a lane are spread, and which are served in turn, 1 to 64; of the settings of all workers the largest counts")
	asSettings(fs, "replicas", "duplicate-window", "tenant-shares")
	for _, lane := range []struct {
		name string
		cfg  *queue.LaneConfig
	}{{job.Interactive.String(), &cfg.Interactive}, {job.Bulk.String(), &cfg.Bulk}} {
		flag := func(what string) string { return lane.name + "-" + what }
		fs.DurationVar(&lane.cfg.AckWait, flag("ack-wait"), lane.cfg.AckWait, "a dead worker's jobs of this lane are given to another after this")
		fs.Int64Var(&lane.cfg.MaxMsgs, flag("max-msgs"), lane.cfg.MaxMsgs, "messages that may wait in this lane")
		fs.Int64Var(&lane.cfg.MaxBytes, flag("max-bytes"), lane.cfg.MaxBytes, "bytes that may wait in this lane")
		fs.Int64Var(&lane.cfg.MaxMsgsPerSubject, flag("max-msgs-per-tenant"), lane.cfg.MaxMsgsPerSubject, "messages that one tenant may have waiting for one model")
		asSettings(fs, flag("ack-wait"), flag("max-msgs"), flag("max-bytes"), flag("max-msgs-per-tenant"))
	}
}

// limitFlags adds the bounds of one request.
func limitFlags(cmd *cobra.Command) *job.Limits {
	lim := job.DefaultLimits()
	fs := cmd.Flags()
	fs.IntVar(&lim.MaxBytes, "max-body-bytes", lim.MaxBytes, "bytes of one request or message")
	fs.IntVar(&lim.MaxRows, "max-rows", lim.MaxRows, "rows of one job")
	fs.IntVar(&lim.MaxRank, "max-rank", lim.MaxRank, "dimensions of one tensor")
	fs.IntVar(&lim.MaxElements, "max-elements", lim.MaxElements, "elements of one tensor")
	fs.IntVar(&lim.MaxTensors, "max-tensors", lim.MaxTensors, "inputs of one job")
	asSettings(fs, "max-body-bytes", "max-rows", "max-rank", "max-elements", "max-tensors")
	return &lim
}

// checkGiven is checkPositive for a duration that need not be given.
func checkGiven(cmd *cobra.Command, name string, d time.Duration) error {
	if !cmd.Flags().Changed(name) {
		return nil
	}
	return checkPositive(name, d)
}

// checkPositive names a duration setting that is not positive.
func checkPositive(name string, d time.Duration) error {
	if d <= 0 {
		return withCode(exitUsage, fmt.Errorf("--%s is %s: it must be positive", name, d))
	}
	return nil
}
