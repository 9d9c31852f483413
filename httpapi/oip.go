package httpapi

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// oipRoutes are those of the Open Inference Protocol (KServe V2), with the extensions that Triton's clients use. What
// they infer goes through the queue as /predict does.
func (a *API) oipRoutes() []route {
	list := []route{
		{"GET", "/v2", auth.Read, a.oipServer, "the Open Inference Protocol: what the server is, and its extensions"},
		{"GET", "/v2/health/live", anybody, a.oipLive, "200 while the process lives"},
		{"GET", "/v2/health/ready", anybody, a.oipReady, "200 when everything behind the API answers"},
		{"POST", "/v2/repository/index", auth.Read, a.oipIndex, "the models that workers have announced"},
		{"POST", "/v2/repository/models/{model}/load", auth.Admin, a.oipLoad, "refused: workers load models"},
		{"POST", "/v2/repository/models/{model}/unload", auth.Admin, a.oipLoad, "refused: workers unload models"},
	}
	for _, of := range []struct{ path, what string }{
		{"/v2/models/{model}", "a model"},
		{"/v2/models/{model}/versions/{version}", "one version of a model"},
	} {
		list = append(list,
			route{"GET", of.path, auth.Read, a.oipModel, "what " + of.what + " takes and gives"},
			route{"GET", of.path + "/ready", auth.Read, a.oipModelReady, "200 if a worker has announced " + of.what},
			route{"GET", of.path + "/config", auth.Read, a.oipConfig, "the configuration of " + of.what + " as Triton tells it"},
			route{"POST", of.path + "/infer", auth.Submit, a.infer, "submit and wait, with " + of.what + "; tensors as JSON or binary"},
		)
	}
	return list
}

// isOIP reports whether errors under a path are told as the protocol tells them: its clients read the member "error".
func isOIP(path string) bool { return path == "/v2" || strings.HasPrefix(path, "/v2/") }

// oipServer answers GET /v2.
func (a *API) oipServer(w *response, _ *http.Request) error {
	return marshal(w, http.StatusOK, struct {
		Name       string   `json:"name"`
		Version    string   `json:"version"`
		Extensions []string `json:"extensions"`
	}{"sheaf", a.cfg.Version, []string{"binary_tensor_data", "schedule_policy", "model_repository"}})
}

// oipLive answers GET /v2/health/live.
func (a *API) oipLive(w *response, _ *http.Request) error {
	sendJSON(w, http.StatusOK, []byte(`{"live":true}`+"\n"))
	return nil
}

// oipReady answers GET /v2/health/ready, by the same checks as /readyz.
func (a *API) oipReady(w *response, r *http.Request) error {
	if !a.jobs.Ready(r.Context()).Ready {
		return &gateway.Problem{Code: gateway.CodeUnavailable, Polls: true, Detail: "the server is not ready; GET /readyz says what it lacks"}
	}
	sendJSON(w, http.StatusOK, []byte(`{"ready":true}`+"\n"))
	return nil
}

// oipModelReady answers GET /v2/models/{model}/ready, with one version or without.
func (a *API) oipModelReady(w *response, r *http.Request) error {
	info, err := a.jobs.ModelFor(r.Context(), r.PathValue("model"), r.PathValue("version"))
	if err != nil {
		return err
	}
	return marshal(w, http.StatusOK, struct {
		Name  string `json:"name"`
		Ready bool   `json:"ready"`
	}{info.Name, true})
}

// oipModel answers GET /v2/models/{model}, with one version or without.
func (a *API) oipModel(w *response, r *http.Request) error {
	info, err := a.jobs.ModelFor(r.Context(), r.PathValue("model"), r.PathValue("version"))
	if err != nil {
		return err
	}
	return marshal(w, http.StatusOK, struct {
		Name     string             `json:"name"`
		Versions []string           `json:"versions"`
		Platform string             `json:"platform"`
		Inputs   []model.TensorSpec `json:"inputs"`
		Outputs  []model.TensorSpec `json:"outputs"`
	}{info.Name, a.jobs.Models().Versions(info.Name), platform(&info), info.Signature.Inputs, info.Signature.Outputs})
}

func platform(info *model.Info) string { return cmp.Or(info.Platform, model.PlatformONNX) }

// configTensor is an input or output as Triton's model configuration has it.
type configTensor struct {
	Name     string  `json:"name"`
	Datatype string  `json:"data_type"`
	Dims     []int64 `json:"dims"`
}

// oipConfig answers GET /v2/models/{model}/config, with one version or without. It is Triton's, and no part of the
// protocol: its clients learn there whether a model has a batch axis, which dims leaves out.
func (a *API) oipConfig(w *response, r *http.Request) error {
	info, err := a.jobs.ModelFor(r.Context(), r.PathValue("model"), r.PathValue("version"))
	if err != nil {
		return err
	}
	sig, rows := &info.Signature, 0
	if sig.Batchable {
		rows = info.MaxRows
	}
	return marshal(w, http.StatusOK, struct {
		Name     string         `json:"name"`
		Platform string         `json:"platform"`
		MaxBatch int            `json:"max_batch_size"`
		Input    []configTensor `json:"input"`
		Output   []configTensor `json:"output"`
	}{info.Name, platform(&info), rows, configTensors(sig.Inputs, sig.Batchable), configTensors(sig.Outputs, sig.Batchable)})
}

func configTensors(specs []model.TensorSpec, batchable bool) []configTensor {
	list := make([]configTensor, len(specs))
	for i, s := range specs {
		name, dims := s.Datatype.String(), append([]int64{}, s.Shape...)
		if s.Datatype == job.Bytes {
			name = "STRING"
		}
		if batchable {
			dims = dims[1:]
		}
		list[i] = configTensor{s.Name, "TYPE_" + name, dims}
	}
	return list
}

// oipIndex answers POST /v2/repository/index. The body may ask for models that are ready only; all that are announced
// are, so it is not read.
func (a *API) oipIndex(w *response, r *http.Request) error {
	type entry struct {
		Name    string `json:"name"`
		Version string `json:"version"`
		State   string `json:"state"`
		Reason  string `json:"reason"`
	}
	list := []entry{}
	for _, info := range a.jobs.ModelsFor(r.Context()) {
		list = append(list, entry{info.Name, info.Version, "READY", ""})
	}
	return marshal(w, http.StatusOK, list)
}

// oipLoad refuses to load or unload a model.
func (a *API) oipLoad(*response, *http.Request) error {
	return &gateway.Problem{
		Code:   gateway.CodeUnsupported,
		Detail: "models are loaded by workers: put the model into the folder that `sheaf worker --models` names, or start a worker that has it",
	}
}
