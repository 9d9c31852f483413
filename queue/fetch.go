package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// Source fetches from the durable consumer of one lane, model and share. Its methods may be called from many goroutines.
type Source struct {
	q       *Queue
	lane    job.Lane
	model   string
	share   int
	of      int // how many sources there are beside it, itself included
	ackWait time.Duration

	mu   sync.Mutex
	idle []*puller
	turn int // counts the fetches that several shares take in turn
}

// Sources returns the sources of a lane and model, one for each share of the lane and the spare one; the consumers must exist. Whoever
// serves the model fetches from all of them.
func (q *Queue) Sources(ctx context.Context, lane job.Lane, model string) ([]*Source, error) {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	shares, err := q.Shares(ctx, lane)
	var sources []*Source
	for share := 0; err == nil && share <= MaxTenantShares; share++ {
		var info *jetstream.ConsumerInfo
		info, err = q.consumerInfo(ctx, lane, model, share)
		if share >= consumersFor(shares) && errors.Is(err, jetstream.ErrConsumerNotFound) {
			err = nil // there are consumers of more shares than the stream has if somebody lowered them: what waits is served
			break
		}
		if err == nil {
			sources = append(sources, &Source{
				q: q, lane: lane, model: model, share: share, ackWait: info.Config.AckWait,
			})
		}
	}
	switch {
	case err == nil:
		for _, s := range sources {
			s.of = len(sources)
		}
		return sources, nil
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, fmt.Errorf("model %s has no consumer in lane %s: call EnsureConsumer first (%w)", model, lane, err)
	}
	return nil, requestError("look at the consumers of model "+model, err)
}

// AckWait is how long a lease lasts without Extend. It is the consumer's, which another process may have made.
func (s *Source) AckWait() time.Duration { return s.ackWait }

// Fetch asks for up to limit messages and calls fn for each as it arrives. It returns when limit have come, wait is
// over or ctx ends, with how many came. fn must be quick. With wait 0 only what is there is fetched.
//
// ErrUnavailable says that the connection was lost or JetStream does not answer; Fetch then has waited for it, for
// no longer than wait, and may be called again at once. When ctx ends, messages that are still on their way are
// given back.
func (s *Source) Fetch(ctx context.Context, limit int, wait time.Duration, fn func(*Delivery)) (int, error) {
	if limit < 1 {
		return 0, nil
	}
	if !s.q.enter() {
		return 0, ErrClosed
	}
	defer s.q.running.Done()
	deadline := time.Now().Add(wait)
	if err := s.q.awaitLink(ctx, deadline); err != nil {
		if ctx.Err() != nil {
			return 0, nil //nolint:nilerr // an ended context is not an error of Fetch
		}
		return 0, err
	}
	if shares := s.q.watchedShares(s.lane); shares > s.share+s.of {
		return s.fetchInTurn(ctx, shares, limit, deadline, fn)
	}
	return s.fetchFrom(ctx, s.share, limit, deadline, fn)
}

// fetchInTurn fetches for the shares that were added to the lane after the sources were opened, too: the sources divide
// them among themselves. It takes what is there, and waits at each for only a moment; with its next start the worker has
// a source for each.
func (s *Source) fetchInTurn(ctx context.Context, shares, limit int, deadline time.Time, fn func(*Delivery)) (int, error) {
	mine := (shares - 1 - s.share) / s.of // beside its own
	s.mu.Lock()
	s.turn++
	first := s.turn
	s.mu.Unlock()
	share := func(i int) int { return s.share + (first+i)%(mine+1)*s.of }
	for i := range mine + 1 {
		if came, err := s.fetchFrom(ctx, share(i), limit, time.Time{}, fn); came > 0 || err != nil {
			return came, err
		}
	}
	if soon := time.Now().Add(turnTime); soon.Before(deadline) {
		deadline = soon
	}
	return s.fetchFrom(ctx, share(0), limit, deadline, fn)
}

