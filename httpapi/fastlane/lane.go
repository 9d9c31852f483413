package fastlane

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Handler answers requests. It is called from many goroutines, but for one connection from one at a time. It returns
// false for a request that is net/http's to answer; it must not have done anything by then.
type Handler interface {
	Serve(r *Request, a *Answer) bool
}

// Lane is a listener whose connections are those that the lane has handed over.
type Lane struct {
	cfg     Config
	inner   net.Listener
	handler Handler
	header  []byte
	dated   atomic.Pointer[dated]

	start   sync.Once
	handed  chan accepted
	closed  chan struct{} // when no more connections are accepted
	close   func() error
	closing atomic.Bool // as closed

	mu      sync.Mutex
	conns   map[*conn]struct{}
	running sync.WaitGroup
}

// accepted is what Accept returns.
type accepted struct {
	conn net.Conn
	err  error
}

// New puts a lane before a listener, which Close closes.
func New(inner net.Listener, cfg Config, h Handler) (*Lane, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("fast lane settings: %w", err)
	}
	l := &Lane{
		cfg: cfg, inner: inner, handler: h, handed: make(chan accepted), closed: make(chan struct{}), conns: make(map[*conn]struct{}),
	}
	if len(cfg.Header) > 0 {
		l.header = []byte(strings.Join(cfg.Header, "\r\n") + "\r\n")
	}
	l.close = sync.OnceValue(l.shut)
	return l, nil
}

// Addr implements net.Listener.
func (l *Lane) Addr() net.Addr { return l.inner.Addr() }

// Accept returns the next connection that is net/http's.
func (l *Lane) Accept() (net.Conn, error) {
	l.start.Do(func() { go l.accept() })
	select {
	case a := <-l.handed:
		return a.conn, a.err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// accept takes connections from the listener until it is closed. Its errors are Accept's, whose caller knows how long to
// wait after one.
func (l *Lane) accept() {
	for {
		raw, err := l.inner.Accept()
		if err != nil {
			select {
			case l.handed <- accepted{err: err}:
				continue
			case <-l.closed:
				return
			}
		}
		l.begin(raw)
	}
}

// begin has a connection served.
func (l *Lane) begin(raw net.Conn) {
	c := newConn(l, raw)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing.Load() {
		_ = raw.Close()
		return
	}
	l.conns[c] = struct{}{}
	l.running.Go(c.serve)
}

// forget is what a connection calls that is not the lane's any more.
func (l *Lane) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// handOver gives a connection to whoever calls Accept.
func (l *Lane) handOver(c net.Conn) {
	select {
	case l.handed <- accepted{conn: c}:
	case <-l.closed:
		_ = c.Close()
	}
}

// Close closes the listener, and the connections on which nothing is asked. Requests in hand are answered; Shutdown waits
// for them.
func (l *Lane) Close() error { return l.close() }

// freshFor is how long a new connection that has said nothing yet may still say something: its request may be on the way.
const freshFor = time.Second

func (l *Lane) shut() error {
	l.mu.Lock()
	l.closing.Store(true)
	close(l.closed)
	for c := range l.conns {
		c.leave()
	}
	l.mu.Unlock()
	return l.inner.Close()
}

// Shutdown closes the lane and waits until the requests in hand are answered, or ctx ends; then it closes their
// connections.
func (l *Lane) Shutdown(ctx context.Context) error {
	err := l.Close()
	done := make(chan struct{})
	go func() {
		l.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return err
	case <-ctx.Done():
	}
	l.mu.Lock()
	for c := range l.conns {
		_ = c.raw.Close()
	}
	l.mu.Unlock()
	return ctx.Err()
}
