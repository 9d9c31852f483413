package worker_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/worker"
)

// BenchmarkBacklog drains a backlog of digits through a real NATS, ONNX Runtime and Redis, for choosing defaults. The
// figures that Sheaf quotes come from make bench.
func BenchmarkBacklog(b *testing.B) {
	for _, settlers := range []int{0, 1, 2} {
		for _, instances := range []int{1, 2} {
			b.Run(fmt.Sprintf("settlers=%d/instances=%d", settlers, instances), func(b *testing.B) {
				q := connect(b, testserver.NATSProcess(b), nil)
				results := openRedis(b, testserver.Redis(b))
				row := make([]float32, 64)
				if err := q.EnsureConsumer(b.Context(), job.Interactive, "digits"); err != nil {
					b.Fatal(err)
				}
				jobs := make([]*job.Job, b.N)
				for i := range jobs {
					jobs[i] = digitJob(b, row)
				}
				for sent := 0; sent < len(jobs); sent += 16 {
					publish(b, q, jobs[sent:min(sent+16, len(jobs))])
				}
				var done atomic.Int64
				stop, err := q.OnDone(func(ids []job.ID) { done.Add(int64(len(ids))) })
				if err != nil {
					b.Fatal(err)
				}
				defer stop()
				cfg := worker.DefaultConfig()
				cfg.Settlers = settlers
				m := digits(b, instances)
				b.ResetTimer()
				begin := time.Now()
				p := run(b, cfg, q, results, m)
				eventually(b, "everything is settled", func() bool { return done.Load() == int64(b.N) })
				b.ReportMetric(float64(b.N)/time.Since(begin).Seconds(), "jobs/s")
				b.StopTimer()
				if err := p.stop(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
