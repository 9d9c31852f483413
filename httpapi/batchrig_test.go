package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"mime/multipart"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sheafml/sheaf/backfill"
	"github.com/sheafml/sheaf/batch"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/httpapi"
	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// batchRig is a rig whose batches are kept by a real nats-server and run by a real batch.Service, through the gateway.
type batchRig struct {
	*rig
	service *batch.Service
	gate    chan struct{} // jobs whose row begins with 13 wait until it is closed
	open    func()
	begin   func() // has the service work on batches
}

// newBatchRig makes a rig and has it work on batches.
func newBatchRig(t testing.TB) *batchRig {
	t.Helper()
	r := newIdleBatchRig(t, nil, nil)
	r.begin()
	return r
}

// newIdleBatchRig makes a rig that works on batches when it is told to. limit and change adjust its settings.
func newIdleBatchRig(t testing.TB, limit func(*batch.Config), change func(*config, *deps)) *batchRig {
	t.Helper()
	qc := queue.DefaultConfig()
	qc.URL = testserver.NATS(t)
	q, err := queue.Connect(t.Context(), qc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	cfg := batch.DefaultConfig()
	cfg.StoreBytes, cfg.CommitEvery, cfg.Lease = 64<<20, 10*time.Millisecond, time.Second
	b := &batchRig{gate: make(chan struct{})}
	b.open = sync.OnceFunc(func() { close(b.gate) })
	if limit != nil {
		limit(&cfg)
	}
	models := catalog()
	var jobs *gateway.Gateway
	b.service, err = batch.New(cfg, batch.Deps{
		Queue: q, Models: models, Webhooks: newHooks(),
		Jobs: func(c backfill.GatewayConfig) backfill.Jobs {
			c.Wait = 10 * time.Second
			return backfill.ThroughGateway(jobs, nil, c)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.rig = newRig(t, func(c *config, d *deps) {
		d.Batches = b.service
		if change != nil {
			change(c, d)
		}
	})
	jobs = b.jobs
	b.work(t, func(j job.Job) job.Result {
		if first := j.Inputs[0].Data; bytes.Equal(first[:4], fp32("x", []int64{1}, 13).Data) {
			<-b.gate
		}
		return digitsResult(j)
	})
	t.Cleanup(b.open)
	b.begin = func() {
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { _ = b.service.Run(ctx) })
		t.Cleanup(func() { b.open(); stop(); running.Wait() })
	}
	return b
}

// requestLines are n lines for digits; the one that is odd is bad, and the one that is gated waits for the gate.
func requestLines(n int, bad func(i int) bool, gated func(i int) bool) string {
	var b strings.Builder
	for i := range n {
		row := "[1,2,3,4]"
		if bad != nil && bad(i) {
			row = "[1,2,3]"
		}
		if gated != nil && gated(i) {
			row = "[13,2,3,4]"
		}
		fmt.Fprintf(&b, `{"custom_id":"row-%d","method":"POST","url":"/v1/models/digits/predict","body":{"input":%s}}`+"\n", i, row)
	}
	return b.String()
}

// form makes the body of a form out of names and texts; a name that ends with a file's is a file: "file=a.jsonl".
func form(t testing.TB, parts ...string) (body, media string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i+1 < len(parts); i += 2 {
		var part io.Writer
		var err error
		if name, file, ok := strings.Cut(parts[i], "="); ok {
			part, err = w.CreateFormFile(name, file)
		} else {
			part, err = w.CreateFormField(name)
		}
		if err == nil {
			_, err = io.WriteString(part, parts[i+1])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String(), w.FormDataContentType()
}

// upload uploads a file and returns its id.
func (r *batchRig) upload(t testing.TB, text string, header ...string) string {
	t.Helper()
	body, media := form(t, "purpose", "batch", "file=requests.jsonl", text)
	a := r.do(t, "POST", "/v1/files", body, append(header, "Content-Type", media)...)
	if a.status != 200 {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	return a.str("id")
}

// create makes a batch of a file and returns its id.
func (r *batchRig) create(t testing.TB, file, more string, header ...string) string {
	t.Helper()
	a := r.do(t, "POST", "/v1/batches", `{"input_file_id":"`+file+`","endpoint":"/v1/models/digits/predict","completion_window":"24h"`+more+`}`, header...)
	if a.status != 200 {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	return a.str("id")
}

// ended follows a batch to its end and returns it, with its answers.
func (r *batchRig) ended(t testing.TB, id string) (b reply, results string) {
	t.Helper()
	results = r.do(t, "GET", "/v1/batches/"+id+"/results?follow=true", "").body
	return r.do(t, "GET", "/v1/batches/"+id, ""), results
}

// customIDs are those of lines, in order of the text.
func customIDs(t testing.TB, lines string) (ids []string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		var l struct {
			CustomID string `json:"custom_id"`
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		ids = append(ids, l.CustomID)
	}
	return ids
}

// noBatches is a service that has nothing and takes nothing.
type noBatches struct{}

var _ httpapi.Batches = noBatches{}

func (noBatches) PutFile(context.Context, string, string, string, io.Reader) (batch.File, error) {
	return batch.File{}, job.Invalidf("file", "nothing is kept here")
}

func (noBatches) File(context.Context, string, string) (batch.File, error) {
	return batch.File{}, job.ErrNotFound
}

func (noBatches) Files(context.Context, string, string, int) ([]batch.File, bool, error) {
	return nil, false, nil
}

func (noBatches) OpenFile(context.Context, string, string) (io.ReadCloser, batch.File, error) {
	return nil, batch.File{}, job.ErrNotFound
}
func (noBatches) DeleteFile(context.Context, string, string) error { return job.ErrNotFound }

func (noBatches) Create(context.Context, string, batch.Spec, batch.Once) (batch.Batch, error) {
	return batch.Batch{}, job.Invalidf("input_file_id", "there is none")
}

func (noBatches) Get(context.Context, string, string) (batch.Batch, error) {
	return batch.Batch{}, job.ErrNotFound
}

func (noBatches) List(context.Context, string, string, int) ([]batch.Batch, bool, error) {
	return nil, false, nil
}

func (noBatches) Cancel(context.Context, string, string) (batch.Batch, error) {
	return batch.Batch{}, job.ErrNotFound
}

func (noBatches) Pause(context.Context, string, string) (batch.Batch, error) {
	return batch.Batch{}, job.ErrNotFound
}

func (noBatches) Resume(context.Context, string, string) (batch.Batch, error) {
	return batch.Batch{}, job.ErrNotFound
}

func (noBatches) Follow(context.Context, string, string, batch.Output, int64) iter.Seq2[batch.Lines, error] {
	return func(yield func(batch.Lines, error) bool) { yield(batch.Lines{}, job.ErrNotFound) }
}
