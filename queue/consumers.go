package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/sheafml/sheaf/job"
)

// maxWaitingPulls bounds the open fetches of one consumer, over all workers.
const maxWaitingPulls = 2048

// requestsAtOnce bounds the requests about the consumers of one model.
const requestsAtOnce = 8

// EnsureConsumer creates or updates the durable consumers of one lane and model: one for each share of the lane, and the spare one. Its
// stream must exist. If Config.TenantShares asks for more shares than the stream has, the stream gets them; it is those
// who serve that raise it, since a share that nobody fetches from would wait for ever.
func (q *Queue) EnsureConsumer(ctx context.Context, lane job.Lane, model string) error {
	return q.ensureConsumers(ctx, preparation{q: q, lane: lane, model: model, settings: *q.cfg.lane(lane)})
}

// preparation makes the consumers of one lane and model.
type preparation struct {
	q        *Queue
	lane     job.Lane
	model    string
	settings LaneConfig
	atLeast  int // shares that are to have a consumer, even if the stream has fewer
}

func (q *Queue) ensureConsumers(ctx context.Context, p preparation) error {
	lane, model := p.lane, p.model
	if !job.ValidName(model) {
		return job.Invalidf("model", "not a valid name of a model")
	}
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	err := q.patiently(ctx, func(ctx context.Context) error {
		if err := p.shares(ctx); err != nil {
			return err
		}
		return q.applyPause(ctx, lane, model, true)
	})
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("prepare the consumer of model %s: stream %s does not exist: call EnsureStreams first", model, lane)
	}
	return requestError("prepare the consumer of model "+model+", lane "+lane.String(), err)
}

