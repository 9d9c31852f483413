package main

import (
	"context"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/sheafml/sheaf/producer"
)

// Goroutines of the load.
const (
	httpClients = 24
	bulkClients = 3
	pollers     = 4
)

// load submits the jobs of a run, evenly over its time, and looks at them meanwhile.
type load struct {
	cfg      *config
	lab      *lab
	ledger   *ledger
	rows     []row
	producer *producer.Producer
	client   *http.Client
	out      io.Writer

	mu      sync.Mutex
	surplus map[string]int // answers that are neither success nor trouble, by what was said
}

func newLoad(cfg *config, l *lab, book *ledger, rows []row, p *producer.Producer, out io.Writer) *load {
	return &load{
		cfg: cfg, lab: l, ledger: book, rows: rows, producer: p, out: out,
		// Longer than a shim takes to give up, for most of the time, and not always.
		client: &http.Client{
			Timeout:   4 * time.Second,
			Transport: &http.Transport{MaxIdleConnsPerHost: httpClients + pollers, IdleConnTimeout: 5 * time.Second},
		},
		surplus: make(map[string]int),
	}
}

// burst is a number of jobs that are handed to the producer at once.
type burst struct {
	first, n int
	bulk     bool
}

// run submits all jobs within the given time, half of them evenly and half in waves, and returns when each has been
// accepted, refused or given up because ctx has ended.
func (l *load) run(ctx context.Context, length time.Duration, waves []time.Duration) {
	overHTTP := make(chan int, l.cfg.jobs)
	bursts := make(chan burst, l.cfg.jobs)
	var clients sync.WaitGroup
	for range httpClients {
		clients.Go(func() {
			for i := range overHTTP {
				l.submitHTTP(ctx, i)
			}
		})
	}
	for range bulkClients {
		clients.Go(func() {
			for b := range bursts {
				l.submitBulk(ctx, b)
			}
		})
	}
	l.pace(ctx, length, waves, overHTTP, bursts)
	close(overHTTP)
	close(bursts)
	clients.Wait()
}

// pace hands out the numbers of the jobs as time goes by.
func (l *load) pace(ctx context.Context, length time.Duration, waves []time.Duration, overHTTP chan<- int, bursts chan<- burst) {
	rnd := rand.New(rand.NewPCG(l.cfg.seed, 0x10ad)) //nolint:gosec // it has to be reproducible, not secret
	size := func() int { return 4 + rnd.IntN(60) }
	start := time.Now()
	next, n, owed := 0, size(), 0.0
	for next < l.cfg.jobs {
		for ready := due(l.cfg.jobs, time.Since(start), length, waves); next < ready && (ready-next >= n || ready == l.cfg.jobs); n = size() {
			n = min(n, ready-next)
			owed += float64(n) * l.cfg.httpShare
			h := min(int(owed), n)
			owed -= float64(h)
			for i := range h {
				overHTTP <- next + i
			}
			if n > h {
				bursts <- burst{first: next + h, n: n - h, bulk: rnd.IntN(3) > 0}
			}
			next += n
		}
		if !sleep(ctx, 5*time.Millisecond) {
			return
		}
	}
}

// swell is how long a wave takes. It is in the middle of it when the fault begins, so that the fault meets work in
// every stage.
const swell = 60 * time.Millisecond

// due is how many of the jobs are to be submitted by now: half of them evenly, the other half in waves.
func due(jobs int, now, length time.Duration, waves []time.Duration) int {
	if now >= length {
		return jobs
	}
	even := float64(now) / float64(length)
	if len(waves) == 0 {
		return int(float64(jobs) * even)
	}
	passed := 0.0
	for _, at := range waves {
		passed += min(1, max(0, float64(now-at+swell/2)/float64(swell)))
	}
	return int(float64(jobs) * (even + passed/float64(len(waves))) / 2)
}

func (l *load) row(i int) *row { return &l.rows[i%len(l.rows)] }

func (l *load) note(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.surplus[what]++
}

func (l *load) noted() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := make(map[string]int, len(l.surplus))
	maps.Copy(m, l.surplus)
	return m
}

// key is the Idempotency-Key of a job.
func (l *load) key(i int) string {
	return "chaos-" + strconv.FormatUint(l.cfg.seed, 10) + "-" + strconv.Itoa(i)
}
