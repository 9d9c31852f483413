package batch

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/sheafml/sheaf/backfill"
	"github.com/sheafml/sheaf/internal/failpoint"
)

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
