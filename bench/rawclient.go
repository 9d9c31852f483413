package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// rawClient is one connection that speaks just enough HTTP/1.1 to send a prepared request and read its answer. net/http's
// client costs as much CPU as a server does, and would be half of what is measured.
type rawClient struct {
	conn net.Conn
	in   *bufio.Reader
	body []byte
}

func dialRaw(ctx context.Context, addr string) (*rawClient, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &rawClient{conn: conn, in: bufio.NewReaderSize(conn, 16<<10)}, nil
}

func (c *rawClient) close() { _ = c.conn.Close() }

// prepareRequest writes a POST as it goes over the connection.
func prepareRequest(path string, body []byte) []byte {
	return append(fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, len(body)), body...)
}

// rawPatience bounds one request.
const rawPatience = 30 * time.Second

// do sends a prepared request. The body stands until the next call.
func (c *rawClient) do(request []byte) (status int, body []byte, err error) {
	if err := c.conn.SetDeadline(time.Now().Add(rawPatience)); err != nil {
		return 0, nil, err
	}
	if _, err := c.conn.Write(request); err != nil {
		return 0, nil, err
	}
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return 0, nil, fmt.Errorf("not a status line: %.80q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, fmt.Errorf("not a status line: %.80q", line)
	}
	length := -1
	for {
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return 0, nil, err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			break
		}
		if name, value, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, nil, err
			}
		}
	}
	if length < 0 || length > 1<<20 {
		return 0, nil, fmt.Errorf("an answer of %d bytes, expected a Content-Length up to 1 MiB", length)
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	_, err = io.ReadFull(c.in, c.body)
	return status, c.body, err
}
