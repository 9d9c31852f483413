package queue

import (
	"fmt"
	"strconv"
	"sync"

	"github.com/nats-io/nats.go"
)

// inbox matches answers to requests over one subscription. nats.go has the like; this one leaves the waiting to the
// caller, so that a wait can end when the connection is lost, and several messages can be sent before the first
// answer is waited for.
type inbox struct {
	prefix string
	mu     sync.Mutex
	next   uint64
	calls  map[string]*call
}

type call struct {
	key    string
	subj   string
	answer chan *nats.Msg // of capacity 1
}

func newInbox(conn *nats.Conn) (*inbox, error) {
	in := &inbox{prefix: conn.NewInbox() + ".", calls: make(map[string]*call)}
	if _, err := conn.Subscribe(in.prefix+"*", in.deliver); err != nil {
		return nil, fmt.Errorf("subscribe to answers of NATS: %w", err)
	}
	return in, nil
}

func (in *inbox) open() *call {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.next++
	subj := string(strconv.AppendUint([]byte(in.prefix), in.next, 36))
	c := &call{key: subj[len(in.prefix):], subj: subj, answer: make(chan *nats.Msg, 1)}
	in.calls[c.key] = c
	return c
}

func (in *inbox) drop(c *call) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.calls, c.key)
}

func (in *inbox) deliver(m *nats.Msg) {
	in.mu.Lock()
	c := in.calls[m.Subject[len(in.prefix):]]
	delete(in.calls, m.Subject[len(in.prefix):])
	in.mu.Unlock()
	if c != nil {
		c.answer <- m // never blocks: each call is found once
	}
}
