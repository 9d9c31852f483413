package grpcapi_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sheafml/sheaf/job/proto/sheafpb"
)

// What cannot be decoded is the client's fault.
func TestMalformedMessages(t *testing.T) {
	r := newRig(t, nil)
	for name, m := range reflected(t, r) {
		if !strings.HasPrefix(name, "/inference") && !strings.HasPrefix(name, "/sheaf") || m.Input().Fields().Len() == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		s := r.open(ctx, t, name)
		send(t, s, garbage())
		_ = s.CloseSend()
		switch a := dynamicpb.NewMessage(m.Output()); {
		case m.IsStreamingClient():
			if err := s.RecvMsg(a); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		default:
			problemOf(t, s.RecvMsg(a)).want(t, codes.InvalidArgument, "malformed")
		}
		cancel()
	}
}

// A message in gzip is unpacked, and bounded by its unpacked size.
func TestCompressedMessages(t *testing.T) {
	q := digits(1000)
	size := proto.Size(q)
	r := newRig(t, func(s *settings) {
		s.dial = append(s.dial, grpc.WithDefaultCallOptions(grpc.UseCompressor(gzip.Name)))
		s.api.MaxMessageBytes = size
	})
	r.work(t, digitsResult)
	if _, err := r.infer(t, q); err != nil {
		t.Error(err)
	}
	q.Id = strings.Repeat("x", 64<<20) // some 64 KiB on the wire
	if _, err := r.infer(t, q); statusCode(err) != codes.ResourceExhausted {
		t.Errorf("a bomb: %v", err)
	}
}

// Any other way to compress is refused before anything is unpacked.
func TestMessagesThatAreCompressedOtherwise(t *testing.T) {
	r := newRig(t, func(s *settings) {
		//nolint:staticcheck // a compressor that is registered would be known to the server in this process, too
		s.dial = append(s.dial, grpc.WithCompressor(other{grpc.NewGZIPCompressor()}))
	})
	if _, err := r.infer(t, digits(1)); statusCode(err) != codes.Unimplemented {
		t.Errorf("%v", err)
	}
}

// other is a compressor of a name that nobody knows.
type other struct{ grpc.Compressor }

func (other) Type() string { return "other" }

// Who does not send the message of a call is not waited for; who has sent it, is.
func TestSlowMessage(t *testing.T) {
	r := newRig(t, func(s *settings) {
		s.api.MessageTimeout, s.api.InferTimeout = 500*time.Millisecond, time.Second
	})
	var silent sync.WaitGroup
	for _, method := range []string{inferMethod, getMethod, watchMethod} {
		s := r.open(t.Context(), t, method)
		silent.Go(func() {
			if err := s.RecvMsg(&emptypb.Empty{}); statusCode(err) != codes.Canceled {
				t.Errorf("%s: %v", method, err)
			}
		})
	}
	silent.Wait()
	v, err := call[sheafpb.JobStatus](t, r, submitMethod, &sheafpb.SubmitRequest{Request: digits(1)})
	if err != nil {
		t.Fatal(err)
	}
	watch := r.open(t.Context(), t, watchMethod)
	ask(t, watch, &sheafpb.WatchRequest{Ids: []string{v.GetId()}})
	if err := watch.RecvMsg(v); err != nil {
		t.Error(err)
	}
	_, err = r.infer(t, digits(1))
	problemOf(t, err).want(t, codes.DeadlineExceeded, "timeout")
	if _, err := call[sheafpb.JobStatus](t, r, cancelMethod, &sheafpb.CancelRequest{Id: v.GetId()}); err != nil {
		t.Fatal(err)
	}
	if err := watch.RecvMsg(v); err != nil || v.GetState() != sheafpb.JobState_JOB_STATE_CANCELED {
		t.Errorf("%v %v", v, err)
	}
}
