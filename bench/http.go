package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/sheafml/sheaf/job"
)

// What is wanted over HTTP.
const (
	wantSubmitRatio = 1.0    // submits/s, one job a request, over the requests/s of the synchronous server
	wantBulkRate    = 60_000 // jobs/s of the bulk route
)

// httpConfig holds the flags of the measurement over HTTP.
type httpConfig struct {
	verbSettings

	rounds      int
	phase       time.Duration
	warmUp      time.Duration
	connections int
	streams     int
	lines       int
	latency     time.Duration
}

func parseHTTP(args []string, stderr io.Writer) (*httpConfig, error) {
	c := &httpConfig{verbSettings: newVerbSettings()}
	fs := c.newFlags("http", stderr)
	fs.IntVar(&c.rounds, "rounds", 5, "rounds, each with the synchronous server, one job a request, and the bulk route")
	fs.DurationVar(&c.phase, "phase", 5*time.Second, "length of each closed loop")
	fs.DurationVar(&c.warmUp, "warm-up", time.Second, "not counted at the beginning of each")
	fs.IntVar(&c.connections, "connections", 64, "connections of the closed loops, each with one request at a time")
	fs.IntVar(&c.streams, "streams", 2, "bulk requests at a time; 0 leaves the bulk route out")
	fs.IntVar(&c.lines, "lines", 20_000, "lines of a bulk request")
	fs.DurationVar(&c.latency, "latency", 8*time.Second, "length of each open loop at half load; 0 leaves them out")
	if err := c.parse(fs, args); err != nil {
		return nil, err
	}
	if c.quick {
		shorten(fs, map[string]func(){
			"rounds": func() { c.rounds = 1 }, "phase": func() { c.phase = time.Second }, "warm-up": func() { c.warmUp = 200 * time.Millisecond },
			"latency": func() { c.latency = time.Second }, "lines": func() { c.lines = 2000 },
		})
	}
	return c, c.validate()
}

func (c *httpConfig) validate() error {
	errs := []error{c.labSettings.validate()}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.rounds < 1 || c.rounds > 100 || c.phase < 100*time.Millisecond || c.phase > 10*time.Minute || c.warmUp < 0 || c.latency < 0 {
		bad("-rounds is %d, -phase %v, -warm-up %v, -latency %v: expected 1 to 100, 100ms to 10m, and no negative times", c.rounds, c.phase, c.warmUp, c.latency)
	}
	if c.connections < 1 || c.connections > 10_000 || c.streams < 0 || c.streams > 100 || c.lines < 1 || c.lines > 100_000 {
		bad("-connections is %d, -streams %d, -lines %d: expected 1 to 10000, 0 to 100, and 1 to 100000", c.connections, c.streams, c.lines)
	}
	c.models = []string{c.digits()}
	return errors.Join(errs...)
}

// httpRound is one round. Rates are of requests, or of jobs for bulk, a second.
type httpRound struct {
	Sync      float64 `json:"sync_per_second"`
	Submit    float64 `json:"submits_per_second"`
	Bulk      float64 `json:"bulk_jobs_per_second"`
	Drained   float64 `json:"submit_drained_s"` // from the last submit until all of them were finished
	BulkDrain float64 `json:"bulk_drained_s"`
	// CPU time a request, or a job, of each process; of what is accepted until it is finished.
	SyncCPU    map[string]float64 `json:"sync_cpu_us"`
	SubmitCPU  map[string]float64 `json:"submit_cpu_us"`
	BulkCPU    map[string]float64 `json:"bulk_cpu_us"`
	SyncP99    float64            `json:"sync_p99_ms"`
	SubmitP99  float64            `json:"submit_p99_ms"`
	SyncHalf   spread             `json:"sync_half_load"`
	SubmitHalf spread             `json:"submit_half_load"`
}

// httpReport is what the measurement has shown.
type httpReport struct {
	verbReport

	Connections int         `json:"connections"`
	Rounds      []httpRound `json:"rounds"`
	Sync        summary     `json:"sync_per_second"`
	Submit      summary     `json:"submits_per_second"`
	Ratio       summary     `json:"submit_over_sync"`
	Bulk        summary     `json:"bulk_jobs_per_second"`
	Accepted    int         `json:"accepted"`
	Right       int         `json:"right"`
}

