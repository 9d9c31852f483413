package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// bulkTicket is a line of the answer to a bulk request.
type bulkTicket struct {
	Index    int             `json:"index"`
	ID       string          `json:"id"`
	Error    json.RawMessage `json:"error"`
	Done     *bool           `json:"done"`
	Accepted int             `json:"accepted"`
	Refused  int             `json:"refused"`
}

// openBulk begins a bulk request. The lines are written to send; answer yields the answer's.
func openBulk(t *testing.T, url string, header http.Header) (send *io.PipeWriter, answer func() (bulkTicket, error)) {
	t.Helper()
	body, send := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/models/digits/bulk", body)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, header)
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d", resp.StatusCode)
	}
	t.Cleanup(func() { _, _ = send.Close(), resp.Body.Close() })
	lines := bufio.NewReader(resp.Body)
	return send, func() (line bulkTicket, err error) {
		text, err := lines.ReadBytes('\n')
		if err != nil {
			return line, err
		}
		if err := json.Unmarshal(text, &line); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		return line, nil
	}
}

// digitsLines returns n lines of a bulk request.
func digitsLines(t *testing.T, n int) []byte {
	t.Helper()
	rows := heldout(t, "digits")
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for i := range n {
		if err := enc.Encode(map[string]any{"input": rows[i%len(rows)].Input}); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// lookupAll looks jobs up and calls fn for each.
func lookupAll(t *testing.T, url string, ids []string, fn func(i int, j jobAnswer)) {
	t.Helper()
	for from := 0; from < len(ids); from += 10_000 {
		code, body := post(t, url+"/v1/jobs/lookup", map[string]any{"ids": ids[from:min(from+10_000, len(ids))]})
		if code != http.StatusOK {
			t.Fatalf("look-up: %d %s", code, body)
		}
		i := from
		for line := range bytes.Lines(body) {
			fn(i, decodeJob(t, line))
			i++
		}
		if i != min(from+10_000, len(ids)) {
			t.Fatalf("the look-up ends before job %d", i)
		}
	}
}

// 20,000 jobs in one request, with a real worker: each result is the right one, and the events of some of them come in
// order and end.
func TestBulkEndToEnd(t *testing.T) {
	s := newStack(t, 2, 1)
	const n = 20_000
	send, answer := openBulk(t, s.apis[0], nil)
	go func() {
		_, err := send.Write(digitsLines(t, n))
		_ = send.CloseWithError(err)
	}()
	ids := make([]string, n)
	for {
		line, err := answer()
		if err != nil {
			t.Fatal(err)
		}
		if line.Done != nil {
			if !*line.Done || line.Accepted != n || line.Refused != 0 {
				t.Fatalf("the last line is %+v", line)
			}
			break
		}
		if line.ID == "" || ids[line.Index] != "" {
			t.Fatalf("line %d: %+v", line.Index, line)
		}
		ids[line.Index] = line.ID
	}
	watched := ids[n-100:]
	for id, states := range follow(t, s.apis[1], watched) {
		last := ""
		for _, state := range states {
			if last == "succeeded" || last == "running" && state == "queued" || last == state && state != "queued" {
				t.Errorf("job %s was %v", id, states)
			}
			last = state
		}
		if last != "succeeded" {
			t.Errorf("job %s was %v", id, states)
		}
	}
	rows := heldout(t, "digits")
	eventually(t, func() error {
		unfinished := 0
		lookupAll(t, s.apis[1], ids, func(i int, j jobAnswer) {
			switch {
			case j.ID != ids[i]:
				t.Fatalf("line %d is about %s, expected %s", i, j.ID, ids[i])
			case j.Status == "queued" || j.Status == "running":
				unfinished++
			case j.Status != "succeeded":
				t.Fatalf("job %d: %s %+v", i, j.Status, j.Error)
			default:
				if err := sameProbabilities(j.Outputs[0].Data, rows[i%len(rows)].Probabilities); err != nil {
					t.Fatalf("job %d: %v", i, err)
				}
			}
		})
		if unfinished > 0 {
			return fmt.Errorf("%d jobs are not finished", unfinished)
		}
		return nil
	})
}

// follow reads the events of jobs to their end, and returns the states of each in order.
func follow(t *testing.T, url string, ids []string) map[string][]string {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"ids": ids})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/jobs/events", bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	states, name := map[string][]string{}, ""
	in := bufio.NewScanner(resp.Body)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		field, value, _ := strings.Cut(in.Text(), ": ")
		switch field {
		case "event":
			name = value
		case "data":
			if name == "end" {
				return states
			}
			j := decodeJob(t, []byte(value))
			states[j.ID] = append(states[j.ID], j.Status)
		}
	}
	t.Fatalf("the events end without the end: %v", in.Err())
	return nil
}

