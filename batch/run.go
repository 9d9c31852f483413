package batch

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/sheafml/sheaf/backfill"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/queue"
)

// Why a run stops before its end.
var (
	errCanceled = errors.New("its owner has canceled the batch")
	errPaused   = errors.New("its owner has paused the batch")
	errWindow   = errors.New("the batch waits for its window")
	errExpired  = errors.New("the completion window is over")
	errNoModel  = errors.New("no worker serves the model")
	errIdle     = errors.New("nothing has changed since the batch was looked at last")
)

// run is what one runner does for one batch, from its message's delivery until it has ended or is given back.
type run struct {
	s      *Service
	d      *queue.BatchDelivery
	log    *slog.Logger
	order  *order
	saying context.Context // for what is to be said although the run was stopped

	ledger *ledger
	info   model.Info
	again  bool // another run may have asked for some of its jobs
}

// do brings the batch as far as it goes.
func (r *run) do(ctx context.Context) {
	err := r.begin(ctx)
	if err == nil {
		err = r.through(ctx)
	}
	switch {
	case err == nil:
		r.end(Completed, nil)
	case ctx.Err() != nil && r.ledger == nil:
		r.deferred(0)
	case ctx.Err() != nil && r.unfinished(err):
		r.giveBack(0, "")
	case errors.Is(err, errEnded):
		r.told(r.ledger.get())
	case errors.Is(err, errCanceled):
		r.end(Cancelled, nil)
	case errors.Is(err, errExpired):
		r.end(Expired, nil)
	case errors.Is(err, errTaken), errors.Is(err, queue.ErrLapsed), errors.Is(err, job.ErrNotFound) && r.ledger != nil:
		r.log.Info("a batch is another runner's now", slog.Any("error", err))
	case errors.Is(err, errIdle):
		r.deferred(idleLook)
	case errors.Is(err, errPaused), errors.Is(err, errWindow), errors.Is(err, errNoModel):
		r.giveBack(idleLook, err.Error())
	default:
		r.fault(err)
	}
}

// errEnded says that the record has the end of the batch already, and only the rest is to be done.
var errEnded = errors.New("the batch has ended")

// unfinished reports whether an error leaves the batch to whoever takes it up next.
func (r *run) unfinished(err error) bool {
	for _, other := range []error{errEnded, errCanceled, errExpired, errIdle, errTaken} {
		if errors.Is(err, other) {
			return false
		}
	}
	return true
}

// begin reads the record, or makes one that is missing, and takes the batch up.
func (r *run) begin(ctx context.Context) error {
	runner, err := newRunner()
	if err != nil {
		return err
	}
	keep := r.s.records
	now, _, err := keep.get(ctx, r.order.Tenant, r.order.ID)
	if errors.Is(err, job.ErrNotFound) {
		made := newRecord(r.order)
		now, err = &made, keep.create(ctx, &made)
	}
	if err != nil {
		return err
	}
	r.ledger = &ledger{records: keep, runner: runner, patient: r.s.cfg.Lease, now: now}
	if now.Status.Final() {
		return errEnded
	}
	if err := r.may(time.Now()); err != nil && err.Error() == now.Waiting {
		return errIdle // the record says so, and need not be written each time
	}
	if err := r.ledger.take(ctx); err != nil {
		return err
	}
	r.s.metrics.taken.Inc()
	r.again = now.Validated
	if err := r.may(time.Now()); err != nil {
		return err
	}
	if now.Starts >= r.s.cfg.MaxStarts {
		return &stuckError{cause: errors.New("it was taken up again and again, and each time its runner died before it came any further")}
	}
	info, ok := r.s.deps.Models.Get(now.Spec.Model, now.Spec.Version)
	if !ok {
		return errNoModel
	}
	r.info = info
	return nil
}

// may says why the batch must not go on now.
func (r *run) may(now time.Time) error {
	rec := r.ledger.get()
	switch {
	case !rec.CancelAsked.IsZero():
		return errCanceled
	case !now.Before(rec.Deadline):
		return errExpired
	case rec.PauseAsked:
		return errPaused
	}
	windows, err := parseWindows(rec.Spec.Windows)
	if err != nil {
		return &stuckError{cause: err}
	}
	if backfill.Opens(windows, now) > 0 {
		return errWindow
	}
	return nil
}

// through validates the input, runs the batch, and copies the outputs.
func (r *run) through(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		r.watch(ctx, stop)
	}()
	defer func() { stop(nil); <-watching }()
	err := r.steps(ctx)
	if err != nil && ctx.Err() != nil {
		// What the stop was for counts, not what it made of the step.
		if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
			return cause
		}
	}
	return err
}

func (r *run) steps(ctx context.Context) error {
	if err := r.validate(ctx); err != nil {
		return err
	}
	if err := r.backfill(ctx); err != nil {
		return err
	}
	return r.finalize(ctx)
}

// watchEvery is how often a runner looks at what its batch's owner wants, at most.
const watchEvery = time.Second

