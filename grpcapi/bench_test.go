package grpcapi_test

import (
	"context"
	"strconv"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sheafml/sheaf/grpcapi"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/inferencepb"
	"github.com/sheafml/sheaf/job/proto/sheafpb"
)

// BenchmarkModelInfer measures what ModelInfer costs apart from the connection and the queue: bytes to job, result to
// bytes.
func BenchmarkModelInfer(b *testing.B) {
	for _, rows := range []int{1, 1000} {
		b.Run(strconv.Itoa(rows), func(b *testing.B) {
			api, body := offline(b), wire(b, digits(rows))
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, code := api.InferBytes(context.Background(), body); code != codes.OK {
					b.Fatal(code)
				}
			}
		})
	}
}

// BenchmarkModelInferGenerated is the decoding of BenchmarkModelInfer by generated code alone, to compare with.
func BenchmarkModelInferGenerated(b *testing.B) {
	for _, rows := range []int{1, 1000} {
		b.Run(strconv.Itoa(rows), func(b *testing.B) {
			body := wire(b, digits(rows))
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := proto.Unmarshal(body, new(inferencepb.ModelInferRequest)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkModelInferHand is the decoding of BenchmarkModelInfer alone.
func BenchmarkModelInferHand(b *testing.B) {
	for _, rows := range []int{1, 1000} {
		b.Run(strconv.Itoa(rows), func(b *testing.B) {
			body := wire(b, digits(rows))
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				var j job.Job
				if _, err := job.DecodeRequestGRPC(append([]byte(nil), body...), &j, job.DefaultLimits(), nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSubmit measures what Submit costs apart from the connection and the queue.
func BenchmarkSubmit(b *testing.B) {
	api, body := offline(b), wire(b, &sheafpb.SubmitRequest{Request: digits(1)})
	b.ReportAllocs()
	for b.Loop() {
		if _, code := api.SubmitBytes(context.Background(), body); code != codes.OK {
			b.Fatal(code)
		}
	}
}

// connected is a rig whose jobs are answered at once.
func connected(b *testing.B) *rig {
	b.Helper()
	return newRig(b, func(s *settings) {
		s.wrap = func(grpcapi.Jobs) grpcapi.Jobs { return &instant{models: catalog()} }
	})
}

// BenchmarkCall measures calls over a connection in memory, client and server together, many at the same time.
func BenchmarkCall(b *testing.B) {
	r := connected(b)
	for _, c := range []struct {
		method string
		q      proto.Message
		answer func() proto.Message
	}{
		{inferMethod, digits(1), func() proto.Message { return new(inferencepb.ModelInferResponse) }},
		{submitMethod, &sheafpb.SubmitRequest{Request: digits(1)}, func() proto.Message { return new(sheafpb.JobStatus) }},
	} {
		b.Run(c.method[1:], func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(64)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := r.conn.Invoke(context.Background(), c.method, c.q, c.answer()); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

// BenchmarkBulkSubmit measures a job of a stream, client and server together.
func BenchmarkBulkSubmit(b *testing.B) {
	r := newRig(b, nil)
	s := r.open(context.Background(), b, bulkMethod)
	b.ReportAllocs()
	q, n := &sheafpb.SubmitRequest{Request: digits(1)}, 0
	done := make(chan int)
	go func() {
		got := 0
		for s.RecvMsg(new(sheafpb.BulkReply)) == nil {
			got++
		}
		done <- got
	}()
	for b.Loop() {
		send(b, s, q)
		n++
	}
	_ = s.CloseSend()
	if got := <-done; got != n {
		b.Errorf("%d answers to %d requests", got, n)
	}
}

var _ grpcapi.Jobs = (*instant)(nil)
