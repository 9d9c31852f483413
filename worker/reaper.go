package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

// strandings is what the reaper needs of the queue: the messages that JetStream has given up and keeps nevertheless.
type strandings interface {
	OnGivenUp(fn func(queue.GivenUp)) (stop func(), err error)
	StrandedAt(ctx context.Context, g queue.GivenUp) (*queue.Stranded, error)
	Sweep(ctx context.Context, floors *queue.Floors, limit int, fn func(*queue.Stranded) error) (more bool, err error)
	BuryStranded(ctx context.Context, s *queue.Stranded, ids []job.ID, reason string, history ...string) error
	RemoveStranded(ctx context.Context, s *queue.Stranded) error
	QueueWebhooks(ctx context.Context, list []queue.Webhook) (errs []error)
	NotifyDone(ids []job.ID) error
	Reply(subject string, header map[string]string, body []byte) error
}

// reaper is the backstop behind the workers' own decision: a message that JetStream has given up, because worker after
// worker died over it before one could decide, still ends each of its jobs. It hears of such a message by an advisory,
// and looks for those that nobody heard of from time to time. All it does may be done again, and by another process at
// the same time.
type reaper struct {
	queue   strandings
	results Results
	limits  job.Limits
	ttl     func(model string) time.Duration // of its records; 0 is the store's default
	log     *slog.Logger
	reach   failpoint.Hook
	every   time.Duration
	token   func() uint64
	floors  queue.Floors
	told    *advisories
	copied  copies
}

const (
	// sweepLimit bounds the messages of one sweep; the next one follows soon if there are more.
	sweepLimit = 500
	// sweepAgain is when. It is also when an advisory that nothing could be done about is tried again; as long as that
	// fails, the pauses grow up to the sweeps' interval.
	sweepAgain = 2 * time.Second
	// reapTime bounds what is done about one message, and one look at all of them.
	reapTime = 30 * time.Second
)

// startReaper runs the reaper until stop is called, which waits for it.
func (p *Pool) startReaper(ctx context.Context) (stop func()) {
	q, ok := p.broker.(strandings)
	if !ok {
		return func() {} // a queue of a test
	}
	r := &reaper{
		queue: q, results: p.results, limits: p.cfg.Limits, ttl: p.resultTTL, log: p.log, reach: p.reach,
		every: p.cfg.SweepInterval, token: func() uint64 { return p.tokens.Add(1) },
	}
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { r.run(ctx) })
	return func() {
		cancel()
		done.Wait()
	}
}

func (p *Pool) resultTTL(name string) time.Duration {
	for i := range p.models {
		if p.models[i].Info.Name == name {
			return p.models[i].Info.ResultTTL
		}
	}
	return 0
}

// run works until ctx ends.
func (r *reaper) run(ctx context.Context) {
	r.told = newAdvisories()
	stop := r.listen()
	defer func() {
		if stop != nil {
			stop()
		}
	}()
	sweeps := time.NewTimer(r.pause(false))
	defer sweeps.Stop()
	again, wait, armed := time.NewTimer(r.every), sweepAgain, false
	again.Stop()
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.told.wake:
			r.act(ctx)
		case <-again.C:
			armed = false
			r.actAgain(ctx)
			if wait = min(2*wait, r.every); !r.told.failing() {
				wait = sweepAgain
			}
		case <-sweeps.C:
			if stop == nil {
				stop = r.listen()
			}
			more := r.sweep(ctx)
			r.actAgain(ctx)
			sweeps.Reset(r.pause(more))
		}
		if !armed && r.told.failing() {
			armed = true
			again.Reset(jitter(min(wait, r.every)))
		}
	}
}

// listen returns nil if it must be called again.
func (r *reaper) listen() (stop func()) {
	stop, err := r.queue.OnGivenUp(r.told.add)
	if err != nil {
		r.log.Warn("messages that JetStream gives up are found by sweeps alone until it can be listened for them", slog.Any("error", err))
		return nil
	}
	return stop
}

// pause is how long to wait for the next sweep.
func (r *reaper) pause(more bool) time.Duration {
	d := r.every
	if more {
		d = min(d, sweepAgain)
	}
	return jitter(d)
}

