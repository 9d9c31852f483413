package batch

import (
	"context"
	"errors"
	"io"
	"strconv"
	"time"

	"github.com/sheafml/sheaf/backfill"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
)

// groupBytes bounds the inputs of one job: what it must not exceed is a message of the queue. A line that is larger is a
// job by itself.
const groupBytes = 512 << 10

// task is the backfill of a batch. It counts nothing by itself: what is done is what the ledger says.
type task struct {
	s      *Service
	ledger *ledger
	asker  asker
	writer writer
	in     *scanner
	lines  int64 // that the input had when it was validated

	done func(part int64) bool // when this run began

	results, errors *tail
	parts           []int64 // that were written since the last commit
	rows            int64
	rate            meter
}

// part is what is known of a piece between its steps.
type part struct {
	*piece
	asked []asked
}

// encoded are the lines of a part.
type encoded struct {
	results, errors []byte
	good, bad, rows int64
}

// Next implements backfill.Task.
func (t *task) Next(ctx context.Context) (backfill.Part, error) {
	for {
		if err := ctx.Err(); err != nil {
			return backfill.Part{}, err
		}
		p, err := t.in.next()
		if errors.Is(err, io.EOF) && t.in.count != t.lines {
			err = job.Errorf(faultChanged, "", "the input has %d lines, and had %d before", t.in.count, t.lines)
		}
		if err != nil {
			return backfill.Part{}, err
		}
		if !t.done(p.index) {
			return backfill.Part{Index: p.index, Units: len(p.lines), Bytes: 4*p.bytes + 256*len(p.lines), Value: &part{piece: p}}, nil
		}
	}
}

// Decode implements backfill.Task.
func (t *task) Decode(p backfill.Part) (groups []backfill.Group, refused []backfill.Answer) {
	of, _ := p.Value.(*part)
	of.asked = make([]asked, len(of.lines))
	pack := packer{limits: t.asker.limits, alone: !t.asker.info.Signature.Batchable, open: map[string]*pack{}}
	for i := range of.lines {
		q, inputs, rows, err := t.asker.read(&of.lines[i])
		of.asked[i] = q
		of.lines[i].text = nil // it is not needed any more
		if err != nil {
			refused = append(refused, backfill.Answer{Unit: i, Err: asJobError(err)})
			continue
		}
		pack.add(backfill.Unit{Index: i, Rows: rows}, inputs)
	}
	return pack.groups(), refused
}

func asJobError(err error) *job.Error {
	if e, ok := errors.AsType[*job.Error](err); ok {
		return e
	}
	return job.Errorf(job.CodeInternal, "", "%v", err)
}

// Encode implements backfill.Task.
func (t *task) Encode(p backfill.Part, answers []backfill.Answer) (any, error) {
	of, _ := p.Value.(*part)
	e := &encoded{}
	for i := range answers {
		a := &answers[i]
		l, q := &of.lines[a.Unit], &of.asked[a.Unit]
		if a.Err != nil {
			e.errors = t.writer.bad(e.errors, l, q, a.Err)
			e.bad++
			continue
		}
		var err error
		if e.results, err = t.writer.good(e.results, l, q, a); err != nil {
			return nil, err
		}
		e.good++
		e.rows += int64(a.Rows)
	}
	return e, nil
}

// Write implements backfill.Task.
func (t *task) Write(ctx context.Context, p backfill.Part, what any) error {
	e, _ := what.(*encoded)
	t.results.append(e.results, e.good)
	t.errors.append(e.errors, e.bad)
	t.parts = append(t.parts, p.Index)
	t.rows += e.rows
	if len(t.results.fresh)+len(t.errors.fresh) < segmentBytes {
		return nil
	}
	return t.Commit(ctx)
}

