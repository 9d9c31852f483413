package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sheafml/sheaf/job"
)

// Retry says how often, and after what pauses, the jobs of a model are tried. A zero field takes the pool's setting of
// the same name in [Config].
//
// What is tried again is what may pass: memory that ran out, a worker that died. What the model refuses or fails at
// fails at once. MaxAttempts counts attempts and not deliveries: the first delivery is one, whatever came of it, and so
// is each run alone after that. A message that comes back because its worker drained, or for a neighbour's sake, costs
// its jobs no attempt as long as they are not run.
//
// A job whose attempts fail is given up in its last one. A job that ends the process leaves no word, so it is given up
// when it is delivered again after its last attempt; or earlier, once it was run alone twice without a word and its
// message has been delivered more often than MaxAttempts, so that many such jobs in one message cannot add up. k of
// them in one message end at most max(MaxAttempts, 2k+1) processes, in k messages at most k times max(MaxAttempts, 2).
//
// Nobody is given up for another's deed: the second run alone, and the last, has the whole process to itself, whatever
// the number of models and instances, until its record is written; and nobody is given up for a silence without such a
// run.
type Retry struct {
	MaxAttempts int
	// Delay is the pause after the first attempt. It doubles with each, up to MaxDelay; what is waited is between half
	// of it and all of it, and never beyond the job's deadline.
	Delay    time.Duration
	MaxDelay time.Duration
}

// attemptsLimit bounds MaxAttempts. Each attempt needs a delivery, and the consumers of the queue give up after 100.
const attemptsLimit = 50

// suspects reports whether the job must be run with nothing else in its process: it was run alone without a word before,
// or this is its last attempt.
func (e *engine) suspects(t *task) bool {
	return t.past != nil && t.past.silent > 0 || t.attempts+1 >= e.retry.MaxAttempts
}

// silentLimit is how many runs alone may end without a word before a job is suspected enough, see Retry.
const silentLimit = 2

func (r *Retry) validate() error {
	var errs []error
	if r.MaxAttempts < 0 || r.MaxAttempts > attemptsLimit {
		errs = append(errs, fmt.Errorf("retry: MaxAttempts is %d: expected 1 to %d, or 0 for the pool's", r.MaxAttempts, attemptsLimit))
	}
	if r.Delay < 0 || r.MaxDelay < 0 {
		errs = append(errs, fmt.Errorf("retry: Delay is %v and MaxDelay %v: they must not be negative", r.Delay, r.MaxDelay))
	}
	if r.MaxDelay > 0 && r.MaxDelay < r.Delay {
		errs = append(errs, fmt.Errorf("retry: MaxDelay is %v: it must not be below Delay (%v)", r.MaxDelay, r.Delay))
	}
	return errors.Join(errs...)
}

// complete returns the policy with the pool's settings for what it leaves open.
func (r Retry) complete(cfg *Config) Retry {
	if r.MaxAttempts == 0 {
		r.MaxAttempts = cfg.MaxAttempts
	}
	switch {
	case r.Delay == 0 && r.MaxDelay == 0:
		r.Delay, r.MaxDelay = cfg.RetryDelay, cfg.RetryDelayMax
	case r.Delay == 0:
		r.Delay = min(cfg.RetryDelay, r.MaxDelay)
	case r.MaxDelay == 0:
		r.MaxDelay = max(cfg.RetryDelayMax, r.Delay)
	}
	return r
}

// retryDelay returns the pause after so many attempts.
func (e *engine) retryDelay(attempts int) time.Duration {
	return backoff(max(0, attempts-1), e.retry.Delay, e.retry.MaxDelay)
}

// again enters that a job's attempt failed for a reason that may pass: it is tried once more, or given up.
func (r *runner) again(p part, rows int, took time.Duration, cause error) {
	t, e := p.task, r.engine
	if t.attempts >= e.retry.MaxAttempts {
		r.ledger.exhaust(t, cause, r.timings(t, rows, took))
		return
	}
	e.log.Warn("an attempt at a job failed; it will be tried again", slog.String("job", t.job.ID.String()),
		slog.Int("attempt", t.attempts), slog.Any("error", cause))
	r.ledger.tryAgain(t, e.retryDelay(t.attempts), shorten(cause.Error()))
}

// exhausted is a job whose last attempt has failed. It needs a dead letter before it may have its record.
type exhausted struct {
	task    *task
	cause   string
	timings job.Timings
	at      time.Time
}

// exhaust enters that the last attempt failed.
func (l *ledger) exhaust(t *task, cause error, timings job.Timings) {
	if t.claim() {
		l.exhausted = append(l.exhausted, exhausted{task: t, cause: shorten(cause.Error()), timings: timings, at: l.now})
	}
}

// errExhausted is what a job's record says that failed in its last attempt.
func errExhausted(attempts int, cause string) *job.Error {
	if attempts == 1 {
		return job.Errorf(job.CodeExhausted, "", "given up after 1 attempt, which failed: %s", cause)
	}
	return job.Errorf(job.CodeExhausted, "", "given up after %d attempts, the last of which failed: %s", attempts, cause)
}

// errSilent is what a job's record says whose attempts ended without a word.
func errSilent(attempts int) *job.Error {
	return job.Errorf(job.CodeExhausted, "", "given up after %d attempts: nothing was heard of the last again. It was run alone, so most likely it ended its worker's process", attempts)
}

// tooLarge replaces a result that no store takes: another attempt would give the same.
func tooLarge(size, limit int) *job.Error {
	return job.Errorf(job.CodeInference, "", "the result has %d bytes, which is more than the %d that the result store takes: ask for fewer outputs, or submit fewer rows", size, limit)
}
