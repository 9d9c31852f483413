package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/batch"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/queue"
)

// Batches keeps files and runs batches of requests; a *batch.Service does. Its errors are those that package batch names.
type Batches interface {
	PutFile(ctx context.Context, tenant, name, purpose string, r io.Reader) (batch.File, error)
	File(ctx context.Context, tenant, id string) (batch.File, error)
	Files(ctx context.Context, tenant, after string, limit int) (files []batch.File, more bool, err error)
	OpenFile(ctx context.Context, tenant, id string) (io.ReadCloser, batch.File, error)
	DeleteFile(ctx context.Context, tenant, id string) error

	Create(ctx context.Context, tenant string, spec batch.Spec, once batch.Once) (batch.Batch, error)
	Get(ctx context.Context, tenant, id string) (batch.Batch, error)
	List(ctx context.Context, tenant, after string, limit int) (batches []batch.Batch, more bool, err error)
	Cancel(ctx context.Context, tenant, id string) (batch.Batch, error)
	Pause(ctx context.Context, tenant, id string) (batch.Batch, error)
	Resume(ctx context.Context, tenant, id string) (batch.Batch, error)
	Follow(ctx context.Context, tenant, id string, of batch.Output, from int64) iter.Seq2[batch.Lines, error]
}

// batchRoutes are those of batches and their files; none without a service.
func (a *API) batchRoutes() []route {
	s := a.deps.Batches
	if s == nil {
		return nil
	}
	return []route{
		{"POST", "/v1/files", auth.Submit, uploading(a.uploadFile), "upload a file of requests, as a form: purpose=batch and file"},
		{"GET", "/v1/files", auth.Read, a.bounded(a.listFiles), "your files, the newest first"},
		{"GET", "/v1/files/{file}", auth.Read, a.bounded(a.getFile), "what is known of a file, or of what a batch has written"},
		{"GET", "/v1/files/{file}/content", auth.Read, a.getFileContent, "the file itself"},
		{"DELETE", "/v1/files/{file}", auth.Submit, a.bounded(a.deleteFile), "delete a file that no batch reads"},
		{"POST", "/v1/batches", auth.Submit, a.createBatch, "make a batch of an uploaded file, or of the lines in the body"},
		{"GET", "/v1/batches", auth.Read, a.bounded(a.listBatches), "your batches, the newest first"},
		{"GET", "/v1/batches/{batch}", auth.Read, a.bounded(a.batchBy(s.Get)), "how far a batch is"},
		{"POST", "/v1/batches/{batch}/cancel", auth.Submit, a.bounded(a.batchBy(s.Cancel)), "cancel a batch; what is done is kept"},
		{"POST", "/v1/batches/{batch}/pause", auth.Submit, a.bounded(a.batchBy(s.Pause)), "let a batch rest"},
		{"POST", "/v1/batches/{batch}/resume", auth.Submit, a.bounded(a.batchBy(s.Resume)), "let a paused batch go on"},
		{"GET", "/v1/batches/{batch}/results", auth.Read, a.batchLines(batch.Results), "the answers so far, a line of JSON for each; ?follow=true until the end"},
		{"GET", "/v1/batches/{batch}/errors", auth.Read, a.batchLines(batch.Errors), "the lines that failed so far; ?follow=true until the end"},
	}
}

// isOpenAI reports whether errors under a path have a member more, which OpenAI's clients read.
func isOpenAI(path string) bool {
	return path == "/v1/files" || path == "/v1/batches" || strings.HasPrefix(path, "/v1/files/") || strings.HasPrefix(path, "/v1/batches/")
}

// batchBy answers with the batch of the path, after something was done to it.
func (a *API) batchBy(do func(ctx context.Context, tenant, id string) (batch.Batch, error)) handler {
	return func(w *response, r *http.Request) error {
		b, err := do(r.Context(), a.tenant(r), r.PathValue("batch"))
		if err != nil {
			return batchError(err, codeUnknownBatch)
		}
		return marshal(w, http.StatusOK, b)
	}
}

// createBatch answers POST /v1/batches: 200 with the batch, as OpenAI's clients expect it, once it is accepted for good.
func (a *API) createBatch(w *response, r *http.Request) error {
	if media := r.Header.Get("Content-Type"); media != "" && checkLines(http.Header{"Content-Type": {media}}) == nil {
		return uploading(a.createFromLines)(w, r)
	}
	body, release, err := a.body(w, r, "")
	if err != nil {
		return err
	}
	defer release()
	var spec batch.Spec
	if err := decodeSpec(body, &spec); err != nil {
		return err
	}
	once, err := onceOf(r, &spec)
	if err != nil {
		return err
	}
	if err := a.mayBatch(w, r, &spec); err != nil {
		return err
	}
	_, err = a.accept(w, r, &spec, once)
	return err
}

// onceOf reads the Idempotency-Key of a batch, and what is asked under it.
func onceOf(r *http.Request, spec *batch.Spec) (once batch.Once, err error) {
	if once.Key, err = parseKey(r.Header.Values(headerKey)); once.Key == "" {
		return once, err
	}
	asked, err := json.Marshal(spec)
	once.Asked = sha256.Sum256(asked)
	return once, err
}

