package webhook

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Config says how webhooks are delivered. Start from [DefaultConfig].
type Config struct {
	// Schedule is the pauses after the first, second … failed attempt; each is made up to a fifth longer. One attempt more
	// than there are pauses is made. A job's result must outlive them all: without it there is nothing to send.
	Schedule []time.Duration
	// Timeout bounds one attempt, from the look-up of the name to the end of the answer's headers.
	Timeout time.Duration
	// RetryAfterMax bounds by how much a receiver's Retry-After can put off the next attempt.
	RetryAfterMax time.Duration

	// Concurrency bounds the attempts of this process at a time, PerTenant those of one tenant and PerHost those at one
	// host: a receiver that is slow or dead holds up no other.
	Concurrency, PerTenant, PerHost int

	// MaxPayload is how many bytes a payload may have. A larger one is sent without the job's outputs.
	MaxPayload int

	// AllowHTTP lets webhooks be http:// too.
	AllowHTTP bool
	// AllowNetworks are networks that may be called although they are not public.
	AllowNetworks []netip.Prefix

	// StopTimeout is how long attempts in hand may go on when the process ends; what they leave comes again elsewhere.
	StopTimeout time.Duration

	// Overlap is how long a rotated secret goes on to sign, beside the new one.
	Overlap time.Duration
}

// DefaultConfig tries for seventeen hours and a half, in which a result of the default time to live still stands.
func DefaultConfig() Config {
	return Config{
		Schedule: []time.Duration{5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 10 * time.Hour},
		Timeout:  15 * time.Second, RetryAfterMax: time.Hour,
		Concurrency: 128, PerTenant: 64, PerHost: 16,
		MaxPayload:  256 << 10,
		StopTimeout: 5 * time.Second,
		Overlap:     24 * time.Hour,
	}
}

// attempts is the most that are made of one delivery.
const maxAttempts = 50

// Validate names every fault of the settings at once.
func (c *Config) Validate() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(c.Schedule) > maxAttempts {
		bad("Schedule has %d pauses: at most %d are expected", len(c.Schedule), maxAttempts)
	}
	for i, d := range c.Schedule {
		if d <= 0 || i > 0 && d < c.Schedule[i-1] {
			bad("Schedule: pause %d is %v: expected more than 0, and not less than the one before", i+1, d)
		}
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"Timeout", c.Timeout}, {"RetryAfterMax", c.RetryAfterMax}, {"StopTimeout", c.StopTimeout}, {"Overlap", c.Overlap}} {
		if d.d <= 0 {
			bad("%s is %v: it must be positive", d.name, d.d)
		}
	}
	for _, n := range []struct {
		name string
		n    int
	}{{"Concurrency", c.Concurrency}, {"PerTenant", c.PerTenant}, {"PerHost", c.PerHost}} {
		if n.n < 1 || n.n > 10_000 {
			bad("%s is %d: 1 to 10000 are expected", n.name, n.n)
		}
	}
	if c.MaxPayload < 4<<10 {
		bad("MaxPayload is %d: at least 4096 bytes are expected", c.MaxPayload)
	}
	for _, p := range c.AllowNetworks {
		if !p.IsValid() || p != p.Masked() {
			bad("AllowNetworks: %s is not a network: expected an address and its bits, such as 10.1.0.0/16", p)
		}
	}
	return errors.Join(faults...)
}

// patience is how long a delivery is tried in all. It is longer than the schedule: a queue that is full, or a process
// that stood still, costs no attempt.
func (c *Config) patience() time.Duration {
	sum := 24 * time.Hour
	for _, d := range c.Schedule {
		sum += d + d/5
	}
	return sum
}
