package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sheafml/sheaf/internal/testserver"
)

// What a worker announced outlives it, until it is forgotten.
func TestModelForget(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, 1)
	s.workers[0].stop(syscall.SIGTERM)
	path := s.apis[0] + "/v1/models/digits/versions/1"
	if code, body := get(t, path); code != http.StatusOK {
		t.Fatalf("before it is forgotten: %d %s", code, body)
	}
	stdout, stderr, code := runToEnd(t, "", "model", "forget", "digits/1", "--nats-url", s.nats)
	if want := "forgotten: digits/1; jobs may no longer be submitted for it\n"; code != exitOK || stdout != want {
		t.Errorf("exit code %d: %q, expected %q; %s", code, stdout, want, stderr)
	}
	eventually(t, func() error {
		if code, body := get(t, path); code != http.StatusNotFound {
			return fmt.Errorf("after it is forgotten: %d %s", code, body)
		}
		return nil
	})
	if code, body := get(t, s.apis[0]+"/v1/models/tumor"); code != http.StatusOK {
		t.Errorf("the other model: %d %s", code, body)
	}
	_, stderr, code = runToEnd(t, "", "model", "forget", "digits/1", "--nats-url", s.nats)
	if want := "digits/1 is not announced; announced: tumor/1"; code != exitFailure || !strings.Contains(stderr, want) {
		t.Errorf("the second time: exit code %d: %q, expected %q", code, stderr, want)
	}
}

func TestFaultsAreNamedByFlag(t *testing.T) {
	t.Parallel()
	servers := []string{"--nats-url", testserver.NATSProcess(t), "--redis-url", "redis://" + testserver.Redis(t)}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"worker", "--models", repoPath("examples", "models"), "--bulk-reserve", "2"}, "worker settings: --bulk-reserve is 2"},
		{[]string{"serve", "--addr", "127.0.0.1:0", "--max-wait", "0s"}, "sheaf: HTTP API settings: --max-wait is 0s"},
	} {
		_, stderr, code := runToEnd(t, "", append(c.args, servers...)...)
		if code != exitUsage || !strings.Contains(stderr, c.want) {
			t.Errorf("exit code %d: %q, expected %q", code, stderr, c.want)
		}
	}
}

func TestDoctor(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, 1) // which makes the streams
	t.Run("a warning is no failure", func(t *testing.T) {
		stdout, stderr, code := runToEnd(t, "", "doctor", "--nats-url", s.nats, "--redis-url", s.redis)
		if code != exitOK || !strings.Contains(stdout, "WARN  Redis") {
			t.Errorf("exit code %d: %s%s", code, stdout, stderr)
		}
	})
	t.Run("no library, no NATS", func(t *testing.T) {
		stdout, stderr, code := runToEnd(t, "", "doctor", "--onnxruntime-lib", "/nosuch.so", "--nats-url", "nats://127.0.0.1:1", "--redis-url", s.redis)
		if code != exitUnreachable || !strings.Contains(stdout, "FAIL  ONNX Runtime") || strings.Contains(stderr, "--help") {
			t.Errorf("exit code %d: %s%s", code, stdout, stderr)
		}
		if !strings.Contains(stdout, "(not needed for sheaf dev)\n") {
			t.Errorf("it does not say that sheaf dev does without NATS: %s", stdout)
		}
	})
}

// The settings of a file are checked from its first line to its last.
func TestSettingsFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sheaf.yaml")
	text := "nats_ulr: x\nmax-rows: 7\nmax_rows: 8\nredis-addrs: [a:1, b:2]\nzzzzzzzz: 1\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, code := runToEnd(t, "", "serve", "--config", file)
	if code != exitUsage {
		t.Errorf("exit code %d", code)
	}
	rest := stderr
	for _, want := range []string{
		`line 1: unknown setting "nats_ulr"; did you mean nats-url?`,
		`line 3: max_rows is given twice`,
		`line 4: redis-addrs is a list: expected a,b in one string`,
		`line 5: unknown setting "zzzzzzzz"; sheaf serve --help`,
	} {
		_, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Fatalf("no %q, or not in its place: %s", want, stderr)
		}
		rest = after
	}
}

// The directory of one model is inspected like a repository of many, without its neighbors.
func TestInspectOneModel(t *testing.T) {
	t.Parallel()
	stdout, stderr, code := runToEnd(t, "", "model", "inspect", repoPath("examples", "models", "digits"))
	if code != exitOK || !strings.Contains(stdout, "digits/1") || strings.Contains(stdout, "tumor") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	dir := t.TempDir()
	for _, name := range []string{"good", "bad", "worse"} {
		if err := os.MkdirAll(filepath.Join(dir, name, "1"), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"bad", "worse"} {
		if err := os.WriteFile(filepath.Join(dir, name, "model.yaml"), []byte("batchign: {}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stdout, stderr, code = runToEnd(t, "", "model", "inspect", filepath.Join(dir, "bad"))
	if code == exitOK || !strings.Contains(stderr, "batchign") || strings.Contains(stderr, "worse") || strings.Contains(stderr, "no models") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}
