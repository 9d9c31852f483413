package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/sheafml/sheaf/job/proto/inferencepb"
	"github.com/sheafml/sheaf/job/proto/sheafpb"
)

// prepare writes every request beforehand.
func (o *inFlight) prepare() error {
	var submits, predicts, infers, grpcSubmits [][]byte
	for i := range o.load.samples {
		s := &o.load.samples[i]
		body, err := json.Marshal(map[string][]float32{"input": floats(s.inputs[0].Data)})
		if err != nil {
			return err
		}
		submits = append(submits, prepareRequest("/v1/models/"+o.load.model+"/jobs", body))
		predicts = append(predicts, prepareRequest("/v1/models/"+o.load.model+"/predict", body))
		in := &s.inputs[0]
		q := &inferencepb.ModelInferRequest{
			ModelName:        o.load.model,
			Inputs:           []*inferencepb.ModelInferRequest_InferInputTensor{{Name: in.Name, Datatype: in.Datatype.String(), Shape: in.Shape}},
			RawInputContents: [][]byte{in.Data},
		}
		infer, err := proto.Marshal(q)
		if err != nil {
			return err
		}
		submit, err := proto.Marshal(&sheafpb.SubmitRequest{Request: q})
		if err != nil {
			return err
		}
		infers, grpcSubmits = append(infers, infer), append(grpcSubmits, submit)
	}
	o.ways = []way{
		{wayHTTPSubmit, o.overRaw(submits, func(accepted *tickets, i, status int, body []byte) error { return accepted.take(i, status, body) })},
		{wayGRPCSubmit, o.overGRPC("/sheaf.v1.Jobs/Submit", grpcSubmits, takeStatus)},
		{wayBulk, o.overStream(grpcSubmits)},
		{wayPredict, o.overRaw(predicts, func(_ *tickets, i, status int, body []byte) error { return o.over.rightPrediction(i, status, body) })},
		{wayInfer, o.overGRPC("/inference.GRPCInferenceService/ModelInfer", infers, o.rightInfer)},
	}
	return nil
}

// Names of the ways; the first three submit, the others wait for the result.
const (
	wayHTTPSubmit = "HTTP submit"
	wayGRPCSubmit = "gRPC Submit"
	wayBulk       = "gRPC BulkSubmit"
	wayPredict    = "HTTP predict"
	wayInfer      = "gRPC ModelInfer"
)

func (o *inFlight) rightInfer(_ *tickets, i int, body []byte) error {
	var answer inferencepb.ModelInferResponse
	if err := proto.Unmarshal(body, &answer); err != nil {
		return err
	}
	if len(answer.GetRawOutputContents()) != 1 {
		return fmt.Errorf("expected one output, got %d", len(answer.GetRawOutputContents()))
	}
	return compare(answer.GetRawOutputContents()[0], o.load.at(i).expected, o.load.tolerance)
}

func takeStatus(accepted *tickets, i int, body []byte) error {
	var answer sheafpb.JobStatus
	if err := proto.Unmarshal(body, &answer); err != nil {
		return err
	}
	return accepted.add(i, answer.GetId())
}

// overRaw asks over HTTP, with a connection for each worker.
func (o *inFlight) overRaw(requests [][]byte, check func(accepted *tickets, i, status int, body []byte) error) func(context.Context, int, *tickets) (func(int, int) error, func(), error) {
	return func(ctx context.Context, n int, accepted *tickets) (func(int, int) error, func(), error) {
		clients := make([]*rawClient, 0, n)
		end := func() {
			for _, c := range clients {
				c.close()
			}
		}
		for range n {
			c, err := dialRaw(ctx, o.lab.apiAddr)
			if err != nil {
				end()
				return nil, nil, err
			}
			clients = append(clients, c)
		}
		return func(worker, i int) error {
			status, body, err := clients[worker].do(requests[i])
			if err != nil {
				return err
			}
			return check(accepted, i, status, body)
		}, end, nil
	}
}

// rawCodec sends and receives messages as the bytes that they are: what the client spends on them is not what is measured.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) ([]byte, error) {
	if b, ok := v.(*[]byte); ok {
		return *b, nil
	}
	return nil, errors.New("expected bytes")
}

