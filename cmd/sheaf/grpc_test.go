package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job/proto/inferencepb"
	"github.com/sheafml/sheaf/job/proto/sheafpb"
)

// dial connects to a gRPC API.
func dial(t testing.TB, addr string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// digitsRequest makes a request for one row of digits, raw or typed.
func digitsRequest(row []float64, typed bool) *inferencepb.ModelInferRequest {
	x := fp32("x", row)
	in := &inferencepb.ModelInferRequest_InferInputTensor{Name: x.Name, Datatype: x.Datatype.String(), Shape: x.Shape}
	q := &inferencepb.ModelInferRequest{ModelName: "digits", Inputs: []*inferencepb.ModelInferRequest_InferInputTensor{in}}
	if !typed {
		q.RawInputContents = [][]byte{x.Data}
		return q
	}
	in.Contents = &inferencepb.InferTensorContents{}
	for _, v := range row {
		in.Contents.Fp32Contents = append(in.Contents.Fp32Contents, float32(v))
	}
	return q
}

// The digits model answers over gRPC what a direct run of it does, raw and typed, asked or submitted, alone and in bulk.
func TestGRPC(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0")
	conn := dial(t, p.find(`gRPC +(\S+)`))
	p.find("Ctrl-C stops it")
	if h, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil || h.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health: %v %v", h, err)
	}
	rows := heldout(t, "digits")
	for i, row := range rows[:40] {
		var a inferencepb.ModelInferResponse
		if err := conn.Invoke(ctx, "/inference.GRPCInferenceService/ModelInfer", digitsRequest(row.Input, i%2 == 1), &a); err != nil {
			t.Fatal(err)
		}
		var got []float64
		if i%2 == 1 {
			for _, v := range a.GetOutputs()[0].GetContents().GetFp32Contents() {
				got = append(got, float64(v))
			}
		} else {
			got = floats(a.GetRawOutputContents()[0])
		}
		if err := sameProbabilities(got, row.Probabilities); err != nil {
			t.Errorf("row %d: %v", i, err)
		}
	}
	bulk, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/sheaf.v1.Jobs/BulkSubmit")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for _, row := range rows {
			_ = bulk.SendMsg(&sheafpb.SubmitRequest{Request: digitsRequest(row.Input, false)})
		}
		_ = bulk.CloseSend()
	}()
	ids := make([]string, len(rows)) // by the index of the request: answers may overtake each other
	for range rows {
		var a sheafpb.BulkReply
		if err := bulk.RecvMsg(&a); err != nil || a.GetError() != nil || a.GetIndex() >= uint64(len(ids)) {
			t.Fatalf("%v %v", &a, err)
		}
		ids[a.GetIndex()] = a.GetId()
	}
	for i, id := range ids {
		var s sheafpb.JobStatus
		if err := conn.Invoke(ctx, "/sheaf.v1.Jobs/Get", &sheafpb.GetRequest{Id: id, Wait: durationpb.New(patience)}, &s); err != nil {
			t.Fatal(err)
		}
		if err := sameProbabilities(floats(s.GetResponse().GetRawOutputContents()[0]), rows[i].Probabilities); err != nil {
			t.Errorf("row %d: %v", i, err)
		}
	}
	services, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := services.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	if list, err := services.Recv(); err != nil || len(list.GetListServicesResponse().GetService()) != 5 {
		t.Errorf("reflection: %v %v", list, err)
	}
}

// A job submitted over gRPC at one process is found over HTTP at another, and at SIGTERM a call that waits is answered.
func TestGRPCServe(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := newStack(t, 1, 1)
	p := start(t, "serve", "--addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--nats-url", s.nats, "--redis-url", s.redis)
	conn := dial(t, p.find(`gRPC API is up.* addr=(\S+)`))
	row := heldout(t, "digits")[0]
	var v sheafpb.JobStatus
	eventually(t, func() error {
		return conn.Invoke(ctx, "/sheaf.v1.Jobs/Submit", &sheafpb.SubmitRequest{Request: digitsRequest(row.Input, false)}, &v)
	})
	_, body := get(t, s.apis[0]+"/v1/jobs/"+v.GetId()+"?wait=30s")
	if j := decodeJob(t, body); j.Status != "succeeded" {
		t.Fatalf("over HTTP: %s", body)
	}
	if err := s.workers[0].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer s.workers[0].cmd.Process.Signal(syscall.SIGCONT) //nolint:errcheck // it is killed at the end
	eventually(t, func() error {                           // a signal is on its way for a moment
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.workers[0].cmd.Process.Pid))
		if err == nil && !strings.Contains(string(stat), ") T ") {
			return fmt.Errorf("the worker goes on: %s", stat)
		}
		return nil
	})
	inferred := make(chan error, 1)
	go func() {
		inferred <- conn.Invoke(ctx, "/inference.GRPCInferenceService/ModelInfer", digitsRequest(row.Input, false), &inferencepb.ModelInferResponse{})
	}()
	base := p.find(`HTTP API is up.* url=(\S+)`)
	eventually(t, func() error {
		if n := metric(t, base, "sheaf_gateway_waiters", ""); n != 1 {
			return fmt.Errorf("%v calls wait", n)
		}
		return nil
	})
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	// It is told the job's id, and where to ask, or that it was answered in the last moment.
	if err := <-inferred; status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "the job goes on") {
		t.Errorf("the call in flight: %v", err)
	}
	<-p.exited
}

