package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// ackWait is the lease of both lanes in a run: short, so that a job of a dead worker comes back soon.
const ackWait = 2 * time.Second

// config holds the settings of one run.
type config struct {
	seed      uint64
	jobs      int
	faults    int
	gap       time.Duration // between the beginnings of two faults, on average
	duration  time.Duration // of the whole run, at most
	settle    time.Duration // without a single new result at the end, after which what is missing is lost
	httpShare float64       // of the jobs are submitted over HTTP, the others through the producer package
	cancels   float64       // of the look-ups at unfinished jobs, and of the submits over HTTP, are followed by a cancel
	deadlines float64       // of the jobs have a short deadline
	fsync     string        // Redis's appendfsync
	unsafe    bool          // kill -9 Redis whatever fsync is
	root      string        // the repository
	jsonFile  string
	keep      bool
	quick     bool
}

// defaultConfig returns the full run: 100,000 jobs and 200 faults in about six minutes.
func defaultConfig() config {
	return config{
		seed: 1, jobs: 100_000, faults: 200, gap: 1200 * time.Millisecond, duration: 20 * time.Minute,
		settle: 45 * time.Second, httpShare: 0.1, cancels: 0.2, deadlines: 0.05, fsync: "always", root: ".",
	}
}

// shorten makes the run take half a minute, as CI wants it; on a busy machine more.
func (c *config) shorten() {
	c.jobs, c.faults, c.gap, c.duration, c.settle = 5_000, 16, 1300*time.Millisecond, 3*time.Minute, 30*time.Second
}

func (c *config) validate() error {
	var errs []error
	if c.jobs < 1 || c.jobs > 5_000_000 {
		errs = append(errs, fmt.Errorf("-jobs is %d: expected 1 to 5,000,000", c.jobs))
	}
	if c.faults < 0 || c.faults > 10_000 {
		errs = append(errs, fmt.Errorf("-faults is %d: expected 0 to 10,000", c.faults))
	}
	if c.gap < 50*time.Millisecond {
		errs = append(errs, fmt.Errorf("-gap is %v: at least 50ms are expected", c.gap))
	}
	if c.duration < 10*time.Second {
		errs = append(errs, fmt.Errorf("-duration is %v: at least 10s are expected", c.duration))
	}
	if c.settle < time.Second {
		errs = append(errs, fmt.Errorf("-settle is %v: at least 1s is expected", c.settle))
	}
	for _, share := range []struct {
		name  string
		value float64
	}{{"http-share", c.httpShare}, {"cancels", c.cancels}, {"deadlines", c.deadlines}} {
		if !(share.value >= 0 && share.value <= 1) {
			errs = append(errs, fmt.Errorf("-%s is %v: expected 0 to 1", share.name, share.value))
		}
	}
	if c.fsync != "always" && c.fsync != "everysec" {
		errs = append(errs, fmt.Errorf("-redis-fsync is %q: expected always or everysec", c.fsync))
	}
	return errors.Join(errs...)
}

// killRedis reports whether Redis may be killed. With everysec it may have told a worker that a record is stored before
// it has written it to its file, so that a kill loses results whose jobs are acknowledged: that is documented.
func (c *config) killRedis() bool { return c.fsync == "always" || c.unsafe }

func (c *config) sheafBinary() string { return filepath.Join(c.root, "bin", "sheaf") }

func (c *config) natsBinary() string { return filepath.Join(c.root, "bin", "nats-server") }

func (c *config) digits() string { return filepath.Join(c.root, "examples", "models", modelName) }
