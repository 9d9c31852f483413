package grpcapi_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/inferencepb"
	"github.com/sheafml/sheaf/job/proto/sheafpb"
)

// scopes is what each method needs, written down once more: whoever adds a method decides.
func scopes() map[string]auth.Scope {
	return map[string]auth.Scope{
		"/inference.GRPCInferenceService/ServerLive":                     "anybody",
		"/inference.GRPCInferenceService/ServerReady":                    "anybody",
		"/inference.GRPCInferenceService/ServerMetadata":                 "read",
		"/inference.GRPCInferenceService/ModelReady":                     "read",
		"/inference.GRPCInferenceService/ModelMetadata":                  "read",
		"/inference.GRPCInferenceService/ModelConfig":                    "read",
		"/inference.GRPCInferenceService/RepositoryIndex":                "read",
		"/inference.GRPCInferenceService/RepositoryModelLoad":            "admin",
		"/inference.GRPCInferenceService/RepositoryModelUnload":          "admin",
		"/inference.GRPCInferenceService/ModelInfer":                     "submit",
		"/inference.GRPCInferenceService/ModelStreamInfer":               "submit",
		"/sheaf.v1.Jobs/Submit":                                          "submit",
		"/sheaf.v1.Jobs/Get":                                             "read",
		"/sheaf.v1.Jobs/Watch":                                           "read",
		"/sheaf.v1.Jobs/Cancel":                                          "submit",
		"/sheaf.v1.Jobs/BulkSubmit":                                      "submit",
		"/grpc.health.v1.Health/Check":                                   "anybody",
		"/grpc.health.v1.Health/List":                                    "anybody",
		"/grpc.health.v1.Health/Watch":                                   "anybody",
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":      "anybody",
		"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": "anybody",
	}
}

// reflected lists the methods that the server itself says it has, by reflection.
func reflected(t *testing.T, r *rig) map[string]protoreflect.MethodDescriptor {
	t.Helper()
	s, err := reflectionpb.NewServerReflectionClient(r.conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(q *reflectionpb.ServerReflectionRequest) *reflectionpb.ServerReflectionResponse {
		if err := s.Send(q); err != nil {
			t.Fatal(err)
		}
		a, err := s.Recv()
		if err != nil || a.GetErrorResponse() != nil {
			t.Fatal(a, err)
		}
		return a
	}
	methods := make(map[string]protoreflect.MethodDescriptor)
	set := &descriptorpb.FileDescriptorSet{} // a file is sent once in a stream
	list := ask(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
	for _, service := range list.GetListServicesResponse().GetService() {
		a := ask(&reflectionpb.ServerReflectionRequest{
			MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: service.GetName()},
		})
		for _, raw := range a.GetFileDescriptorResponse().GetFileDescriptorProto() {
			f := new(descriptorpb.FileDescriptorProto)
			if err := proto.Unmarshal(raw, f); err != nil {
				t.Fatal(err)
			}
			set.File = append(set.File, f)
		}
		files, err := protodesc.NewFiles(set)
		if err != nil {
			t.Fatal(err)
		}
		d, err := files.FindDescriptorByName(protoreflect.FullName(service.GetName()))
		if err != nil {
			t.Fatal(err)
		}
		list := d.(protoreflect.ServiceDescriptor).Methods()
		for i := range list.Len() {
			methods["/"+service.GetName()+"/"+string(list.Get(i).Name())] = list.Get(i)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	_, _ = s.Recv()
	return methods
}

// What reflection shows is what is served, and each method has its scope.
func TestMethodsAndScopes(t *testing.T) {
	var keys keyring
	r := newRig(t, func(s *settings) { s.deps.Auth = &keys })
	methods := reflected(t, r)
	want := scopes()
	for name := range want {
		if strings.HasPrefix(name, "/grpc.reflection.v1alpha") {
			delete(want, name) // not listed by every version
			delete(methods, name)
		}
	}
	if got, want := slices.Sorted(maps.Keys(methods)), slices.Sorted(maps.Keys(want)); !slices.Equal(got, want) {
		t.Fatalf("reflection shows\n%v, expected\n%v", got, want)
	}
	for name, m := range methods {
		needs := want[name]
		for _, scope := range append(auth.Scopes(), "") { // the last has no key
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			if scope != "" {
				keys.put(string(scope), &auth.Principal{Kind: auth.KindKey, Tenant: "ann", Scopes: []auth.Scope{scope}})
				ctx = bearer(ctx, string(scope))
			}
			s, err := r.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: m.IsStreamingServer(), ClientStreams: m.IsStreamingClient()}, name)
			if err != nil {
				t.Fatal(err)
			}
			_ = s.SendMsg(&emptypb.Empty{})
			_ = s.CloseSend()
			got, want := statusCode(s.RecvMsg(dynamicpb.NewMessage(m.Output()))), codes.PermissionDenied
			cancel()
			switch {
			case needs == "anybody" || needs == scope:
				if got == codes.Unauthenticated || got == codes.PermissionDenied {
					t.Errorf("%s needs the scope %q, and one who has %q is answered %s", name, needs, scope, got)
				}
				continue
			case scope == "":
				want = codes.Unauthenticated
			}
			if got != want {
				t.Errorf("%s needs the scope %q, and one who has %q is answered %s", name, needs, scope, got)
			}
		}
	}
}

// keyring is an authenticator with a caller for each key.
type keyring struct {
	mu      sync.Mutex
	callers map[string]*auth.Principal
	fault   error
}

func (k *keyring) put(key string, p *auth.Principal) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.callers == nil {
		k.callers = make(map[string]*auth.Principal)
	}
	k.callers[key] = p
}

