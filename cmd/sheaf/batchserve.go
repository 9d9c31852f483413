package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/backfill"
	"github.com/sheafml/sheaf/batch"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/webhook"
)

// batchSettings are those of batches that the server runs.
type batchSettings struct {
	batch.Config
	places batchPlaces
}

// batchFlags adds the settings of batches.
func batchFlags(cmd *cobra.Command) *batchSettings {
	s := &batchSettings{Config: batch.DefaultConfig()}
	fs := cmd.Flags()
	fs.IntVar(&s.Runners, "batch-runners", s.Runners, "batches that this process works on at the same time; 0: none, others do")
	fs.IntVar(&s.Flight, "batch-flight", s.Flight, "jobs of one batch that are in flight")
	fs.Int64Var(&s.MaxFileBytes, "batch-max-bytes", s.MaxFileBytes, "bytes of a file of requests")
	fs.Int64Var(&s.MaxLines, "batch-max-lines", s.MaxLines, "lines of a batch")
	fs.Int64Var(&s.MaxBatchesPerTenant, "batch-max-per-tenant", s.MaxBatchesPerTenant, "batches of one tenant that are not finished")
	fs.IntVar(&s.MaxFilesPerTenant, "batch-max-files", s.MaxFilesPerTenant, "files of one tenant that are kept")
	fs.Int64Var(&s.StoreBytes, "batch-store-bytes", s.StoreBytes, "bytes that NATS reserves for the files and results of all batches; -1: no limit")
	fs.DurationVar(&s.Window, "batch-window", s.Window, "the completion window of a batch that names none")
	fs.DurationVar(&s.MaxWindow, "batch-max-window", s.MaxWindow, "the longest completion window that a batch may name")
	fs.DurationVar(&s.KeyAge, "batch-key-age", s.KeyAge, "how long an Idempotency-Key gives the batch that it has made")
	fs.DurationVar(&s.Retention, "batch-retention", s.Retention, "how long files are kept, and batches with their results after their end")
	fs.DurationVar(&s.Lease, "batch-lease", s.Lease, "a dead process's batches are taken over by another after this")
	fs.DurationVar(&s.Slice, "batch-slice", s.Slice, "how long one batch is worked on while others have not been begun")
	fs.StringSliceVar(&s.places.allow.Prefixes, "batch-urls", nil, "`LIST` of what the URLs may begin with that batches name, such as s3://lake/in/?region=eu-1; none unless given")
	asSettings(fs, "batch-urls", "batch-runners", "batch-flight", "batch-max-bytes", "batch-max-lines", "batch-max-per-tenant", "batch-max-files", "batch-store-bytes",
		"batch-window", "batch-max-window", "batch-retention", "batch-key-age", "batch-lease", "batch-slice")
	return s
}

// check names what is wrong with the settings.
func (s *batchSettings) check() error {
	return withCode(exitUsage, errors.Join(batchByFlag(s.Validate()), s.places.allow.Validate()))
}

// open makes the service. policy is nil if there are no webhooks; jobs is asked when a batch is run.
func (s *batchSettings) open(on plant, models *model.Catalog, policy *webhook.Policy, jobs func() *gateway.Gateway) (*batch.Service, error) {
	cfg := s.Config
	cfg.MaxLineBytes = on.limits.MaxBytes
	deps := batch.Deps{
		Queue: on.queue, Models: models, Limits: on.limits, Logger: on.logger, Registerer: on.registry, Reach: on.reach,
		Jobs: func(c backfill.GatewayConfig) backfill.Jobs { return backfill.ThroughGateway(jobs(), on.results, c) },
	}
	if policy != nil {
		deps.Webhooks = policy
	}
	if len(s.places.allow.Prefixes) > 0 {
		deps.Inputs, deps.Outputs = &s.places, &s.places
	}
	service, err := batch.New(cfg, deps)
	return service, withCode(exitUsage, batchByFlag(err))
}

// batchByFlag is byFlag for settings of batches, some of which are named as others are.
func batchByFlag(err error) error {
	if err == nil {
		return nil
	}
	names := strings.NewReplacer(
		"Runners", "--batch-runners",
		"Flight", "--batch-flight",
		"MaxFileBytes", "--batch-max-bytes",
		"MaxLineBytes", "--max-body-bytes",
		"MaxLines", "--batch-max-lines",
		"MaxBatchesPerTenant", "--batch-max-per-tenant",
		"MaxFilesPerTenant", "--batch-max-files",
		"StoreBytes", "--batch-store-bytes",
		"MaxWindow", "--batch-max-window",
		"Window", "--batch-window",
		"Retention", "--batch-retention",
		"KeyAge", "--batch-key-age",
		"Lease", "--batch-lease",
		"Slice", "--batch-slice",
	)
	return &namedError{text: names.Replace(fmt.Sprint(err)), err: err}
}
