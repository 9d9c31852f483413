package batch

import (
	"errors"
	"fmt"
	"time"

	"github.com/sheafml/sheaf/queue"
)

// Config bounds batches. Start from [DefaultConfig].
type Config struct {
	// Runners is how many batches this process works on at a time; 0 is none.
	Runners int
	// Flight is how many jobs of one batch are in flight.
	Flight int
	// CommitEvery is how often what was computed is recorded: what a crash has computed once more.
	CommitEvery time.Duration
	// Lease is within what time another process takes over the batches of one that died.
	Lease time.Duration

	// MaxFileBytes bounds a file, MaxLines the lines of a batch, and MaxLineBytes one line.
	MaxFileBytes int64
	MaxLines     int64
	MaxLineBytes int
	// MaxFilesPerTenant bounds the uploaded files of a tenant, and MaxBatchesPerTenant its unfinished batches;
	// MaxBatches those of all.
	MaxFilesPerTenant   int
	MaxBatchesPerTenant int64
	MaxBatches          int64
	// StoreBytes is what the server reserves for files and outputs of all tenants; -1 is no limit.
	StoreBytes int64

	// Window is the completion window of a batch that names none, and MaxWindow the longest.
	Window, MaxWindow time.Duration
	// Retention is how long files are kept, and a batch with its outputs after its end.
	Retention time.Duration
	// KeyAge is how long an Idempotency-Key counts. After that it makes another batch.
	KeyAge time.Duration
	// SweepEvery is how often what is over is deleted.
	SweepEvery time.Duration

	// Slice is how long a runner works on one batch while others have not been taken up at all: a long one delays a short
	// one by no more.
	Slice time.Duration

	// MaxStarts is how often a batch is taken up that makes no progress in between, before it fails: what makes its
	// process die must not go round for ever.
	MaxStarts int
}

// DefaultConfig is for files of up to 512 MiB and a million lines.
func DefaultConfig() Config {
	return Config{
		Runners: 1, Flight: 64, CommitEvery: 2 * time.Second, Lease: 30 * time.Second,
		MaxFileBytes: 512 << 20, MaxLines: 1_000_000, MaxLineBytes: 8 << 20,
		MaxFilesPerTenant: 1000, MaxBatchesPerTenant: 100, MaxBatches: 10_000, StoreBytes: 2 << 30,
		Window: 24 * time.Hour, MaxWindow: 7 * 24 * time.Hour, Retention: 7 * 24 * time.Hour, KeyAge: 24 * time.Hour, SweepEvery: 10 * time.Minute,
		Slice: time.Minute, MaxStarts: 10,
	}
}

// backstop is the age at which the server forgets what nobody has deleted: more than anything may live.
func (c *Config) backstop() time.Duration { return 2*c.Retention + c.MaxWindow + 24*time.Hour }

// limits are those of the stream.
func (c *Config) limits() queue.BatchLimits {
	return queue.BatchLimits{Lease: c.Lease, Max: c.MaxBatches, MaxPerTenant: c.MaxBatchesPerTenant}
}

// Validate names every fault of the settings at once.
func (c *Config) Validate() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Runners < 0 || c.Runners > 1000 {
		bad("Runners is %d: 0 to 1000 are expected", c.Runners)
	}
	for _, n := range []struct {
		name string
		n    int64
	}{
		{"Flight", int64(c.Flight)},
		{"MaxFileBytes", c.MaxFileBytes},
		{"MaxLines", c.MaxLines},
		{"MaxLineBytes", int64(c.MaxLineBytes)},
		{"MaxFilesPerTenant", int64(c.MaxFilesPerTenant)},
		{"MaxBatchesPerTenant", c.MaxBatchesPerTenant},
		{"MaxBatches", c.MaxBatches},
		{"MaxStarts", int64(c.MaxStarts)},
	} {
		if n.n < 1 {
			bad("%s is %d: it must be positive", n.name, n.n)
		}
	}
	if c.StoreBytes == 0 || c.StoreBytes < -1 {
		bad("StoreBytes is %d: more than 0 is expected, or -1 for no limit", c.StoreBytes)
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"CommitEvery", c.CommitEvery}, {"Window", c.Window}, {"MaxWindow", c.MaxWindow}, {"Retention", c.Retention}, {"KeyAge", c.KeyAge}, {"SweepEvery", c.SweepEvery}, {"Slice", c.Slice}} {
		if d.d <= 0 {
			bad("%s is %v: it must be positive", d.name, d.d)
		}
	}
	if c.Lease < 100*time.Millisecond {
		bad("Lease is %v: at least 100ms are expected", c.Lease)
	}
	if c.Window > c.MaxWindow {
		bad("Window is %v: at most MaxWindow (%v) is expected", c.Window, c.MaxWindow)
	}
	return errors.Join(faults...)
}
