package main

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/internal/testserver"
)

// Two servers on one store would spoil it.
func TestDevDataIsForOne(t *testing.T) {
	t.Parallel()
	args := []string{"dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0", "--data", t.TempDir()}
	start(t, args...).find("Ctrl-C stops it")
	_, stderr, code := runToEnd(t, "", args...)
	if code != exitUsage || !strings.Contains(stderr, "is in use by another sheaf dev") {
		t.Errorf("the second exits with %d: %s", code, stderr)
	}
}

// A model that is broken is not answered for by the demo model of the same name.
func TestDevDoesNotHideABrokenModel(t *testing.T) {
	t.Parallel()
	onnx, err := os.ReadFile(repoPath("examples", "models", "digits", "1", "model.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "digits", "1"), 0o750); err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{
		"other.onnx": onnx, "digits/1/model.onnx": onnx, "digits/model.yaml": []byte("batchign: {}\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(file)), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0", "--models", dir)
	url := p.find(`HTTP API +(\S+)`)
	if code, body := get(t, url+"/v1/models/digits"); code != http.StatusNotFound {
		t.Errorf("digits is answered %d: %s", code, body)
	}
	p.find("a model is not served.*batchign")
}

func TestDevOnATakenPort(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, stderr, code := runToEnd(t, "", "dev", "--addr", "127.0.0.1:0", "--nats-addr", l.Addr().String())
	if code != exitFailure || !strings.Contains(stderr, "--nats-addr chooses another") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestDevTakesAListOfRedisServers(t *testing.T) {
	t.Parallel()
	p := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0", "--redis-addrs", testserver.Redis(t))
	if where := p.find(`(?m)^  results +(.*)$`); where != "in Redis" {
		t.Errorf("the results are %s", where)
	}
}
