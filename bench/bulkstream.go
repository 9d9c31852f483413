package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// bulkRate sends bulk requests, each stream one after the other, and returns the jobs/s from the first byte that was sent
// to the last ticket. The last requests are let end, so the clock stops with them.
func (o *overHTTP) bulkRate(ctx context.Context, accepted *tickets) (float64, error) {
	start := time.Now()
	until := start.Add(o.warmUp + o.phase)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: o.streams}}
	defer client.CloseIdleConnections()
	group, ctx := errgroup.WithContext(ctx)
	for range o.streams {
		group.Go(func() error {
			for time.Now().Before(until) && ctx.Err() == nil {
				if err := o.bulkRequest(ctx, client, accepted); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	return float64(len(accepted.list)) / time.Since(start).Seconds(), nil
}

// bulkRequest sends one bulk request, and takes its tickets.
func (o *overHTTP) bulkRequest(ctx context.Context, client *http.Client, accepted *tickets) error {
	url := "http://" + o.lab.apiAddr + "/v1/models/" + o.load.model + "/bulk"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(o.bulk))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := client.Do(req) //nolint:gosec // a process of this run
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	var last struct {
		Done     bool `json:"done"`
		Accepted int  `json:"accepted"`
		Refused  int  `json:"refused"`
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		line := lines.Bytes()
		if i, rest, ok := cutTicket(line); ok {
			if err := accepted.take(i%len(o.load.samples), http.StatusAccepted, rest); err != nil {
				return err
			}
			continue
		}
		if err := json.Unmarshal(line, &last); err != nil {
			return fmt.Errorf("%w: %.200s", err, line)
		}
		if !last.Done {
			return fmt.Errorf("a line was refused: %.300s", line)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if !last.Done || last.Accepted != o.lines || last.Refused != 0 {
		return fmt.Errorf("the answer ended with %+v, expected %d accepted", last, o.lines)
	}
	return nil
}

// cutTicket reads the index of a line {"index":7,"id":"…"} and returns what follows as tickets.take knows it.
func cutTicket(line []byte) (index int, rest []byte, ok bool) {
	const head = `{"index":`
	if !bytes.HasPrefix(line, []byte(head)) {
		return 0, nil, false
	}
	at := len(head)
	for ; at < len(line) && '0' <= line[at] && line[at] <= '9'; at++ {
		index = 10*index + int(line[at]-'0')
	}
	if !bytes.HasPrefix(line[at:], []byte(`,"id":"`)) {
		return 0, nil, false
	}
	rest = line[at:]
	rest[0] = '{'
	return index, rest, true
}
