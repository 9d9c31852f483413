package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// runner computes one batch after the other and settles each itself. A model has more runners than instances: a runner
// holds an instance only while it computes, so that the instance goes on while the results are being written.
type runner struct {
	engine  *engine
	crew    *crew
	back    *backThread // for runs that yield; nil until the first of them
	yielded bool        // the last run did
	busy    atomic.Bool // it has been given a batch that is not settled yet
	batch   batch
	given   chan struct{} // the batch loop has filled batch
	input   model.Batch
	ledger  ledger
	now     run // what is being computed

	outputs []job.Tensor // of one part, as views of the batch's
	shapes  [][]int64
	offsets []int
}

func newRunner(e *engine, c *crew) *runner {
	inputs := len(e.info.Signature.Inputs)
	return &runner{
		engine: e,
		crew:   c,
		given:  make(chan struct{}, 1),
		input:  model.Batch{Inputs: make([]model.BatchInput, inputs)},
		ledger: ledger{engine: e},
	}
}

// run works until the batch loop has stopped.
func (r *runner) run(ctx context.Context) {
	e, free := r.engine, r.crew.free
	e.cancels.watch(&r.now)
	defer func() { r.back.close() }()
	for {
		var inst Instance
		select {
		case inst = <-free:
		case <-e.stopped:
			return
		}
		// The batch is closed now that an instance is free for it, and not before.
		select {
		case r.crew.idle <- r:
			<-r.given
		case <-e.stopped:
			free <- inst
			return
		}
		e.metrics.inFlight.Add(float64(r.batch.rows))
		alone := r.batch.solo && len(r.batch.parts) > 0 && e.suspects(r.batch.parts[0].task)
		if e.quiet.enter(ctx, alone) {
			inst = r.compute(ctx, inst, alone)
			free <- inst
			r.busy.Store(false)
			if !alone {
				e.quiet.leave(false)
			}
			e.settle(ctx, &r.ledger)
			if alone {
				e.quiet.leave(true) // not before it has its record: until then a death of the process is put down to it
			}
		} else {
			free <- inst
			r.busy.Store(false)
			r.giveBack()
			e.settle(ctx, &r.ledger)
		}
		e.metrics.inFlight.Sub(float64(r.batch.rows))
		if r.crew == &e.regular {
			e.measure(r.batch.rows, time.Since(r.batch.closed))
		} else {
			e.metrics.express.Inc()
		}
		if r.batch.solo {
			e.soloDone <- struct{}{}
		}
		r.forget()
	}
}

// forget lets go of the jobs, so that an idle runner keeps no message in memory.
func (r *runner) forget() {
	clear(r.batch.parts)
	clear(r.batch.expired)
	clear(r.batch.canceled)
	for i := range r.input.Inputs {
		clear(r.input.Inputs[i].Parts)
	}
	clear(r.outputs)
}

// dropLate takes the jobs out of the batch whose deadlines have passed while it waited for its turn in the process.
func (r *runner) dropLate() {
	if r.ledger.now.Sub(r.batch.closed) < lateAfter {
		return
	}
	r.batch.parts = slices.DeleteFunc(r.batch.parts, func(p part) bool {
		late := p.task.asm == nil && p.task.expired(r.ledger.now)
		if late {
			r.ledger.expire(p.task)
		}
		return late
	})
}

// lateAfter is how long a closed batch has to have waited for its deadlines to be looked at again.
const lateAfter = 50 * time.Millisecond

// giveBack enters that nothing of the batch was run.
func (r *runner) giveBack() {
	r.ledger.begin()
	for _, tasks := range [][]*task{r.batch.expired, r.batch.canceled} {
		for _, t := range tasks {
			r.ledger.giveBack(t, 0)
		}
	}
	for i := range r.batch.parts {
		r.ledger.giveBack(r.batch.parts[i].task, 0)
	}
}

// compute runs the batch and writes the outcome of each job into the ledger. It returns the instance to go on with.
func (r *runner) compute(ctx context.Context, inst Instance, alone bool) Instance {
	r.ledger.begin()
	for _, t := range r.batch.expired {
		r.ledger.expire(t)
	}
	for _, t := range r.batch.canceled {
		r.ledger.cancel(t)
	}
	r.dropLate()
	if len(r.batch.parts) == 0 {
		return inst
	}
	if r.batch.solo {
		if ok, again := r.engine.note(ctx, r.batch.parts[0].task, alone); !ok {
			r.ledger.giveBack(r.batch.parts[0].task, again)
			return inst
		}
	}
	r.engine.reach.Reach(failpoint.Checked)
	if r.batch.solo {
		for i := range r.batch.parts {
			if !r.batch.parts[i].task.abandoned() {
				inst = r.halve(ctx, inst, r.batch.parts[i:i+1])
			}
		}
	} else {
		inst = r.halve(ctx, inst, r.batch.parts)
	}
	r.engine.reach.Reach(failpoint.Inferred)
	return inst
}