// Who may call is asked over gRPC as over HTTP.
func TestGRPCWithKeys(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0", "--auth", "keys", "--rate-limit", "0.001", "--rate-burst", "1")
	api, conn, nats := p.find(`HTTP API +(\S+)`), dial(t, p.find(`gRPC +(\S+)`)), p.find(`NATS +(\S+)`)
	p.find("Ctrl-C stops it")
	infer := func(key string) error {
		ctx := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
		return conn.Invoke(ctx, "/inference.GRPCInferenceService/ModelInfer", digitsRequest(make([]float64, 64), false), &inferencepb.ModelInferResponse{})
	}
	key := newAPIKey(t, nats, api)
	for _, c := range []struct {
		who, key string
		code     codes.Code
	}{
		{"nobody", "nobody", codes.Unauthenticated},
		{"one who guesses", key[:len(key)-1] + map[bool]string{true: "b", false: "a"}[key[len(key)-1] == 'a'], codes.Unauthenticated},
		{"one for another model", newAPIKey(t, nats, api, "--models", "tumor"), codes.NotFound},
		{"one who reads", newAPIKey(t, nats, api, "--scopes", "read"), codes.PermissionDenied},
		{"the one", key, codes.OK},
		{"the one too often", key, codes.ResourceExhausted},
	} {
		if err := infer(c.key); status.Code(err) != c.code {
			t.Errorf("%s is answered %v, expected %s", c.who, err, c.code)
		}
	}
}

func TestGRPCAddress(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"serve", "dev"} {
		_, stderr, code := runToEnd(t, "", verb, "--grpc-addr", "nonsense")
		if code != exitUsage || !strings.Contains(stderr, `--grpc-addr "nonsense": expected HOST:PORT`) {
			t.Errorf("%s exits with %d: %s", verb, code, stderr)
		}
	}
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, stderr, code := runToEnd(t, "", "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0", "--grpc-addr", taken.Addr().String())
	if code != exitFailure || !strings.Contains(stderr, "--grpc-addr chooses another") {
		t.Errorf("a taken port: exit code %d: %s", code, stderr)
	}
	off := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0", "--grpc-addr", "off")
	off.find("Ctrl-C stops it")
	if strings.Contains(off.text(), "gRPC") {
		t.Errorf("off, the banner says %s", off.text())
	}
}

// Without a word, the gRPC API of dev is on the port after the HTTP API's, or elsewhere if that is taken.
func TestGRPCNextPort(t *testing.T) {
	t.Parallel()
	http, next := adjacent(t)
	defer next.Close()
	l, err := listenGRPC(t.Context(), grpcNext, http)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Addr().String() == next.Addr().String() || !strings.HasPrefix(l.Addr().String(), "127.0.0.1:") {
		t.Errorf("gRPC listens on %s", l.Addr())
	}
	eventually(t, func() error { // another test may be quicker to take the port
		http, next := adjacent(t)
		_ = next.Close()
		l, err := listenGRPC(t.Context(), grpcNext, http)
		if err != nil {
			return err
		}
		defer l.Close()
		if l.Addr().String() != next.Addr().String() {
			return fmt.Errorf("gRPC listens on %s, and %s is free", l.Addr(), next.Addr())
		}
		return nil
	})
}

// adjacent listens on two ports, one after the other.
func adjacent(t *testing.T) (first, second net.Listener) {
	t.Helper()
	var errs []error
	for range 100 {
		a, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = a.Close() })
		port := a.Addr().(*net.TCPAddr).Port
		b, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:"+strconv.Itoa(port+1))
		if err == nil {
			return a, b
		}
		errs = append(errs, err)
	}
	t.Fatal(errors.Join(errs...))
	return nil, nil
}

// The gRPC API is no way around what guards the HTTP API: TLS, and the refusal to listen where anybody could reach it.
func TestGRPCIsGuarded(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, verb := range []string{"serve", "dev"} {
		_, stderr, code := runToEnd(t, "", verb, "--grpc-addr", "0.0.0.0:0")
		if code != exitUsage || !strings.Contains(stderr, "--grpc-addr 0.0.0.0:0 can be reached from other machines") {
			t.Errorf("%s exits with %d: %s", verb, code, stderr)
		}
	}
	c := testserver.NewCertificates(t)
	p := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0", "--tls-cert", c.CertFile, "--tls-key", c.KeyFile, "--tls-client-ca", c.CAFile)
	addr := p.find(`gRPC +(\S+)`)
	p.find("Ctrl-C stops it")
	client := c.Client(t)
	stranger := client.Clone()
	stranger.Certificates = nil
	for _, dialer := range []struct {
		who  string
		with credentials.TransportCredentials
		code codes.Code
	}{
		{"a client with a certificate", credentials.NewTLS(client), codes.OK},
		{"a client without one", credentials.NewTLS(stranger), codes.Unavailable},
		{"a client in plain text", insecure.NewCredentials(), codes.Unavailable},
	} {
		conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(dialer.with))
		if err != nil {
			t.Fatal(err)
		}
		err = conn.Invoke(ctx, "/inference.GRPCInferenceService/ServerLive", &inferencepb.ServerLiveRequest{}, &inferencepb.ServerLiveResponse{})
		if status.Code(err) != dialer.code {
			t.Errorf("%s is answered %v", dialer.who, err)
		}
		_ = conn.Close()
	}
}
