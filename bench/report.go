package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// Names of the systems and of the processes whose CPU time is counted.
const (
	systemSheaf = "Sheaf"
	systemAsynq = "asynq"

	cpuProducer = "producer" // this program: it submits, and counts the results
	cpuNATS     = "nats"
	cpuWorker   = "worker"
	cpuRedis    = "redis"
)

// report is everything that was measured.
type report struct {
	At         time.Time    `json:"at"`
	Seconds    float64      `json:"seconds"` // of the whole run
	Quick      bool         `json:"quick,omitempty"`
	Facts      facts        `json:"facts"`
	Settings   settings     `json:"settings"`
	Throughput []throughput `json:"throughput"`
	Ratio      *summary     `json:"ratio,omitempty"` // of Sheaf's jobs/s to asynq's, round by round
	Latency    []latency    `json:"latency,omitempty"`
}

// settings are those that shape the figures.
type settings struct {
	RedisAppendOnly  bool               `json:"redis_appendonly"`
	RedisFsync       string             `json:"redis_appendfsync"`
	NATSSyncInterval string             `json:"nats_sync_interval"`
	AsynqConcurrency int                `json:"asynq_concurrency,omitempty"`
	AsynqTried       map[string]float64 `json:"asynq_concurrency_tried,omitempty"` // jobs/s
	AsynqClients     int                `json:"asynq_clients,omitempty"`
	AsynqInterval    string             `json:"asynq_task_check_interval,omitempty"`
}

// round is one measurement of throughput.
type round struct {
	Jobs          int     `json:"jobs"`
	Seconds       float64 `json:"seconds"`
	JobsPerSecond float64 `json:"jobs_per_second"`
	// CPU is the time that each process used, in µs a job. Empty where the system does not tell.
	CPU map[string]float64 `json:"cpu_us_per_job,omitempty"`
	// OtherCPUs is how many CPUs everything else on the machine kept busy meanwhile.
	OtherCPUs   float64 `json:"other_cpus"`
	MessageJobs float64 `json:"jobs_per_message,omitempty"`
	BatchRows   float64 `json:"rows_per_batch,omitempty"`
}

func newRound(jobs int, took time.Duration) round {
	return round{Jobs: jobs, Seconds: took.Seconds(), JobsPerSecond: float64(jobs) / took.Seconds()}
}

// throughput is the rounds of one system.
type throughput struct {
	System        string  `json:"system"`
	Rounds        []round `json:"rounds"`
	JobsPerSecond summary `json:"jobs_per_second"`
}

func newThroughput(system string, rounds []round) throughput {
	t := throughput{System: system, Rounds: rounds}
	t.JobsPerSecond = t.summary(func(r round) float64 { return r.JobsPerSecond })
	return t
}

// summary summarizes one figure of the rounds.
func (t *throughput) summary(figure func(round) float64) summary {
	values := make([]float64, len(t.Rounds))
	for i, r := range t.Rounds {
		values[i] = figure(r)
	}
	return summarize(values)
}

// ratios compares two systems round by round, so that what disturbed the machine in one round disturbs both sides of
// its ratio. It is nil if there are no rounds of both.
func ratios(a, b []round) *summary {
	var values []float64
	for i := range min(len(a), len(b)) {
		values = append(values, a[i].JobsPerSecond/b[i].JobsPerSecond)
	}
	if len(values) == 0 {
		return nil
	}
	s := summarize(values)
	return &s
}

// latency is the open loops of one system at one rate.
type latency struct {
	System string       `json:"system"`
	Rate   int          `json:"rate"` // jobs/s offered
	Runs   []latencyRun `json:"runs"`
}

// median is the median of one figure of the runs.
func (l *latency) median(figure func(latencyRun) float64) float64 {
	values := make([]float64, len(l.Runs))
	for i, r := range l.Runs {
		values[i] = figure(r)
	}
	return summarize(values).Median
}

// latencyRun is one open loop. Times are in milliseconds.
type latencyRun struct {
	Jobs    int     `json:"jobs"`
	Seconds float64 `json:"seconds"`
	P50     float64 `json:"p50_ms"`
	P90     float64 `json:"p90_ms"`
	P99     float64 `json:"p99_ms"`
	Max     float64 `json:"max_ms"`
	// Late is how late this program itself began the submits; it is part of the latencies.
	LateP50 float64 `json:"late_p50_ms"`
	LateP99 float64 `json:"late_p99_ms"`
	// NoticesLost counts results that stood although nobody had been told.
	NoticesLost int `json:"notices_lost"`
	// Held says that the last result stood within a second of the last arrival.
	Held bool `json:"held"`
}

// writeJSON writes the report to a file.
func (r *report) writeJSON(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	return os.WriteFile(file, append(b, '\n'), 0o644) //nolint:gosec // a report is for everybody
}
