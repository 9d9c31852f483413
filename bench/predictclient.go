package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// httpTally is what came of requests over HTTP.
type httpTally struct {
	Answered int      `json:"answered"`
	Wrong    int      `json:"wrong"`
	Failed   int      `json:"failed"`
	Evidence []string `json:"evidence,omitempty"`
}

// predictClient asks /predict at an even rate and checks the answers.
type predictClient struct {
	url     string
	load    *workload
	rate    float64
	clients []*http.Client // with one connection each, so that their number does not change with the load

	mu      sync.Mutex
	sum     httpTally
	latency times
}

func newPredictClient(l *lab, load *workload, rate float64) *predictClient {
	p := &predictClient{url: "http://" + l.apiAddr + "/v1/models/" + load.model + "/predict", load: load, rate: rate}
	for range predictClients {
		p.clients = append(p.clients, &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxConnsPerHost: 1}})
	}
	return p
}

// predictClients is how many requests are on their way at the same time, at most.
const predictClients = 16

// run asks until ctx ends, and returns when the last answer has come.
func (p *predictClient) run(ctx context.Context) error {
	if p.rate == 0 {
		return nil
	}
	var all sync.WaitGroup
	start := time.Now()
	for k, client := range p.clients {
		all.Go(func() {
			defer client.CloseIdleConnections()
			for n := k; ; n += len(p.clients) {
				due := start.Add(time.Duration(float64(n) / p.rate * float64(time.Second)))
				if wait := time.Until(due); wait > 0 && !rest(ctx, wait) || ctx.Err() != nil {
					return
				}
				wrong, err := p.ask(context.WithoutCancel(ctx), client, n)
				p.note(time.Since(due), wrong, err)
			}
		})
	}
	all.Wait()
	return nil
}

func (p *predictClient) note(took time.Duration, wrong bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.sum.Answered++
		p.latency.add(took)
		return
	case wrong:
		p.sum.Wrong++
	default:
		p.sum.Failed++
	}
	if len(p.sum.Evidence) < maxEvidence {
		p.sum.Evidence = append(p.sum.Evidence, err.Error())
	}
}

// ask asks for the n-th sample. wrong says that there was an answer and it was not right.
func (p *predictClient) ask(ctx context.Context, client *http.Client, n int) (wrong bool, err error) {
	s := p.load.at(n)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(s.body))
	if err != nil {
		return false, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req) //nolint:gosec // a process of this run
	if err != nil {
		return false, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return false, err
	}
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("status %d: %.200s", resp.StatusCode, body)
	}
	var answer struct {
		Prediction [][]float32 `json:"prediction"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return true, fmt.Errorf("%w: %.200s", err, body)
	}
	if len(answer.Prediction) != 1 {
		return true, fmt.Errorf("expected one row, got %.200s", body)
	}
	return true, compare(rawFloats(answer.Prediction[0]), s.expected, p.load.tolerance)
}

func (p *predictClient) tally() httpTally {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sum
}

// takeLatency returns the latencies since the last call.
func (p *predictClient) takeLatency() times {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.latency
	p.latency = times{}
	return t
}
