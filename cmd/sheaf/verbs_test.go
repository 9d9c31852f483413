package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sheafml/sheaf/examples"
)

// The command that sheaf dev prints is run as a shell would, and gives the right digit. Ctrl-C ends it in good order.
func TestDevPrintsACommandThatWorks(t *testing.T) {
	t.Parallel()
	p := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0")
	line := p.find(`(?m)^(curl .*)$`)
	out, err := exec.CommandContext(t.Context(), "sh", "-c", line).Output()
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	var answer struct {
		Prediction []float64 `json:"prediction"`
	}
	if err := json.Unmarshal(out, &answer); err != nil || len(answer.Prediction) != 10 {
		t.Fatalf("the command answered %s", out)
	}
	if got := largestOf(answer.Prediction); got != examples.DigitLabel {
		t.Errorf("the picture is a %d, the answer %d", examples.DigitLabel, got)
	}
	if code := p.stop(syscall.SIGINT); code != exitOK {
		t.Errorf("after Ctrl-C dev exits with %d", code)
	}
}

// Where there is no curl, the command is sheaf's own.
func TestDevWithoutCurl(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	p := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0")
	line := p.find(`(?m)^('.*' submit .*)$`)
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", line)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	out, err := cmd.CombinedOutput()
	if want := fmt.Sprintf("largest at %d", examples.DigitLabel); err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%s: %v: %s", line, err, out)
	}
}

// The whole held-out set through sheaf dev: accuracy as on the model card, each answer that of a direct run.
func TestDevAnswersLikeADirectRun(t *testing.T) {
	t.Parallel()
	url := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0").find(`HTTP API +(\S+)`)
	rows, right := heldout(t, "digits"), 0
	for i, row := range rows {
		code, body := post(t, url+"/v1/models/digits/predict", map[string]any{"input": row.Input})
		if code != http.StatusOK {
			t.Fatalf("row %d: %d %s", i, code, body)
		}
		var answer struct {
			Prediction []float64 `json:"prediction"`
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			t.Fatal(err)
		}
		if err := sameProbabilities(answer.Prediction, row.Probabilities); err != nil {
			t.Errorf("row %d: %v", i, err)
		}
		if largestOf(answer.Prediction) == row.Label {
			right++
		}
	}
	if share := float64(right) / float64(len(rows)); share < 0.97 {
		t.Errorf("accuracy %.3f, the model card says at least 0.97", share)
	}
}

// With --data, a job that was accepted before a kill is done after the restart.
func TestDevKeepsAcceptedJobs(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	args := []string{"dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0", "--data", data, "--models", repoPath("examples", "models")}
	p := start(t, args...)
	url := p.find(`HTTP API +(\S+)`)
	p.find("Ctrl-C stops it")
	var ids []string
	row := heldout(t, "digits")[0]
	for range 50 {
		code, body := post(t, url+"/v1/models/digits/jobs", map[string]any{"input": row.Input})
		if code != http.StatusAccepted {
			t.Fatalf("%d %s", code, body)
		}
		ids = append(ids, decodeJob(t, body).ID)
	}
	p.stop(syscall.SIGKILL)
	url = start(t, args...).find(`HTTP API +(\S+)`)
	// What was finished before the kill is forgotten (results were in memory); what waited is done now.
	for _, id := range ids {
		code, body := get(t, url+"/v1/jobs/"+id+"?wait=30s")
		if code == http.StatusOK && decodeJob(t, body).Status != "succeeded" || code != http.StatusOK && code != http.StatusNotFound {
			t.Errorf("job %s: %d %s", id, code, body)
		}
	}
}