// turnTime is how long a fetch for several shares waits at one of them.
const turnTime = 200 * time.Millisecond

// fetchFrom fetches from the consumer of one share.
func (s *Source) fetchFrom(ctx context.Context, share, limit int, deadline time.Time, fn func(*Delivery)) (int, error) {
	p, err := s.puller(limit)
	if err != nil {
		return 0, err
	}
	f := fetch{s: s, p: p, ctx: ctx, share: share, limit: limit, fn: fn}
	over, err := f.run(max(0, time.Until(deadline)))
	if over {
		s.release(p)
	} else {
		p.retire(s.q)
	}
	if errors.Is(err, errNoConsumer) {
		err = s.heal(ctx, share, deadline)
	}
	return f.came, err
}

// next is the subject of a pull request.
func (s *Source) next(share int) string {
	return s.q.api + "CONSUMER.MSG.NEXT." + s.lane.String() + "." + consumerName(s.model, share)
}

// errNoConsumer says that nobody answers for the consumer.
var errNoConsumer = errors.New("the consumer is gone, or JetStream is not ready")

// heal makes a consumer again that has disappeared under the worker, with its stream if need be. It returns an error
// even if it succeeds: the fetch brought nothing, and its caller should not hurry.
func (s *Source) heal(ctx context.Context, share int, deadline time.Time) error {
	if soon := time.Now().Add(healTime); soon.After(deadline) {
		deadline = soon
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	// All shares of a model are gone at the same time, as a rule; one of their sources makes them for the others.
	_, err, _ := s.q.healing.Do(s.lane.String()+"."+s.model, func() (any, error) {
		if err := s.q.EnsureStreams(ctx); err != nil {
			return nil, err
		}
		settings := *s.q.cfg.lane(s.lane)
		settings.AckWait = max(settings.AckWait, s.ackWait) // what was delivered counts on it
		return nil, s.q.ensureConsumers(ctx, preparation{q: s.q, lane: s.lane, model: s.model, settings: settings, atLeast: max(s.of, share+1)})
	})
	switch {
	case err == nil:
		return fmt.Errorf("%w: a consumer of model %s, lane %s, was gone and has been made again", ErrUnavailable, s.model, s.lane)
	case errors.Is(err, context.Canceled):
		return nil
	}
	return err
}

// healTime is the least time that heal gives JetStream.
const healTime = 2 * time.Second

// awaitLink waits until the connection stands.
func (q *Queue) awaitLink(ctx context.Context, deadline time.Time) error {
	for {
		up, changed := q.link.state()
		switch {
		case q.isClosed():
			return ErrClosed
		case up:
			return ctx.Err()
		}
		timer := time.NewTimer(time.Until(deadline))
		select {
		case <-changed:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-q.closed:
			timer.Stop()
			return ErrClosed
		case <-timer.C:
			return fmt.Errorf("%w: the connection is being restored", ErrUnavailable)
		}
	}
}

// fetch is one pull request and what it brings.
type fetch struct {
	s     *Source
	p     *puller
	ctx   context.Context
	share int
	limit int
	fn    func(*Delivery)
	came  int
}

// pullRequest is the body of a pull request. Times are nanoseconds.
type pullRequest struct {
	Batch     int           `json:"batch"`
	Expires   time.Duration `json:"expires,omitempty"`
	NoWait    bool          `json:"no_wait,omitempty"`
	Heartbeat time.Duration `json:"idle_heartbeat,omitempty"`
}

// heartbeat is how often the server says that a long pull is still open.
const heartbeat = 2 * time.Second

// answerTime is how long after its end the server may take to say that a pull is over.
const answerTime = 500 * time.Millisecond

// run does the fetch. over says that the server has ended the request, so that nothing more will come for it.
func (f *fetch) run(wait time.Duration) (over bool, err error) {
	req := pullRequest{Batch: f.limit, Expires: wait}
	if wait < time.Millisecond {
		req.Expires, req.NoWait = 0, true
	}
	silence := wait + answerTime // without a word of the server
	if wait >= 3*heartbeat {
		req.Heartbeat = heartbeat
		silence = 2*heartbeat + answerTime
	}
	body, err := json.Marshal(req)
	if err != nil {
		return true, fmt.Errorf("encode a pull request: %w", err)
	}
	_, changed := f.s.q.link.state()
	if err := f.s.q.conn.PublishRequest(f.s.next(f.share), f.p.subject, body); err != nil {
		return false, fmt.Errorf("%w: fetch: %w", ErrUnavailable, err)
	}
	timer := time.NewTimer(silence)
	defer timer.Stop()
	for {
		select {
		case m := <-f.p.messages:
			if over, err := f.take(m); over || err != nil {
				return over, err
			}
			if req.Heartbeat > 0 {
				timer.Reset(silence)
			}
		case <-f.ctx.Done():
			return false, nil
		case <-changed:
			return false, fmt.Errorf("%w: the connection was lost", ErrUnavailable)
		case <-f.s.q.closed:
			return false, ErrClosed
		case <-timer.C:
			if f.came > 0 {
				return false, nil
			}
			return false, fmt.Errorf("%w: JetStream does not answer a fetch", ErrUnavailable)
		}
	}
}

// take handles a message or a status of the server.
func (f *fetch) take(m *nats.Msg) (over bool, err error) {
	if len(m.Data) == 0 && m.Header != nil {
		if status := m.Header.Get("Status"); status != "" {
			return readStatus(status, m.Header.Get("Description"))
		}
	}
	if d := f.s.deliver(f.ctx, m); d != nil {
		f.came++
		f.fn(d)
	} else {
		f.limit-- // the server counts it
	}
	return f.came >= f.limit, nil
}

func readStatus(status, description string) (over bool, err error) {
	switch status {
	case "100": // heartbeat
		return false, nil
	case "404", "408": // no messages, or the time is over
		return true, nil
	case "409":
		switch description {
		case "Batch Completed":
			return true, nil
		case "Consumer Deleted":
			return true, errNoConsumer
		case "Exceeded MaxWaiting":
			return true, fmt.Errorf("%w: more than %d fetches wait at this consumer", ErrUnavailable, maxWaitingPulls)
		}
		return false, fmt.Errorf("%w: JetStream ends the fetch: %s", ErrUnavailable, description)
	case "503":
		return true, errNoConsumer
	}
	return false, fmt.Errorf("%w: JetStream ends the fetch: %s %s", ErrUnavailable, status, description)
}

// deliver makes the lease of a message. A message that cannot be attributed to a tenant goes among the dead letters,
// and nil is returned.
func (s *Source) deliver(ctx context.Context, m *nats.Msg) *Delivery {
	meta, ok := parseMetadata(m.Reply)
	if !ok {
		s.q.log.Warn("a message without JetStream's metadata came to a fetch; it is ignored", "subject", m.Subject)
		return nil
	}
	lane := &s.q.metrics.lanes[s.lane]
	lane.fetched.Inc()
	if meta.delivered > 1 {
		lane.redelivered.Inc()
	}
	d := newDelivery(s.q, s.lane, m, meta, s.ackWait, time.Now())
	d.Envelope.Lane, d.Envelope.Model = s.lane, s.model
	if _, _, d.Envelope.Tenant, ok = parseSubject(m.Subject); ok {
		return d
	}
	s.q.refuse(ctx, d)
	return nil
}

// release keeps a puller for the next fetch.
func (s *Source) release(p *puller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = append(s.idle, p)
}

// puller takes an idle puller with room for limit messages, or makes one.
func (s *Source) puller(limit int) (*puller, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := len(s.idle); n > 0; n = len(s.idle) {
		p := s.idle[n-1]
		s.idle = s.idle[:n-1]
		if p.fits(limit) {
			return p, nil
		}
		p.retire(s.q)
	}
	return newPuller(s.q.conn, limit)
}
