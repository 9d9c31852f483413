package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// natsSettings are those of docker-compose.yml, with the monitoring port that the end of the run asks.
const natsSettings = `host: 127.0.0.1
port: %s
http: %s
server_name: chaos
max_payload: 8MB
jetstream {
  store_dir: %s
  sync_interval: 1s
}
`

func newNATS(dir, program, addr, monitor string) (*process, error) {
	p, err := newProcess("nats", classNATS, dir, program)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(p.dir, "nats.conf")
	settings := fmt.Sprintf(natsSettings, port, strconv.Quote(monitor), strconv.Quote(filepath.Join(p.dir, "data")))
	if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
		return nil, err
	}
	p.args = []string{"-c", file}
	p.ready = func(ctx context.Context) error { return greeted(ctx, addr, "", "INFO ") }
	return p, nil
}

func newRedis(dir, addr, fsync string) (*process, error) {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("redis-server is needed and not on the PATH: run `make deps` (%w)", err)
	}
	p, err := newProcess("redis", classRedis, dir, program)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	p.args = []string{
		"--bind", "127.0.0.1", "--port", port, "--dir", p.dir, "--save", "", "--maxmemory-policy", "noeviction",
		"--appendonly", "yes", "--appendfsync", fsync,
	}
	p.ready = func(ctx context.Context) error { return greeted(ctx, addr, "PING\r\n", "+PONG") }
	return p, nil
}

// greeted says something to a server and expects an answer that starts so.
func greeted(ctx context.Context, addr, say, want string) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing was stored
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	if _, err := io.WriteString(c, say); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, want) {
		return fmt.Errorf("%s said %q, expected %q", addr, line, want)
	}
	return nil
}

// newSheaf makes a process of bin/sheaf, connected through the two links.
func newSheaf(name string, of class, dir, program string, nats, redis *link, readyURL string, args ...string) (*process, error) {
	args = append(args,
		"--nats-url", "nats://"+nats.addr(), "--redis-url", "redis://"+redis.addr(),
		"--interactive-ack-wait", ackWait.String(), "--bulk-ack-wait", ackWait.String(), "--drain-timeout", "5s")
	p, err := newProcess(name, of, dir, program, args...)
	if err != nil {
		return nil, err
	}
	p.lenient = true
	p.ready = func(ctx context.Context) error {
		_, err := fetch(ctx, http.DefaultClient, readyURL)
		return err
	}
	return p, nil
}

// fetch returns the body of a page; an answer other than 200 is an error.
func fetch(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return body, fmt.Errorf("%s answered %s", url, resp.Status)
	}
	return body, nil
}

// streams returns how many messages each stream holds.
func streams(ctx context.Context, monitor string) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	body, err := fetch(ctx, http.DefaultClient, "http://"+monitor+"/jsz?streams=true&acc=$G")
	if err != nil {
		return nil, err
	}
	var doc struct {
		Accounts []struct {
			Streams []struct {
				Name  string `json:"name"`
				State struct {
					Messages int `json:"messages"`
				} `json:"state"`
			} `json:"stream_detail"`
		} `json:"account_details"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("the monitoring page of nats-server: %w", err)
	}
	held := make(map[string]int)
	for _, a := range doc.Accounts {
		for _, s := range a.Streams {
			held[s.Name] = s.State.Messages
		}
	}
	if len(held) == 0 {
		return nil, errors.New("the monitoring page of nats-server names no streams")
	}
	return held, nil
}

// freeAddr returns a free port of the loopback interface, as "127.0.0.1:port".
func freeAddr(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}
