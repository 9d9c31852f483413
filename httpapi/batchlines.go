package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/sheafml/sheaf/batch"
	"github.com/sheafml/sheaf/gateway"
)

// batchLines answers GET /v1/batches/{batch}/results and …/errors: the lines of that file from a line on, those that
// are there, or with follow=true all until the batch has ended.
func (a *API) batchLines(of batch.Output) handler {
	return func(w *response, r *http.Request) error {
		from, follow, err := linesAsked(r)
		if err != nil {
			return err
		}
		leave, err := a.transfer()
		if err != nil {
			return err
		}
		defer leave()
		tenant, id := a.tenant(r), r.PathValue("batch")
		h := w.Header()
		h.Set("Content-Type", mediaLines)
		h.Set("X-Accel-Buffering", "no")
		if r.Method == http.MethodHead {
			follow = false
		}
		if follow {
			return a.followLines(w, r, tenant, id, of, from)
		}
		lines, _, err := a.deps.Batches.OpenFile(r.Context(), tenant, batch.OutputID(id, of))
		if err != nil {
			return batchError(err, codeUnknownBatch)
		}
		defer lines.Close() //nolint:errcheck // it was only read
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusOK)
			return nil
		}
		s := a.download(w)
		return s.end(r, s.copy(lines, from))
	}
}

// linesAsked reads from which line on, and how long.
func linesAsked(r *http.Request) (from int64, follow bool, err error) {
	query, err := queryOf(r)
	if err != nil {
		return 0, false, err
	}
	if text := query.Get("from"); text != "" {
		if from, err = strconv.ParseInt(text, 10, 64); err != nil || from < 0 {
			return 0, false, malformed("from", "expected how many lines to leave out, such as 1000")
		}
	}
	if text := query.Get("follow"); text != "" {
		if follow, err = strconv.ParseBool(text); err != nil {
			return 0, false, malformed("follow", "expected true or false")
		}
	}
	return from, follow, nil
}

// followLines sends lines as they come to be. It ends with the batch; when the server goes down before, the answer is cut
// off, so that nobody takes it for whole.
func (a *API) followLines(w *response, r *http.Request, tenant, id string, of batch.Output, from int64) error {
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	over := make(chan struct{})
	defer close(over)
	go func() {
		select {
		case <-a.jobs.Closed():
			stop()
		case <-over:
		}
	}()
	if _, err := a.deps.Batches.Get(ctx, tenant, id); err != nil {
		return batchError(err, codeUnknownBatch)
	}
	s := a.download(w)
	if err := s.flush(); err != nil { // whoever follows is told at once that there is something to follow
		return err
	}
	s.rest()
	for lines, err := range a.deps.Batches.Follow(ctx, tenant, id, of, 0) {
		if err == nil {
			err = s.send(skipLines(lines.Data, &from))
		}
		if err != nil {
			return s.end(r, err)
		}
		s.rest()
	}
	return nil
}

// skipLines leaves out lines at the beginning, and counts them down.
func skipLines(b []byte, skip *int64) []byte {
	for *skip > 0 && len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return nil
		}
		b = b[i+1:]
		*skip--
	}
	return b
}

// download is an answer that is as long as a file. Its client may take its time, as long as it reads.
type download struct {
	stream
	a *API
}

func (a *API) download(w *response) *download {
	w.Header().Set("Cache-Control", "no-store")
	d := &download{stream{w: w, rc: http.NewResponseController(w.ResponseWriter), slow: a.cfg.BodyTimeout}, a}
	_ = d.rc.SetReadDeadline(time.Time{}) // its end would count as the client's leaving
	return d
}

// rest says that there is nothing to be sent for now, so that nothing is late: HTTP/2 resets a stream at its deadline.
func (d *download) rest() { _ = d.rc.SetWriteDeadline(time.Time{}) }

// send sends a piece, in parts that a slow client can take in time.
func (d *download) send(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), lookupFlush)
		d.b = append(d.b, b[:n]...)
		b = b[n:]
		if err := d.flush(); err != nil {
			return err
		}
	}
	return nil
}

// copy sends all of a file from a line on.
func (d *download) copy(from io.Reader, skip int64) error {
	buf := make([]byte, lookupFlush)
	for {
		n, err := from.Read(buf)
		if err := d.send(skipLines(buf[:n], &skip)); err != nil {
			return err
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a file of a batch: %w", err)
		}
	}
}

// end is how the answer ends: if it has begun, and there is more to come, it is cut off, because its client must not take
// it for whole.
func (d *download) end(r *http.Request, err error) error {
	if err == nil || d.w.status == 0 {
		return err
	}
	if errors.Is(err, gateway.ErrClientGone) || r.Context().Err() != nil {
		return gateway.ErrClientGone
	}
	if ctx := r.Context(); !errors.Is(err, context.Canceled) {
		d.a.log.LogAttrs(ctx, slog.LevelError, "a file could not be sent to its end", slog.String("error", err.Error()))
	}
	d.w.status = http.StatusInternalServerError // for the metrics; the client has seen another
	panic(http.ErrAbortHandler)
}
