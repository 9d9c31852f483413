package main

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

// plant is what the API and the workers of a process stand on.
type plant struct {
	queue    *queue.Queue
	results  resultstore.Store
	limits   job.Limits
	registry *prometheus.Registry
	logger   *slog.Logger
	reach    failpoint.Hook
}