func runHTTP(ctx context.Context, c *httpConfig, stderr io.Writer) (*httpReport, error) {
	r := &httpReport{Connections: c.connections}
	err := inLab(ctx, &c.verbSettings, stderr, &r.verbReport, func(ctx context.Context, l *lab, say func(string, ...any)) error {
		load, err := digitsWorkload(c.heldOut())
		if err != nil {
			return err
		}
		if err := l.startServe(ctx); err != nil {
			return err
		}
		client, err := openClient(ctx, l, clientSettings(l), load.model) // reads the records
		if err != nil {
			return err
		}
		defer client.close()
		o := &overHTTP{httpConfig: c, lab: l, client: client, load: load, report: r}
		if err := o.prepare(); err != nil {
			return err
		}
		for i := range c.rounds {
			if err := o.round(ctx, i); err != nil {
				return fmt.Errorf("round %d: %w", i+1, err)
			}
			last := r.Rounds[i]
			say("round %d of %d: synchronous %s/s, submits %s/s, bulk %s jobs/s", i+1, c.rounds, thousands(int(last.Sync)), thousands(int(last.Submit)), thousands(int(last.Bulk)))
		}
		return nil
	})
	return r, err
}

// overHTTP is a measurement in progress.
type overHTTP struct {
	*httpConfig
	lab    *lab
	client *client
	load   *workload
	report *httpReport

	sync, submit [][]byte // prepared requests, one for each sample
	bulk         []byte   // the body of a bulk request
}

// prepare writes every request beforehand.
func (o *overHTTP) prepare() error {
	var lines [][]byte
	for i := range o.load.samples {
		body, err := json.Marshal(map[string][]float32{"input": floats(o.load.samples[i].inputs[0].Data)})
		if err != nil {
			return err
		}
		o.sync = append(o.sync, prepareRequest("/predict", body))
		o.submit = append(o.submit, prepareRequest("/v1/models/"+o.load.model+"/jobs", body))
		lines = append(lines, append(body, '\n'))
	}
	for i := range o.lines {
		o.bulk = append(o.bulk, lines[i%len(lines)]...)
	}
	return nil
}

// round measures the three in changing order, since what came before leaves its traces.
func (o *overHTTP) round(ctx context.Context, n int) error {
	r := httpRound{}
	phases := []func(context.Context, *httpRound) error{o.syncPhase, o.submitPhase, o.bulkPhase}
	for i := range phases {
		if err := o.lab.empty(ctx); err != nil {
			return err
		}
		if err := phases[(i+n)%len(phases)](ctx, &r); err != nil {
			return err
		}
	}
	o.report.Rounds = append(o.report.Rounds, r)
	return nil
}

// syncPhase measures the synchronous server, with nothing of Sheaf at work.
func (o *overHTTP) syncPhase(ctx context.Context, r *httpRound) error {
	server, addr, err := startSync(ctx, o.lab, o.report.library)
	if err != nil {
		return err
	}
	defer server.stop()
	before := cpuOf([]subject{{name: "sync-server", pid: server.pid()}, {name: "bench", pid: os.Getpid()}})
	loop := &closedLoop{addr: addr, requests: o.sync, connections: o.connections, check: o.rightPrediction}
	if err := loop.run(ctx, o.warmUp, o.phase); err != nil {
		return server.failure(err.Error())
	}
	r.SyncCPU = before.since(loop.asked)
	r.Sync, r.SyncP99 = loop.rate(), loop.latency.spread().P99
	if o.latency > 0 {
		r.SyncHalf, err = loop.atRate(ctx, r.Sync/2, o.latency)
	}
	return err
}

// rightPrediction checks an answer of the synchronous server.
func (o *overHTTP) rightPrediction(i, status int, body []byte) error {
	var answer struct {
		Prediction []float32 `json:"prediction"`
	}
	if status != http.StatusOK {
		return fmt.Errorf("status %d: %.100s", status, body)
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return err
	}
	return compare(rawFloats(answer.Prediction), o.load.at(i).expected, o.load.tolerance)
}