// decodeSpec reads what a batch is to do. null is what is not there: some clients send it.
func decodeSpec(body []byte, spec *batch.Spec) error {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	err := dec.Decode(spec)
	if err == nil && !errors.Is(dec.Decode(&struct{}{}), io.EOF) {
		err = errors.New("there is more behind the object")
	}
	if err == nil {
		return nil
	}
	p := &gateway.Problem{Code: job.CodeMalformed, Cause: err, Detail: `expected a JSON object with "input_file_id", "endpoint" and "completion_window", and no member that the route does not know`}
	if kind, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		p.Field, p.Detail = kind.Field, "expected another type of value"
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		p.Field, p.Detail = model.Excerpt(strings.Trim(name, `"`)), "not a member of a batch"
	}
	return p
}

// mayBatch says whether the caller may make the batch: of its model, and at its rate. A batch counts as one job.
func (a *API) mayBatch(w *response, r *http.Request, spec *batch.Spec) error {
	name := spec.Model
	if rest, ok := strings.CutPrefix(spec.Endpoint, "/v1/models/"); ok {
		name, _, _ = strings.Cut(rest, "/")
	}
	if name != "" {
		if _, err := a.jobs.ModelFor(r.Context(), name, ""); err != nil {
			return err
		}
	}
	quota, err := a.jobs.Count(r.Context())
	tellQuota(w.Header(), &quota)
	return err
}

// accept makes the batch, or finds the one that its key has made, and answers with it.
func (a *API) accept(w *response, r *http.Request, spec *batch.Spec, once batch.Once) (batch.Batch, error) {
	ctx, cancel := a.adminTime(r.Context())
	defer cancel()
	b, err := a.deps.Batches.Create(ctx, a.tenant(r), *spec, once)
	if errors.Is(err, queue.ErrTenantFull) {
		return b, &gateway.Problem{Code: codeTooManyBatches, Busy: true, After: batchesAfter, Cause: err, Detail: "as many of your batches as allowed are not finished; try again when one is, or cancel one"}
	}
	if err != nil {
		return b, batchError(err, codeUnknownFile)
	}
	w.Header().Set("Location", "/v1/batches/"+b.ID)
	return b, marshal(w, http.StatusOK, b)
}

// batchesAfter is when it makes sense to look whether there is room for another batch or file.
const batchesAfter = 30 * time.Second

// batchError says what a client is told of an error of batches. unknown is what it says of what is not there.
func batchError(err error, unknown job.Code) error {
	p := &gateway.Problem{Cause: err}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, job.ErrNotFound) && unknown == codeUnknownFile:
		p.Code, p.Detail = codeUnknownFile, "there is no file under this id, or none any more"
	case errors.Is(err, job.ErrNotFound):
		p.Code, p.Detail = codeUnknownBatch, "there is no batch under this id, or none any more"
	case errors.Is(err, batch.ErrFinished):
		p.Code, p.Detail = codeBatchFinished, "it is too late for that: the batch is finished"
	case errors.Is(err, batch.ErrInUse):
		p.Code, p.Detail = codeFileInUse, "a batch that is not finished reads the file; cancel it first"
	case errors.Is(err, batch.ErrKeyReused):
		p.Code, p.Field, p.Detail = gateway.CodeKeyReused, headerKey, "this key was used for another batch; take a new key for each"
	case errors.Is(err, queue.ErrFull):
		p.Code, p.Busy, p.After, p.Detail = gateway.CodeFull, true, batchesAfter, "the server has no room for more files or batches now; try again later"
	default:
		return err
	}
	return p
}

// batchList and fileList are pages, as OpenAI has them.
type batchList struct {
	Object  string        `json:"object"`
	Data    []batch.Batch `json:"data"`
	FirstID string        `json:"first_id,omitempty"`
	LastID  string        `json:"last_id,omitempty"`
	HasMore bool          `json:"has_more"`
}

// listBatches answers GET /v1/batches.
func (a *API) listBatches(w *response, r *http.Request) error {
	const most, usual = 100, 20
	after, limit, err := pageOf(r, usual, most)
	if err != nil {
		return err
	}
	list, more, err := a.deps.Batches.List(r.Context(), a.tenant(r), after, limit)
	if err != nil {
		return batchError(err, codeUnknownBatch)
	}
	page := batchList{Object: "list", Data: append([]batch.Batch{}, list...), HasMore: more}
	if len(list) > 0 {
		page.FirstID, page.LastID = list[0].ID, list[len(list)-1].ID
	}
	return marshal(w, http.StatusOK, page)
}

// pageOf reads which part of a list is asked for.
func pageOf(r *http.Request, usual, most int) (after string, limit int, err error) {
	query, err := queryOf(r)
	if err != nil {
		return "", 0, err
	}
	limit = usual
	if text := query.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > most {
			return "", 0, malformed("limit", "expected a number from 1 to "+strconv.Itoa(most))
		}
	}
	if order := query.Get("order"); order != "" && order != "desc" {
		return "", 0, malformed("order", "expected desc: the newest come first")
	}
	return query.Get("after"), limit, nil
}
