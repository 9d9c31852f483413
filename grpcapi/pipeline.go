package grpcapi

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sheafml/sheaf/job/proto/inferencepb"
)

// pipeline answers each message of a client's stream with one, in their order. At most MaxInHand are worked on at the
// same time; as long as there are as many no more are read, and flow control stops the client. handle must not panic,
// and end soon once the context has ended.
//
// When the server goes down what has been read is answered, and the stream ends as unavailable.
func (a *API) pipeline(ctx context.Context, s *callStream, handle func(i uint64, body []byte) any) error {
	answers := make(chan chan any, a.cfg.MaxInHand-1) // in the order of the messages; one more is in the hand of the loop below
	broken := make(chan error, 1)
	var crew crew
	defer crew.dismiss()
	read := func(i uint64) bool {
		f := new(frame)
		if err := s.RecvMsg(f); err != nil {
			if !errors.Is(err, io.EOF) {
				broken <- err
			}
			return false
		}
		answer := make(chan any, 1)
		select {
		case answers <- answer:
		case <-ctx.Done():
			return false
		}
		s.idle.begin()
		return crew.work(func() {
			defer s.idle.end()
			answer <- handle(i, f.b)
		})
	}
	// The reader is not waited for: only the end of the call ends its RecvMsg.
	go func() {
		defer close(answers)
		for i := uint64(0); !a.isClosing() && read(i); i++ {
		}
	}()
	for {
		select {
		case answer, more := <-answers:
			if !more {
				return a.endOf(broken)
			}
			if err := s.SendMsg(<-answer); err != nil {
				return err
			}
		case <-s.idle.over:
			return s.idle.problem()
		case <-a.closing:
			return a.drain(s, answers)
		}
	}
}

// crew are goroutines that are waited for, and that others may still want to start then.
type crew struct {
	mu        sync.Mutex
	dismissed bool
	working   sync.WaitGroup
}

// work starts one more, false if it is too late.
func (c *crew) work(fn func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.dismissed {
		c.working.Go(fn)
	}
	return !c.dismissed
}

// dismiss waits for all of them.
func (c *crew) dismiss() {
	c.mu.Lock()
	c.dismissed = true
	c.mu.Unlock()
	c.working.Wait()
}

// drain answers what has been read.
func (a *API) drain(s grpc.ServerStream, answers <-chan chan any) error {
	for {
		select {
		case answer, more := <-answers:
			if !more {
				return errGoingDown()
			}
			if err := s.SendMsg(<-answer); err != nil {
				return err
			}
		default:
			return errGoingDown()
		}
	}
}

// endOf says how a stream ends that has been read to its end.
func (a *API) endOf(broken <-chan error) error {
	select {
	case err := <-broken:
		return err
	default:
		if a.isClosing() {
			return errGoingDown()
		}
		return nil
	}
}

func (a *API) isClosing() bool {
	select {
	case <-a.closing:
		return true
	default:
		return false
	}
}

// safely makes one answer within a stream, with an answer for panics too, and counts it. err is what made the answer an
// error; answering an error must not fail.
func (a *API) safely(ctx context.Context, method string, work func() error, fail func(err error)) {
	var err error
	defer func() {
		if v := recover(); v != nil {
			err = a.panicked(ctx, method, v)
		}
		code := a.statusOf(ctx, err).Code()
		a.metrics.streamed.WithLabelValues(method, code.String()).Inc()
		if err != nil {
			a.report(ctx, method, code, err)
			fail(err)
		}
	}()
	err = work()
}

// Field number of inference.ModelStreamInferResponse.
const streamResponse = 2

// modelStreamInfer answers ModelStreamInfer: each request as ModelInfer would be, errors within the stream.
func (a *API) modelStreamInfer(s *callStream) error {
	ctx, method := s.Context(), "/"+inferenceService+"/ModelStreamInfer"
	return a.pipeline(ctx, s, func(i uint64, body []byte) (answer any) {
		var q *inference
		a.safely(ctx, method, func() error {
			read, v, err := a.infer(ctx, body, "/"+strconv.FormatUint(i, 10))
			if q = read; err != nil {
				return err
			}
			switch m := q.answer(v).(type) {
			case *frame:
				answer = &frame{protowire.AppendBytes(protowire.AppendTag(make([]byte, 0, len(m.b)+12), streamResponse, protowire.BytesType), m.b)}
			case *inferencepb.ModelInferResponse:
				answer = &inferencepb.ModelStreamInferResponse{InferResponse: m}
			}
			return nil
		}, func(err error) {
			m := &inferencepb.ModelStreamInferResponse{ErrorMessage: a.statusOf(ctx, err).Message(), InferResponse: &inferencepb.ModelInferResponse{}}
			if q != nil {
				m.InferResponse.ModelName, m.InferResponse.Id = q.Request.Model, q.Request.RequestID
			}
			answer = m
		})
		return answer
	})
}
