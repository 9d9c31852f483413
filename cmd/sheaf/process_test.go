package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/model/onnx"
)

// asProgram makes the test binary be the sheaf program, so that tests run real processes with the race detector on.
const asProgram = "SHEAF_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		asSheaf()
		return
	}
	os.Exit(m.Run())
}

// stopAfter names the failpoint after which the program kills itself, as kill -9 does: POINT, or POINT:N for the N-th
// time that it is reached.
const stopAfter = "SHEAF_TEST_STOP_AFTER"

// asSheaf is main with a hook that main never sets.
func asSheaf() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	env := environment{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	if at := os.Getenv(stopAfter); at != "" {
		env.reach = killAfter(at)
	}
	os.Exit(run(ctx, os.Args[1:], env))
}

// killAfter returns the hook of stopAfter.
func killAfter(at string) failpoint.Hook {
	point, times, _ := strings.Cut(at, ":")
	n, err := strconv.Atoi(times)
	if times == "" {
		n, err = 1, nil
	}
	if err != nil || n < 1 || !slices.Contains(failpoint.Points(), failpoint.Point(point)) {
		panic(stopAfter + ": expected POINT or POINT:N, got " + at)
	}
	var reached atomic.Int64
	return func(p failpoint.Point) {
		if p == failpoint.Point(point) && reached.Add(1) == int64(n) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}

// patience is how long a test waits for what must happen; it is not an assertion about speed.
const patience = 60 * time.Second

// process is a running sheaf.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	exited chan struct{}
	mu     sync.Mutex
	output bytes.Buffer // stdout and stderr
	stdout bytes.Buffer
	grown  chan struct{}
}

// library returns the path of ONNX Runtime as `make deps` lays it.
func library(t testing.TB) string {
	t.Helper()
	path, err := onnx.FindLibrary(repoPath("bin", "lib"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	return path
}

func repoPath(parts ...string) string {
	return filepath.Join(append([]string{"..", ".."}, parts...)...)
}

// command prepares a sheaf process without starting it.
func command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...) //nolint:gosec // the test binary itself
	cmd.Env = append(os.Environ(), asProgram+"=1", "SHEAF_ONNXRUNTIME_LIB="+library(t))
	cmd.Cancel = func() error { return cmd.Process.Kill() }
	return cmd
}

// start runs a sheaf process until the end of the test.
func start(t testing.TB, args ...string) *process {
	t.Helper()
	return launch(t, nil, args...)
}

// launch is start with more environment variables.
func launch(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: command(t, args...), exited: make(chan struct{}), grown: make(chan struct{}, 1)}
	p.cmd.Env = append(p.cmd.Env, env...)
	outputs := make([]io.ReadCloser, 2)
	for i, pipe := range []func() (io.ReadCloser, error){p.cmd.StdoutPipe, p.cmd.StderrPipe} {
		var err error
		if outputs[i], err = pipe(); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	readers.Go(func() { p.collect(outputs[0], &p.stdout) })
	readers.Go(func() { p.collect(outputs[1], nil) })
	go func() {
		readers.Wait()
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
		if t.Failed() {
			t.Logf("sheaf %s:\n%.20000s", strings.Join(args, " "), p.text())
		}
	})
	return p
}

func (p *process) collect(r io.Reader, also *bytes.Buffer) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		p.mu.Lock()
		p.output.Write(line)
		if also != nil {
			also.Write(line)
		}
		p.mu.Unlock()
		select {
		case p.grown <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// find waits until the output matches and returns the first group.
func (p *process) find(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(patience)
	for {
		if m := re.FindStringSubmatch(p.text()); m != nil {
			return m[len(m)-1]
		}
		select {
		case <-p.grown:
		case <-p.exited:
			if m := re.FindStringSubmatch(p.text()); m != nil {
				return m[len(m)-1]
			}
			p.t.Fatalf("the process ended before it said %q:\n%s", pattern, p.text())
		case <-timeout:
			p.t.Fatalf("the process did not say %q:\n%s", pattern, p.text())
		}
	}
}

// stop sends a signal and returns the exit code.
func (p *process) stop(sig syscall.Signal) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatalf("the process did not end after %v:\n%s", sig, p.text())
	}
	return p.cmd.ProcessState.ExitCode()
}

// runToEnd runs a verb to its end.
func runToEnd(t testing.TB, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := command(t, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// eventually polls until cond is nil.
func eventually(t testing.TB, cond func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(20 * time.Millisecond)
	}
}