// shares makes the consumers, and then the shares that they are for. A consumer passes over what its filter does
// not match, for good; so each must be there, or match, before the first message comes that it is to deliver. A new
// consumer begins with the oldest message, so one that is made late has passed over nothing.
//
// More shares make no waiting message unreachable: it stays in the share that it was stored under, which is one of the
// old ones, and those keep their consumers. Fewer would, and so nobody lowers them.
func (p *preparation) shares(ctx context.Context) error {
	s, err := p.q.js.Stream(ctx, p.lane.String())
	if err != nil {
		return err
	}
	have := s.CachedInfo().Config
	shares, err := sharesOf(p.lane, have.SubjectTransform)
	if err != nil {
		return err
	}
	want := max(shares, p.q.cfg.TenantShares)
	if have.SubjectTransform == nil && want > 1 {
		if err := p.q.widenConsumers(ctx, p.lane, s); err != nil {
			return err
		}
	}
	first, err := p.share(ctx, 0, have.SubjectTransform != nil, nil)
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(requestsAtOnce)
	for share := 1; share < max(consumersFor(want), p.atLeast); share++ {
		g.Go(func() error {
			_, err := p.share(ctx, share, false, first)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return p.q.raiseShares(ctx, p.lane, want)
}

// raiseShares gives the stream so many shares, if it has fewer, and the spare one. Another process may write the stream's settings at the
// same time, as they were before: what became of it is looked at.
func (q *Queue) raiseShares(ctx context.Context, lane job.Lane, want int) error {
	for {
		s, err := q.js.Stream(ctx, lane.String())
		if err != nil {
			return err
		}
		c := s.CachedInfo().Config
		shares, err := sharesOf(lane, c.SubjectTransform)
		if err != nil {
			return err
		}
		want = max(want, shares)
		subjects := withSubjects(c.Subjects, laneSubjects(lane, want))
		if shares == want && len(subjects) == len(c.Subjects) {
			return nil
		}
		c.SubjectTransform, c.Subjects = shareTransform(lane, want), subjects
		if _, err := q.js.UpdateStream(ctx, c); err != nil {
			return err
		}
	}
}

// share makes or updates one consumer. marked says that messages with a share may have been stored already. Its leases
// are no shorter than its sibling's, that of the first share, and if it is made it is paused as that is.
func (p *preparation) share(ctx context.Context, share int, marked bool, sibling *jetstream.ConsumerConfig) (*jetstream.ConsumerConfig, error) {
	settings := p.settings
	if sibling != nil {
		settings.raise(sibling)
	}
	js, lane, name := p.q.js, p.lane.String(), consumerName(p.model, share)
	var want jetstream.ConsumerConfig
	have, err := js.Consumer(ctx, lane, name)
	switch {
	case err == nil:
		old := have.CachedInfo().Config
		settings.raise(&old)
		want = old
		p.fill(&want, share, settings)
		if sameFilters(&old, &want) && want.AckWait == old.AckWait && want.MaxAckPending == old.MaxAckPending && want.MaxDeliver == old.MaxDeliver {
			return &want, nil
		}
		if marked && !sameFilters(&old, &want) {
			// A worker of before the shares has made it, or narrowed it, since messages have shares. It may have passed over
			// some, so it begins anew. What is leased is delivered once more, and found finished.
			if err := js.DeleteConsumer(ctx, lane, name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
				return nil, err
			}
			p.q.log.Warn("the consumer of a model did not match the shares of its lane and is made again", "lane", lane, "consumer", name)
		}
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		want = jetstream.ConsumerConfig{
			Durable:       name,
			Description:   "Sheaf: model " + p.model,
			DeliverPolicy: jetstream.DeliverAllPolicy,
			AckPolicy:     jetstream.AckExplicitPolicy,
			MaxWaiting:    maxWaitingPulls,
		}
		p.fill(&want, share, settings)
		if sibling != nil {
			want.PauseUntil = sibling.PauseUntil
		}
	default:
		return nil, err
	}
	_, err = js.CreateOrUpdateConsumer(ctx, lane, want)
	return &want, err
}

// fill sets what a consumer is given, whoever made it. The filters stand as the server keeps them.
func (p *preparation) fill(c *jetstream.ConsumerConfig, share int, settings LaneConfig) {
	c.AckWait, c.MaxAckPending, c.MaxDeliver = settings.AckWait, settings.MaxAckPending, settings.MaxDeliver
	setFilters(c, shareFilters(p.lane, p.model, share))
}

// raise makes what the lane's consumers are given no less than what one has. As with the streams' limits: raised by
// whoever starts, lowered by nobody, since workers that are running count on their lease.
func (l *LaneConfig) raise(c *jetstream.ConsumerConfig) {
	l.AckWait = max(l.AckWait, c.AckWait)
	l.MaxAckPending = int(larger(int64(l.MaxAckPending), int64(c.MaxAckPending)))
	l.MaxDeliver = int(larger(int64(l.MaxDeliver), int64(c.MaxDeliver)))
}

func setFilters(c *jetstream.ConsumerConfig, filters []string) {
	c.FilterSubject, c.FilterSubjects = "", nil
	if len(filters) == 1 {
		c.FilterSubject = filters[0]
		return
	}
	c.FilterSubjects = filters
}

func sameFilters(a, b *jetstream.ConsumerConfig) bool {
	return a.FilterSubject == b.FilterSubject && slices.Equal(a.FilterSubjects, b.FilterSubjects)
}

// widenConsumers makes the consumers of before the shares, of every model, match the messages of the first share, before
// there are any.
func (q *Queue) widenConsumers(ctx context.Context, lane job.Lane, s jetstream.Stream) error {
	list := s.ListConsumers(ctx)
	for info := range list.Info() {
		model, ok := untoken(info.Name)
		if !ok || strings.Contains(info.Name, "~") {
			continue
		}
		c, filters := info.Config, shareFilters(lane, model, 0)
		if c.FilterSubject != filters[0] {
			continue // somebody else's, or wide already
		}
		setFilters(&c, filters)
		if _, err := q.js.UpdateConsumer(ctx, lane.String(), c); err != nil && !errors.Is(err, jetstream.ErrConsumerDoesNotExist) {
			return err
		}
	}
	return list.Err()
}
