package queue_test

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

func benchQueue(b *testing.B) *queue.Queue {
	b.Helper()
	cfg := testConfig(testserver.NATSProcess(b))
	cfg.Interactive.MaxMsgs, cfg.Interactive.MaxMsgsPerSubject = -1, -1
	q := connect(b, cfg)
	if err := q.EnsureStreams(b.Context()); err != nil {
		b.Fatal(err)
	}
	return q
}

// row makes a job of one row of the digits model.
func row(j *job.Job) {
	j.Inputs = []job.Tensor{{Name: "x", Datatype: job.FP32, Shape: []int64{1, 64}, Data: make([]byte, 256)}}
}

// One operation is one job, 64 of them to a message.
func BenchmarkPublishSheaf(b *testing.B) {
	q := benchQueue(b)
	jobs := newJobs(b, 4096, row)
	b.ResetTimer()
	for done := 0; done < b.N; done += len(jobs) {
		if _, err := q.PublishSheaf(b.Context(), jobs[:min(len(jobs), b.N-done)]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
}

// One operation is one job, published by one of many callers at once.
func BenchmarkPublishFromManyCallers(b *testing.B) {
	for _, callers := range []int{1, 16, 256} {
		b.Run(strconv.Itoa(callers)+" callers", func(b *testing.B) {
			q := benchQueue(b)
			jobs := newJobs(b, 4096, row)
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range callers {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						j := *jobs[i%4096]
						j.ID, _ = job.NewID()
						if _, _, err := q.Publish(b.Context(), &j); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

// One operation is one message of one job, fetched and acknowledged.
func BenchmarkFetchAndAck(b *testing.B) {
	q := benchQueue(b)
	s := source(b, q, job.Interactive, "digits")
	jobs := newJobs(b, 1, row)
	var wg sync.WaitGroup
	left := make(chan struct{}, b.N)
	for range b.N {
		left <- struct{}{}
	}
	close(left)
	for range 256 {
		wg.Go(func() {
			for range left {
				j := *jobs[0]
				j.ID, _ = job.NewID()
				j.Idempotent = true // alone in its message
				if _, _, err := q.Publish(b.Context(), &j); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ResetTimer()
	b.ReportAllocs()
	for done := 0; done < b.N; {
		n, err := s.Fetch(b.Context(), min(512, b.N-done), time.Second, func(d *queue.Delivery) {
			if err := d.Ack(); err != nil {
				b.Error(err)
			}
		})
		if err != nil {
			b.Fatal(err)
		}
		done += n
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