func TestClientVerbs(t *testing.T) {
	t.Parallel()
	p := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0", "--models", repoPath("examples", "models"))
	url := p.find(`HTTP API +(\S+)`)
	p.find("Ctrl-C stops it")
	digit := repoPath("examples", "digit.json")
	raw, err := os.ReadFile(digit)
	if err != nil {
		t.Fatal(err)
	}
	var request struct {
		Input json.RawMessage `json:"input"`
	}
	if err := json.Unmarshal(raw, &request); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("largest at %d", examples.DigitLabel)

	for _, c := range []struct {
		name  string
		args  []string
		stdin string
		code  int
		out   string // in stdout
		errs  string // in stderr
	}{
		{name: "a file", args: []string{"submit", "digits", digit, "--wait"}, out: want},
		{name: "standard input", args: []string{"submit", "digits", "-", "--wait=20s"}, stdin: string(raw), out: want},
		{name: "an array", args: []string{"submit", "digits", string(request.Input), "--wait"}, out: want},
		{name: "JSON out", args: []string{"submit", "digits", digit, "--wait", "-o", "json"}, out: `"status":"succeeded"`},
		{name: "bulk lane", args: []string{"submit", "digits", digit, "--wait", "--lane", "bulk"}, out: want},
		{name: "two outputs", args: []string{"submit", "tumor", fmt.Sprintf(`{"input":%s}`, jsonOf(t, heldout(t, "tumor")[0].Input)), "--wait"}, out: "probabilities FP32"},
		{name: "model ls", args: []string{"model", "ls"}, out: "tumor/1"},
		{name: "model inspect", args: []string{"model", "inspect", "digits"}, out: "x FP32 [-1,64]"},
		{name: "unknown model", args: []string{"submit", "nonsense", digit}, code: exitFailure, errs: "404"},
		{name: "bad lane", args: []string{"submit", "digits", digit, "--lane", "fast"}, code: exitFailure, errs: "lane"},
		{name: "wrong shape", args: []string{"submit", "digits", "[1,2,3]"}, code: exitFailure, errs: "[64]"},
		{name: "unknown job", args: []string{"result", "0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11"}, code: exitFailure, errs: "404"},
		{name: "not JSON", args: []string{"submit", "digits", "-"}, stdin: "hello", code: exitUsage, errs: "not JSON"},
		{name: "no such file", args: []string{"submit", "digits", "nosuchfile.json"}, code: exitUsage, errs: "nosuchfile.json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := c.args
			if args[0] != "model" || args[1] == "ls" || args[1] == "inspect" {
				args = append(args, "--server", url)
			}
			stdout, stderr, code := runToEnd(t, c.stdin, args...)
			if code != c.code || !strings.Contains(stdout, c.out) || !strings.Contains(stderr, c.errs) {
				t.Errorf("exit code %d, expected %d; stdout %q should have %q; stderr %q should have %q", code, c.code, stdout, c.out, stderr, c.errs)
			}
		})
	}

	t.Run("submit, then result", func(t *testing.T) {
		stdout, stderr, code := runToEnd(t, "", "submit", "digits", digit, "-o", "json", "--server", url)
		if code != exitOK {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
		stdout, stderr, code = runToEnd(t, "", "result", decodeJob(t, []byte(stdout)).ID, "--wait", "--server", url)
		if code != exitOK || !strings.Contains(stdout, want) {
			t.Errorf("exit code %d, %s %s", code, stdout, stderr)
		}
	})
	t.Run("doctor", func(t *testing.T) {
		stdout, _, code := runToEnd(t, "", "doctor", "--nats-url", p.find(`NATS +(\S+)`), "--redis-url", "redis://127.0.0.1:1",
			"--models", repoPath("examples", "models"), "--server", url)
		if code != exitUnreachable || !strings.Contains(stdout, "FAIL  Redis") || !strings.Contains(stdout, "ok    NATS") || !strings.Contains(stdout, "tumor/1") {
			t.Errorf("exit code %d:\n%s", code, stdout)
		}
	})
	t.Run("health", func(t *testing.T) {
		if stdout, stderr, code := runToEnd(t, "", "health", "--url", url+"/readyz"); code != exitOK {
			t.Errorf("exit code %d: %s%s", code, stdout, stderr)
		}
	})
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// A wait that is over has its own exit code, and says how to go on.
func TestWaitTimesOut(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, 1)
	s.workers[0].stop(syscall.SIGTERM)
	stdout, stderr, code := runToEnd(t, "", "submit", "digits", repoPath("examples", "digit.json"), "--wait=1s", "--server", s.apis[0])
	if code != exitTimeout || !strings.Contains(stdout, "queued") || !strings.Contains(stderr, "sheaf result") ||
		!strings.Contains(stderr, "no worker has taken it yet; is one running?") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}