// halve runs the parts at once. If that fails it runs each half by itself, until the guilty job stands alone.
func (r *runner) halve(ctx context.Context, inst Instance, parts []part) Instance {
	outputs, rows, took, err := r.infer(ctx, inst, parts)
	if crash, ok := errors.AsType[*panicError](err); ok {
		inst = r.engine.renew(inst, crash)
	}
	switch {
	case err == nil:
		r.divide(parts, outputs, rows, took)
	case errors.Is(err, errAllCanceled):
		for i := range parts {
			r.ledger.cancel(parts[i].task)
		}
	case ctx.Err() != nil:
		for i := range parts {
			r.ledger.stopped(parts[i].task)
		}
	case errors.Is(err, errSlow) && (len(parts) > 1 || r.yielded):
		// A run that yielded may have had no CPU; alone a job does not yield.
		r.engine.log.Warn("a batch did not finish; its jobs will be tried alone", slog.Int("jobs", len(parts)), slog.Any("error", err))
		for i := range parts {
			t := parts[i].task
			r.ledger.tryAgain(t, r.engine.retryDelay(t.attempts), err.Error())
		}
	case errors.Is(err, model.ErrResources) && len(parts) == 1:
		r.again(parts[0], rows, took, err)
	case len(parts) == 1:
		r.fail(parts[0], rows, took, err)
	default:
		if errors.Is(err, model.ErrRows) {
			r.engine.stopBatching(err)
		}
		half := len(parts) / 2
		inst = r.halve(ctx, inst, parts[:half])
		inst = r.halve(ctx, inst, parts[half:])
	}
	return inst
}

// fail gives the job its failed record.
func (r *runner) fail(p part, rows int, took time.Duration, err error) {
	t := p.task
	r.engine.log.Debug("inference failed", slog.String("job", t.job.ID.String()), slog.String("tenant", t.job.Tenant), slog.Any("error", err))
	timings := r.timings(t, rows, took)
	r.ledger.fail(t, job.Failed, job.Errorf(job.CodeInference, "", "%s", shorten(err.Error())), timings)
}

// maxMessage bounds the runtime's message in a record, in bytes.
const maxMessage = 1000

// shorten cuts a message at a character, so that a record stays small and valid UTF-8.
func shorten(s string) string { return shortenTo(s, maxMessage) }

func shortenTo(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > 0 && s[cut]&0xC0 == 0x80 {
		cut--
	}
	return s[:cut] + "…"
}

// panicError is a panic inside Instance.Run.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("the model's runtime panicked: %v", e.value) }

// infer runs the parts on the instance. The outputs are valid until its next run; their rows have been counted.
func (r *runner) infer(ctx context.Context, inst Instance, parts []part) (outputs []job.Tensor, rows int, took time.Duration, err error) {
	rows = r.gather(parts)
	start := time.Now()
	outputs, err = r.inTime(ctx, inst, parts)
	took = time.Since(start)
	r.ledger.now = start.Add(took) // when the jobs of this run were finished
	r.engine.metrics.observeRun(rows, took)
	if err != nil {
		return nil, rows, took, err
	}
	// What a run that yields takes is mostly what others left it. Its own is no more than was expected, or nearly so.
	if expected := r.engine.costs.load().of(rows); !r.yielded || float64(took) < 2*expected {
		r.engine.costs.observe(rows, took)
	}
	return outputs, rows, took, r.engine.checkOutputs(outputs, &r.input)
}

// errSlow is why a run was stopped that took longer than Config.RunTimeout.
var errSlow = errors.New("the model took too long")

// inTime runs r.input, which is the parts, until it is done, takes too long or nobody wants it any more.
func (r *runner) inTime(ctx context.Context, inst Instance, parts []part) ([]job.Tensor, error) {
	e := r.engine
	limited, cancel := context.WithTimeoutCause(ctx, e.cfg.RunTimeout, errSlow)
	defer cancel()
	limited, stop := context.WithCancelCause(limited)
	defer stop(nil)
	r.now.begin(parts, stop)
	defer r.now.end()
	if e.cancels.any() {
		r.now.endIf(e.cancels.has) // of a notice that came since the batch was closed
	}
	if limited.Err() != nil {
		return nil, context.Cause(limited)
	}
	outputs, err := r.runYielding(limited, inst)
	if err == nil || ctx.Err() != nil {
		return outputs, err
	}
	switch cause := context.Cause(limited); {
	case errors.Is(cause, errAllCanceled):
		e.metrics.canceledRuns.Inc()
		return nil, fmt.Errorf("%w (%w)", errAllCanceled, err) // with a panic, if it was one
	case errors.Is(cause, errSlow):
		return nil, fmt.Errorf("%w: it was stopped after %v", errSlow, e.cfg.RunTimeout)
	}
	return nil, err
}

