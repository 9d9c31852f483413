package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/sheafml/sheaf/job"
)

// progress is how far a lane and model is, at a moment.
type progress struct {
	at     time.Time       // when the looking began
	seen   time.Time       // when it was over
	shares []shareProgress // one for each share of the lane, and the spare one if there are several
	// removed counts the messages that ever left the lane, of all its models.
	removed uint64
	last    uint64 // sequence of the lane's last message
	// passed counts the messages that this process has put into the spare share since.
	passed atomic.Uint64
}

// shareProgress is how far the consumer of one share is.
type shareProgress struct {
	served     bool   // the consumer exists
	delivered  uint64 // stream sequence of the last message that was delivered
	waiting    uint64 // messages behind it
	running    int    // delivered and not acknowledged
	deliveries uint64 // ever made, the repeated ones too
}

func (p *progress) waiting() (n uint64) {
	for i := range p.shares {
		n += p.shares[i].waiting
	}
	return n
}

func (p *progress) running() (n int) {
	for i := range p.shares {
		n += p.shares[i].running
	}
	return n
}

// place says whether the message of that share has been delivered, and if not, how many go before it. That is those of
// its own share that are in front of it, and as many of each other share, since the shares are served in turn: an upper
// bound as long as they are. What waits in other shares beyond that does not delay it.
func (p *progress) place(seq uint64, share int) (delivered bool, ahead uint64) {
	var own shareProgress
	if share < len(p.shares) {
		own = p.shares[share]
	}
	if seq <= own.delivered {
		return true, 0
	}
	var since uint64 // messages that may have come in front of it since the look
	if seq > p.last {
		since = seq - p.last - 1
	}
	// Sequences count the messages of every model, and some that are gone; the consumer's own count is the tighter
	// bound as soon as it is known.
	return false, p.before(share, min(seq-own.delivered-1, own.waiting+since))
}

// before is how many messages go before one that has so many in front of it in its share.
func (p *progress) before(share int, inFront uint64) uint64 {
	n := inFront
	for i := range p.shares {
		if i != share {
			n += min(p.shares[i].waiting, inFront+1)
		}
	}
	return n
}

// Backlog counts the messages that wait in a lane for a model, and those delivered and not yet acked. It is as old as
// the answer of Load.
func (q *Queue) Backlog(ctx context.Context, lane job.Lane, model string) (waiting, running int, err error) {
	l, err := q.Load(ctx, lane, model, "")
	return l.Waiting, l.Running, err
}

// readProgress asks the stream and the consumer of each share.
func (q *Queue) readProgress(ctx context.Context, lane job.Lane, model string) (*progress, error) {
	stream, err := askAgain(ctx, func(ctx context.Context) (jetstream.Stream, error) { return q.js.Stream(ctx, lane.String()) })
	if err != nil {
		return nil, requestError("look at stream "+lane.String(), err)
	}
	info := stream.CachedInfo()
	shares, err := sharesOf(lane, info.Config.SubjectTransform)
	if err != nil {
		return nil, err
	}
	q.shares.note(lane, consumersFor(shares))
	p := &progress{at: time.Now(), shares: make([]shareProgress, consumersFor(shares)), removed: info.State.LastSeq - info.State.Msgs, last: info.State.LastSeq}
	g, asking := errgroup.WithContext(ctx)
	g.SetLimit(requestsAtOnce)
	for share := range p.shares {
		g.Go(func() (err error) {
			p.shares[share], err = q.readShare(asking, lane, model, share)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, requestError("look at the consumers of model "+model, err)
	}
	p.seen = time.Now()
	for share := range p.shares {
		if !p.shares[share].served {
			return p, q.countUnserved(ctx, stream, lane, model, p)
		}
	}
	return p, nil
}

// readShare asks one consumer. That there is none is no error.
func (q *Queue) readShare(ctx context.Context, lane job.Lane, model string, share int) (p shareProgress, err error) {
	m, err := askAgain(ctx, func(ctx context.Context) (*nats.Msg, error) {
		return q.conn.RequestWithContext(ctx, q.api+"CONSUMER.INFO."+lane.String()+"."+consumerName(model, share), nil)
	})
	if err != nil {
		return p, err
	}
	var r struct {
		Error     *jetstream.APIError `json:"error"`
		Delivered struct {
			Consumer uint64 `json:"consumer_seq"`
			Stream   uint64 `json:"stream_seq"`
		} `json:"delivered"`
		AckPending int    `json:"num_ack_pending"`
		Pending    uint64 `json:"num_pending"`
	}
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return p, fmt.Errorf("the answer is not JetStream's: %w", err)
	}
	switch {
	case r.Error == nil:
		return shareProgress{
			served: true, delivered: r.Delivered.Stream, waiting: r.Pending, running: r.AckPending, deliveries: r.Delivered.Consumer,
		}, nil
	case r.Error.ErrorCode == jetstream.JSErrCodeConsumerNotFound:
		return p, nil
	}
	return p, r.Error
}

// countUnserved counts what waits in the shares that have no consumer, because no worker has served them yet.
func (q *Queue) countUnserved(ctx context.Context, stream jetstream.Stream, lane job.Lane, model string, p *progress) error {
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(subjectRoot+lane.String()+"."+token(model)+".>"))
	if err != nil {
		return requestError("look at stream "+lane.String(), err)
	}
	for subject, n := range info.State.Subjects {
		_, share := cutShare(subject)
		if share < len(p.shares) && !p.shares[share].served {
			p.shares[share].waiting += n
		}
	}
	return nil
}

// consumerInfo looks at the consumer of one share.
func (q *Queue) consumerInfo(ctx context.Context, lane job.Lane, model string, share int) (*jetstream.ConsumerInfo, error) {
	if !job.ValidName(model) {
		return nil, job.Invalidf("model", "not a valid name of a model")
	}
	c, err := askAgain(ctx, func(ctx context.Context) (jetstream.Consumer, error) {
		return q.js.Consumer(ctx, lane.String(), consumerName(model, share))
	})
	if err != nil {
		return nil, err
	}
	return c.CachedInfo(), nil
}

// How old what was seen of a model's consumers may be: it counts as true for progressFor. While somebody asks anew, the
// others make do with what is no older than staleFor.
const (
	progressFor = 200 * time.Millisecond
	staleFor    = 2 * time.Second
)
