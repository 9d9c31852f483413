package queue

import (
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// puller is a subscription that pull requests are answered to, one request at a time. It is used again only while
// it is certain that nothing is on its way to it.
type puller struct {
	subject  string
	messages chan *nats.Msg
	sub      *nats.Subscription
	closed   chan struct{} // when nothing more will come
}

// statusRoom is room for what the server says between the messages of one request.
const statusRoom = 64

func newPuller(conn *nats.Conn, limit int) (*puller, error) {
	p := &puller{subject: conn.NewInbox(), messages: make(chan *nats.Msg, max(limit, 192)+statusRoom), closed: make(chan struct{})}
	var err error
	if p.sub, err = conn.ChanSubscribe(p.subject, p.messages); err != nil {
		return nil, fmt.Errorf("%w: fetch: %w", ErrUnavailable, err)
	}
	ended := sync.OnceFunc(func() { close(p.closed) }) // nats.go may say it twice
	p.sub.SetClosedHandler(func(string) { ended() })
	return p, nil
}

func (p *puller) fits(limit int) bool { return limit+statusRoom <= cap(p.messages) && p.sub.IsValid() }

// retire ends the subscription and gives back the messages that were on their way to it. The caller is in a call that
// Close waits for.
func (p *puller) retire(q *Queue) {
	if err := p.sub.Drain(); err != nil {
		return // the connection is closed, and its leases lapse
	}
	q.running.Go(func() {
		up, changed := q.link.state()
		if !up {
			changed = closedSignal()
		}
		timer := time.NewTimer(retireTime)
		defer timer.Stop()
		for ended := false; !ended; {
			select {
			case m := <-p.messages:
				giveBack(q, m)
			case <-p.closed:
				ended = true
			case <-changed: // the server has given up these leases or soon will; nothing can be sent
				ended = true
			case <-timer.C:
				ended = true
			}
		}
		_ = p.sub.Unsubscribe() // only counts where the drain did not come to its end
		for len(p.messages) > 0 {
			giveBack(q, <-p.messages)
		}
	})
}

// retireTime bounds the wait for the server to say that nothing more will come.
const retireTime = 2 * time.Second

func closedSignal() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func giveBack(q *Queue, m *nats.Msg) {
	if _, ok := parseMetadata(m.Reply); !ok {
		return
	}
	if err := q.conn.Publish(m.Reply, nakBytes); err != nil {
		q.log.Warn("a message could not be given back; it is delivered again when its lease lapses", "subject", m.Subject, "error", err)
	}
}
