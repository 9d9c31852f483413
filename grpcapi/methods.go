package grpcapi

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/inferencepb"
	"github.com/sheafml/sheaf/job/proto/sheafpb"
)

// Names of the services that are served by the table below.
const (
	inferenceService = "inference.GRPCInferenceService"
	jobsService      = "sheaf.v1.Jobs"
)

// method is one method of a service: unary, or a stream.
type method struct {
	service, name string
	scope         auth.Scope
	unary         handler
	stream        func(a *API, s *callStream) error
	fromClient    bool // the client streams too
}

func (m *method) full() string { return "/" + m.service + "/" + m.name }

// methods lists what is served beside health and reflection.
func methods() []method {
	return []method{
		{inferenceService, "ServerLive", anybody, unary((*API).serverLive), nil, false},
		{inferenceService, "ServerReady", anybody, unary((*API).serverReady), nil, false},
		{inferenceService, "ServerMetadata", auth.Read, unary((*API).serverMetadata), nil, false},
		{inferenceService, "ModelReady", auth.Read, unary((*API).modelReady), nil, false},
		{inferenceService, "ModelMetadata", auth.Read, unary((*API).modelMetadata), nil, false},
		{inferenceService, "ModelConfig", auth.Read, unary((*API).modelConfig), nil, false},
		{inferenceService, "RepositoryIndex", auth.Read, unary((*API).repositoryIndex), nil, false},
		{inferenceService, "RepositoryModelLoad", auth.Admin, unary((*API).repositoryModelLoad), nil, false},
		{inferenceService, "RepositoryModelUnload", auth.Admin, unary((*API).repositoryModelUnload), nil, false},
		{inferenceService, "ModelInfer", auth.Submit, raw((*API).modelInfer), nil, false},
		{inferenceService, "ModelStreamInfer", auth.Submit, nil, (*API).modelStreamInfer, true},
		{jobsService, "Submit", auth.Submit, raw((*API).submit), nil, false},
		{jobsService, "Get", auth.Read, unary((*API).get), nil, false},
		{jobsService, "Cancel", auth.Submit, unary((*API).cancel), nil, false},
		{jobsService, "Watch", auth.Read, nil, (*API).watch, false},
		{jobsService, "BulkSubmit", auth.Submit, nil, (*API).bulkSubmit, true},
	}
}

// open lists the methods of health and reflection.
func open() []string {
	return []string{
		healthpb.Health_Check_FullMethodName, healthpb.Health_List_FullMethodName, healthpb.Health_Watch_FullMethodName,
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
		"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
	}
}

// handler answers one unary call. read reads its message.
type handler func(a *API, ctx context.Context, read func(any) error) (any, error)

// raw makes a handler of a function that decodes its message by itself. The message is read when it is known that the
// caller may call.
func raw[A any](handle func(a *API, ctx context.Context, f *frame) (A, error)) handler {
	return func(a *API, ctx context.Context, read func(any) error) (any, error) {
		f := new(frame)
		if err := read(f); err != nil {
			return nil, err
		}
		doneReading(ctx)
		return handle(a, ctx, f)
	}
}

// unary makes a handler of a function that takes a message of generated code. It is decoded here, since gRPC would
// answer of one that it cannot decode that it is the server's fault.
func unary[Q, A any, M interface {
	*Q
	proto.Message
}](handle func(a *API, ctx context.Context, q M) (A, error)) handler {
	return raw(func(a *API, ctx context.Context, f *frame) (any, error) {
		q := M(new(Q))
		if err := decode(f, q); err != nil {
			return nil, err
		}
		return handle(a, ctx, q)
	})
}

func decode(f *frame, q proto.Message) error {
	if err := proto.Unmarshal(f.b, q); err != nil {
		return &gateway.Problem{Code: job.CodeMalformed, Detail: "the message is not of the type that the method takes", Cause: err}
	}
	return nil
}

// services makes grpc's descriptions of the methods, and the scope that each of them needs.
func (a *API) services() []*grpc.ServiceDesc {
	files := map[string]string{
		inferenceService: inferencepb.File_inference_grpc_predict_v2_proto.Path(),
		jobsService:      sheafpb.File_sheaf_jobs_proto.Path(),
	}
	byName := make(map[string]*grpc.ServiceDesc)
	var list []*grpc.ServiceDesc
	for _, m := range methods() {
		d := byName[m.service]
		if d == nil {
			d = &grpc.ServiceDesc{ServiceName: m.service, HandlerType: (*any)(nil), Metadata: files[m.service]}
			byName[m.service], list = d, append(list, d)
		}
		a.scopes[m.full()], a.single[m.full()] = m.scope, !m.fromClient
		if m.stream != nil {
			d.Streams = append(d.Streams, grpc.StreamDesc{
				StreamName: m.name, ServerStreams: true, ClientStreams: m.fromClient,
				Handler: func(_ any, s grpc.ServerStream) error {
					cs, ok := s.(*callStream)
					if !ok {
						return errors.New("a stream came past the interceptor")
					}
					return m.stream(a, cs)
				},
			})
			continue
		}
		info := &grpc.UnaryServerInfo{Server: a, FullMethod: m.full()}
		d.Methods = append(d.Methods, grpc.MethodDesc{
			MethodName: m.name,
			Handler: func(_ any, ctx context.Context, read func(any) error, through grpc.UnaryServerInterceptor) (any, error) {
				return through(ctx, nil, info, func(ctx context.Context, _ any) (any, error) { return m.unary(a, ctx, read) })
			},
		})
	}
	for _, name := range open() {
		a.scopes[name] = anybody
	}
	return list
}

// serviceNames lists the services whose health can be asked for; "" is the whole server.
func serviceNames() []string { return []string{"", inferenceService, jobsService} }
