package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// When a message has been delivered as often as its consumer allows, and the last lease has lapsed, JetStream takes it
// off the consumer's list of what is pending and forgets about it; but the message stays in the stream. Such a message
// is stranded: nothing will ever deliver it again.
//
// What a worker holds rightly, or what waits for its next delivery, is pending, and the floor that the consumer reports
// stays below the lowest that is; while nothing is pending, all that was delivered is behind it. A message that was
// acknowledged has left a work queue. So what is behind and still in the stream is stranded, or is being removed at
// this moment. (At MaxDeliver the server does not move the floor that it reports; the next acknowledgement that leaves
// nothing pending does. While a consumer is never idle, only the advisory tells of a stranded message.)

// Stranded is a message that no consumer will deliver any more.
type Stranded struct {
	Envelope   job.Envelope // Tenant is "" if the subject names none
	Seq        uint64
	Consumer   string
	Deliveries int // 0 if it is not known

	subject string
	header  nats.Header
}

// StrandedAt returns the message that was given up. job.ErrNotFound: it is gone. ErrNotStranded: the hint is wrong, as
// far as can be told: the consumer has not delivered such a message, delivers for ever, or was made after the hint.
func (q *Queue) StrandedAt(ctx context.Context, g GivenUp) (*Stranded, error) {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	c, err := askAgain(ctx, func(ctx context.Context) (jetstream.Consumer, error) {
		return q.js.Consumer(ctx, g.Lane.String(), g.Consumer)
	})
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, ErrNotStranded
	}
	if err != nil {
		return nil, requestError("look at consumer "+g.Consumer, err)
	}
	info := c.CachedInfo()
	m, err := q.messageAt(ctx, g.Lane.String(), g.Seq, "")
	if err != nil {
		return nil, err
	}
	if !matches(&info.Config, m.Subject) || g.Seq > behind(info) && !plausible(info, g) {
		return nil, ErrNotStranded
	}
	return newStranded(g.Lane, g.Consumer, g.Deliveries, m), nil
}

// behind is the sequence up to which nothing is pending.
func behind(c *jetstream.ConsumerInfo) uint64 {
	if c.NumAckPending == 0 {
		return c.Delivered.Stream
	}
	return c.AckFloor.Stream
}

// plausible reports whether an advisory agrees with what the consumer says. While others are pending there is no more
// to go by.
func plausible(c *jetstream.ConsumerInfo, g GivenUp) bool {
	return g.Seq <= c.Delivered.Stream && c.NumRedelivered > 0 && c.Config.MaxDeliver > 0 && g.Deliveries >= c.Config.MaxDeliver &&
		g.Time.After(c.Created)
}

// ErrNotStranded says that a message may still be delivered, or be held by a worker.
var ErrNotStranded = errors.New("the message is not given up")

// matches reports whether the consumer has the subject among its own.
func matches(c *jetstream.ConsumerConfig, subject string) bool {
	for _, f := range filtersOf(c) {
		if subjectMatches(f, subject) {
			return true
		}
	}
	return false
}

func filtersOf(c *jetstream.ConsumerConfig) []string {
	if len(c.FilterSubjects) > 0 {
		return c.FilterSubjects
	}
	if c.FilterSubject == "" {
		return []string{">"}
	}
	return []string{c.FilterSubject}
}

func newStranded(lane job.Lane, consumer string, deliveries int, m *jetstream.RawStreamMsg) *Stranded {
	s := &Stranded{Seq: m.Sequence, Consumer: consumer, Deliveries: deliveries, header: m.Header}
	s.subject, _ = cutShare(m.Subject)
	s.Envelope = job.Envelope{Lane: lane, Published: m.Time, Header: m.Header.Get, Body: unpack(m.Header, m.Data)}
	if _, model, tenant, ok := parseSubject(m.Subject); ok {
		s.Envelope.Model, s.Envelope.Tenant = model, tenant
	} else {
		s.Envelope.Model, _ = modelOf(consumer)
	}
	return s
}

// BuryStranded copies the message to the dead letters as DeadLetter does.
func (q *Queue) BuryStranded(ctx context.Context, s *Stranded, ids []job.ID, reason string, history ...string) error {
	return q.bury(ctx, &corpse{
		env: &s.Envelope, subject: s.subject, header: s.header, seq: s.Seq, attempts: s.Deliveries,
		ids: ids, reason: reason, history: history,
	})
}

// RemoveStranded deletes the message; its jobs have their records.
func (q *Queue) RemoveStranded(ctx context.Context, s *Stranded) error {
	if _, err := q.removeAt(ctx, s.Envelope.Lane.String(), s.Seq); err != nil {
		return fmt.Errorf("remove message %d of lane %s: %w", s.Seq, s.Envelope.Lane, err)
	}
	return nil
}

// consumers lists the consumers of a lane, with how far they are.
func (q *Queue) consumers(ctx context.Context, lane job.Lane) ([]*jetstream.ConsumerInfo, error) {
	s, err := q.stream(ctx, lane.String())
	if err != nil {
		return nil, err
	}
	return q.consumersOf(ctx, s)
}

func (q *Queue) consumersOf(ctx context.Context, s jetstream.Stream) ([]*jetstream.ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	var all []*jetstream.ConsumerInfo
	list := s.ListConsumers(ctx)
	for c := range list.Info() {
		all = append(all, c)
	}
	return all, requestError("list the consumers of stream "+s.CachedInfo().Config.Name, list.Err())
}

// modelOf is the model that a consumer is for, by its name; false if it is none of Sheaf's.
func modelOf(consumer string) (string, bool) {
	name, _, _ := strings.Cut(consumer, "~")
	return untoken(name)
}

// subjectMatches reports whether a subject is among those that a filter with wildcards means.
func subjectMatches(filter, subject string) bool {
	for {
		f, moreFilter, filterGoesOn := strings.Cut(filter, ".")
		s, moreSubject, subjectGoesOn := strings.Cut(subject, ".")
		switch {
		case f == ">":
			return true
		case f != "*" && f != s, filterGoesOn != subjectGoesOn && moreFilter != ">":
			return false
		case !filterGoesOn:
			return !subjectGoesOn
		case !subjectGoesOn:
			return false
		}
		filter, subject = moreFilter, moreSubject
	}
}
