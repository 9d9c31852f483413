package batch

import (
	"errors"
	"log/slog"
	"time"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// stuckError is why a batch fails that no waiting helps.
type stuckError struct {
	faults []Fault
	cause  error
}

// Error implements error.
func (e *stuckError) Error() string {
	if e.cause != nil {
		return e.cause.Error()
	}
	return e.faults[0].Message
}

// fault ends the batch, or gives it back to be tried again when what stood in its way has passed.
func (r *run) fault(err error) {
	var stuck *stuckError
	var refused *job.Error
	switch {
	case errors.As(err, &stuck):
		faults := stuck.faults
		if faults == nil {
			faults = []Fault{{Code: faultRunner, Message: stuck.cause.Error()}}
		}
		r.end(Failed, faults)
		return
	case errors.As(err, &refused) && refused.Code != job.CodeUnknownModel:
		r.end(Failed, []Fault{{Code: string(refused.Code), Message: refused.Detail, Param: refused.Field}})
		return
	}
	passing := errors.Is(err, queue.ErrUnavailable) || errors.Is(err, queue.ErrFull) || errors.Is(err, queue.ErrChanged) || r.ledger == nil
	if p := gateway.ProblemOf(err); p.Busy || p.Code == job.CodeUnknownModel {
		passing = true
	}
	starts := 1
	if r.ledger != nil {
		starts = r.ledger.get().Starts
	}
	if !passing && starts >= r.s.cfg.MaxStarts {
		r.log.Error("a batch fails", slog.Any("error", err))
		r.end(Failed, []Fault{{Code: faultRunner, Message: "the server cannot run this batch; its log says why"}})
		return
	}
	r.log.Warn("a batch cannot go on; it is taken up again", slog.Any("error", err))
	delay := jitter(min(troubleMost, troubleFirst<<min(starts, 10)))
	if r.ledger == nil {
		r.deferred(delay)
		return
	}
	waiting := "something stands in its way; the server's log says what"
	switch {
	case errors.Is(err, queue.ErrFull):
		waiting = "there is no room for its answers; it goes on when there is"
	case passing:
		waiting = "a service behind the server is out of reach"
	}
	r.back(delay, waiting, passing)
}

// giveBack gives the batch back for no fault of its own.
func (r *run) giveBack(delay time.Duration, waiting string) { r.back(delay, waiting, true) }

// back gives the batch back. One that had no chance to come further is not counted to have been taken up.
func (r *run) back(delay time.Duration, waiting string, free bool) {
	if now := r.ledger.get(); free && now.Starts > 0 || now.Waiting != waiting {
		err := r.ledger.change(r.saying, func(rec *record) error {
			if free {
				rec.Starts = max(0, rec.Starts-1)
			}
			rec.Waiting, rec.Rate = waiting, 0
			return nil
		})
		if err != nil {
			r.log.Debug("it could not be noted what a batch waits for", slog.Any("error", err))
		}
	}
	r.deferred(delay)
}

func (r *run) deferred(delay time.Duration) {
	if err := r.d.Defer(delay); err != nil {
		r.log.Debug("a batch could not be given back; it comes again by itself", slog.Any("error", err))
	}
}

// end writes how the batch has ended, and does what follows.
func (r *run) end(status Status, faults []Fault) {
	err := r.ledger.change(r.saying, func(rec *record) error {
		rec.Status, rec.Faults, rec.Ended, rec.Waiting, rec.Rate = status, faults, time.Now().UTC().Truncate(time.Millisecond), "", 0
		return nil
	})
	if err != nil {
		r.log.Warn("it could not be recorded that a batch has ended; it is taken up again", slog.Any("error", err))
		r.deferred(troubleFirst)
		return
	}
	r.s.metrics.ended.WithLabelValues(string(status)).Inc()
	counts := r.ledger.get().counts()
	r.log.Info("a batch has ended", "status", string(status), "lines", counts.Total, "completed", counts.Completed, "failed", counts.Failed)
	r.s.deps.Reach.Reach(failpoint.BatchEnded)
	r.told(r.ledger.get())
}

// told queues the webhook, and then removes the batch's message. A crash in between queues it once more.
func (r *run) told(rec *record) {
	if err := r.s.queueWebhook(r.saying, rec); err != nil {
		r.log.Warn("the webhook of a batch could not be queued; it is tried again", slog.Any("error", err))
		r.deferred(troubleFirst)
		return
	}
	r.s.deps.Reach.Reach(failpoint.BatchTold)
	r.s.settle(r.saying, r.d, r.log)
	r.s.deps.Reach.Reach(failpoint.BatchSettled)
}
