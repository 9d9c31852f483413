package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/sheafml/sheaf/batch"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// fileView is a file as OpenAI's clients know it. Its status is always the same: a file that is there can be used.
type fileView struct {
	batch.File
	Status string `json:"status"`
}

func viewFile(f batch.File) fileView { return fileView{f, "processed"} }

type fileList struct {
	Object  string     `json:"object"`
	Data    []fileView `json:"data"`
	FirstID string     `json:"first_id,omitempty"`
	LastID  string     `json:"last_id,omitempty"`
	HasMore bool       `json:"has_more"`
}

// putFile keeps a file that is being sent.
func (a *API) putFile(ctx context.Context, tenant, name string, from io.Reader) (batch.File, error) {
	f, err := a.deps.Batches.PutFile(ctx, tenant, name, batch.PurposeBatch, from)
	if errors.Is(err, queue.ErrTenantFull) {
		return f, &gateway.Problem{Code: codeTooManyBatches, Busy: true, After: batchesAfter, Cause: err, Detail: "as many of your files as allowed are kept; delete one, or wait until one expires"}
	}
	return f, batchError(err, codeUnknownFile)
}

// dropTime is how long it may take to delete a file that is of no use.
const dropTime = 5 * time.Second

// dropFile deletes a file that turned out to be of no use, although its client may be gone. What it leaves expires.
func (a *API) dropFile(ctx context.Context, tenant, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTime)
	defer cancel()
	if err := a.deps.Batches.DeleteFile(ctx, tenant, id); err != nil {
		a.log.Debug("a file of no use could not be deleted; it expires", "file", id, "error", err)
	}
}

// listFiles answers GET /v1/files. All that are listed have the same purpose.
func (a *API) listFiles(w *response, r *http.Request) error {
	const most, usual = 1000, 100
	after, limit, err := pageOf(r, usual, most)
	if err != nil {
		return err
	}
	page := fileList{Object: "list", Data: []fileView{}}
	if purpose := r.URL.Query().Get("purpose"); purpose != "" && purpose != batch.PurposeBatch {
		return marshal(w, http.StatusOK, page)
	}
	list, more, err := a.deps.Batches.Files(r.Context(), a.tenant(r), after, limit)
	if err != nil {
		return batchError(err, codeUnknownFile)
	}
	for _, f := range list {
		page.Data = append(page.Data, viewFile(f))
	}
	if page.HasMore = more; len(list) > 0 {
		page.FirstID, page.LastID = list[0].ID, list[len(list)-1].ID
	}
	return marshal(w, http.StatusOK, page)
}

// getFile answers GET /v1/files/{file}.
func (a *API) getFile(w *response, r *http.Request) error {
	f, err := a.deps.Batches.File(r.Context(), a.tenant(r), r.PathValue("file"))
	if err != nil {
		return batchError(err, codeUnknownFile)
	}
	return marshal(w, http.StatusOK, viewFile(f))
}

// deleteFile answers DELETE /v1/files/{file}.
func (a *API) deleteFile(w *response, r *http.Request) error {
	id := r.PathValue("file")
	if err := a.deps.Batches.DeleteFile(r.Context(), a.tenant(r), id); err != nil {
		return batchError(err, codeUnknownFile)
	}
	return marshal(w, http.StatusOK, struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Deleted bool   `json:"deleted"`
	}{id, "file", true})
}

// getFileContent answers GET /v1/files/{file}/content.
func (a *API) getFileContent(w *response, r *http.Request) error {
	leave, err := a.transfer()
	if err != nil {
		return err
	}
	defer leave()
	from, f, err := a.deps.Batches.OpenFile(r.Context(), a.tenant(r), r.PathValue("file"))
	if err != nil {
		return batchError(err, codeUnknownFile)
	}
	defer from.Close() //nolint:errcheck // it was only read
	h := w.Header()
	h.Set("Content-Type", mediaFile)
	h.Set("Content-Length", strconv.FormatInt(f.Bytes, 10))
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	s := a.download(w)
	return s.end(r, s.copy(from, 0))
}

// mediaFile is the media type of files: the server does not look into them.
const mediaFile = "application/octet-stream"

// transfer takes one of the places of requests that send or read files.
func (a *API) transfer() (leave func(), err error) {
	select {
	case <-a.jobs.Closed():
		return nil, &gateway.Problem{Code: gateway.CodeUnavailable, Busy: true, Detail: "this server is going down; try again"}
	default:
	}
	select {
	case a.transfers <- struct{}{}:
		return func() { <-a.transfers }, nil
	default:
		return nil, &gateway.Problem{Code: gateway.CodeBusy, Busy: true, Detail: "as many files as allowed are being sent or read already; try again later"}
	}
}

// codesOfTransfer are the problems that transfer has.
func codesOfTransfer() []job.Code { return []job.Code{gateway.CodeUnavailable, gateway.CodeBusy} }
