package batch

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sheafml/sheaf/backfill"
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
	errSlice    = errors.New("other batches wait for a runner")
	errIdle     = errors.New("nothing has changed since the batch was looked at last")
)

// run is what one runner does for one batch, from its message's delivery until it has ended or is given back.
type run struct {
	s      *Service
	from   *queue.BatchSource
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
	case errors.Is(err, errSlice):
		r.giveBack(sliceRest, "")
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
	extended, missed := time.Now(), 0
	slice := extended.Add(jitter(r.s.cfg.Slice))
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
		if errors.Is(err, job.ErrNotFound) {
			missed++ // once may be a replica that lags
		} else {
			missed = 0
		}
		if errors.Is(err, errTaken) || missed > 2 {
			stop(errTaken)
			return
		}
		if now.After(slice) && r.ledger.get().Validated { // what is not would begin anew
			if n, err := r.from.Waiting(ctx); err == nil && n > 0 {
				stop(errSlice)
				return
			}
			slice = now.Add(jitter(r.s.cfg.Slice))
		}
		// While the store does not answer, the lease and the deadline are what counts.
		if err := r.may(now); err != nil {
			stop(err)
			return
		}
	}
}
