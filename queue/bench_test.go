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

func benchQueue(b *testing.B, shares int) *queue.Queue {
	b.Helper()
	cfg := testConfig(testserver.NATSProcess(b))
	cfg.TenantShares = shares
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

// forShares runs a benchmark with one share of the tenants, and with as many as there are by default.
func forShares(b *testing.B, bench func(b *testing.B, q *queue.Queue)) {
	b.Helper()
	for _, shares := range []int{1, queue.DefaultConfig().TenantShares} {
		b.Run(strconv.Itoa(shares)+" shares", func(b *testing.B) { bench(b, benchQueue(b, shares)) })
	}
}

// One operation is one job, 64 of them to a message.
func BenchmarkPublishSheaf(b *testing.B) {
	forShares(b, func(b *testing.B, q *queue.Queue) {
		b.Helper()
		sources(b, q, job.Interactive, "digits")
		jobs := newJobs(b, 4096, row)
		b.ResetTimer()
		for done := 0; done < b.N; done += len(jobs) {
			if _, err := q.PublishSheaf(b.Context(), jobs[:min(len(jobs), b.N-done)]); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
	})
}

// One operation is one job, published by one of many callers at once.
func BenchmarkPublishFromManyCallers(b *testing.B) {
	for _, callers := range []int{1, 16, 256} {
		b.Run(strconv.Itoa(callers)+" callers", func(b *testing.B) {
			q := benchQueue(b, queue.DefaultConfig().TenantShares)
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

// One operation is one message of one job, published by one of many callers.
func BenchmarkPublishAlone(b *testing.B) {
	forShares(b, func(b *testing.B, q *queue.Queue) {
		b.Helper()
		sources(b, q, job.Interactive, "digits")
		b.ResetTimer()
		publishAlone(b, q, 1)
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	})
}

// One operation is one message of one job, fetched and acknowledged.
func BenchmarkFetchAndAck(b *testing.B) {
	forShares(b, func(b *testing.B, q *queue.Queue) {
		b.Helper()
		s := source(b, q, job.Interactive, "digits")
		publishAlone(b, q, 1)
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
	})
}

// One operation is one message of one job, fetched and acknowledged; there are twice as many tenants as shares, whose
// messages lie mixed in the stream.
func BenchmarkFetchAndAckOfManyTenants(b *testing.B) {
	forShares(b, func(b *testing.B, q *queue.Queue) {
		b.Helper()
		all := sources(b, q, job.Interactive, "digits")
		publishAlone(b, q, 16)
		b.ResetTimer()
		var done atomic.Int64
		var wg sync.WaitGroup
		for _, s := range all {
			wg.Go(func() {
				for done.Load() < int64(b.N) {
					n, err := s.Fetch(b.Context(), 512, 0, func(d *queue.Delivery) {
						if err := d.Ack(); err != nil {
							b.Error(err)
						}
					})
					if err != nil {
						b.Error(err)
						return
					}
					if done.Add(int64(n)); n == 0 {
						return
					}
				}
			})
		}
		wg.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	})
}

// publishAlone publishes b.N messages of one job, of so many tenants in turn.
func publishAlone(b *testing.B, q *queue.Queue, tenants int64) {
	b.Helper()
	one := newJob(b, row)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 256 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				j := *one
				if tenants > 1 {
					j.Tenant = "tenant-" + strconv.FormatInt(i%tenants, 10)
				}
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
}
