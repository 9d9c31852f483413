package main

import (
	"bufio"
	"bytes"
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// meter adds up what the workers have counted, over all their runs: the rows that they computed, and the results that
// came late, when another attempt had written its own. A run that is killed takes with it what it counted since it was
// read last, so both sums are lower bounds.
type meter struct {
	lab    *lab
	client *http.Client

	mu   sync.Mutex
	rows map[string]float64 // by process and run
	late map[string]float64
}

func newMeter(l *lab) *meter {
	return &meter{lab: l, client: &http.Client{Timeout: 500 * time.Millisecond}, rows: make(map[string]float64), late: make(map[string]float64)}
}

// meterInterval is how often the workers are read, besides just before each kill.
const meterInterval = 250 * time.Millisecond

// run reads every worker until ctx ends.
func (m *meter) run(ctx context.Context) {
	var all sync.WaitGroup
	for _, p := range m.lab.processes {
		if p.class == classWorker {
			all.Go(func() {
				for sleep(ctx, meterInterval) {
					m.read(ctx, p)
				}
			})
		}
	}
	all.Wait()
}

// read reads one worker; others have no rows.
func (m *meter) read(ctx context.Context, p *process) {
	if p.class != classWorker {
		return
	}
	before := p.generation()
	url := ""
	for i, base := range m.lab.ops {
		if p.name == "worker-"+strconv.Itoa(i+1) {
			url = base + "/metrics"
		}
	}
	body, err := fetch(ctx, m.client, url)
	if err != nil || before == 0 || p.generation() != before {
		return
	}
	m.note(p.name+"/"+strconv.Itoa(before), counter(body, "sheaf_worker_rows_total"), counter(body, "sheaf_worker_late_results_total"))
}

func (m *meter) note(run string, rows, late float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rows[run], m.late[run] = max(m.rows[run], rows), max(m.late[run], late)
}

func (m *meter) totals() (rows, late int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return sum(m.rows), sum(m.late)
}

func sum(byRun map[string]float64) int {
	var s float64
	for _, v := range byRun {
		s += v
	}
	return int(s)
}

// counter adds up the series of one metric on a Prometheus page.
func counter(page []byte, name string) float64 {
	var sum float64
	lines := bufio.NewScanner(bytes.NewReader(page))
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		value, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err == nil {
			sum += value
		}
	}
	return sum
}