// watch keeps the lease, and stops the run when there is a reason.
func (r *run) watch(ctx context.Context, stop context.CancelCauseFunc) {
	every := min(watchEvery, r.s.cfg.Lease/10)
	extended := time.Now()
	for rest(ctx, every) == nil {
		now := time.Now()
		if now.Sub(extended) > r.s.cfg.Lease/3 {
			err := r.d.Extend(ctx)
			if errors.Is(err, queue.ErrLapsed) {
				stop(err)
				return
			}
			if err == nil {
				extended = now
			}
		}
		_, err := r.ledger.refresh(ctx)
		if errors.Is(err, errTaken) || errors.Is(err, job.ErrNotFound) {
			stop(errTaken)
			return
		}
		// While the store does not answer, the lease and the deadline are what counts.
		if err := r.may(now); err != nil {
			stop(err)
			return
		}
	}
}

// validate reads the input once, unless that was done.
func (r *run) validate(ctx context.Context) error {
	rec := r.ledger.get()
	if rec.Validated {
		return nil
	}
	in, err := r.s.open(ctx, rec)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	lines, faults, err := r.s.validate(ctx, rec, in)
	if err != nil {
		return err
	}
	if len(faults) > 0 {
		return &stuckError{faults: faults}
	}
	err = r.ledger.change(ctx, func(rec *record) error {
		rec.Validated, rec.Lines, rec.Status, rec.Started, rec.Starts, rec.Waiting = true, lines, InProgress, time.Now().UTC(), 0, ""
		return nil
	})
	if err == nil {
		r.s.deps.Reach.Reach(failpoint.BatchValidated)
	}
	return err
}

// backfill asks for what is not done yet.
func (r *run) backfill(ctx context.Context) error {
	rec := r.ledger.get()
	if rec.Status == Finalizing {
		return nil
	}
	in, err := r.s.open(ctx, rec)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	t, outputs := r.task(rec)
	t.in = newScanner(in, rec.Cut)
	windows, err := parseWindows(rec.Spec.Windows)
	if err != nil {
		return &stuckError{cause: err}
	}
	cfg := backfill.DefaultConfig()
	cfg.Flight, cfg.CommitEvery, cfg.MaxRate, cfg.Windows, cfg.Ordered = r.s.cfg.Flight, r.s.cfg.CommitEvery, rec.Spec.MaxRate, windows, rec.Spec.Ordered
	jobs := r.s.deps.Jobs(backfill.GatewayConfig{
		Tenant: rec.Tenant, Model: r.info, Outputs: outputs, Again: r.again, Logger: r.log,
	})
	engine, err := backfill.New(cfg, backfill.Deps{Jobs: answering{jobs}, Task: t, Key: rec.ID, Logger: r.log})
	if err != nil {
		return &stuckError{cause: err}
	}
	return engine.Run(ctx)
}

// task makes the task of the engine, and says which outputs it wants.
func (r *run) task(rec *record) (t *task, outputs []string) {
	_, _, whole, _ := parseEndpoint(rec.Spec.Endpoint)
	prediction := r.info.Signature.Outputs[r.info.PredictionIndex()].Name
	if !whole {
		outputs = []string{prediction}
	}
	tailOf := func(of Output) *tail { return &tail{s: r.s, of: of, prefix: r.ledger.runner} }
	return &task{
		s: r.s, ledger: r.ledger, lines: rec.Lines, done: rec.isDone,
		asker:   asker{endpoint: rec.Spec.Endpoint, plain: rec.Spec.Plain, info: r.info, limits: r.s.deps.Limits},
		writer:  writer{batch: strings.TrimPrefix(rec.ID, batchPrefix), whole: whole, prediction: prediction, batchable: r.info.Signature.Batchable},
		results: tailOf(Results), errors: tailOf(Errors),
	}, outputs
}

// finalize copies the outputs to where the batch says.
func (r *run) finalize(ctx context.Context) error {
	err := r.ledger.change(ctx, func(rec *record) error {
		if !rec.CancelAsked.IsZero() {
			return errCanceled
		}
		rec.Status = Finalizing
		if rec.Finalized.IsZero() {
			rec.Finalized = time.Now().UTC()
		}
		return nil
	})
	if err != nil {
		return err
	}
	rec := r.ledger.get()
	for _, out := range []struct {
		of  Output
		url string
	}{{Results, rec.Spec.OutputURL}, {Errors, rec.Spec.ErrorURL}} {
		if out.url == "" {
			continue
		}
		if r.s.deps.Outputs == nil {
			return &stuckError{cause: errors.New("this server writes to no URLs")}
		}
		from := r.s.readOutput(ctx, rec, out.of, 0)
		err := r.s.deps.Outputs.Put(ctx, out.url, from)
		from.close()
		if err != nil {
			return err
		}
	}
	return nil
}

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
	r.back(delay, "something that stands in the way; the server's log says what", passing)
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
