package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// fetcher brings the messages of one lane of a model and one share of its tenants. It decodes them, checks each job against the signature and passes
// them on: to the batch loop what can be run, to triage what needs the result store or the dead letters first.
type fetcher struct {
	engine *engine
	lane   job.Lane
	index  int // in engine.fetchers
	source source
	leases *leaseList
	flow   flow
	room   chan struct{} // the batch loop took rows

	buffered atomic.Int64 // rows that it brought and that are in no batch yet
	more     bool         // there was more waiting when it asked last
}

// While asideMost messages of a fetcher wait for triage, it rests for asidePause.
const (
	asideMost  = 64
	asidePause = 20 * time.Millisecond
)

// run works until ctx ends.
func (f *fetcher) run(ctx context.Context) {
	e := f.engine
	failures, told := 0, false
	for e.store.wait(ctx) && e.nats.wait(ctx) { // what could not be settled must not be fetched
		limit := f.flow.ask(int(f.buffered.Load()), e.perRow(), f.sharers())
		if limit == 0 {
			select {
			case <-f.room:
			case <-ctx.Done():
			}
			continue
		}
		if e.aside.waiting(f.index) >= asideMost {
			// Triage is held up. What is fetched must not wait for it inside the fetch, where nobody keeps its lease.
			pause(ctx, asidePause)
			continue
		}
		came, err := f.source.Fetch(ctx, limit, e.cfg.FetchWait, func(d *queue.Delivery, l lease) { f.take(ctx, d, l) })
		f.flow.fetched(limit, came)
		f.sawMore(came >= limit)
		switch {
		case err == nil:
			if told {
				e.log.Info("fetching works again", slog.String("lane", f.lane.String()))
			}
			failures, told = 0, false
		case ctx.Err() == nil:
			if !e.broker.Connected() {
				e.nats.fail(err)
			} else if !told {
				told = true
				e.log.Error("fetching fails; trying again until it works", slog.String("lane", f.lane.String()), slog.Any("error", err))
			}
			pause(ctx, backoff(failures, e.cfg.OutageDelay, e.cfg.OutageDelayMax))
			failures++
		}
	}
}

// sharers returns how many fetchers share the buffer of the lane: those with more to bring than fits, and this one.
func (f *fetcher) sharers() int {
	n := int(f.engine.sharers[f.lane].Load())
	if !f.more {
		n++
	}
	return n
}

// sawMore notes whether more waits than was asked for.
func (f *fetcher) sawMore(more bool) {
	if more == f.more {
		return
	}
	f.more = more
	if more {
		f.engine.sharers[f.lane].Add(1)
	} else {
		f.engine.sharers[f.lane].Add(-1)
	}
}

// take handles one message. It only computes, and waits for nothing but room in a stage behind it.
func (f *fetcher) take(ctx context.Context, d *queue.Delivery, l lease) {
	e := f.engine
	e.reach.Reach(failpoint.Delivered)
	m, rows := f.open(d, l)
	if rows > 0 {
		f.flow.message(rows, len(d.Envelope.Body))
	}
	f.buffered.Add(int64(rows))
	e.metrics.buffered[f.lane].Set(float64(e.buffered[f.lane].Add(int64(rows))))
	f.leases.add(m)
	if d.Attempt > 1 {
		e.metrics.redelivered[f.lane].Inc()
	}
	if m.needsTriage() {
		e.aside.put(m)
		return
	}
	select {
	case e.in <- m:
	case <-ctx.Done():
		e.handBack(m)
	}
}

// needsTriage reports whether the message needs more than to be batched.
func (m *message) needsTriage() bool {
	if m.delivery.Attempt > 1 || m.undecodable != "" || len(m.tasks) == 0 {
		return true
	}
	for i := range m.tasks {
		if m.tasks[i].refused != nil {
			return true
		}
	}
	return false
}

// open decodes the message and decides on each of its jobs. rows counts those that are to be run.
func (f *fetcher) open(d *queue.Delivery, l lease) (m *message, rows int) {
	e := f.engine
	m = &message{delivery: d, lease: l, lane: f.lane, from: f.index, taken: time.Now(), leases: f.leases}
	decoded, err := decode(&d.Envelope, e.cfg.Limits)
	if err != nil {
		m.undecodable = shorten(err.Error())
	}
	m.tasks = make([]task, len(decoded))
	m.pending.Store(int32(len(decoded))) //nolint:gosec // Limits.MaxJobs bounds it
	for i := range decoded {
		t := &m.tasks[i]
		t.job, t.message, t.place = &decoded[i].Job, m, i
		t.job.Lane = f.lane
		t.solo = d.Attempt > 1
		e.examine(t, decoded[i].Err)
		if t.refused == nil {
			rows += t.rows
		}
	}
	return m, rows
}

// decode survives a defect of the decoder too: what makes it panic is a message like any other that cannot be read.
func decode(env *job.Envelope, lim job.Limits) (decoded []job.Decoded, err error) {
	defer func() {
		if v := recover(); v != nil {
			decoded, err = nil, fmt.Errorf("the decoder failed at this message: %v", v)
		}
	}()
	return job.DecodeMessage(env, lim)
}

// examine decides whether the job can be run, and counts its rows if it can.
func (e *engine) examine(t *task, fault *job.Error) {
	j := t.job
	t.state, t.attempts = job.Failed, 1
	if j.Deadline.IsZero() && e.info.Deadline > 0 {
		j.Deadline = j.CreatedAt.Add(e.info.Deadline)
	}
	switch {
	case fault != nil:
		t.refused = fault
	case t.expired(t.message.taken):
		t.refused, t.state = errExpired(t), job.Expired
	case j.Version != "" && j.Version != e.info.Version:
		t.refused = job.Errorf(job.CodeUnknownModel, "model_version", "version %q of model %s is not served: expected %q, or no version", j.Version, e.info.Name, e.info.Version)
	default:
		rows, err := e.info.Signature.Check(j, e.cfg.Limits)
		if err != nil {
			t.refused = asJobError(err)
			return
		}
		t.rows = rows
	}
}

func asJobError(err error) *job.Error {
	if e, ok := errors.AsType[*job.Error](err); ok {
		return e
	}
	return job.Errorf(job.CodeInvalid, "", "%s", shorten(err.Error()))
}

// handBack gives back to the queue, at once, every job of the message that is still to be run.
func (e *engine) handBack(m *message) {
	m.needRetry(0)
	e.unbuffer(m)
	if len(m.tasks) == 0 {
		e.end(m)
		return
	}
	e.release(m, int32(len(m.tasks))) //nolint:gosec // Limits.MaxJobs bounds it
}

// unbuffer takes the rows of a message that will not be batched off the count.
func (e *engine) unbuffer(m *message) {
	rows := 0
	for i := range m.tasks {
		rows += m.tasks[i].rows
	}
	e.left(m.from, rows)
}