func (rawCodec) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return errors.New("expected bytes")
	}
	*b = append((*b)[:0], data...)
	return nil
}

func (o *inFlight) dial(n int) ([]*grpc.ClientConn, func(), error) {
	var list []*grpc.ClientConn
	end := func() {
		for _, c := range list {
			_ = c.Close()
		}
	}
	for range min(n, o.connections) {
		c, err := grpc.NewClient("passthrough:///"+o.addr, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{})))
		if err != nil {
			end()
			return nil, nil, err
		}
		list = append(list, c)
	}
	return list, end, nil
}

// overGRPC asks by unary calls, the workers sharing the connections.
func (o *inFlight) overGRPC(method string, requests [][]byte, check func(accepted *tickets, i int, body []byte) error) func(context.Context, int, *tickets) (func(int, int) error, func(), error) {
	return func(ctx context.Context, n int, accepted *tickets) (func(int, int) error, func(), error) {
		conns, end, err := o.dial(n)
		if err != nil {
			return nil, nil, err
		}
		return func(worker, i int) error {
			var answer []byte
			if err := conns[worker%len(conns)].Invoke(ctx, method, &requests[i], &answer); err != nil {
				return err
			}
			return check(accepted, i, answer)
		}, end, nil
	}
}

// overStream asks by one BulkSubmit for each connection.
func (o *inFlight) overStream(requests [][]byte) func(context.Context, int, *tickets) (func(int, int) error, func(), error) {
	return func(ctx context.Context, n int, accepted *tickets) (func(int, int) error, func(), error) {
		conns, hangUp, err := o.dial(n)
		if err != nil {
			return nil, nil, err
		}
		var list []*bulkStream
		end := func() {
			for _, s := range list {
				s.close()
			}
			hangUp()
		}
		for _, c := range conns {
			s, err := openBulkStream(ctx, c)
			if err != nil {
				end()
				return nil, nil, err
			}
			list = append(list, s)
		}
		return func(worker, i int) error {
			answer, err := list[worker%len(list)].ask(requests[i])
			if err != nil {
				return err
			}
			return accepted.add(i, answer.GetId())
		}, end, nil
	}
}

// bulkStream is one BulkSubmit, used by several workers.
type bulkStream struct {
	stream  grpc.ClientStream
	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan *sheafpb.BulkReply
	err     error
	read    chan struct{} // closed at its end
}

func openBulkStream(ctx context.Context, c *grpc.ClientConn) (*bulkStream, error) {
	stream, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/sheaf.v1.Jobs/BulkSubmit")
	if err != nil {
		return nil, err
	}
	s := &bulkStream{stream: stream, waiting: map[uint64]chan *sheafpb.BulkReply{}, read: make(chan struct{})}
	go s.receive()
	return s, nil
}

func (s *bulkStream) receive() {
	defer close(s.read)
	for {
		var b []byte
		answer := new(sheafpb.BulkReply)
		err := s.stream.RecvMsg(&b)
		if err == nil {
			err = proto.Unmarshal(b, answer)
		}
		s.mu.Lock()
		if err != nil {
			s.err = err
			s.mu.Unlock()
			return
		}
		to := s.waiting[answer.GetIndex()]
		delete(s.waiting, answer.GetIndex())
		s.mu.Unlock()
		if to != nil {
			to <- answer
		}
	}
}

// ask sends one request and waits for its answer.
func (s *bulkStream) ask(request []byte) (*sheafpb.BulkReply, error) {
	mine := make(chan *sheafpb.BulkReply, 1)
	s.mu.Lock()
	s.waiting[s.next] = mine
	s.next++
	err := s.stream.SendMsg(&request)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case answer := <-mine:
		if e := answer.GetError(); e != nil {
			return nil, fmt.Errorf("refused: %s", e.GetDetail())
		}
		return answer, nil
	case <-s.read:
		return nil, fmt.Errorf("the stream ended: %w", s.err)
	}
}

// close ends the stream. Nothing is in flight then.
func (s *bulkStream) close() {
	_ = s.stream.CloseSend()
	<-s.read
}