// submitPhase measures submits of one job a request, while the worker works them off, and compares every result.
func (o *overHTTP) submitPhase(ctx context.Context, r *httpRound) error {
	var accepted tickets
	before := cpuOf(o.lab.subjects())
	loop := &closedLoop{addr: o.lab.apiAddr, requests: o.submit, connections: o.connections, check: accepted.take}
	if err := loop.run(ctx, o.warmUp, o.phase); err != nil {
		return fmt.Errorf("submits: %w", err)
	}
	r.Submit, r.SubmitP99 = loop.rate(), loop.latency.spread().P99
	var err error
	n := len(accepted.list)
	if r.Drained, err = o.drained(ctx); err != nil {
		return err
	}
	r.SubmitCPU = before.since(n)
	if err = o.verify(ctx, &accepted); err != nil || o.latency == 0 {
		return err
	}
	if r.SubmitHalf, err = loop.atRate(ctx, r.Submit/2, o.latency); err != nil {
		return err
	}
	if _, err = o.drained(ctx); err != nil {
		return err
	}
	return o.verify(ctx, &accepted)
}

// bulkPhase measures the bulk route.
func (o *overHTTP) bulkPhase(ctx context.Context, r *httpRound) error {
	if o.streams == 0 {
		return nil
	}
	var accepted tickets
	var err error
	before := cpuOf(o.lab.subjects())
	if r.Bulk, err = o.bulkRate(ctx, &accepted); err != nil {
		return fmt.Errorf("bulk: %w", err)
	}
	n := len(accepted.list)
	if r.BulkDrain, err = o.drained(ctx); err != nil {
		return err
	}
	r.BulkCPU = before.since(n)
	return o.verify(ctx, &accepted)
}

// drained waits until what was accepted is finished, and returns how long that took.
func (o *overHTTP) drained(ctx context.Context) (float64, error) {
	began := time.Now()
	err := o.lab.drained(ctx)
	return time.Since(began).Seconds(), err
}

// verify compares the result of every job that was accepted.
func (o *overHTTP) verify(ctx context.Context, accepted *tickets) error {
	const chunk = 1000
	for at := 0; at < len(accepted.list); at += chunk {
		part := accepted.list[at:min(at+chunk, len(accepted.list))]
		ids := make([]job.ID, len(part))
		for i := range part {
			ids[i] = part[i].id
		}
		records, err := o.client.store.Get(ctx, ids...)
		if err != nil {
			return fmt.Errorf("read the records: %w", err)
		}
		for i, record := range records {
			if err := o.load.check(part[i].sample, ids[i], record); err != nil {
				return fmt.Errorf("job %s: %w", ids[i], err)
			}
		}
	}
	o.report.Accepted += len(accepted.list)
	o.report.Right += len(accepted.list)
	accepted.list = accepted.list[:0]
	return nil
}

// ticketed is an accepted job and the sample that it is of.
type ticketed struct {
	id     job.ID
	sample int
}

// tickets collects the jobs that were accepted.
type tickets struct {
	mu   sync.Mutex
	list []ticketed
}

// take reads the answer to a submit. It knows what the answer begins with: a parser would cost more than the server.
func (t *tickets) take(i, status int, body []byte) error {
	const head, size = `{"id":"`, 36
	if status != http.StatusAccepted || len(body) < len(head)+size || string(body[:len(head)]) != head {
		return fmt.Errorf("status %d: %.200s", status, body)
	}
	id, err := job.ParseID(string(body[len(head) : len(head)+size]))
	if err != nil {
		return err
	}
	t.note(id, i)
	return nil
}

func (t *tickets) note(id job.ID, sample int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = append(t.list, ticketed{id, sample})
}

// add takes a job by its ticket.
func (t *tickets) add(sample int, ticket string) error {
	k, err := job.ParseTicket(ticket)
	if err == nil {
		t.note(k.ID, sample)
	}
	return err
}
