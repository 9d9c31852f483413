package job_test

import (
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
)

// oneRowJobs returns jobs as a web app submits them: one row of 64 FP32.
func oneRowJobs(tb testing.TB, n int) []job.Job {
	tb.Helper()
	jobs := make([]job.Job, n)
	for i := range jobs {
		id, err := job.NewID()
		if err != nil {
			tb.Fatal(err)
		}
		jobs[i] = job.Job{
			ID: id, CreatedAt: time.UnixMilli(1_750_000_000_000).UTC(),
			Inputs: []job.Tensor{{Name: "x", Datatype: job.FP32, Shape: []int64{1, 64}, Data: make([]byte, 256)}},
		}
	}
	return jobs
}

func BenchmarkAppendJob(b *testing.B) {
	jobs := oneRowJobs(b, 64)
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = buf[:0]
		for i := range jobs {
			buf = job.AppendJob(buf, &jobs[i])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(jobs)), "ns/job")
}

func BenchmarkDecodeSheaf(b *testing.B) {
	jobs := oneRowJobs(b, 64)
	var buf []byte
	for i := range jobs {
		buf = job.AppendJob(buf, &jobs[i])
	}
	env := &job.Envelope{Tenant: "default", Model: "digits", Body: buf, Header: func(key string) string {
		if key == job.HeaderContentType {
			return job.ContentTypeSheaf
		}
		return ""
	}}
	b.ReportAllocs()
	for b.Loop() {
		if got, err := job.DecodeMessage(env, job.DefaultLimits()); err != nil || len(got) != len(jobs) {
			b.Fatal(err, len(got))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(jobs)), "ns/job")
}

func BenchmarkAppendRecord(b *testing.B) {
	r := benchResult()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = job.AppendRecord(buf[:0], r)
	}
}

func BenchmarkDecodeRecord(b *testing.B) {
	r := benchResult()
	buf := job.AppendRecord(nil, r)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := job.DecodeRecord(r.ID, buf); err != nil {
			b.Fatal(err)
		}
	}
}

func benchResult() *job.Result {
	now := time.UnixMilli(1_750_000_000_000).UTC()
	return &job.Result{
		ID: job.ID{1}, State: job.Succeeded, Tenant: "default", Model: "digits", Version: "1", Attempts: 1,
		Outputs:   []job.Tensor{{Name: "probabilities", Datatype: job.FP32, Shape: []int64{1, 10}, Data: make([]byte, 40)}},
		CreatedAt: now, FinishedAt: now.Add(time.Second), Token: 42,
		Timings: job.Timings{Queue: time.Millisecond, BatchWait: time.Millisecond, Infer: time.Millisecond, BatchRows: 64},
	}
}
