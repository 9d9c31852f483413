// Package grpcapi is the gRPC side of the shim: the Open Inference Protocol as Triton's clients speak it
// (inference.GRPCInferenceService), jobs that are not waited for (sheaf.v1.Jobs), grpc.health.v1.Health and server
// reflection. It translates; what it answers comes from package gateway.
//
//	methods.go     which methods there are, and the scope that each one needs
//	call.go        what all of them have: who is calling, errors, panics, metrics
//	inference.go   ModelInfer, read from the bytes of the message and not from generated code
//	pipeline.go    streams of requests, answered in their order, a bounded number in hand
//	jobs.go        sheaf.v1.Jobs
//	status.go      errors as clients see them
//
// The call's own deadline bounds every wait. It is the job's deadline, too, of a ModelInfer without an Idempotency-Key,
// whose answer nobody could come back for; and a client that leaves such a call cancels its job.
package grpcapi