func (k *keyring) revoke(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.callers, key)
}

func (k *keyring) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fault = err
}

// Authenticate implements grpcapi.Authenticator.
func (k *keyring) Authenticate(_ context.Context, bearer string) (*auth.Principal, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fault != nil {
		return nil, k.fault
	}
	if p := k.callers[bearer]; p != nil {
		return p, nil
	}
	return nil, &auth.Refusal{Reason: "who are you?"}
}

func bearer(ctx context.Context, key string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+key)
}

// A caller sees its own tenant's jobs and its own models, and nobody else's.
func TestCallers(t *testing.T) {
	var keys keyring
	for _, c := range []struct {
		key, tenant string
		scopes      []auth.Scope
		models      []string
	}{
		{"ann", "ann", auth.Scopes(), nil},
		{"bob", "bob", auth.Scopes(), nil},
		{"reader", "ann", []auth.Scope{auth.Read}, nil},
		{"narrow", "ann", auth.Scopes(), []string{"hasty"}},
	} {
		keys.put(c.key, &auth.Principal{Kind: auth.KindKey, ID: c.key, Tenant: c.tenant, Scopes: c.scopes, Models: c.models})
	}
	r := newRig(t, func(s *settings) { s.deps.Auth = &keys })
	ann := bearer(t.Context(), "ann")
	s, err := callContext[sheafpb.JobStatus](ann, r, submitMethod, &sheafpb.SubmitRequest{Request: digits(1)})
	if err != nil {
		t.Fatal(err)
	}
	if tenant := r.queue.last(t).job.Tenant; tenant != "ann" {
		t.Errorf("the job is %s's", tenant)
	}
	for _, c := range []struct {
		key, method string
		q           proto.Message
		code        codes.Code
	}{
		{"bob", getMethod, &sheafpb.GetRequest{Id: s.GetId()}, codes.NotFound},
		{"bob", cancelMethod, &sheafpb.CancelRequest{Id: s.GetId()}, codes.NotFound},
		{"nobody", getMethod, &sheafpb.GetRequest{Id: s.GetId()}, codes.Unauthenticated},
		{"", getMethod, &sheafpb.GetRequest{Id: s.GetId()}, codes.Unauthenticated},
		{"reader", cancelMethod, &sheafpb.CancelRequest{Id: s.GetId()}, codes.PermissionDenied},
		{"reader", submitMethod, &sheafpb.SubmitRequest{Request: digits(1)}, codes.PermissionDenied},
		{"reader", inferMethod, digits(1), codes.PermissionDenied},
		{"narrow", inferMethod, digits(1), codes.NotFound},
		{"narrow", submitMethod, &sheafpb.SubmitRequest{Request: digits(1)}, codes.NotFound},
		{"narrow", "/inference.GRPCInferenceService/ModelMetadata", &inferencepb.ModelMetadataRequest{Name: "digits"}, codes.NotFound},
		{"narrow", "/inference.GRPCInferenceService/ModelConfig", &inferencepb.ModelConfigRequest{Name: "digits"}, codes.NotFound},
		{"reader", getMethod, &sheafpb.GetRequest{Id: s.GetId()}, codes.OK},
		{"ann", cancelMethod, &sheafpb.CancelRequest{Id: s.GetId()}, codes.OK},
	} {
		err := r.conn.Invoke(bearer(t.Context(), c.key), c.method, c.q, &emptypb.Empty{})
		if got := statusCode(err); got != c.code {
			t.Errorf("%s calls %s: %v, expected %s", c.key, c.method, err, c.code)
		}
	}
	for _, header := range [][]string{{"Basic ann"}, {"Bearer"}, {"Bearer ann", "Bearer bob"}} {
		ctx := t.Context()
		for _, h := range header {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", h)
		}
		_, err := callContext[sheafpb.JobStatus](ctx, r, getMethod, &sheafpb.GetRequest{Id: s.GetId()})
		problemOf(t, err).want(t, codes.Unauthenticated, "unauthorized")
	}
	index, err := callContext[inferencepb.RepositoryIndexResponse](bearer(t.Context(), "narrow"), r, "/inference.GRPCInferenceService/RepositoryIndex", &inferencepb.RepositoryIndexRequest{})
	if err != nil || len(index.GetModels()) != 1 || index.GetModels()[0].GetName() != "hasty" {
		t.Errorf("%v %v", index, err)
	}
	watch := r.open(bearer(t.Context(), "bob"), t, watchMethod)
	ask(t, watch, &sheafpb.WatchRequest{Ids: []string{s.GetId()}})
	v := new(sheafpb.JobStatus)
	if err := watch.RecvMsg(v); err != nil || v.GetError().GetCode() != "unknown-job" {
		t.Errorf("%v %v", v, err)
	}
}