// jitter makes a pause up to a half longer or shorter, so that many workers do not do the same at one moment.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d+1) //nolint:gosec // jitter needs no secret
}

// actAgain acts on what failed, too.
func (r *reaper) actAgain(ctx context.Context) {
	if dropped := r.told.again(); dropped > 0 {
		r.log.Warn("JetStream gives up more messages than can be remembered; sweeps find the others, but not while their consumers are never idle",
			slog.Int("dropped", dropped), slog.Int("kept", advisoriesKept))
	}
	r.act(ctx)
}

// act does what the advisories ask for, each once. One that fails waits for actAgain; where the store or NATS is out of
// reach, all do.
func (r *reaper) act(ctx context.Context) {
	var last error
	failed := 0
	for range r.told.untried() {
		g, ok := r.told.next()
		if !ok {
			break
		}
		err := r.heard(ctx, g)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			r.told.done(g)
			continue
		}
		failed, last = failed+1, fmt.Errorf("message %d of lane %s: %w", g.Seq, g.Lane, err)
		out := outOfReach(err)
		r.told.fail(g, out)
		if out {
			break
		}
	}
	if last != nil {
		r.log.Warn("messages that JetStream gave up could not be settled; they are tried again soon", slog.Int("failed", failed),
			slog.Any("error", last))
	}
}

