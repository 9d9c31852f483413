package testserver

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// Do sends one command and returns the answer as text, an array with one line for each element. It fails the test if
// there is none, or an error.
func (s *RedisServer) Do(args ...string) string {
	s.t.Helper()
	answer, err := s.try(args...)
	if err != nil {
		s.t.Fatalf("testserver: redis %s at %s: %v", args[0], s.Addr, err)
	}
	return answer
}

// Await repeats a command until the answer contains the text.
func (s *RedisServer) Await(text string, args ...string) {
	s.t.Helper()
	s.await(strconv.Quote(text), func(answer string) bool { return strings.Contains(answer, text) }, args...)
}

// await repeats a command until its answer is right.
func (s *RedisServer) await(what string, right func(answer string) bool, args ...string) {
	s.t.Helper()
	pace := time.NewTicker(20 * time.Millisecond)
	defer pace.Stop()
	for deadline := time.Now().Add(startTimeout); ; <-pace.C {
		answer, err := s.try(args...)
		if err == nil && right(answer) {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("testserver: redis %s at %s: waited %v for %s, got %q (%v)", args[0], s.Addr, startTimeout, what, answer, err)
		}
	}
}

func (s *RedisServer) try(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var conn net.Conn
	var err error
	if c := s.opts.Certs; c != nil {
		d := tls.Dialer{Config: c.Client(s.t)}
		conn, err = d.DialContext(ctx, "tcp", s.Addr)
	} else {
		var d net.Dialer
		conn, err = d.DialContext(ctx, "tcp", s.Addr)
	}
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	replies := bufio.NewReader(conn)
	if s.opts.Password != "" {
		if _, err := command(conn, replies, "AUTH", s.opts.Password); err != nil {
			return "", err
		}
	}
	return command(conn, replies, args...)
}

// command sends one command in Redis's protocol and reads its answer.
func command(w io.Writer, r *bufio.Reader, args ...string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return "", err
	}
	return reply(r)
}

func reply(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	kind, rest := line[0], strings.TrimRight(line[1:], "\r\n")
	switch kind {
	case '-':
		return "", fmt.Errorf("%s", rest)
	case '$', '*':
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 {
			return "", err
		}
		if kind == '$' {
			text := make([]byte, n+2)
			_, err := io.ReadFull(r, text)
			return string(text[:n]), err
		}
		elements := make([]string, n)
		for i := range elements {
			if elements[i], err = reply(r); err != nil {
				return "", err
			}
		}
		return strings.Join(elements, "\n"), nil
	}
	return rest, nil
}