// A stream does not go on for long without its caller.
func TestStreamOfARevokedKey(t *testing.T) {
	var keys keyring
	keys.put("ann", &auth.Principal{Kind: auth.KindKey, Tenant: "ann", Scopes: auth.Scopes()})
	r := newRig(t, func(s *settings) { s.deps.Auth, s.api.CallerInterval = &keys, time.Nanosecond })
	ctx := bearer(t.Context(), "ann")
	bulk, watch := r.open(ctx, t, bulkMethod), r.open(ctx, t, watchMethod)
	var a sheafpb.BulkReply
	for _, fault := range []error{nil, auth.ErrUnavailable} { // that it cannot be known ends nothing
		keys.fail(fault)
		send(t, bulk, &sheafpb.SubmitRequest{Request: digits(1)})
		if err := bulk.RecvMsg(&a); err != nil || a.GetError() != nil {
			t.Fatal(&a, err)
		}
	}
	keys.fail(nil)
	ask(t, watch, &sheafpb.WatchRequest{Ids: []string{a.GetId()}})
	if err := watch.RecvMsg(new(sheafpb.JobStatus)); err != nil {
		t.Fatal(err)
	}
	keys.revoke("ann")
	problemOf(t, watch.RecvMsg(new(sheafpb.JobStatus))).want(t, codes.Unauthenticated, "unauthorized")
	send(t, bulk, &sheafpb.SubmitRequest{Request: digits(1)})
	problemOf(t, bulk.RecvMsg(&a)).want(t, codes.Unauthenticated, "unauthorized")
}

func TestIssuerOutOfReach(t *testing.T) {
	var keys keyring
	keys.fail(auth.ErrUnavailable)
	r := newRig(t, func(s *settings) { s.deps.Auth = &keys })
	_, err := callContext[sheafpb.JobStatus](bearer(t.Context(), "x"), r, getMethod, &sheafpb.GetRequest{})
	if p := problemOf(t, err).want(t, codes.Unavailable, "unavailable"); p.retry == nil {
		t.Errorf("%+v", p)
	}
}

