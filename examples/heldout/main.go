// Command heldout sends the held-out rows of a model to a running Sheaf, one job a row, and compares each answer with
// that of a direct run of the model. It shows the whole path over HTTP: submit, ticket, wait.
//
//	go run ./examples/heldout -server http://127.0.0.1:8080 -file examples/models/digits/heldout.jsonl -model digits
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

type options struct {
	server      string
	poll        string
	model       string
	file        string
	concurrency int
	repeat      int
	tolerance   float64
	minAccuracy float64
}

// row is one line of heldout.jsonl.
type row struct {
	Input         json.RawMessage `json:"input"`
	Label         int             `json:"label"`
	Probabilities []float64       `json:"probabilities"`
}

type output struct {
	Name string    `json:"name"`
	Data []float64 `json:"data"`
}

// jobView is what the API answers of a job.
type jobView struct {
	ID      string          `json:"id"`
	Status  string          `json:"status"`
	Outputs []output        `json:"outputs"`
	Error   json.RawMessage `json:"error"`
}

func main() {
	var o options
	flag.StringVar(&o.server, "server", "http://127.0.0.1:8080", "`URL` to submit to")
	flag.StringVar(&o.poll, "poll", "", "`URL` to fetch results from (default: the same)")
	flag.StringVar(&o.model, "model", "digits", "model to ask")
	flag.StringVar(&o.file, "file", "examples/models/digits/heldout.jsonl", "held-out rows, a JSON object a line")
	flag.IntVar(&o.concurrency, "concurrency", 8, "jobs in flight")
	flag.IntVar(&o.repeat, "repeat", 1, "how many times to send all rows")
	flag.Float64Var(&o.tolerance, "tolerance", 1e-5, "largest difference from the direct run")
	flag.Float64Var(&o.minAccuracy, "min-accuracy", 0, "least share of right answers")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "heldout:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, stdout io.Writer) error {
	rows, err := read(o.file)
	if err != nil {
		return err
	}
	if o.poll == "" {
		o.poll = o.server
	}
	o.server, o.poll = strings.TrimSuffix(o.server, "/"), strings.TrimSuffix(o.poll, "/")

	n := len(rows) * o.repeat
	differences := make([]float64, n)
	right := make([]bool, n)
	client := &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: o.concurrency},
		Timeout:   time.Minute,
	}
	started := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(o.concurrency)
	for i := range n {
		group.Go(func() error {
			want := rows[i%len(rows)]
			got, err := ask(ctx, client, &o, want.Input)
			if err != nil {
				return fmt.Errorf("row %d: %w", i%len(rows), err)
			}
			differences[i], err = difference(got, want.Probabilities)
			if err != nil {
				return fmt.Errorf("row %d: %w", i%len(rows), err)
			}
			right[i] = slices.Index(got, slices.Max(got)) == want.Label
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}

	correct := 0
	for _, ok := range right {
		if ok {
			correct++
		}
	}
	accuracy, worst := float64(correct)/float64(n), slices.Max(differences)
	if _, err := fmt.Fprintf(stdout, "%s: %d jobs in %.2f s, accuracy %.4f (%d of %d), largest difference from a direct run %.2g\n",
		o.model, n, time.Since(started).Seconds(), accuracy, correct, n, worst); err != nil {
		return err
	}
	if worst > o.tolerance {
		return fmt.Errorf("an answer differs from the direct run by %.3g, more than %g", worst, o.tolerance)
	}
	if accuracy < o.minAccuracy {
		return fmt.Errorf("the accuracy is %.4f, less than %g", accuracy, o.minAccuracy)
	}
	return nil
}

func read(file string) ([]row, error) {
	f, err := os.Open(file) //nolint:gosec // the user names the file
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	var rows []row
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r row
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", file, len(rows)+1, err)
		}
		rows = append(rows, r)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s has no rows", file)
	}
	return rows, nil
}

// ask submits one row and waits for its probabilities.
func ask(ctx context.Context, client *http.Client, o *options, input json.RawMessage) ([]float64, error) {
	body, err := json.Marshal(map[string]json.RawMessage{"input": input})
	if err != nil {
		return nil, err
	}
	job, err := call(ctx, client, http.MethodPost, o.server+"/v1/models/"+o.model+"/jobs", body)
	if err != nil {
		return nil, err
	}
	id := job.ID
	for job.Status == "queued" || job.Status == "running" {
		job, err = call(ctx, client, http.MethodGet, o.poll+"/v1/jobs/"+id+"?wait=20s", nil)
		if err != nil {
			return nil, err
		}
	}
	if job.Status != "succeeded" {
		return nil, fmt.Errorf("job %s: %s: %s", id, job.Status, job.Error)
	}
	for _, out := range job.Outputs {
		if out.Name == "probabilities" && len(out.Data) > 0 {
			return out.Data, nil
		}
	}
	return nil, fmt.Errorf("job %s: there is no output named probabilities", id)
}

func call(ctx context.Context, client *http.Client, method, url string, body []byte) (*jobView, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, url, err)
	}
	if response.StatusCode >= http.StatusBadRequest {
		return nil, fmt.Errorf("%s %s: %s: %s", method, url, response.Status, answer)
	}
	var job jobView
	if err := json.Unmarshal(answer, &job); err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, url, err)
	}
	return &job, nil
}

// difference is the largest distance between an element of got and the same element of want.
func difference(got, want []float64) (float64, error) {
	if len(got) != len(want) {
		return 0, fmt.Errorf("%d probabilities came back, %d were expected", len(got), len(want))
	}
	worst := 0.0
	for i := range got {
		worst = max(worst, math.Abs(got[i]-want[i]))
	}
	return worst, nil
}
