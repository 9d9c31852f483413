package auth

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Rate is how many jobs may be submitted: PerSecond in the long run, and Burst at once. A PerSecond of 0 is no limit.
type Rate struct {
	PerSecond float64 `json:"per_second"`
	Burst     int     `json:"burst,omitempty"` // 0: what comes in a second, at least 1
}

// Validate names what is wrong.
func (r *Rate) Validate() error {
	var faults []error
	if !(r.PerSecond >= 0) || r.PerSecond > maxRate || r.PerSecond > 0 && r.PerSecond < minRate {
		faults = append(faults, fmt.Errorf("%v jobs a second: expected 0 (no limit), or %v to %v", r.PerSecond, minRate, maxRate))
	}
	if r.Burst < 0 || r.Burst > maxRate {
		faults = append(faults, fmt.Errorf("a burst of %d jobs: expected 0 (a second's worth) to %d", r.Burst, maxRate))
	}
	return errors.Join(faults...)
}

const (
	minRate = 0.001
	maxRate = 1_000_000_000
)

// burst is the Burst that counts.
func (r *Rate) burst() int {
	if r.Burst > 0 {
		return r.Burst
	}
	return max(1, int(math.Ceil(r.PerSecond)))
}

// Quota is how a caller stands with its rate. The zero Quota says that there is no limit.
type Quota struct {
	Limit     int           // jobs that may be submitted within Window; 0: any number
	Window    time.Duration // whole seconds
	Remaining int           // jobs that may be submitted now
	Reset     time.Duration // until Remaining is Limit again
	After     time.Duration // of one that was refused: until it would be allowed
}

// Limited reports whether there is a limit.
func (q *Quota) Limited() bool { return q.Limit > 0 }

// Policy is the value of the header RateLimit-Policy.
func (q *Quota) Policy() string {
	return fmt.Sprintf(`"default";q=%d;w=%d`, q.Limit, seconds(q.Window))
}

// State is the value of the header RateLimit.
func (q *Quota) State() string {
	return fmt.Sprintf(`"default";r=%d;t=%d`, q.Remaining, seconds(q.Reset))
}

func seconds(d time.Duration) int64 { return int64(math.Ceil(d.Seconds())) }
