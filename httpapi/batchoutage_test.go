package httpapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sheafml/sheaf/batch"
	"github.com/sheafml/sheaf/queue"
)

// failing is a service that can do nothing for a reason.
type failing struct{ err error }

func (f failing) PutFile(_ context.Context, _, _, _ string, r io.Reader) (batch.File, error) {
	_, _ = io.Copy(io.Discard, r)
	return batch.File{}, f.err
}

func (f failing) File(context.Context, string, string) (batch.File, error) {
	return batch.File{}, f.err
}

func (f failing) Files(context.Context, string, string, int) ([]batch.File, bool, error) {
	return nil, false, f.err
}

func (f failing) OpenFile(context.Context, string, string) (io.ReadCloser, batch.File, error) {
	return nil, batch.File{}, f.err
}
func (f failing) DeleteFile(context.Context, string, string) error { return f.err }
func (f failing) Create(context.Context, string, batch.Spec, batch.Once) (batch.Batch, error) {
	return batch.Batch{}, f.err
}

func (f failing) Get(context.Context, string, string) (batch.Batch, error) {
	return batch.Batch{}, f.err
}

func (f failing) List(context.Context, string, string, int) ([]batch.Batch, bool, error) {
	return nil, false, f.err
}

func (f failing) Cancel(context.Context, string, string) (batch.Batch, error) {
	return batch.Batch{}, f.err
}

func (f failing) Pause(context.Context, string, string) (batch.Batch, error) {
	return batch.Batch{}, f.err
}

func (f failing) Resume(context.Context, string, string) (batch.Batch, error) {
	return batch.Batch{}, f.err
}

func (f failing) Follow(context.Context, string, string, batch.Output, int64) iter.Seq2[batch.Lines, error] {
	return func(yield func(batch.Lines, error) bool) { yield(batch.Lines{}, f.err) }
}

// What cannot be done now is said so, with when to come back, in a form that OpenAI's clients read too.
func TestBatchesWhileNATSIsAway(t *testing.T) {
	body, media := form(t, "purpose", "batch", "file=a", oneRow)
	for code, err := range map[string]error{"unavailable": queue.ErrUnavailable, "full": queue.ErrFull} {
		r := newRig(t, func(_ *config, d *deps) { d.Batches = failing{fmt.Errorf("ask: %w", err)} })
		for _, tc := range []struct{ method, path, body, media string }{
			{"POST", "/v1/files", body, media},
			{"POST", "/v1/batches", `{"model":"digits","input_file_id":"file-1"}`, "application/json"},
			{"POST", "/v1/batches?model=digits", oneRow, "application/x-ndjson"},
			{"GET", "/v1/files", "", ""},
			{"GET", "/v1/files/file-1", "", ""},
			{"GET", "/v1/files/file-1/content", "", ""},
			{"DELETE", "/v1/files/file-1", "", ""},
			{"GET", "/v1/batches", "", ""},
			{"GET", "/v1/batches/batch_1", "", ""},
			{"POST", "/v1/batches/batch_1/cancel", "", ""},
			{"GET", "/v1/batches/batch_1/results", "", ""},
			{"GET", "/v1/batches/batch_1/errors?follow=true", "", ""},
		} {
			if code == "full" && tc.method != "POST" || strings.HasSuffix(tc.path, "cancel") && code == "full" {
				continue // only what is kept can be too much
			}
			a := r.do(t, tc.method, tc.path, tc.body, "Content-Type", tc.media)
			a.problem(t, 503, code)
			inner, _ := a.doc["error"].(map[string]any)
			if a.header.Get("Retry-After") == "" || inner["code"] != code || inner["message"] != a.str("detail") {
				t.Errorf("%s %s: %v, %s", tc.method, tc.path, a.header, a.body)
			}
		}
	}
}

// unmade keeps files and makes no batch, for a reason.
type unmade struct {
	noBatches

	err     error
	dropped []string
}

func (*unmade) PutFile(_ context.Context, _, _, _ string, r io.Reader) (batch.File, error) {
	_, err := io.Copy(io.Discard, r)
	return batch.File{ID: "file-1"}, err
}

func (f *unmade) Create(context.Context, string, batch.Spec, batch.Once) (batch.Batch, error) {
	return batch.Batch{}, f.err
}

func (f *unmade) DeleteFile(_ context.Context, _, id string) error {
	f.dropped = append(f.dropped, id)
	return nil
}

// The lines of a batch that was refused are not kept; those of one of which nobody knows whether it was made are.
func TestLinesOfABatchThatWasPerhapsMade(t *testing.T) {
	for _, tc := range []struct {
		err     error
		status  int
		dropped int
	}{{queue.ErrTenantFull, 429, 1}, {queue.ErrUnavailable, 503, 0}} {
		service := &unmade{err: tc.err}
		r := newRig(t, func(_ *config, d *deps) { d.Batches = service })
		a := r.do(t, "POST", "/v1/batches?model=digits", oneRow, "Content-Type", "application/x-ndjson")
		if a.status != tc.status || len(service.dropped) != tc.dropped {
			t.Errorf("%v: status %d, %q were dropped: %s", tc.err, a.status, service.dropped, a.body)
		}
	}
}

// torn is a service whose files break off.
type torn struct{ noBatches }

var errTorn = errors.New("torn")

const tornLine = `{"id":"1","custom_id":"a","response":null,"error":{"code":"x","message":"x","line":1}}` + "\n"

func (torn) OpenFile(context.Context, string, string) (io.ReadCloser, batch.File, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader(tornLine), iotest.ErrReader(errTorn))), batch.File{Bytes: 1000}, nil
}
func (torn) Get(context.Context, string, string) (batch.Batch, error) { return batch.Batch{}, nil }
func (torn) Follow(context.Context, string, string, batch.Output, int64) iter.Seq2[batch.Lines, error] {
	return func(yield func(batch.Lines, error) bool) {
		if yield(batch.Lines{Data: []byte(tornLine)}, nil) {
			yield(batch.Lines{}, errTorn)
		}
	}
}

// An answer that breaks off is not taken for whole, and is counted as what it is.
func TestTornFilesOfBatches(t *testing.T) {
	r := newRig(t, func(_ *config, d *deps) { d.Batches = torn{} })
	for _, path := range []string{"/v1/files/file-1/content", "/v1/batches/batch_1/errors", "/v1/batches/batch_1/errors?follow=true"} {
		resp := r.openStream(t, path)
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK || string(got) != tornLine || err == nil {
			t.Errorf("%s: status %d, %q, %v", path, resp.StatusCode, got, err)
		}
	}
	if m := r.do(t, "GET", "/metrics", "").body; !strings.Contains(m, `sheaf_http_requests_total{method="GET",route="/v1/batches/{batch}/errors",status="5xx"} 2`) {
		t.Error("the metrics do not have them")
	}
}