// outOfReach reports whether no other message would fare better now.
func outOfReach(err error) bool {
	return errors.Is(err, resultstore.ErrUnavailable) || errors.Is(err, queue.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

// heard acts on an advisory. An error says that it is to be tried again.
func (r *reaper) heard(ctx context.Context, g queue.GivenUp) error {
	ctx, cancel := context.WithTimeout(ctx, reapTime)
	defer cancel()
	s, err := r.queue.StrandedAt(ctx, g)
	switch {
	case errors.Is(err, job.ErrNotFound): // it was settled, or somebody else was faster
		return nil
	case errors.Is(err, queue.ErrNotStranded):
		r.log.Debug("an advisory does not agree with its consumer", slog.Uint64("seq", g.Seq), slog.String("lane", g.Lane.String()))
		return nil
	case err != nil:
		return err
	}
	return r.reap(ctx, s)
}

// sweep looks for messages that nobody has heard of, and reports whether there are more.
func (r *reaper) sweep(ctx context.Context) (more bool) {
	within, cancel := context.WithTimeout(ctx, reapTime)
	defer cancel()
	more, err := r.queue.Sweep(within, &r.floors, sweepLimit, func(s *queue.Stranded) error {
		err := r.reap(within, s)
		if err != nil && outOfReach(err) {
			return fmt.Errorf("%w: %w", queue.ErrEndSweep, err)
		}
		return err
	})
	switch {
	case err == nil, ctx.Err() != nil:
	case outOfReach(err):
		r.log.Debug("a sweep for messages that JetStream gave up was cut short; the next one goes on", slog.Any("error", err))
	default:
		r.log.Warn("a sweep could not settle all that JetStream gave up; the next one tries again", slog.Any("error", err))
	}
	return more
}

// reap ends the jobs of a message: copy, records, webhooks, delete. A job that has its record keeps it.
func (r *reaper) reap(ctx context.Context, s *queue.Stranded) error {
	decoded, unreadable := decode(&s.Envelope, r.limits)
	open, found, err := r.unfinished(ctx, decoded)
	if err != nil {
		return err
	}
	cause := givenUp(s.Deliveries)
	if len(open) > 0 || unreadable != nil {
		ids, reason := make([]job.ID, len(open)), reasonOf(cause)
		for i, j := range open {
			ids[i] = j.ID
		}
		if unreadable != nil {
			ids, reason = nil, shorten(reason+"; and it cannot be read: "+unreadable.Error())
		}
		if err := r.bury(ctx, s, ids, reason, len(open)); err != nil {
			return err
		}
	}
	if err := r.record(ctx, s, open, found, cause); err != nil {
		return err
	}
	if err := r.queueWebhooks(ctx, s, decoded); err != nil {
		return err
	}
	if err := r.queue.RemoveStranded(ctx, s); err != nil {
		return err
	}
	r.copied.drop(s)
	r.reach.Reach(failpoint.DeadSettled)
	return nil
}

// bury copies the message to the dead letters, if that is not done.
func (r *reaper) bury(ctx context.Context, s *queue.Stranded, ids []job.ID, reason string, jobs int) error {
	if r.copied.has(s, ids) {
		return nil
	}
	if err := r.queue.BuryStranded(ctx, s, ids, reason); err != nil {
		return err
	}
	r.copied.add(s, ids)
	r.reach.Reach(failpoint.DeadCopied)
	r.log.Warn("a message was given up by JetStream before a worker could decide; it is among the dead letters",
		slog.Uint64("seq", s.Seq), slog.String("lane", s.Envelope.Lane.String()), slog.String("model", s.Envelope.Model),
		slog.String("tenant", s.Envelope.Tenant), slog.Int("jobs", jobs), slog.Int("deliveries", s.Deliveries))
	return nil
}

func givenUp(deliveries int) *job.Error {
	if deliveries == 0 {
		return job.Errorf(job.CodeExhausted, "", "the broker gave the job up: it was delivered as often as its queue allows, and no worker finished it")
	}
	return job.Errorf(job.CodeExhausted, "", "the broker gave the job up after %d deliveries, and no worker finished it", deliveries)
}

// unfinished returns the jobs that have no record, and the records of the others.
func (r *reaper) unfinished(ctx context.Context, decoded []job.Decoded) (open []*job.Job, found []resultstore.Entry, err error) {
	var ids []job.ID
	var all []*job.Job
	for i := range decoded {
		if j := &decoded[i].Job; !j.ID.IsZero() {
			ids, all = append(ids, j.ID), append(all, j)
		}
	}
	if len(ids) == 0 {
		return nil, nil, nil
	}
	records, err := r.results.Get(ctx, ids...)
	if err == nil && len(records) != len(ids) {
		err = errors.New("the result store gave no answer for a job")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("look for records: %w", err)
	}
	for i, j := range all {
		if records[i] == nil {
			open = append(open, j)
		} else {
			found = append(found, resultstore.Entry{ID: j.ID, Record: records[i], TTL: r.ttl(j.Model)})
		}
	}
	return open, found, nil
}

// record writes the failed records, each if there is none, and tells whoever waits. Those that were found are written
// with them: that changes nothing, but where the store waits for replicas it makes sure that they have them. What was
// merely read may be on none, and the message is all that there is of the job then.
func (r *reaper) record(ctx context.Context, s *queue.Stranded, open []*job.Job, found []resultstore.Entry, cause *job.Error) error {
	if len(open)+len(found) == 0 {
		return nil
	}
	entries := make([]resultstore.Entry, len(open), len(open)+len(found))
	results := make([]job.Result, len(open))
	ids := make([]job.ID, len(open))
	for i, j := range open {
		results[i] = job.Result{
			ID: j.ID, State: job.Failed, Tenant: j.Tenant, Model: j.Model, RequestID: j.RequestID, Webhook: j.Webhook, Fingerprint: j.Fingerprint, Error: cause,
			Attempts: s.Deliveries, CreatedAt: j.CreatedAt, FinishedAt: time.Now(), Token: r.token(),
		}
		entries[i] = resultstore.Entry{ID: j.ID, Record: job.AppendRecord(nil, &results[i]), TTL: r.ttl(j.Model)}
		ids[i] = j.ID
	}
	entries = append(entries, found...)
	outcomes, err := r.results.Finish(ctx, entries)
	if err != nil {
		return fmt.Errorf("write failed records, and confirm those that are there: %w", err)
	}
	if len(outcomes) != len(entries) {
		return errors.New("write failed records: the result store gave no outcome for a record")
	}
	if len(open) == 0 {
		return nil
	}
	r.reach.Reach(failpoint.DeadRecorded)
	for i, j := range open {
		if j.Reply == "" || !outcomes[i].Won {
			continue
		}
		out := newReply(nil, &results[i])
		if err := r.queue.Reply(j.Reply, out.header, out.body); err != nil {
			r.log.Debug("reply not sent", slog.String("job", j.ID.String()), slog.Any("error", err))
		}
	}
	if err := r.queue.NotifyDone(ids); err != nil {
		r.log.Debug("done notice not sent", slog.Any("error", err))
	}
	return nil
}