// garbage is a message whose only field is cut off, of any number that a request here has.
func garbage() proto.Message {
	m := &emptypb.Empty{}
	m.ProtoReflect().SetUnknown(protoreflect.RawFields("\x0a\x7fx"))
	return m
}

func TestUnknownMethod(t *testing.T) {
	r := newRig(t, nil)
	for _, name := range []string{"/inference.GRPCInferenceService/ModelStatistics", "/nothing/Nothing"} {
		if err := r.conn.Invoke(t.Context(), name, &emptypb.Empty{}, &emptypb.Empty{}); statusCode(err) != codes.Unimplemented {
			t.Errorf("%s: %v", name, err)
		}
	}
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "sheaf_grpc") && len(f.GetMetric()) > 0 {
			t.Errorf("%s has %v", f.GetName(), f.GetMetric())
		}
	}
}

func TestMetrics(t *testing.T) {
	r := newRig(t, nil)
	r.work(t, digitsResult)
	if _, err := r.infer(t, digits(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.infer(t, &inferencepb.ModelInferRequest{ModelName: "none"}); err == nil {
		t.Fatal("no error")
	}
	s := r.open(t.Context(), t, streamMethod)
	send(t, s, digits(1))
	if err := s.RecvMsg(new(inferencepb.ModelStreamInferResponse)); err != nil {
		t.Fatal(err)
	}
	const want = `
# HELP sheaf_grpc_calls_total Calls answered, streams included, by method and status code.
# TYPE sheaf_grpc_calls_total counter
sheaf_grpc_calls_total{code="NotFound",method="/inference.GRPCInferenceService/ModelInfer"} 1
sheaf_grpc_calls_total{code="OK",method="/inference.GRPCInferenceService/ModelInfer"} 1
# HELP sheaf_grpc_running_calls Calls that are being answered, streams included.
# TYPE sheaf_grpc_running_calls gauge
sheaf_grpc_running_calls{method="/inference.GRPCInferenceService/ModelInfer"} 0
sheaf_grpc_running_calls{method="/inference.GRPCInferenceService/ModelStreamInfer"} 1
# HELP sheaf_grpc_stream_requests_total Requests answered within streams, by method and status code.
# TYPE sheaf_grpc_stream_requests_total counter
sheaf_grpc_stream_requests_total{code="OK",method="/inference.GRPCInferenceService/ModelStreamInfer"} 1
`
	names := []string{"sheaf_grpc_calls_total", "sheaf_grpc_running_calls", "sheaf_grpc_stream_requests_total"}
	if err := testutil.GatherAndCompare(r.reg, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	_ = s.CloseSend()
	_ = s.RecvMsg(new(inferencepb.ModelStreamInferResponse))
}

// A panic is a line in the log, and costs one call.
func TestPanic(t *testing.T) {
	var log strings.Builder
	w := &wrapped{ask: func(context.Context, *gateway.Submission) (*gateway.Job, error) { panic("at the disco") }}
	r := newRig(t, func(s *settings) {
		s.wrap = w.around
		s.deps.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))
	})
	_, err := r.infer(t, digits(1))
	if p := problemOf(t, err); p.code != codes.Internal || strings.Contains(p.message, "disco") {
		t.Errorf("%+v", p)
	}
	if strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "at the disco") || !strings.Contains(log.String(), "methods_test.go") {
		t.Errorf("the log says %q", log.String())
	}
}

