package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/sheafml/sheaf/batch"
)

// requestFile writes n requests for digits, of which each seventh of ten is bad.
func requestFile(t *testing.T, n int) (path string, bad int) {
	t.Helper()
	row := jsonOf(t, heldout(t, "digits")[0].Input)
	var b strings.Builder
	for i := range n {
		input := row
		if i%10 == 7 {
			input = "[1,2,3]"
			bad++
		}
		fmt.Fprintf(&b, `{"custom_id":"row-%d","method":"POST","url":"/v1/models/digits/predict","body":{"input":%s}}`+"\n", i, input)
	}
	path = filepath.Join(t.TempDir(), "requests.jsonl")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, bad
}

// linesOf are the custom_ids of lines.
func linesOf(t *testing.T, text string) (ids []string) {
	t.Helper()
	for line := range strings.Lines(text) {
		var l struct {
			CustomID string `json:"custom_id"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		ids = append(ids, l.CustomID)
	}
	return ids
}

func decodeBatch(t *testing.T, text string) (b batch.Batch) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return b
}

func TestBatchVerbs(t *testing.T) {
	t.Parallel()
	p := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0")
	url := p.find(`HTTP API +(\S+)`)
	p.find("Ctrl-C stops it")
	verb := func(stdin string, code int, args ...string) (stdout, stderr string) {
		t.Helper()
		stdout, stderr, got := runToEnd(t, stdin, append(append([]string{"batch"}, args...), "--server", url)...)
		if got != code {
			t.Fatalf("sheaf batch %s: exit code %d, expected %d\n%s%s", strings.Join(args, " "), got, code, stdout, stderr)
		}
		return stdout, stderr
	}
	const n = 50
	file, bad := requestFile(t, n)

	// Lines that fail have an exit code of their own, and are told.
	text, stderr := verb("", exitBadRows, "submit", "digits", file, "--wait", "--ordered", "-o", "json")
	b := decodeBatch(t, text)
	if b.Status != batch.Completed || b.RequestCounts != (batch.Counts{Total: n, Completed: int64(n - bad), Failed: int64(bad)}) || !strings.Contains(stderr, b.ID) {
		t.Errorf("it is %s, and is told as %s", text, stderr)
	}
	if text, _ := verb("", exitBadRows, "show", b.ID); !strings.Contains(text, "completed") || !strings.Contains(text, "45 done, 5 failed, of 50") {
		t.Errorf("it is shown as\n%s", text)
	}
	results := filepath.Join(t.TempDir(), "results.jsonl")
	verb("", exitOK, "results", b.ID, "-o", results)
	raw, err := os.ReadFile(results)
	if err != nil {
		t.Fatal(err)
	}
	if ids := linesOf(t, string(raw)); len(ids) != n-bad || ids[0] != "row-0" || ids[len(ids)-1] != "row-49" {
		t.Errorf("the results are of %q", ids)
	}
	if text, _ := verb("", exitOK, "results", b.ID, "--from", "44"); !slices.Equal(linesOf(t, text), []string{"row-49"}) {
		t.Errorf("from the last line on there is %s", text)
	}
	if text, _ := verb("", exitOK, "results", b.ID, "--errors", "--follow"); !slices.Equal(linesOf(t, text), []string{"row-7", "row-17", "row-27", "row-37", "row-47"}) {
		t.Errorf("the errors are %s", text)
	}

	// Bodies and bare inputs are numbered.
	row := jsonOf(t, heldout(t, "digits")[0].Input)
	text, _ = verb(row+"\n"+row+"\n", exitOK, "submit", "digits", "-", "--wait", "--all-outputs", "-o", "json")
	second := decodeBatch(t, text)
	if text, _ := verb("", exitOK, "results", second.ID); len(linesOf(t, text)) != 2 || !strings.Contains(text, `"outputs":[{"name":"probabilities"`) {
		t.Errorf("the results are %s", text)
	}

	// One that waits is seen, paused, resumed and canceled; who waits for it waits in vain.
	text, _ = verb(strings.Repeat(row+"\n", 20), exitOK, "submit", "digits", "-", "--max-rate", "0.001", "--lines-per-job", "1", "--completion-window", "2h", "--window", "00:00-24:00")
	id := strings.Fields(text)[1]
	if _, stderr := verb("", exitTimeout, "show", id, "--wait=1s"); !strings.Contains(stderr, "it goes on") {
		t.Errorf("whoever waits is told %s", stderr)
	}
	if text, _ := verb("", exitOK, "pause", id); !strings.Contains(text, "paused    yes") {
		t.Errorf("it is\n%s", text)
	}
	if text, _ := verb("", exitOK, "ls"); !strings.Contains(text, "(paused)") || strings.Count(text, "\nbatch_") != 3 || strings.Index(text, id) > strings.Index(text, b.ID) {
		t.Errorf("the batches are\n%s", text)
	}
	if text, stderr := verb("", exitOK, "ls", "--limit", "1", "--after", id, "-o", "json"); !strings.Contains(text, second.ID) || strings.Contains(text, b.ID) {
		t.Errorf("the next is %s %s", text, stderr)
	}
	if text, _ := verb("", exitOK, "resume", id); strings.Contains(text, "paused    yes") {
		t.Errorf("it is\n%s", text)
	}
	verb("", exitOK, "cancel", id)
	if text, _ := verb("", exitFailure, "show", id, "--wait"); !strings.Contains(text, "cancelled") {
		t.Errorf("it is\n%s", text)
	}
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"cancel", id}, exitFailure, "finished"},
		{[]string{"show", "batch_x"}, exitFailure, "No such batch"},
		{[]string{"results", "batch_x", "--follow"}, exitFailure, "No such batch"},
		{[]string{"submit", "nobody", file}, exitFailure, "No such model"},
		{[]string{"submit", "digits", file, "--window", "25:00-26:00"}, exitUsage, "--window"},
		{[]string{"submit", "digits", file, "--wait=-1s"}, exitUsage, "--wait"},
		{[]string{"submit", "digits", "nosuchfile.jsonl"}, exitUsage, "nosuchfile"},
		{[]string{"submit", "digits", "-"}, exitUsage, "empty"},
		{[]string{"results", id, "--from", "-1"}, exitUsage, "--from"},
		{[]string{"show"}, exitUsage, "ID is missing"},
	} {
		if _, stderr := verb("", tc.code, tc.args...); !strings.Contains(stderr, tc.says) {
			t.Errorf("sheaf batch %s says %s", strings.Join(tc.args, " "), stderr)
		}
	}
	_, stderr, code := runToEnd(t, "", "batch", "submit", "digits", file, "--server", "http://127.0.0.1:1")
	if code != exitUnreachable || !strings.Contains(stderr, "cannot reach") {
		t.Errorf("without a server: exit code %d, %s", code, stderr)
	}
}

// Ctrl-C leaves the batch to the server, and says how to go on.
func TestBatchWaitIsInterrupted(t *testing.T) {
	t.Parallel()
	p := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0")
	url := p.find(`HTTP API +(\S+)`)
	p.find("Ctrl-C stops it")
	file, _ := requestFile(t, 2)
	waits := start(t, "batch", "submit", "digits", file, "--wait", "--max-rate", "0.001", "--lines-per-job", "1", "--server", url)
	id := waits.find(`(batch_\w+)`)
	if code := waits.stop(syscall.SIGINT); code != exitInterrupted || !strings.Contains(waits.text(), "The batch goes on. Look at it with: sheaf batch show "+id) {
		t.Errorf("exit code %d: %s", code, waits.text())
	}
	if stdout, stderr, code := runToEnd(t, "", "batch", "show", id, "--server", url); code != exitOK || strings.Contains(stdout, "cancel") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}

// Whoever follows the results of a batch gets every line once, also if the server is killed meanwhile.
func TestBatchResultsAcrossAKill(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	args := func(addr string) []string {
		return []string{"dev", "--addr", addr, "--nats-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--data", data, "--batch-lease", "1s"}
	}
	p := start(t, args("127.0.0.1:0")...)
	url := p.find(`HTTP API +(\S+)`)
	p.find("Ctrl-C stops it")
	const n = 400
	file, bad := requestFile(t, n)
	stdout, stderr, code := runToEnd(t, "", "batch", "submit", "digits", file, "--max-rate", "80", "--lines-per-job", "5", "--server", url, "-o", "json")
	if code != exitOK {
		t.Fatal(stderr)
	}
	id := decodeBatch(t, stdout).ID
	results := filepath.Join(t.TempDir(), "results.jsonl")
	follows := start(t, "batch", "results", id, "--follow", "-o", results, "--server", url)
	read := func() string {
		raw, err := os.ReadFile(results)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return string(raw)
	}
	eventually(t, func() error {
		if read() == "" {
			return errors.New("there are no results yet")
		}
		return nil
	})
	if len(linesOf(t, read())) == n-bad {
		t.Error("the batch was too fast to be interrupted")
	}
	p.stop(syscall.SIGKILL)
	follows.find("trying again")
	start(t, args(strings.TrimPrefix(url, "http://"))...).find("Ctrl-C stops it")
	<-follows.exited
	ids := linesOf(t, read())
	slices.Sort(ids)
	if code := follows.cmd.ProcessState.ExitCode(); code != exitOK || len(ids) != n-bad || len(slices.Compact(ids)) != n-bad {
		t.Errorf("exit code %d, %d lines, %d of them different, expected %d\n%s", code, len(ids), len(slices.Compact(ids)), n-bad, follows.text())
	}
	if stdout, _, code := runToEnd(t, "", "batch", "show", id, "--wait=30s", "--server", url); code != exitBadRows || !strings.Contains(stdout, "360 done, 40 failed, of 400") {
		t.Errorf("exit code %d\n%s", code, stdout)
	}
}

// A webhook is told of the end of a batch, signed as those of jobs are.
func TestBatchWebhook(t *testing.T) {
	t.Parallel()
	p := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0")
	url, nats := p.find(`HTTP API +(\S+)`), p.find(`NATS +(nats:\S+)`)
	p.find("Ctrl-C stops it")
	rc := newHookReceiver(t)
	file, bad := requestFile(t, 20)
	stdout, stderr, code := runToEnd(t, "", "batch", "submit", "digits", file, "--webhook", rc.URL+"/hook", "--server", url, "-o", "json")
	if code != exitOK {
		t.Fatal(stderr)
	}
	eventually(t, func() error {
		if len(rc.got()) == 0 {
			return errors.New("the receiver has heard of nothing")
		}
		return nil
	})
	e := rc.got()[0]
	var told struct{ Data batch.Batch }
	if err := json.Unmarshal(e.body, &told); err != nil {
		t.Fatal(err)
	}
	if e.Type != "batch.completed" || told.Data.ID != decodeBatch(t, stdout).ID || told.Data.RequestCounts.Failed != int64(bad) {
		t.Errorf("the receiver is told %s", e.body)
	}
	secret, _, _ := runToEnd(t, "", "webhook", "secret", "--nats-url", nats)
	check, err := standardwebhooks.NewWebhook(strings.TrimSpace(secret))
	if err != nil {
		t.Fatal(err)
	}
	if err := check.Verify(e.body, e.header); err != nil {
		t.Error(err)
	}
}