// The server dies in the middle of a bulk request: every job that its client was told of is computed. The request is
// repeated at another server under its key, and makes no job twice.
func TestBulkIsCutOffByAKill(t *testing.T) {
	s := newStack(t, 1, 1)
	doomed := start(t, "serve", "--addr", "127.0.0.1:0", "--nats-url", s.nats, "--redis-url", s.redis)
	url := doomed.find(`HTTP API is up.* url=(\S+)`)
	eventually(t, func() error {
		if code, body := get(t, url+"/v1/models/digits"); code != http.StatusOK {
			return fmt.Errorf("digits is not announced: %d %s", code, body)
		}
		return nil
	})
	const n = 10_000
	lines := digitsLines(t, n)
	key := http.Header{"Idempotency-Key": {"cut"}}
	send, answer := openBulk(t, url, key)
	go func() { _, _ = send.Write(lines) }()
	told := map[int]string{}
	for {
		line, err := answer()
		if err != nil {
			break
		}
		told[line.Index] = line.ID
		if len(told) == 1000 {
			_ = doomed.cmd.Process.Kill()
		}
	}
	if len(told) < 1000 || len(told) == n {
		t.Fatalf("%d jobs were told of before the server died", len(told))
	}
	send, answer = openBulk(t, s.apis[0], key)
	go func() {
		_, err := send.Write(lines)
		_ = send.CloseWithError(err)
	}()
	all := make([]string, n)
	for {
		line, err := answer()
		if err != nil {
			t.Fatal(err)
		}
		if line.Done != nil {
			break
		}
		all[line.Index] = line.ID
	}
	for i, id := range told {
		if before, _, _ := strings.Cut(id, "."); !strings.HasPrefix(all[i], before+".") {
			t.Errorf("line %d was job %s, and is job %s now", i, id, all[i])
		}
	}
	eventually(t, func() error {
		unfinished := 0
		count := func(_ int, j jobAnswer) {
			if j.Status != "succeeded" {
				unfinished++
			}
		}
		var first []string
		for _, id := range told {
			first = append(first, id)
		}
		lookupAll(t, s.apis[0], first, count)
		lookupAll(t, s.apis[0], all, count)
		if unfinished > 0 {
			return fmt.Errorf("%d jobs have not succeeded", unfinished)
		}
		return nil
	})
}

// SIGTERM ends a bulk request and a stream of events in good order, and the process.
func TestBulkAtShutdown(t *testing.T) {
	s := newStack(t, 0, 1)
	p := start(t, "serve", "--addr", "127.0.0.1:0", "--nats-url", s.nats, "--redis-url", s.redis)
	url := p.find(`HTTP API is up.* url=(\S+)`)
	eventually(t, func() error {
		if code, body := get(t, url+"/v1/models/digits"); code != http.StatusOK {
			return fmt.Errorf("digits is not announced: %d %s", code, body)
		}
		return nil
	})
	send, answer := openBulk(t, url, nil)
	go func() { _, _ = send.Write(digitsLines(t, 100)) }() // and no end
	for i := range 100 {
		if line, err := answer(); err != nil || line.ID == "" {
			t.Fatalf("line %d: %+v, %v", i, line, err)
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	line, err := answer()
	if err != nil || line.Done == nil || *line.Done || line.Accepted != 100 || !strings.Contains(string(line.Error), "unavailable") {
		t.Errorf("the last line is %+v, %v", line, err)
	}
	if line, err = answer(); err != io.EOF { //nolint:errorlint // a reader's end
		t.Errorf("then %+v, %v", line, err)
	}
	<-p.exited
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