// gather points the input at the data of the parts; nothing is copied here.
func (r *runner) gather(parts []part) (rows int) {
	for _, p := range parts {
		rows += p.rows
	}
	r.input.Rows, r.input.Outputs = rows, r.batch.outputs
	first := parts[0].task.job
	for i := range r.input.Inputs {
		in := &r.input.Inputs[i]
		in.Shape = append(in.Shape[:0], first.Inputs[i].Shape...)
		if r.engine.info.Signature.Batchable {
			in.Shape[0] = int64(rows)
		}
		in.Parts = in.Parts[:0]
		for _, p := range parts {
			in.Parts = append(in.Parts, partData(p, i))
		}
	}
	return rows
}

// partData returns the data of the part's rows of input i.
func partData(p part, i int) []byte {
	in := &p.task.job.Inputs[i]
	if p.rows == p.task.rows {
		return in.Data
	}
	lo := rowsEnd(in, p.task.rows, 0, p.from)
	return in.Data[lo:rowsEnd(in, p.task.rows, lo, p.rows)]
}

// checkOutputs makes sure that the outputs can be divided among the jobs: a model may claim a batch axis and not keep
// to it, and then a caller would get somebody else's rows.
func (e *engine) checkOutputs(outputs []job.Tensor, in *model.Batch) error {
	want := len(in.Outputs)
	if in.Outputs == nil {
		want = len(e.info.Signature.Outputs)
	}
	if len(outputs) != want {
		return fmt.Errorf("expected %d outputs of the model, got %d", want, len(outputs))
	}
	for i := range outputs {
		t := &outputs[i]
		if e.info.Signature.Batchable && (len(t.Shape) == 0 || t.Shape[0] != int64(in.Rows)) {
			return fmt.Errorf("%w: output %q: expected %d rows, got the shape %s", model.ErrRows, t.Name, in.Rows, model.FormatShape(t.Shape))
		}
		if err := checkData(t); err != nil {
			return err
		}
	}
	return nil
}

// checkData verifies that an output has the data that its shape promises.
func checkData(t *job.Tensor) error {
	n := job.Elements(t.Shape)
	ok := n >= 0 && t.Datatype.Valid()
	switch {
	case !ok:
	case t.Datatype == job.Bytes:
		limits := job.DefaultLimits()
		limits.MaxElements, limits.MaxRank = n, len(t.Shape)
		ok = t.Check("output", limits) == nil
	default:
		ok = len(t.Data) == n*t.Datatype.Size()
	}
	if !ok {
		return fmt.Errorf("output %q has %d bytes, which is not what %s of shape %s needs", t.Name, len(t.Data), t.Datatype, model.FormatShape(t.Shape))
	}
	return nil
}

// divide gives each part its rows of the outputs.
func (r *runner) divide(parts []part, outputs []job.Tensor, rows int, took time.Duration) {
	r.views(outputs)
	batchable := r.engine.info.Signature.Batchable
	for _, p := range parts {
		for i := range outputs {
			out, view := &outputs[i], &r.outputs[i]
			if !batchable {
				view.Data = out.Data
				continue
			}
			lo := r.offsets[i]
			r.offsets[i] = rowsEnd(out, rows, lo, p.rows)
			view.Shape[0] = int64(p.rows)
			view.Data = out.Data[lo:r.offsets[i]]
		}
		r.deliver(p, rows, took)
	}
}

// views prepares r.outputs to be pointed at one part after the other.
func (r *runner) views(outputs []job.Tensor) {
	r.outputs = append(r.outputs[:0], outputs...)
	r.offsets = r.offsets[:0]
	for i := range outputs {
		if i == len(r.shapes) {
			r.shapes = append(r.shapes, nil)
		}
		r.shapes[i] = append(r.shapes[i][:0], outputs[i].Shape...)
		r.outputs[i].Shape = r.shapes[i]
		r.offsets = append(r.offsets, 0)
	}
}

// deliver enters the part's outputs, which are in r.outputs, into the ledger, or puts them to the other parts of its job.
func (r *runner) deliver(p part, rows int, took time.Duration) {
	t := p.task
	if t.asm == nil {
		r.ledger.succeed(t, r.outputs, r.timings(t, rows, took))
		return
	}
	if t.abandoned() || !t.asm.add(p.from, p.rows, r.outputs, took) {
		return
	}
	whole, total, err := t.asm.join()
	if err != nil {
		r.fail(p, rows, total, err)
		return
	}
	r.ledger.succeed(t, whole, r.timings(t, rows, total))
}

func (r *runner) timings(t *task, rows int, took time.Duration) job.Timings {
	taken := t.message.taken
	return job.Timings{
		Queue:     max(0, taken.Sub(t.job.CreatedAt)),
		BatchWait: r.batch.closed.Sub(taken),
		Infer:     took,
		BatchRows: rows,
	}
}