func TestProtocol(t *testing.T) {
	r := newRig(t, nil)
	const service = "/inference.GRPCInferenceService/"
	live, err := call[inferencepb.ServerLiveResponse](t, r, service+"ServerLive", &inferencepb.ServerLiveRequest{})
	if err != nil || !live.GetLive() {
		t.Errorf("%v %v", live, err)
	}
	ready, err := call[inferencepb.ServerReadyResponse](t, r, service+"ServerReady", &inferencepb.ServerReadyRequest{})
	if err != nil || !ready.GetReady() {
		t.Errorf("%v %v", ready, err)
	}
	server, err := call[inferencepb.ServerMetadataResponse](t, r, service+"ServerMetadata", &inferencepb.ServerMetadataRequest{})
	if err != nil || server.GetName() != "sheaf" || server.GetVersion() != "test" || !slices.Contains(server.GetExtensions(), "model_repository") {
		t.Errorf("%v %v", server, err)
	}
	for _, c := range []struct {
		name, version string
		want          bool
	}{{"digits", "", true}, {"digits", "1", true}, {"digits", "3", false}, {"none", "", false}, {"", "", false}} {
		m, err := call[inferencepb.ModelReadyResponse](t, r, service+"ModelReady", &inferencepb.ModelReadyRequest{Name: c.name, Version: c.version})
		if err != nil || m.GetReady() != c.want {
			t.Errorf("%+v: %v %v", c, m, err)
		}
	}
	wine, err := call[inferencepb.ModelMetadataResponse](t, r, service+"ModelMetadata", &inferencepb.ModelMetadataRequest{Name: "wine.red"})
	if err != nil || wine.GetPlatform() != "onnxruntime_onnx" || wine.GetInputs()[1].GetDatatype() != "BYTES" || !slices.Equal(wine.GetOutputs()[0].GetShape(), []int64{-1, 2}) {
		t.Errorf("%v %v", wine, err)
	}
	d, err := call[inferencepb.ModelMetadataResponse](t, r, service+"ModelMetadata", &inferencepb.ModelMetadataRequest{Name: "digits", Version: "1"})
	if err != nil || !slices.Equal(d.GetVersions(), []string{"2", "1"}) {
		t.Errorf("%v %v", d, err)
	}
	config, err := call[inferencepb.ModelConfigResponse](t, r, service+"ModelConfig", &inferencepb.ModelConfigRequest{Name: "wine.red"})
	if c := config.GetConfig(); err != nil || c.GetMaxBatchSize() != 64 || len(c.GetInput()[0].GetDims()) != 0 || c.GetInput()[1].GetDataType() != inferencepb.DataType_TYPE_STRING ||
		!slices.Equal(c.GetOutput()[0].GetDims(), []int64{2}) || c.GetOutput()[1].GetDataType() != inferencepb.DataType_TYPE_INT64 {
		t.Errorf("%v %v", config, err)
	}
	config, err = call[inferencepb.ModelConfigResponse](t, r, service+"ModelConfig", &inferencepb.ModelConfigRequest{Name: "echo-BF16"})
	if c := config.GetConfig(); err != nil || c.GetMaxBatchSize() != 0 || !slices.Equal(c.GetInput()[0].GetDims(), []int64{-1}) || c.GetInput()[0].GetDataType() != inferencepb.DataType_TYPE_BF16 {
		t.Errorf("%v %v", config, err)
	}
	index, err := call[inferencepb.RepositoryIndexResponse](t, r, service+"RepositoryIndex", &inferencepb.RepositoryIndexRequest{Ready: true})
	if err != nil || len(index.GetModels()) != 18 || index.GetModels()[0].GetState() != "READY" {
		t.Errorf("%v %v", index, err)
	}
	for method, q := range map[string]proto.Message{
		"ModelMetadata": &inferencepb.ModelMetadataRequest{Name: "none"}, "ModelConfig": &inferencepb.ModelConfigRequest{Name: "digits", Version: "7"},
	} {
		problemOf(t, r.conn.Invoke(t.Context(), service+method, q, &emptypb.Empty{})).want(t, codes.NotFound, "unknown-model")
	}
	for _, method := range []string{"RepositoryModelLoad", "RepositoryModelUnload"} {
		err := r.conn.Invoke(t.Context(), service+method, &inferencepb.RepositoryModelLoadRequest{ModelName: "digits"}, &emptypb.Empty{})
		if p := problemOf(t, err).want(t, codes.Unimplemented, "unsupported"); !strings.Contains(p.message, "sheaf worker --models") {
			t.Errorf("%+v", p)
		}
	}
}

