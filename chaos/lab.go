package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// How many of each there are.
const (
	shims   = 2
	workers = 3
)

// lab is everything that runs beside this program: the processes, the links between them, and the directory with their
// data and logs.
type lab struct {
	dir       string
	natsAddr  string
	redisAddr string
	monitor   string // of nats-server
	processes []*process
	links     []*link
	api       []string // base URLs of the shims
	ops       []string // base URLs of the workers
	producer  *link    // of this program to NATS

	supervisors sync.WaitGroup
}

// openLab starts everything and waits until it is ready. close ends it, also after an error.
func openLab(ctx context.Context, cfg *config) (*lab, error) {
	dir, err := os.MkdirTemp("", "sheaf-chaos-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the data: %w", err)
	}
	l := &lab{dir: dir}
	if err := l.build(ctx, cfg); err != nil {
		return l, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for _, p := range l.processes {
		p.set(func() { p.started = true })
		l.supervisors.Go(func() { p.supervise(context.WithoutCancel(ctx)) })
		if p.class == classNATS || p.class == classRedis {
			if err := p.awaitReady(ctx); err != nil {
				return l, l.explain(p, err)
			}
		}
	}
	for _, p := range l.processes {
		if err := p.awaitReady(ctx); err != nil {
			return l, l.explain(p, err)
		}
	}
	return l, nil
}

func (l *lab) explain(p *process, err error) error {
	log := filepath.Join(p.dir, fmt.Sprintf("%03d.log", max(1, p.generation())))
	return fmt.Errorf("%w; the end of its log:\n%s", err, tail(log, 1500))
}

// build makes the processes and the links, and starts none but the links.
func (l *lab) build(ctx context.Context, cfg *config) error {
	sheaf, err := filepath.Abs(cfg.sheafBinary())
	if err != nil {
		return err
	}
	server, err := filepath.Abs(cfg.natsBinary())
	if err != nil {
		return err
	}
	for _, program := range []string{sheaf, server} {
		if _, err := os.Stat(program); err != nil { //nolint:gosec // the user says where the repository is
			return fmt.Errorf("%w: run `make deps build`, or say where the repository is with -root", err)
		}
	}
	models := filepath.Join(l.dir, "models")
	if err := os.CopyFS(filepath.Join(models, modelName), os.DirFS(cfg.digits())); err != nil {
		return fmt.Errorf("copy the model: %w", err)
	}
	for _, addr := range []*string{&l.natsAddr, &l.redisAddr, &l.monitor} {
		if *addr, err = freeAddr(ctx); err != nil {
			return err
		}
	}
	redis, err := newRedis(l.dir, l.redisAddr, cfg.fsync)
	if err != nil {
		return err
	}
	nats, err := newNATS(l.dir, server, l.natsAddr, l.monitor)
	if err != nil {
		return err
	}
	l.processes = append(l.processes, redis, nats)
	for i := range workers {
		name := fmt.Sprintf("worker-%d", i+1)
		err := l.addSheaf(ctx, name, classWorker, sheaf, &l.ops, "--ops-addr", "worker", "--models", models)
		if err != nil {
			return err
		}
	}
	for i := range shims {
		if err := l.addSheaf(ctx, fmt.Sprintf("serve-%d", i+1), classServe, sheaf, &l.api, "--addr", "serve"); err != nil {
			return err
		}
	}
	l.producer, err = l.addLink(ctx, "producer:nats", l.natsAddr)
	return err
}

// addSheaf adds a process of bin/sheaf with links of its own, that listens at the address of the named flag.
func (l *lab) addSheaf(ctx context.Context, name string, of class, program string, urls *[]string, listen string, args ...string) error {
	nats, err := l.addLink(ctx, name+":nats", l.natsAddr)
	if err != nil {
		return err
	}
	redis, err := l.addLink(ctx, name+":redis", l.redisAddr)
	if err != nil {
		return err
	}
	addr, err := freeAddr(ctx)
	if err != nil {
		return err
	}
	*urls = append(*urls, "http://"+addr)
	p, err := newSheaf(name, of, l.dir, program, nats, redis, "http://"+addr+"/readyz", append(args, listen, addr)...)
	if err != nil {
		return err
	}
	l.processes = append(l.processes, p)
	return nil
}

func (l *lab) addLink(ctx context.Context, name, backend string) (*link, error) {
	k, err := openLink(ctx, name, backend)
	if err == nil {
		l.links = append(l.links, k)
	}
	return k, err
}

// targets lists what faults can happen to, in the order in which it was made.
func (l *lab) targets() []target {
	var list []target
	for _, p := range l.processes {
		list = append(list, target{p.class, p.name})
	}
	for _, k := range l.links {
		of := classRedisLink
		if k.backend == l.natsAddr {
			of = classNATSLink
		}
		list = append(list, target{of, k.name})
	}
	return list
}

func (l *lab) process(name string) *process {
	for _, p := range l.processes {
		if p.name == name {
			return p
		}
	}
	return nil
}

func (l *lab) link(name string) *link {
	for _, k := range l.links {
		if k.name == name {
			return k
		}
	}
	return nil
}

// close ends every process, Sheaf's first, and the links.
func (l *lab) close() {
	var sheaf sync.WaitGroup
	stop := func(p *process, patience time.Duration) {
		if p.supervised() {
			p.stop(patience)
		}
	}
	for _, p := range l.processes {
		if p.class == classServe || p.class == classWorker {
			sheaf.Go(func() { stop(p, 3*time.Second) })
		}
	}
	sheaf.Wait()
	for _, p := range l.processes {
		if p.class == classNATS || p.class == classRedis {
			stop(p, 2*time.Second)
		}
	}
	for _, k := range l.links {
		k.close()
	}
	l.supervisors.Wait()
}

func (l *lab) remove() error { return os.RemoveAll(l.dir) } //nolint:gosec // the directory that openLab made
