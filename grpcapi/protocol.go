package grpcapi

import (
	"cmp"
	"context"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job/proto/inferencepb"
	"github.com/sheafml/sheaf/model"
)

func (a *API) serverLive(context.Context, *inferencepb.ServerLiveRequest) (*inferencepb.ServerLiveResponse, error) {
	return &inferencepb.ServerLiveResponse{Live: true}, nil
}

func (a *API) serverReady(ctx context.Context, _ *inferencepb.ServerReadyRequest) (*inferencepb.ServerReadyResponse, error) {
	return &inferencepb.ServerReadyResponse{Ready: a.jobs.Ready(ctx).Ready}, nil
}

func (a *API) serverMetadata(context.Context, *inferencepb.ServerMetadataRequest) (*inferencepb.ServerMetadataResponse, error) {
	return &inferencepb.ServerMetadataResponse{
		Name: "sheaf", Version: a.cfg.Version, Extensions: []string{"schedule_policy", "model_repository", "model_configuration"},
	}, nil
}

// modelReady says whether a worker has announced the model. One that nobody knows is not ready, and that is no error.
func (a *API) modelReady(ctx context.Context, q *inferencepb.ModelReadyRequest) (*inferencepb.ModelReadyResponse, error) {
	_, err := a.jobs.ModelFor(ctx, q.GetName(), q.GetVersion())
	return &inferencepb.ModelReadyResponse{Ready: err == nil}, nil
}

func (a *API) modelMetadata(ctx context.Context, q *inferencepb.ModelMetadataRequest) (*inferencepb.ModelMetadataResponse, error) {
	info, err := a.jobs.ModelFor(ctx, q.GetName(), q.GetVersion())
	if err != nil {
		return nil, err
	}
	return &inferencepb.ModelMetadataResponse{
		Name: info.Name, Versions: a.jobs.Models().Versions(info.Name), Platform: platform(&info),
		Inputs: tensorMetadata(info.Signature.Inputs), Outputs: tensorMetadata(info.Signature.Outputs),
	}, nil
}

func platform(info *model.Info) string { return cmp.Or(info.Platform, model.PlatformONNX) }

func tensorMetadata(specs []model.TensorSpec) []*inferencepb.ModelMetadataResponse_TensorMetadata {
	list := make([]*inferencepb.ModelMetadataResponse_TensorMetadata, len(specs))
	for i, s := range specs {
		list[i] = &inferencepb.ModelMetadataResponse_TensorMetadata{Name: s.Name, Datatype: s.Datatype.String(), Shape: s.Shape}
	}
	return list
}

// modelConfig is Triton's, and no part of the protocol: its clients learn there whether a model has a batch axis, which
// dims leaves out.
func (a *API) modelConfig(ctx context.Context, q *inferencepb.ModelConfigRequest) (*inferencepb.ModelConfigResponse, error) {
	info, err := a.jobs.ModelFor(ctx, q.GetName(), q.GetVersion())
	if err != nil {
		return nil, err
	}
	sig := &info.Signature
	c := &inferencepb.ModelConfig{Name: info.Name, Platform: platform(&info)}
	if sig.Batchable {
		c.MaxBatchSize = int32(min(info.MaxRows, 1<<30)) //nolint:gosec // bounded here
	}
	for i := range sig.Inputs {
		name, dt, dims := configTensor(&sig.Inputs[i], sig.Batchable)
		c.Input = append(c.Input, &inferencepb.ModelInput{Name: name, DataType: dt, Dims: dims})
	}
	for i := range sig.Outputs {
		name, dt, dims := configTensor(&sig.Outputs[i], sig.Batchable)
		c.Output = append(c.Output, &inferencepb.ModelOutput{Name: name, DataType: dt, Dims: dims})
	}
	return &inferencepb.ModelConfigResponse{Config: c}, nil
}

// configTensor describes a tensor as Triton's configuration does. It numbers the datatypes as package job does.
func configTensor(s *model.TensorSpec, batchable bool) (name string, dt inferencepb.DataType, dims []int64) {
	dims = s.Shape
	if batchable {
		dims = dims[1:]
	}
	return s.Name, inferencepb.DataType(s.Datatype), dims
}

// repositoryIndex lists what is announced. The request may ask for models that are ready only; all of them are.
func (a *API) repositoryIndex(ctx context.Context, _ *inferencepb.RepositoryIndexRequest) (*inferencepb.RepositoryIndexResponse, error) {
	answer := &inferencepb.RepositoryIndexResponse{}
	for _, info := range a.jobs.ModelsFor(ctx) {
		answer.Models = append(answer.Models, &inferencepb.RepositoryIndexResponse_ModelIndex{Name: info.Name, Version: info.Version, State: "READY"})
	}
	return answer, nil
}

func (a *API) repositoryModelLoad(context.Context, *inferencepb.RepositoryModelLoadRequest) (*inferencepb.RepositoryModelLoadResponse, error) {
	return nil, errLoad()
}

func (a *API) repositoryModelUnload(context.Context, *inferencepb.RepositoryModelUnloadRequest) (*inferencepb.RepositoryModelUnloadResponse, error) {
	return nil, errLoad()
}

// errLoad refuses to load or unload a model.
func errLoad() error {
	return &gateway.Problem{
		Code:   gateway.CodeUnsupported,
		Detail: "models are loaded by workers: put the model into the folder that `sheaf worker --models` names, or start a worker that has it",
	}
}
