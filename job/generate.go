package job

// The generated code serves differential tests and gRPC; the codecs of this package read and write the wire by hand.
// It needs protoc 3.21 or newer and protoc-gen-go v1.36.12 on the PATH.

//go:generate protoc --proto_path=proto --go_out=. --go_opt=module=github.com/sheafml/sheaf/job inference/grpc_predict_v2.proto inference/model_config.proto sheaf/sheaf.proto sheaf/jobs.proto
