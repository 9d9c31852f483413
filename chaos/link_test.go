package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// echo starts a server that answers each line with itself, and sends what it received to the channel.
func echo(t *testing.T) (addr string, received <-chan string) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	lines := make(chan string, 16)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					lines <- line
					if _, err := io.WriteString(c, line); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String(), lines
}

// through opens a connection through a new link.
func through(t *testing.T, backend string) (*link, net.Conn) {
	t.Helper()
	k, err := openLink(t.Context(), "a link", backend)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.close)
	return k, dial(t, k)
}

func dial(t *testing.T, k *link) net.Conn {
	t.Helper()
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", k.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func say(t *testing.T, c net.Conn, line string) (answer string, err error) {
	t.Helper()
	if _, err := io.WriteString(c, line); err != nil {
		t.Fatal(err)
	}
	return bufio.NewReader(c).ReadString('\n')
}

func TestLinkForwards(t *testing.T) {
	addr, _ := echo(t)
	k, c := through(t, addr)
	k.misbehave(kindLatency, time.Millisecond)
	if got, err := say(t, c, "hello\n"); got != "hello\n" || err != nil {
		t.Errorf("expected the line back, got %q, %v", got, err)
	}
}

func TestLinkResetsAfterAWrite(t *testing.T) {
	addr, received := echo(t)
	k, c := through(t, addr)
	k.misbehave(kindReset, 0)
	if got, err := say(t, c, "hello\n"); err == nil {
		t.Errorf("expected no answer, got %q", got)
	}
	select {
	case <-received: // what was written has arrived all the same
	case <-time.After(10 * time.Second):
		t.Error("the server never got what was written")
	}
	k.lift()
	if got, err := say(t, dial(t, k), "again\n"); got != "again\n" || err != nil {
		t.Errorf("expected a new connection to work after the fault, got %q, %v", got, err)
	}
}

func TestLinkIsABlackHole(t *testing.T) {
	addr, received := echo(t)
	k, c := through(t, addr)
	if _, err := say(t, c, "before\n"); err != nil {
		t.Fatal(err)
	}
	<-received
	k.misbehave(kindBlackhole, 0)
	if _, err := io.WriteString(c, "lost\n"); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := c.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("expected silence, got %v", err)
	}
	k.lift()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("expected the connection to break at the end of the black hole, got %v", err)
	}
	select {
	case line := <-received:
		t.Errorf("%q came through the black hole", line)
	default:
	}
}

func TestLinkToNobody(t *testing.T) {
	addr, err := freeAddr(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	k, err := openLink(t.Context(), "a link", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.close)
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", k.addr())
	if err != nil {
		return // reset already
	}
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("expected a broken connection where no server listens, got %v", err)
	}
}
