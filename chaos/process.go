package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// process is one program that is kept running: whenever it ends, by a fault or by itself, it is started again.
type process struct {
	name    string
	class   class
	dir     string
	program string
	args    []string
	ready   func(ctx context.Context) error
	lenient bool // it may end by itself before it is ready: a server that it needs may be away

	mu      sync.Mutex
	run     *incarnation
	number  int
	held    bool // not to be started for now
	stopped bool // for good
	changed chan struct{}
	exits   []string // ends that no fault explains
	waits   int      // ends of a lenient process before it was ready

	done    chan struct{} // closed when the supervisor has ended
	started bool          // there is a supervisor
}

// incarnation is one run of the program.
type incarnation struct {
	number int
	cmd    *exec.Cmd
	log    string
	done   chan struct{} // closed when it has ended
	err    error         // how, once done is closed
	up     bool          // it was ready once (guarded by process.mu)
	doomed bool          // a fault ends it (guarded by process.mu)
}

func newProcess(name string, of class, dir, program string, args ...string) (*process, error) {
	dir = filepath.Join(dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &process{
		name: name, class: of, dir: dir, program: program, args: args,
		changed: make(chan struct{}), done: make(chan struct{}),
	}, nil
}

// supervise starts the program, and starts it again until stop is called.
func (p *process) supervise(ctx context.Context) {
	defer close(p.done)
	for p.await() {
		in, err := p.start()
		if err != nil {
			p.note(fmt.Sprintf("%s cannot be started: %v", p.name, err))
			return
		}
		go p.watch(ctx, in)
		<-in.done
		p.ended(in)
		if ctx.Err() == nil {
			time.Sleep(100 * time.Millisecond) //nolint:forbidigo // a program that ends at once is not to be started in a hurry
		}
	}
}

// await waits until the process may be started. false if it is to stop.
func (p *process) await() bool {
	for {
		p.mu.Lock()
		held, stopped, changed := p.held, p.stopped, p.changed
		p.mu.Unlock()
		if stopped {
			return false
		}
		if !held {
			return true
		}
		<-changed
	}
}

// set changes the supervisor's orders.
func (p *process) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *process) start() (*incarnation, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number++
	in := &incarnation{number: p.number, done: make(chan struct{})}
	in.log = filepath.Join(p.dir, fmt.Sprintf("%03d.log", p.number))
	log, err := os.Create(in.log)
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // the child has its own descriptor
	// Without a context: a child is ended by stop or by a fault.
	in.cmd = exec.Command(p.program, p.args...) //nolint:gosec,noctx // programs of this repository
	in.cmd.Dir, in.cmd.Stdout, in.cmd.Stderr = p.dir, log, log
	in.cmd.SysProcAttr = childAttributes()
	if err := in.cmd.Start(); err != nil {
		return nil, err
	}
	p.run = in
	if p.stopped {
		in.doomed = true
		_ = in.cmd.Process.Kill()
	}
	go func() {
		in.err = in.cmd.Wait()
		close(in.done)
	}()
	return in, nil
}

// watch notes when an incarnation is ready.
func (p *process) watch(ctx context.Context, in *incarnation) {
	for {
		ask, cancel := context.WithTimeout(ctx, time.Second)
		err := p.ready(ask)
		cancel()
		if err == nil {
			p.set(func() { in.up = true })
			return
		}
		select {
		case <-in.done:
			return
		case <-ctx.Done():
			return
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ended judges the end of an incarnation.
func (p *process) ended(in *incarnation) {
	p.set(func() {
		p.run = nil
		switch {
		case in.doomed || p.stopped:
		case p.lenient && !in.up:
			p.waits++
		default:
			p.exits = append(p.exits, fmt.Sprintf("%s (run %d) ended by itself: %v; the end of its log:\n%s", p.name, in.number, in.err, tail(in.log, 1500)))
		}
	})
}

func (p *process) note(exit string) { p.set(func() { p.exits = append(p.exits, exit) }) }

// awaitReady waits until the present incarnation is ready.
func (p *process) awaitReady(ctx context.Context) error {
	for {
		p.mu.Lock()
		up, changed := p.run != nil && p.run.up, p.changed
		p.mu.Unlock()
		if up {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", p.name, ctx.Err())
		}
	}
}

// hold keeps the process from being started again, and ends the present run with the signal.
func (p *process) hold(sig syscall.Signal, patience time.Duration) error {
	p.mu.Lock()
	p.held = true
	in := p.run
	if in != nil {
		in.doomed = true
		_ = in.cmd.Process.Signal(sig)
	}
	p.mu.Unlock()
	if in == nil {
		return nil
	}
	select {
	case <-in.done:
		return nil
	case <-time.After(patience):
		_ = in.cmd.Process.Kill()
		<-in.done
		return fmt.Errorf("%s did not end within %v of %v", p.name, patience, sig)
	}
}

// release lets the process be started again.
func (p *process) release() { p.set(func() { p.held = false }) }

// signal sends a signal to the present run, if there is one.
func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run != nil {
		_ = p.run.cmd.Process.Signal(sig)
	}
}

// supervised reports whether supervise was begun.
func (p *process) supervised() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.started
}

// generation is the number of the present run, 0 if there is none.
func (p *process) generation() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.run == nil {
		return 0
	}
	return p.run.number
}

// stop ends the process for good, with SIGKILL after the patience.
func (p *process) stop(patience time.Duration) {
	var in *incarnation
	p.set(func() { p.stopped, in = true, p.run })
	if in != nil {
		_ = in.cmd.Process.Signal(syscall.SIGCONT)
		_ = in.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-in.done:
		case <-time.After(patience):
			_ = in.cmd.Process.Kill()
		}
	}
	<-p.done
}

// panics lists the runs whose log tells of a panic, also of one that was recovered.
func (p *process) panics() []string {
	logs, err := filepath.Glob(filepath.Join(p.dir, "*.log"))
	if err != nil || p.class != classServe && p.class != classWorker {
		return nil
	}
	var list []string
	for _, file := range logs {
		b, err := os.ReadFile(file) //nolint:gosec // our own log
		if err != nil {
			continue
		}
		for _, sign := range []string{"panic", "fatal error", "SIGSEGV"} {
			if i := bytes.Index(b, []byte(sign)); i >= 0 {
				list = append(list, fmt.Sprintf("%s: %s", file, b[max(0, i-200):min(len(b), i+1500)]))
				break
			}
		}
	}
	return list
}

// tail returns the end of a log.
func tail(file string, limit int) string {
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