// A queued job is canceled, and stays so when a worker comes.
func TestCancel(t *testing.T) {
	t.Parallel()
	s := newStack(t, 2, 1)
	s.workers[0].stop(syscall.SIGTERM)
	row := heldout(t, "digits")[0]
	_, body := post(t, s.apis[0]+"/v1/models/digits/jobs", map[string]any{"input": row.Input})
	id := decodeJob(t, body).ID
	_, body = post(t, s.apis[0]+"/v1/models/digits/jobs", map[string]any{"input": row.Input})
	kept := decodeJob(t, body).ID
	if code, body := request(t, http.MethodDelete, s.apis[1]+"/v1/jobs/"+id, nil, nil); code != http.StatusOK || decodeJob(t, body).Status != "canceled" {
		t.Errorf("cancel answered %d %s", code, body)
	}
	s.addWorker(t)
	if _, body := get(t, s.apis[0]+"/v1/jobs/"+kept+"?wait=30s"); decodeJob(t, body).Status != "succeeded" {
		t.Errorf("the other job: %s", body)
	}
	if _, body := get(t, s.apis[0]+"/v1/jobs/"+id); decodeJob(t, body).Status != "canceled" {
		t.Errorf("the canceled job: %s", body)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sheaf.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		args []string
		file string
		code int
		says string
	}{
		{name: "no verb", args: nil, says: "submit"},
		{name: "unknown verb", args: []string{"frobnicate"}, code: exitUsage, says: "frobnicate"},
		{name: "misspelt verb", args: []string{"model", "inspekt"}, code: exitUsage, says: "inspect"},
		{name: "unknown flag", args: []string{"serve", "--frobnicate"}, code: exitUsage, says: "--help"},
		{name: "missing argument", args: []string{"submit", "digits"}, code: exitUsage, says: "INPUT is missing"},
		{name: "surplus argument", args: []string{"version", "x"}, code: exitUsage, says: `"x"`},
		{name: "bad value in the file", args: []string{"health", "--config", file, "serve"}, file: "max-rows: many", code: exitUsage, says: `"serve"`},
		{name: "unknown setting", args: []string{"serve", "--config", file}, file: "nats_ulr: x", code: exitUsage, says: "nats_ulr"},
		{name: "bad setting", args: []string{"serve", "--config", file}, file: "max-rows: many", code: exitUsage, says: "max-rows"},
		{name: "no settings file", args: []string{"serve", "--config", file + ".nosuch"}, code: exitUsage, says: "nosuch"},
		{name: "bad log level", args: []string{"serve", "--log-level", "loud"}, code: exitUsage, says: "debug, info"},
		{name: "no models", args: []string{"worker", "--models", t.TempDir()}, code: exitUsage, says: "model.onnx"},
		{name: "no model folder", args: []string{"dev", "--models", file + ".nosuch"}, code: exitUsage, says: "nosuch"},
		{name: "no library", args: []string{"worker", "--onnxruntime-lib", "/nosuch.so"}, code: exitUnreachable, says: "correct --onnxruntime-lib"},
		{name: "bad server", args: []string{"result", "x", "--server", "here"}, code: exitUsage, says: "http://127.0.0.1:8080"},
		{name: "no server", args: []string{"result", "x", "--server", "http://127.0.0.1:1"}, code: exitUnreachable, says: "sheaf serve"},
	} {
		t.Run(c.name, func(t *testing.T) {
			write(c.file)
			stdout, stderr, code := runToEnd(t, "", c.args...)
			if code != c.code || !strings.Contains(stdout+stderr, c.says) {
				t.Errorf("exit code %d, expected %d; it says %q, expected %q", code, c.code, stdout+stderr, c.says)
			}
		})
	}
}

// Flag over environment over file over default.
func TestSettingsPrecedence(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "sheaf.yaml")
	if err := os.WriteFile(file, []byte("server: http://127.0.0.1:3\nmax-rows: 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"default", nil, nil, "127.0.0.1:8080"},
		{"file", []string{"SHEAF_CONFIG=" + file}, nil, "127.0.0.1:3"},
		{"environment over file", []string{"SHEAF_CONFIG=" + file, "SHEAF_SERVER=http://127.0.0.1:2"}, nil, "127.0.0.1:2"},
		{"flag over environment", []string{"SHEAF_CONFIG=" + file, "SHEAF_SERVER=http://127.0.0.1:2"}, []string{"--server", "http://127.0.0.1:1"}, "127.0.0.1:1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := command(t, append([]string{"result", "x"}, c.args...)...)
			cmd.Env = append(cmd.Env, c.env...)
			out, _ := cmd.CombinedOutput()
			if !strings.Contains(string(out), c.want) {
				t.Errorf("%q does not name %s", out, c.want)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	stdout, _, code := runToEnd(t, "", "version", "--json")
	var v versionInfo
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || code != exitOK || v.Version == "" || v.Go == "" {
		t.Errorf("exit code %d: %s (%v)", code, stdout, err)
	}
}
