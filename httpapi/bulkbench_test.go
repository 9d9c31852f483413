package httpapi_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/queue"
)

// instant accepts everything at once.
type instant struct{}

func (instant) Publish(_ context.Context, j *job.Job) (job.Ticket, bool, error) {
	return job.Ticket{ID: j.ID, Seq: 1}, false, nil
}

func (instant) PublishSheaf(_ context.Context, jobs []*job.Job) ([]job.Ticket, error) {
	tickets := make([]job.Ticket, len(jobs))
	var b []byte
	for i, j := range jobs {
		b = job.AppendJob(b[:0], j)
		tickets[i] = job.Ticket{ID: j.ID, Lane: j.Lane, Seq: 123456, Index: i}
	}
	return tickets, nil
}

func (instant) Locate(context.Context, job.Ticket) (job.Location, error) {
	return job.Location{}, job.ErrNotFound
}

func (instant) Load(context.Context, job.Lane, string, string) (queue.Load, error) {
	return queue.Load{}, nil
}

// What a line of a bulk request with 64 numbers costs, without the queue.
func BenchmarkBulkLine(b *testing.B) {
	r := newRig(b, func(c *config, d *deps) {
		c.Streams.BulkMaxJobs = 1 << 30
		p, err := producer.New(instant{}, d.Models.(*model.Catalog), producer.DefaultConfig())
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = p.Close() })
		d.Submitter = p
	})
	r.models.Put(model.Info{
		Name: "pixels", Version: "1", Platform: model.PlatformONNX, MaxRows: 64,
		Signature: model.Signature{
			Inputs:    []model.TensorSpec{{Name: "x", Datatype: job.FP32, Shape: []int64{-1, 64}}},
			Outputs:   []model.TensorSpec{{Name: "probabilities", Datatype: job.FP32, Shape: []int64{-1, 10}}},
			Batchable: true,
		},
	})
	for name, number := range map[string]func() string{
		"integers": func() string { return fmt.Sprint(rand.N(17)) },
		"floats":   func() string { return fmt.Sprintf("%.4f", rand.Float64()) },
	} {
		b.Run(name, func(b *testing.B) {
			var numbers []string
			for range 64 {
				numbers = append(numbers, number())
			}
			text := []byte(`{"input":[` + strings.Join(numbers, ",") + "]}\n")
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			body := bytes.NewReader(bytes.Repeat(text, b.N))
			req, err := http.NewRequestWithContext(b.Context(), "POST", r.listen(b)+"/v1/models/pixels/bulk", body)
			if err != nil {
				b.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-ndjson")
			b.ResetTimer()
			resp, err := r.server.Client().Do(req)
			if err != nil {
				b.Fatal(err)
			}
			defer resp.Body.Close()
			var last tail
			if _, err := io.Copy(&last, resp.Body); err != nil {
				b.Fatal(err)
			}
			if want := fmt.Sprintf(`{"done":true,"accepted":%d,"refused":0}`, b.N); !strings.HasSuffix(strings.TrimSpace(string(last)), want) {
				b.Fatalf("the answer ends %s", last)
			}
		})
	}
}

// tail keeps the end of what is written.
type tail []byte

func (t *tail) Write(p []byte) (int, error) {
	*t = append(*t, p...)
	if len(*t) > 200 {
		*t = append((*t)[:0], (*t)[len(*t)-200:]...)
	}
	return len(p), nil
}
