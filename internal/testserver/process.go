package testserver

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a server that a test can stop, pause, kill and start again.
type process struct {
	t    testing.TB
	name string // for errors

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
	output bytes.Buffer // of the last run
}

// run starts the program and waits until it says the phrase.
func (p *process) run(phrase, program string, args ...string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.output.Reset()
	cmd := exec.Command(program, args...) //nolint:gosec,noctx // the test stops it by its process ID
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatalf("testserver: %v", err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		p.t.Fatalf("testserver: start %s: %v", p.name, err)
	}
	p.cmd, p.exited = cmd, make(chan struct{})
	ready := make(chan bool, 1)
	go func() {
		defer close(p.exited)
		lines := bufio.NewScanner(pipe)
		for lines.Scan() {
			p.output.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), phrase) {
				select {
				case ready <- true:
				default:
				}
			}
		}
		_ = cmd.Wait() // it is killed, and then says so
		select {
		case ready <- false:
		default:
		}
	}()
	select {
	case ok := <-ready:
		if !ok {
			<-p.exited
			p.t.Fatalf("testserver: %s ended at once:\n%s", p.name, p.output.String())
		}
	case <-time.After(startTimeout):
		p.t.Fatalf("testserver: %s is not ready after %v", p.name, startTimeout)
	}
}

// Kill ends the process at once (SIGKILL), as a crash would. Killing it twice is no error.
func (p *process) Kill() { p.end(syscall.SIGKILL) }

// Stop lets the server shut down in order.
func (p *process) Stop() { p.end(syscall.SIGTERM) }

// Pause stops the process (SIGSTOP): its connections stand, and it answers nothing. It returns when that is so.
func (p *process) Pause() {
	p.t.Helper()
	if p.signal(syscall.SIGSTOP) {
		AwaitStopped(p.t, p.cmd.Process.Pid)
	}
}

// AwaitStopped waits until a process that was sent SIGSTOP does nothing any more: on a busy machine its threads may go on
// for a moment. Where there is no /proc to look at, it returns at once.
func AwaitStopped(t testing.TB, pid int) {
	t.Helper()
	threads := filepath.Join("/proc", strconv.Itoa(pid), "task")
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for deadline := time.Now().Add(startTimeout); ; <-pace.C {
		running := 0
		entries, _ := os.ReadDir(threads) // none, where there is no /proc
		for _, e := range entries {
			stat, err := os.ReadFile(filepath.Join(threads, e.Name(), "stat")) //nolint:gosec // what the system lists there
			// The state follows the name, which is in parentheses and may hold any character.
			if i := bytes.LastIndexByte(stat, ')'); err == nil && i >= 0 && !bytes.HasPrefix(stat[i:], []byte(") T")) {
				running++
			}
		}
		if running == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("testserver: process %d has not stopped", pid)
		}
	}
}

// Resume ends a Pause (SIGCONT).
func (p *process) Resume() { p.signal(syscall.SIGCONT) }

func (p *process) end(sig syscall.Signal) {
	p.t.Helper()
	if p.signal(sig) {
		<-p.exited
		p.mu.Lock()
		p.cmd = nil
		p.mu.Unlock()
	}
}

func (p *process) signal(sig syscall.Signal) bool {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return false
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("testserver: signal %s: %v", p.name, err)
	}
	return true
}