// The numbers of datatypes in Triton's configuration are those of package job, which the code relies on.
func TestDatatypeNumbers(t *testing.T) {
	for dt := job.Bool; dt.Valid(); dt++ {
		name := dt.String()
		if dt == job.Bytes {
			name = "STRING"
		}
		if got := inferencepb.DataType(dt).String(); got != "TYPE_"+name {
			t.Errorf("%s is %s", dt, got)
		}
	}
	for s := job.Queued; s <= job.Expired; s++ {
		if got := sheafpb.JobState(s).String(); got != "JOB_STATE_"+strings.ToUpper(s.String()) {
			t.Errorf("%s is %s", s, got)
		}
	}
	if _, err := protoregistry.GlobalFiles.FindFileByPath("inference/grpc_predict_v2.proto"); err != nil {
		t.Error(err)
	}
}

func TestHealth(t *testing.T) {
	var broken sync.Map
	r := newRig(t, func(s *settings) {
		s.api.HealthInterval = 10 * time.Millisecond
		s.gate.Ready = []gateway.Check{{Name: "nats", Run: func(context.Context) error {
			if err, ok := broken.Load("nats"); ok {
				return err.(error)
			}
			return nil
		}}}
	})
	c := healthpb.NewHealthClient(r.conn)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, service := range []string{"", "inference.GRPCInferenceService", "sheaf.v1.Jobs"} {
		if a, err := c.Check(ctx, &healthpb.HealthCheckRequest{Service: service}); err != nil || a.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v %v", service, a, err)
		}
	}
	if _, err := c.Check(ctx, &healthpb.HealthCheckRequest{Service: "other"}); statusCode(err) != codes.NotFound {
		t.Errorf("%v", err)
	}
	if a, err := c.List(ctx, &healthpb.HealthListRequest{}); err != nil || len(a.GetStatuses()) != 3 || a.GetStatuses()["sheaf.v1.Jobs"].GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("%v %v", a, err)
	}
	unknown, err := c.Watch(ctx, &healthpb.HealthCheckRequest{Service: "other"})
	if err != nil {
		t.Fatal(err)
	}
	if a, err := unknown.Recv(); err != nil || a.GetStatus() != healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
		t.Errorf("%v %v", a, err)
	}
	watch, err := c.Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	next := func(want healthpb.HealthCheckResponse_ServingStatus) {
		t.Helper()
		if a, err := watch.Recv(); err != nil || a.GetStatus() != want {
			t.Fatalf("%v %v, expected %s", a, err, want)
		}
	}
	next(healthpb.HealthCheckResponse_SERVING)
	broken.Store("nats", context.DeadlineExceeded)
	next(healthpb.HealthCheckResponse_NOT_SERVING)
	broken.Delete("nats")
	next(healthpb.HealthCheckResponse_SERVING)
	if err := r.api.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	next(healthpb.HealthCheckResponse_NOT_SERVING)
	if _, err := watch.Recv(); statusCode(err) != codes.Unavailable {
		t.Errorf("at the end %v", err)
	}
}

// With TLS, also such that clients have to show a certificate.
func TestTLS(t *testing.T) {
	certificates := testserver.NewCertificates(t)
	client := certificates.Client(t)
	client.ServerName = "localhost"
	server := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: client.Certificates, ClientCAs: client.RootCAs, ClientAuth: tls.RequireAndVerifyClientCert}
	r := newRig(t, func(s *settings) { s.api.TLS, s.client = server, client })
	r.work(t, digitsResult)
	if _, err := call[inferencepb.ModelInferResponse](t, r, inferMethod, digits(1)); err != nil {
		t.Error(err)
	}
	stranger := client.Clone()
	stranger.Certificates = nil
	r = newRig(t, func(s *settings) { s.api.TLS, s.client = server, stranger })
	if _, err := r.infer(t, digits(1)); statusCode(err) != codes.Unavailable {
		t.Errorf("without a certificate: %v", err)
	}
	r = newRig(t, func(s *settings) { s.api.TLS = server })
	if _, err := r.infer(t, digits(1)); statusCode(err) != codes.Unavailable {
		t.Errorf("in plain text: %v", err)
	}
}
