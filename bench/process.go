package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// stopPatience is how long a child may take to end after SIGTERM.
const stopPatience = 10 * time.Second

// process is one child process with its log in a file.
type process struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
	err  error         // how, once done is closed

	expected atomic.Bool // its end is wanted
}

// startProcess starts the program in dir, which must exist; its output goes to a log file there.
func startProcess(name, dir, program string, args ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) // a process may be started again
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the child has its own descriptor
	// Without a context: a child is ended by stop, gently, and not by the context's SIGKILL.
	p.cmd = exec.Command(program, args...) //nolint:gosec,noctx // programs of this repository
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, log, log
	p.cmd.SysProcAttr = childAttributes()
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// pid is the process ID.
func (p *process) pid() int { return p.cmd.Process.Pid }

// stop asks the process to end, and makes it after stopPatience. It may be called again.
func (p *process) stop() {
	select {
	case <-p.done:
		return
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopPatience):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// await calls ready until it returns nil, the process ends or the context does.
func (p *process) await(ctx context.Context, patience time.Duration, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.failure("ended before it was ready")
		case <-ctx.Done():
			return p.failure(fmt.Sprintf("was not ready within %v (%v)", patience, err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// failure is an error that ends with the last lines of the log.
func (p *process) failure(what string) error {
	err := fmt.Errorf("%s %s", p.name, what)
	if tail := logTail(p.log, 2000); tail != "" {
		err = fmt.Errorf("%w; the end of its log:\n%s", err, tail)
	}
	return err
}

func logTail(file string, limit int) string {
	b, err := os.ReadFile(file) //nolint:gosec // our own log
	if err != nil {
		return ""
	}
	b = bytes.TrimSpace(b)
	if len(b) > limit {
		b = b[len(b)-limit:]
		if _, rest, found := bytes.Cut(b, []byte("\n")); found {
			b = rest
		}
	}
	return string(b)
}

// freeAddr returns a free port of the loopback interface, as "127.0.0.1:port". Another program may take it before the
// child does; the child then ends and says so.
func freeAddr(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// clockTick is Linux's USER_HZ, the unit of /proc/PID/stat.
const clockTick = 10 * time.Millisecond

// cpuTime returns what a process and the children that it waited for have used of the CPU, in user and kernel.
// The resolution is 10 ms. It fails where there is no /proc.
func cpuTime(pid int) (time.Duration, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in parentheses and may contain anything; the fields that count are the
	// 14th to 17th: utime, stime, cutime, cstime.
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return 0, errors.New("unexpected /proc/PID/stat")
	}
	fields := bytes.Fields(b[end+1:])
	if len(fields) < 15 {
		return 0, errors.New("unexpected /proc/PID/stat")
	}
	var ticks int64
	for _, f := range fields[11:15] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("unexpected /proc/PID/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}

// machineTime returns what all programs together have used of the CPUs, and what a hypervisor kept back.
func machineTime() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	fields := bytes.Fields(line) // cpu user nice system idle iowait irq softirq steal …
	if len(fields) < 9 {
		return 0, errors.New("unexpected /proc/stat")
	}
	var ticks int64
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		n, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("unexpected /proc/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick, nil
}
