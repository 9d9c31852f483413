package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// headerRoom is what the headers of a published message may take of the server's max_payload.
const headerRoom = 1 << 10

// outgoing is one message on its way into a stream. The server stores it once, however often it is sent, since it is
// always sent under the same message ID.
type outgoing struct {
	msg      *nats.Msg
	deadline time.Time // no attempt begins after it
	attempts int       // sent so far
	call     *call     // of the attempt in flight, nil if it could not be sent
	changed  <-chan struct{}
	sendErr  error
}

// ack is what JetStream says of a stored message.
type ack struct {
	seq uint64
	// duplicate: a message with this ID was there before the first attempt. On a later attempt that cannot be told
	// from our own first one, and it is false.
	duplicate bool
}

type ackReply struct {
	Seq       uint64              `json:"seq"`
	Duplicate bool                `json:"duplicate"`
	Error     *jetstream.APIError `json:"error"`
}

func (q *Queue) checkSize(bytes int) error {
	limit := q.payload.Load()
	if limit > 0 && int64(bytes)+headerRoom > limit {
		return fmt.Errorf("%w: it takes %d bytes and the server's max_payload is %d, of which the headers need %d", ErrTooLarge, bytes, limit, headerRoom)
	}
	return nil
}

// send stores a message, trying again until it is answered, ctx ends or the publish timeout is over.
func (q *Queue) send(ctx context.Context, m *nats.Msg) (ack, error) {
	o := q.begin(m)
	return q.finish(ctx, o)
}

// begin sends the message for the first time, and does not wait. finish must follow.
func (q *Queue) begin(m *nats.Msg) *outgoing {
	o := &outgoing{msg: m, deadline: time.Now().Add(q.cfg.Publish.Timeout)}
	q.attempt(o)
	return o
}

func (q *Queue) attempt(o *outgoing) {
	var up bool
	up, o.changed = q.link.state()
	o.call, o.sendErr = nil, nil
	if !up {
		o.sendErr = nats.ErrDisconnected
		if q.conn.IsClosed() {
			o.sendErr = nats.ErrConnectionClosed
		}
		return
	}
	c := q.replies.open()
	o.msg.Reply = c.subj
	if err := q.conn.PublishMsg(o.msg); err != nil {
		q.replies.drop(c)
		o.sendErr = err
		return
	}
	o.attempts++
	o.call = c
}

// finish waits for the answer to begin's attempt, and makes others where that may help.
func (q *Queue) finish(ctx context.Context, o *outgoing) (ack, error) {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		a, retry, err := q.answer(ctx, o)
		if err == nil || !retry {
			return a, err
		}
		if err := q.pause(ctx, o, pause, err); err != nil {
			return ack{}, err
		}
		q.metrics.publishRetries.Inc()
		o.msg.Subject, _ = cutShare(o.msg.Subject) // should the spare share be what does not work
		q.attempt(o)
	}
}

// answer waits for the answer to the attempt in flight. retry says that another attempt may succeed.
func (q *Queue) answer(ctx context.Context, o *outgoing) (a ack, retry bool, err error) {
	if o.call == nil {
		if errors.Is(o.sendErr, nats.ErrMaxPayload) {
			return ack{}, false, fmt.Errorf("%w: %w", ErrTooLarge, o.sendErr)
		}
		if errors.Is(o.sendErr, nats.ErrConnectionClosed) {
			return ack{}, false, o.uncertain(ErrClosed)
		}
		return ack{}, true, o.sendErr
	}
	defer q.replies.drop(o.call)
	// A server that is alive answers in milliseconds; a lost connection is noticed at once. This is for an answer
	// that got lost in between, or a cluster without a leader.
	timer := time.NewTimer(min(q.cfg.Publish.Timeout/3+50*time.Millisecond, attemptTime))
	defer timer.Stop()
	select {
	case m := <-o.call.answer:
		return o.read(m)
	case <-ctx.Done():
		return ack{}, false, o.abandoned(ctx.Err())
	case <-o.changed:
		return ack{}, true, nats.ErrDisconnected
	case <-timer.C:
		return ack{}, true, nats.ErrTimeout
	}
}

// read is what the answer says; retry as in answer.
func (o *outgoing) read(m *nats.Msg) (a ack, retry bool, err error) {
	if len(m.Data) == 0 && m.Header.Get("Status") == "503" {
		return ack{}, true, nats.ErrNoResponders
	}
	var r ackReply
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return ack{}, false, fmt.Errorf("%w: the answer to a publish is not JetStream's: %w", ErrUncertain, err)
	}
	if r.Error != nil {
		retry, err := publishError(r.Error)
		return ack{}, retry, err
	}
	if r.Seq == 0 {
		return ack{}, false, fmt.Errorf("%w: JetStream acknowledged a publish without a sequence", ErrUncertain)
	}
	return ack{seq: r.Seq, duplicate: r.Duplicate && o.attempts == 1}, false, nil
}

// pause waits before another attempt: for the connection if it is down, else a moment. It returns the final error
// if there is no time left; cause is why the last attempt failed.
func (q *Queue) pause(ctx context.Context, o *outgoing, pause time.Duration, cause error) error {
	deadline := time.NewTimer(time.Until(o.deadline))
	defer deadline.Stop()
	for {
		up, changed := q.link.state()
		var moment <-chan time.Time
		if up {
			moment = time.After(pause)
		}
		select {
		case <-moment:
			return nil
		case <-changed:
		case <-ctx.Done():
			return o.abandoned(ctx.Err())
		case <-deadline.C:
			return o.gaveUp(cause)
		}
	}
}

// gaveUp is the error of a publish whose time is over.
func (o *outgoing) gaveUp(cause error) error {
	switch {
	case errors.Is(cause, ErrFull), errors.Is(cause, ErrUnavailable):
	case errors.Is(cause, nats.ErrNoResponders):
		cause = fmt.Errorf("%w: no stream takes %s; does nats-server run with -js, and were the streams made?", ErrUnavailable, o.msg.Subject)
	default:
		cause = fmt.Errorf("%w: %w", ErrUnavailable, cause)
	}
	return o.uncertain(cause)
}

// abandoned is the error of a publish whose caller does not wait any longer.
func (o *outgoing) abandoned(cause error) error {
	return o.uncertain(fmt.Errorf("publish given up: %w", cause))
}

// uncertain marks the error if anything was sent that may have been stored.
func (o *outgoing) uncertain(err error) error {
	if o.attempts == 0 {
		return err
	}
	return fmt.Errorf("%w (%w)", err, ErrUncertain)
}
