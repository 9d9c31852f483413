package queue

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sheafml/sheaf/job"
)

// Delivery is a leased message. Its methods may be called from many goroutines.
type Delivery struct {
	Envelope job.Envelope
	Seq      uint64 // stream sequence
	Attempt  int    // 1 for the first delivery
	Behind   uint64 // messages that waited behind it in its share when it was delivered

	q       *Queue
	lane    job.Lane
	msg     *nats.Msg
	ackWait time.Duration
	epoch   time.Time    // what the lease counts from, monotonic
	lapses  atomic.Int64 // nanoseconds after epoch when the lease is over; 0 when it was given up
}

// leaseMargin is the part of AckWait that a lease ends early: the server's clock started before the message came here.
const leaseMargin = 20

func newDelivery(q *Queue, lane job.Lane, m *nats.Msg, meta metadata, ackWait time.Duration, now time.Time) *Delivery {
	d := &Delivery{q: q, lane: lane, msg: m, ackWait: ackWait, epoch: now, Seq: meta.seq, Attempt: meta.delivered, Behind: meta.pending}
	d.lapses.Store(int64(d.lease()))
	d.Envelope.Published = meta.published
	d.Envelope.Header = m.Header.Get
	d.Envelope.Body = unpack(m.Header, m.Data)
	return d
}

// subject is what the message was published under.
func (d *Delivery) subject() string {
	published, _ := cutShare(d.msg.Subject)
	return published
}

func (d *Delivery) lease() time.Duration { return d.ackWait - d.ackWait/leaseMargin }

// Lapsed reports whether the lease is over: it was not extended in time, or was given up.
func (d *Delivery) Lapsed() bool {
	return int64(time.Since(d.epoch)) >= d.lapses.Load()
}

// Ack says that every job of the message has its record. It is sent even after the lease has lapsed: whoever holds the
// message now need not compute it again. It does not wait for the server; a lost Ack means another delivery. While messages
// of its lane are finished one after the other, the latest is acknowledged a moment later.
func (d *Delivery) Ack() error {
	// The server counts a lease longer than this side does, by a part of AckWait.
	mayHold := !d.Lapsed() && d.ackWait > 2*leaseMargin*ackHold && !d.q.isClosed()
	d.lapses.Store(0)
	return d.q.acks[d.lane].finish(func() error { return d.answer(ackBytes) }, mayHold)
}

// Retry gives the message back, to be delivered again after the delay (0: at once). ErrLapsed, and nothing sent, if
// the lease has lapsed. The lease ends with it.
func (d *Delivery) Retry(delay time.Duration) error {
	if !d.giveUp() {
		return ErrLapsed
	}
	if delay <= 0 {
		return d.answer(nakBytes)
	}
	return d.answer(append(strconv.AppendInt([]byte(`-NAK {"delay": `), int64(delay), 10), '}'))
}

// Reject ends the message without another delivery. ErrLapsed, and nothing sent, if the lease has lapsed. The lease
// ends with it. The reason goes into the server's advisory.
func (d *Delivery) Reject(reason string) error {
	if !d.giveUp() {
		return ErrLapsed
	}
	if reason == "" {
		return d.answer(termBytes)
	}
	return d.answer([]byte("+TERM " + oneLine(reason, maxReason)))
}

// Extend renews the lease for another AckWait. ErrLapsed, and nothing sent, if it has lapsed.
func (d *Delivery) Extend() error {
	for {
		old := d.lapses.Load()
		now := time.Since(d.epoch)
		if int64(now) >= old {
			return ErrLapsed
		}
		next := int64(now + d.lease())
		if !d.lapses.CompareAndSwap(old, next) {
			continue
		}
		err := d.answer(progressBytes)
		if err != nil {
			d.lapses.CompareAndSwap(next, old) // the server knows nothing of it
		}
		return err
	}
}

// giveUp ends the lease; false if it was over already.
func (d *Delivery) giveUp() bool {
	for {
		old := d.lapses.Load()
		if int64(time.Since(d.epoch)) >= old {
			return false
		}
		if d.lapses.CompareAndSwap(old, 0) {
			return true
		}
	}
}

var (
	ackBytes      = []byte("+ACK")
	nakBytes      = []byte("-NAK")
	termBytes     = []byte("+TERM")
	progressBytes = []byte("+WPI")
)

func (d *Delivery) answer(kind []byte) error {
	if err := d.q.conn.Publish(d.msg.Reply, kind); err != nil {
		return fmt.Errorf("%w: answer a delivery: %w", ErrUnavailable, err)
	}
	return nil
}

// metadata is what the reply subject of a delivered message says.
type metadata struct {
	delivered int
	seq       uint64
	published time.Time
	pending   uint64
}

// parseMetadata reads a reply subject of the form
//
//	$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<timestamp>.<pending>
//
// or, as newer servers may send it, with <domain>.<account hash> before the stream, and perhaps a token at the end.
func parseMetadata(reply string) (m metadata, ok bool) {
	const prefix = "$JS.ACK."
	if len(reply) < len(prefix) || reply[:len(prefix)] != prefix {
		return m, false
	}
	var tokens [12]string
	n, start := 0, 0
	for i := 0; i <= len(reply); i++ {
		if i == len(reply) || reply[i] == '.' {
			if n == len(tokens) {
				return m, false
			}
			tokens[n] = reply[start:i]
			n, start = n+1, i+1
		}
	}
	first := 4 // token of <delivered>
	switch n {
	case 9:
	case 11, 12:
		first = 6
	default:
		return m, false
	}
	delivered, err1 := strconv.ParseUint(tokens[first], 10, 31)
	seq, err2 := strconv.ParseUint(tokens[first+1], 10, 64)
	nanos, err3 := strconv.ParseInt(tokens[first+3], 10, 64)
	pending, err4 := strconv.ParseUint(tokens[first+4], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil {
		return m, false
	}
	return metadata{delivered: int(delivered), seq: seq, published: time.Unix(0, nanos), pending: pending}, true
}