// Commit implements backfill.Task: the objects first, then the record that names them. From then on they count.
func (t *task) Commit(ctx context.Context) error {
	if len(t.parts) == 0 {
		return nil
	}
	// A store that is out of reach is waited for as long as the lease may last; then another has the batch.
	ctx, cancel := context.WithTimeout(ctx, t.s.cfg.Lease)
	defer cancel()
	r := t.ledger.get()
	results, err := t.results.store(ctx, r)
	if err != nil {
		return err
	}
	errs, err := t.errors.store(ctx, r)
	if err != nil {
		return err
	}
	t.s.deps.Reach.Reach(failpoint.BatchStored)
	good, bad := t.results.lines, t.errors.lines
	rate := t.rate.observe(time.Now(), good+bad)
	err = t.ledger.change(ctx, func(r *record) error {
		results.apply(&r.Results)
		errs.apply(&r.Errors)
		r.finish(t.parts)
		r.Rows += t.rows
		r.Rate, r.Starts, r.Waiting = rate, 0, ""
		return nil
	})
	if err != nil {
		return err
	}
	t.s.deps.Reach.Reach(failpoint.BatchCommitted)
	t.results.settle(results)
	t.errors.settle(errs)
	t.parts, t.rows = t.parts[:0], 0
	m := t.s.metrics
	m.commits.Inc()
	m.lines.WithLabelValues("completed").Add(float64(good))
	m.lines.WithLabelValues("failed").Add(float64(bad))
	for _, old := range append(results.replaced, errs.replaced...) {
		// What stays is deleted with the batch.
		if err := t.s.objects.Delete(ctx, old); err != nil {
			t.s.log.Debug("a segment that was replaced could not be deleted", "object", old, "error", err)
		}
	}
	return nil
}

// answering turns what a gateway refuses about one job into that job's failure: its units are to blame, not the batch.
type answering struct{ backfill.Jobs }

// Do implements backfill.Jobs.
func (a answering) Do(ctx context.Context, key string, inputs []job.Tensor) (job.Result, error) {
	result, err := a.Jobs.Do(ctx, key, inputs)
	if err == nil || ctx.Err() != nil {
		return result, err
	}
	p := gateway.ProblemOf(err)
	if p.Code == job.CodeTooLarge || p.Code == job.CodeInvalid || p.Code == job.CodeMalformed {
		return job.Result{State: job.Failed, Error: &job.Error{Code: p.Code, Field: p.Field, Detail: p.Detail}}, nil
	}
	return result, err
}

// packer packs units into groups, in which all have the same shapes but for the rows.
type packer struct {
	limits job.Limits
	alone  bool // each by itself
	open   map[string]*pack
	full   []*pack
}

type pack struct {
	group backfill.Group
	rows  int
	bytes int
}

func (p *packer) add(u backfill.Unit, inputs []job.Tensor) {
	bytes := 0
	for i := range inputs {
		bytes += len(inputs[i].Data)
	}
	if p.alone {
		p.full = append(p.full, &pack{group: backfill.Group{Inputs: inputs, Units: []backfill.Unit{u}}})
		return
	}
	key := shapes(inputs)
	g := p.open[key]
	if g == nil || g.rows+u.Rows > p.limits.MaxRows || g.bytes+bytes > groupBytes {
		g = &pack{group: backfill.Group{Inputs: make([]job.Tensor, len(inputs))}}
		for i := range inputs {
			g.group.Inputs[i] = job.Tensor{Name: inputs[i].Name, Datatype: inputs[i].Datatype, Shape: append([]int64(nil), inputs[i].Shape...)}
		}
		p.open[key] = g
		p.full = append(p.full, g)
	}
	g.rows += u.Rows
	g.bytes += bytes
	g.group.Units = append(g.group.Units, u)
	for i := range inputs {
		t := &g.group.Inputs[i]
		t.Data = append(t.Data, inputs[i].Data...)
		t.Shape[0] = int64(g.rows)
	}
}

// groups returns the groups in the order in which they began.
func (p *packer) groups() []backfill.Group {
	list := make([]backfill.Group, len(p.full))
	for i, g := range p.full {
		list[i] = g.group
	}
	return list
}

// shapes writes the shapes of inputs without their first dimension.
func shapes(inputs []job.Tensor) string {
	if len(inputs) == 1 && len(inputs[0].Shape) <= 1 {
		return ""
	}
	var b []byte
	for i := range inputs {
		for _, d := range inputs[i].Shape[min(1, len(inputs[i].Shape)):] {
			b = append(strconv.AppendInt(b, d, 10), ',')
		}
		b = append(b, ';')
	}
	return string(b)
}
