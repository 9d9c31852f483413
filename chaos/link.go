package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// link is a TCP proxy between one process and one server, which can be made to misbehave.
type link struct {
	name    string
	backend string
	l       net.Listener
	done    sync.WaitGroup

	mu     sync.Mutex
	mode   kind // "" is a good link
	delay  time.Duration
	conns  map[*relay]struct{}
	closed bool
}

// baseDelay is how late data is on every link at all times. It stands for a network, and keeps work in flight long
// enough to be hit.
const baseDelay = 4 * time.Millisecond

// relay is one connection through a link.
type relay struct {
	link           *link
	client, server *net.TCPConn
	spoilt         bool // by a black hole: bytes are missing (guarded by link.mu)
}

// openLink starts a proxy on a free loopback port.
func openLink(ctx context.Context, name, backend string) (*link, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open the proxy %s: %w", name, err)
	}
	k := &link{name: name, backend: backend, l: l, conns: make(map[*relay]struct{})}
	k.done.Go(func() { k.accept(context.WithoutCancel(ctx)) })
	return k, nil
}

func (k *link) addr() string { return k.l.Addr().String() }

func (k *link) accept(ctx context.Context) {
	for {
		c, err := k.l.Accept()
		if err != nil {
			return
		}
		k.done.Go(func() { k.serve(ctx, c) })
	}
}

func (k *link) serve(ctx context.Context, c net.Conn) {
	client, ok := c.(*net.TCPConn)
	if !ok {
		_ = c.Close()
		return
	}
	d := net.Dialer{Timeout: 2 * time.Second}
	s, err := d.DialContext(ctx, "tcp", k.backend)
	server, ok := s.(*net.TCPConn)
	if err != nil || !ok {
		reset(client)
		return
	}
	r := &relay{link: k, client: client, server: server}
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		r.cut()
		return
	}
	k.conns[r] = struct{}{}
	k.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { r.pump(server, client, true) })
	both.Go(func() { r.pump(client, server, false) })
	both.Wait()
	k.mu.Lock()
	delete(k.conns, r)
	k.mu.Unlock()
}

// pump forwards one direction until either side ends or a fault cuts the connection.
func (r *relay) pump(dst, src *net.TCPConn, request bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 && !r.forward(dst, buf[:n], request) {
			r.cut()
			return
		}
		if err != nil {
			r.hangUp()
			return
		}
	}
}

// forward passes data on as the link's fault has it. It returns false if the connection is to be cut.
func (r *relay) forward(dst *net.TCPConn, data []byte, request bool) bool {
	k := r.link
	k.mu.Lock()
	mode, delay := k.mode, baseDelay+k.delay
	if mode == kindBlackhole {
		r.spoilt = true
	}
	spoilt := r.spoilt
	k.mu.Unlock()
	switch {
	case spoilt:
		return true // into the hole; lift breaks the connection
	case mode == kindReset && !request:
		return false // an answer that was on its way
	}
	time.Sleep(delay) //nolint:forbidigo // it is the network
	if _, err := dst.Write(data); err != nil {
		return false
	}
	return mode != kindReset
}

// cut ends the connection as a broken network does: the client sees a reset. The server gets what was written.
func (r *relay) cut() {
	reset(r.client)
	_ = r.server.Close()
}

// hangUp ends the connection in good order.
func (r *relay) hangUp() {
	_ = r.client.Close()
	_ = r.server.Close()
}

func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// misbehave begins a fault.
func (k *link) misbehave(mode kind, delay time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mode, k.delay = mode, delay
}

// lift ends a fault. Connections that have lost data break.
func (k *link) lift() {
	k.mu.Lock()
	hole := k.mode == kindBlackhole
	k.mode, k.delay = "", 0
	var broken []*relay
	for r := range k.conns {
		if hole || r.spoilt {
			broken = append(broken, r)
		}
	}
	k.mu.Unlock()
	for _, r := range broken {
		r.cut()
	}
}

func (k *link) close() {
	_ = k.l.Close()
	k.mu.Lock()
	k.closed = true
	for r := range k.conns {
		r.hangUp()
	}
	k.mu.Unlock()
	k.done.Wait()
}
