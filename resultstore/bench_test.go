package resultstore_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/resultstore"
)

// BenchmarkFinish writes batches of fresh records of 150 bytes to a real Redis, one batch after another.
func BenchmarkFinish(b *testing.B) {
	for _, size := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("records=%d", size), func(b *testing.B) {
			cfg := resultstore.DefaultConfig()
			cfg.URL = "redis://" + testserver.Redis(b)
			benchmarkFinish(b, cfg, size)
		})
	}
}

// BenchmarkFinishReplicated does the same on a Redis with a replica, with and without waiting for it.
func BenchmarkFinishReplicated(b *testing.B) {
	for _, size := range []int{1, 16, 64, 256} {
		for _, replicas := range []int{0, 1} {
			b.Run(fmt.Sprintf("records=%d/wait=%d", size, replicas), func(b *testing.B) {
				primary := testserver.StartRedis(b, testserver.RedisOptions{})
				testserver.StartRedisReplica(b, primary)
				cfg := resultstore.DefaultConfig()
				cfg.URL, cfg.WaitReplicas = "redis://"+primary.Addr, replicas
				benchmarkFinish(b, cfg, size)
			})
		}
	}
}

func benchmarkFinish(b *testing.B, cfg resultstore.Config, size int) {
	b.Helper()
	s, err := resultstore.OpenRedis(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	entries := make([]resultstore.Entry, size)
	for i := range entries {
		entries[i].Record = make([]byte, 150)
	}
	id := job.ID{}
	n := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		for i := range entries {
			n++
			binary.BigEndian.PutUint64(id[8:], n)
			entries[i].ID = id
		}
		outcomes, err := s.Finish(b.Context(), entries)
		if err != nil || !outcomes[size-1].Won {
			b.Fatalf("%+v, %v", outcomes[size-1], err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/record")
}

func BenchmarkPing(b *testing.B) {
	cfg := resultstore.DefaultConfig()
	cfg.URL = "redis://" + testserver.Redis(b)
	s, err := resultstore.OpenRedis(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for b.Loop() {
		if err := s.Ping(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
