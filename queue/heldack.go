package queue

import (
	"sync"
	"time"
)

// ackHold is how long the acknowledgement of a lane's latest message is kept back while others follow. A stream that runs
// empty removes its file and makes another for the next message: a quarter of nats-server's CPU where workers keep up
// with what is submitted.
const ackHold = 20 * time.Millisecond

// heldAck keeps one acknowledgement of a lane back. A worker that is killed meanwhile leaves a message that comes again,
// as if it had been killed a moment before: its jobs are found finished.
type heldAck struct {
	mu    sync.Mutex
	held  func() error // sends it; nil: none
	last  time.Time    // when a message was finished
	timer *time.Timer
}

// finish has a message acknowledged by send: now if none was finished a moment before, or if it may not be held, and
// else when the next is finished, or soon.
func (h *heldAck) finish(send func() error, mayHold bool) error {
	now := time.Now()
	h.mu.Lock()
	if mayHold = mayHold && now.Sub(h.last) < ackHold; mayHold {
		h.held, send = send, h.held
		if h.timer == nil {
			h.timer = time.AfterFunc(ackHold, h.expire)
		} else if send == nil {
			h.timer.Reset(ackHold)
		}
	}
	h.last = now
	h.mu.Unlock()
	if send == nil {
		return nil
	}
	return send()
}

// expire is called when something has been held for long enough, or something else was in its place meanwhile.
func (h *heldAck) expire() {
	h.mu.Lock()
	if left := ackHold - time.Since(h.last); h.held != nil && left > 0 {
		h.timer.Reset(left)
		h.mu.Unlock()
		return
	}
	h.mu.Unlock()
	h.flush()
}

// flush sends what is held.
func (h *heldAck) flush() {
	h.mu.Lock()
	send := h.held
	h.held = nil
	h.mu.Unlock()
	if send != nil {
		_ = send() // a lost acknowledgement means another delivery, on which the records are found
	}
}
