package fastlane

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// What a connection is at.
const (
	fresh  = iota // nothing has come yet
	idle          // waits for another request
	asked         // a request, or a part of one, is there
	closed        // by Close
)

// conn is a connection that the lane reads.
type conn struct {
	lane *Lane
	raw  net.Conn
	at   atomic.Int32

	buf      []byte // what was read and not answered
	request  Request
	answer   Answer
	readBy   time.Time // the deadlines that are set
	writeBy  time.Time
	answered time.Time // when the last answer was made
}

func newConn(l *Lane, raw net.Conn) *conn {
	c := &conn{lane: l, raw: raw, answer: Answer{lane: l}, answered: time.Now()}
	// Set before Close can know the connection, which sets another.
	c.readBy = c.answered.Add(l.cfg.HeaderTimeout)
	_ = raw.SetReadDeadline(c.readBy)
	return c
}

// leave is what Close wants: a connection on which nothing is asked ends. l.mu is held.
func (c *conn) leave() {
	switch {
	case c.at.CompareAndSwap(idle, closed):
		_ = c.raw.Close()
	case c.at.Load() == fresh:
		_ = c.raw.SetReadDeadline(time.Now().Add(freshFor))
	}
}

// serve answers requests until one is not the lane's, or the connection ends.
func (c *conn) serve() {
	defer c.recovered()
	keep := c.requests()
	c.lane.forget(c)
	if !keep {
		_ = c.raw.Close()
		return
	}
	_ = c.raw.SetDeadline(time.Time{})
	c.lane.handOver(&replayed{Conn: c.raw, unread: c.buf})
}

// recovered keeps a defect from ending the process.
func (c *conn) recovered() {
	v := recover()
	if v == nil {
		return
	}
	c.lane.forget(c)
	_ = c.raw.Close()
	if c.lane.cfg.Panicked != nil {
		c.lane.cfg.Panicked(v)
	}
}

// requests returns whether the connection is to be handed over, with what is in c.buf; it is to be closed else.
func (c *conn) requests() (keep bool) {
	c.buf = make([]byte, 0, startBytes)
	for {
		if len(c.buf) == 0 && !c.next() {
			return false
		}
		h, ok := c.lane.cfg.parse(c.buf)
		if !ok || h.body > c.lane.cfg.MaxBodyBytes {
			return true
		}
		if whole := h.size + h.body; len(c.buf) < whole {
			if complete, alive := c.fill(whole); !complete {
				return alive
			}
			h, _ = c.lane.cfg.parse(c.buf) // the buffer may be another
		}
		if !c.serveOne(&h) {
			return true
		}
		if !c.send() || c.answer.closing {
			return false
		}
		c.drop(h.size + h.body)
	}
}

// next waits for the first bytes of a request.
func (c *conn) next() bool {
	if c.at.Load() != fresh {
		// Close finds the connection idle, or this finds it closing.
		c.at.Store(idle)
		if c.lane.closing.Load() {
			return false
		}
		if renew(&c.readBy, c.answered, c.lane.cfg.IdleTimeout) && c.raw.SetReadDeadline(c.readBy) != nil {
			return false
		}
	}
	n, err := c.raw.Read(c.buf[:cap(c.buf)])
	if n == 0 || err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	c.buf = c.buf[:n]
	return c.at.CompareAndSwap(idle, asked) || c.at.CompareAndSwap(fresh, asked)
}

// fill reads until n bytes are there. It is not complete if they do not come soon; the connection is alive unless it was
// broken off.
func (c *conn) fill(n int) (complete, alive bool) {
	if cap(c.buf) < n {
		c.buf = append(make([]byte, 0, n), c.buf...)
	}
	c.readBy = time.Now().Add(bodyPatience)
	if c.raw.SetReadDeadline(c.readBy) != nil {
		return false, false
	}
	for len(c.buf) < n {
		got, err := c.raw.Read(c.buf[len(c.buf):cap(c.buf)])
		c.buf = c.buf[:len(c.buf)+got]
		if err != nil && len(c.buf) < n {
			// What was cut short net/http explains to a client that still listens.
			return false, errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, io.EOF)
		}
	}
	return true, true
}

// serveOne has the Handler answer the request in the buffer.
func (c *conn) serveOne(h *head) bool {
	r := &c.request
	r.Name, r.Authorization, r.TraceParent = h.name, h.authorization, h.traceParent
	r.Body = c.buf[h.size : h.size+h.body]
	c.answer.closing = false
	if !c.lane.handler.Serve(r, &c.answer) {
		return false
	}
	if !c.answer.ended {
		panic("fastlane: the handler did not end its answer")
	}
	return true
}

// renew moves a deadline that is not a timeout away from now, and an eighth more at most: setting one costs as much as
// reading a request does, and so is not done for each.
func renew(by *time.Time, now time.Time, timeout time.Duration) bool {
	if left := by.Sub(now); left >= timeout && left <= timeout+timeout/8 {
		return false
	}
	*by = now.Add(timeout + timeout/8)
	return true
}

// send writes the answer.
func (c *conn) send() bool {
	c.answered = c.answer.now
	if renew(&c.writeBy, c.answered, c.lane.cfg.WriteTimeout) && c.raw.SetWriteDeadline(c.writeBy) != nil {
		return false
	}
	_, err := c.raw.Write(c.answer.b)
	if cap(c.answer.b) > keepBytes {
		c.answer.b = nil
	}
	return err == nil
}

// drop forgets the n bytes of a request that was answered. What came behind them is the next one's.
func (c *conn) drop(n int) {
	rest := c.buf[n:]
	if cap(c.buf) > keepBytes {
		c.buf = append(make([]byte, 0, max(startBytes, len(rest))), rest...)
		return
	}
	c.buf = c.buf[:copy(c.buf, rest)]
}

// replayed is a connection of which some bytes were read already.
type replayed struct {
	net.Conn
	unread []byte
}

// Read implements net.Conn.
func (r *replayed) Read(b []byte) (int, error) {
	if len(r.unread) == 0 {
		return r.Conn.Read(b)
	}
	n := copy(b, r.unread)
	if r.unread = r.unread[n:]; len(r.unread) == 0 {
		r.unread = nil
	}
	return n, nil
}
