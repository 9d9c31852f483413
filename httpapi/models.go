package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// modelView is what the API shows of a model: its announcement, with durations in milliseconds, and what one request
// may ask for.
type modelView struct {
	Name        string   `json:"name"`
	Version     string   `json:"version"`
	Versions    []string `json:"versions,omitempty"` // of GET /v1/models/{model}: all that are served
	Description string   `json:"description,omitempty"`
	Platform    string   `json:"platform"`
	model.Signature
	MaxRows    int               `json:"max_rows"`   // of one batch
	Prediction string            `json:"prediction"` // the output that /predict answers with
	ResultTTL  int64             `json:"result_ttl_ms,omitempty"`
	Deadline   int64             `json:"deadline_ms,omitempty"`
	Digest     string            `json:"digest,omitempty"`
	Metadata   map[string]string `json:"metadata,omitempty"`
	Limits     *limitsView       `json:"limits,omitempty"`
}

// limitsView is what bounds one request.
type limitsView struct {
	BodyBytes int64 `json:"max_body_bytes"`
	Rows      int   `json:"max_rows"`
	Elements  int   `json:"max_elements"`
	Rank      int   `json:"max_rank"`
	Tensors   int   `json:"max_tensors"`
}

func viewModel(i *model.Info) modelView {
	v := modelView{
		Name: i.Name, Version: i.Version, Description: i.Description, Platform: i.Platform,
		Signature: i.Signature, MaxRows: i.MaxRows, Prediction: i.Prediction, Digest: i.Digest, Metadata: i.Metadata,
		ResultTTL: i.ResultTTL.Milliseconds(), Deadline: i.Deadline.Milliseconds(),
	}
	if v.Prediction == "" && len(i.Signature.Outputs) > 0 {
		v.Prediction = i.Signature.Outputs[0].Name
	}
	return v
}

// listModels answers GET /v1/models: every version of every model, by name, the highest version of each first.
func (a *API) listModels(w *response, r *http.Request) error {
	infos := a.jobs.ModelsFor(r.Context())
	views := make([]modelView, len(infos))
	for i := range infos {
		views[i] = viewModel(&infos[i])
	}
	return marshal(w, http.StatusOK, struct {
		Models []modelView `json:"models"`
	}{views})
}

// getModel answers GET /v1/models/{model}, with one version or without.
func (a *API) getModel(w *response, r *http.Request) error {
	name := r.PathValue("model")
	info, err := a.jobs.ModelFor(r.Context(), name, r.PathValue("version"))
	if err != nil {
		return err
	}
	v := viewModel(&info)
	v.Versions = a.jobs.Models().Versions(name)
	v.Limits = &limitsView{
		BodyBytes: a.cfg.MaxBodyBytes, Rows: a.cfg.Limits.MaxRows,
		Elements: a.cfg.Limits.MaxElements, Rank: a.cfg.Limits.MaxRank, Tensors: a.cfg.Limits.MaxTensors,
	}
	return marshal(w, http.StatusOK, v)
}

// getProblem answers GET /problems/{problem}, the URI of a problem type.
func (a *API) getProblem(w *response, r *http.Request) error {
	t := typeOf(job.Code(r.PathValue("problem")))
	if string(t.code) != r.PathValue("problem") {
		return &gateway.Problem{Code: codeNotFound, Detail: "no problem has this type"}
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "max-age=3600")
	send(w, http.StatusOK, fmt.Appendf(nil, "%s (%d %s)\n\n%s\n", t.title, t.status, http.StatusText(t.status), t.text))
	return nil
}

// index answers GET / with the routes.
func (a *API) index(w *response, _ *http.Request) error {
	type entry struct {
		Method string `json:"method"`
		Path   string `json:"path"`
		Scope  string `json:"scope,omitempty"` // that a caller needs, where callers have to say who they are
		About  string `json:"about"`
	}
	var list []entry
	for _, rt := range a.table()[1:] {
		e := entry{rt.method, rt.path, "", rt.about}
		if rt.scope != anybody {
			e.Scope = string(rt.scope)
		}
		list = append(list, e)
	}
	return marshal(w, http.StatusOK, struct {
		Name   string  `json:"name"`
		Routes []entry `json:"routes"`
	}{"sheaf", list})
}

// marshal answers with a document that carries no tensors.
func marshal(w http.ResponseWriter, status int, doc any) error {
	b, err := json.Marshal(doc)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	sendJSON(w, status, append(b, '\n'))
	return nil
}
