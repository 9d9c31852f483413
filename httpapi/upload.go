package httpapi

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sheafml/sheaf/batch"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/queue"
)

// upload is a body that brings a file. It is passed on as it comes, and never held; its client has time as long as
// something comes.
type upload struct {
	a    *API
	rc   *http.ResponseController
	gate *readGate
	body io.Reader
	err  error // why no more could be read
}

// formSpare is what a form may have beside its file, in bytes.
const formSpare = 64 << 10

// upload begins to read a body. leave must be called.
func (a *API) upload(w *response, r *http.Request) (u *upload, leave func(), err error) {
	if coding := r.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return nil, nil, &gateway.Problem{Code: gateway.CodeMediaType, Field: "Content-Encoding", Detail: "expected a body that is not compressed"}
	}
	most := a.cfg.Streams.MaxFileBytes + formSpare
	if r.ContentLength > most {
		return nil, nil, a.fileTooLarge()
	}
	if leave, err = a.transfer(); err != nil {
		return nil, nil, err
	}
	rc := http.NewResponseController(w.ResponseWriter)
	_ = rc.SetWriteDeadline(time.Time{}) // the answer is not late while the body still comes
	return &upload{
		a: a, rc: rc, gate: &readGate{rc: rc, timeout: a.cfg.BodyTimeout}, body: http.MaxBytesReader(w.ResponseWriter, r.Body, most),
	}, leave, nil
}

func (a *API) fileTooLarge() error {
	return &gateway.Problem{Code: job.CodeTooLarge, Field: "file", Detail: fmt.Sprintf("expected a file of at most %d bytes", a.cfg.Streams.MaxFileBytes)}
}

// Read implements io.Reader.
func (u *upload) Read(b []byte) (int, error) {
	u.gate.extend()
	n, err := u.body.Read(b)
	if err != nil {
		u.err = err
	}
	return n, err
}

// end says that nothing more is read. err is what was made of the body; where that failed for what came, it is said so.
func (u *upload) end(err error) error {
	u.gate.over()
	_ = u.rc.SetWriteDeadline(time.Now().Add(u.a.cfg.BodyTimeout + u.a.cfg.AdminTimeout))
	if err == nil {
		return nil
	}
	var large *http.MaxBytesError
	var slow net.Error
	switch {
	case u.err == nil || errors.Is(u.err, io.EOF):
		return err
	case errors.As(u.err, &large):
		return u.a.fileTooLarge()
	case errors.As(u.err, &slow) && slow.Timeout():
		return &gateway.Problem{Code: gateway.CodeSlowBody, Detail: fmt.Sprintf("nothing came for %s", u.a.cfg.BodyTimeout)}
	case errors.Is(u.err, io.ErrUnexpectedEOF):
		return &gateway.Problem{Code: job.CodeMalformed, Cause: u.err, Detail: "the body is truncated"}
	}
	return fmt.Errorf("%w: %w", gateway.ErrClientGone, u.err)
}

// uploading gives a handler of files what they have in common: its client gets to know of an error while it still sends.
func uploading(h handler) handler {
	return func(w *response, r *http.Request) error {
		err := h(w, r)
		if err != nil {
			hangUp(w)
		}
		return err
	}
}

// uploadFile answers POST /v1/files.
func (a *API) uploadFile(w *response, r *http.Request) error {
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != mediaForm || params["boundary"] == "" {
		return &gateway.Problem{Code: gateway.CodeMediaType, Field: "Content-Type", Detail: "expected " + mediaForm + " with the parts purpose and file"}
	}
	u, leave, err := a.upload(w, r)
	if err != nil {
		return err
	}
	defer leave()
	f, err := a.readForm(r.Context(), a.tenant(r), multipart.NewReader(u, params["boundary"]))
	if err := u.end(err); err != nil {
		return err
	}
	return marshal(w, http.StatusOK, viewFile(f))
}

// mediaForm is the media type of forms with files.
const mediaForm = "multipart/form-data"

// readForm reads the parts of a form, and keeps its file as it comes. The purpose may come after it.
func (a *API) readForm(ctx context.Context, tenant string, form *multipart.Reader) (f batch.File, err error) {
	defer func() {
		if err != nil && f.ID != "" {
			a.dropFile(ctx, tenant, f.ID)
		}
	}()
	purposed := false
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return f, noForm(err)
		}
		switch name := part.FormName(); {
		case name == "purpose" && !purposed:
			if err := readPurpose(part); err != nil {
				return f, err
			}
			purposed = true
		case name == "file" && f.ID == "":
			content := &checked{r: part}
			if f, err = a.putFile(ctx, tenant, cmp.Or(part.FileName(), "requests.jsonl"), content); content.err != nil {
				err = noForm(content.err)
			}
			if err != nil {
				return batch.File{}, err
			}
		case strings.HasPrefix(name, "expires_after"):
			return f, job.Invalidf("expires_after", "the server keeps every file for the same time; leave it out")
		default:
			return f, job.Invalidf(model.Excerpt(name), "not a part of this form: expected purpose and file, each once")
		}
	}
	switch {
	case !purposed:
		return f, job.Invalidf("purpose", "expected %q", batch.PurposeBatch)
	case f.ID == "":
		return f, job.Invalidf("file", "expected a file of JSON lines")
	}
	return f, nil
}

func noForm(err error) error {
	return &gateway.Problem{Code: job.CodeMalformed, Cause: err, Detail: "the body is not a form as its Content-Type says, or it is cut off"}
}

// checked remembers why a part could not be read to its end.
type checked struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (c *checked) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

func readPurpose(part io.Reader) error {
	text, err := io.ReadAll(io.LimitReader(part, int64(len(batch.PurposeBatch)+1)))
	if err != nil {
		return noForm(err)
	}
	if string(text) != batch.PurposeBatch {
		return job.Invalidf("purpose", "expected %q", batch.PurposeBatch)
	}
	return nil
}

// createFromLines answers POST /v1/batches with the lines themselves: they are kept as a file, and the batch is made of it.
func (a *API) createFromLines(w *response, r *http.Request) error {
	query, err := queryOf(r)
	if err != nil {
		return err
	}
	spec, err := specOf(query)
	if err != nil {
		return err
	}
	if err := a.mayBatch(w, r, &spec); err != nil {
		return err
	}
	once, err := onceOf(r, &spec)
	if err != nil {
		return err
	}
	u, leave, err := a.upload(w, r)
	if err != nil {
		return err
	}
	defer leave()
	tenant := a.tenant(r)
	asked := sha256.New()
	asked.Write(once.Asked[:])
	f, err := a.putFile(r.Context(), tenant, "requests.jsonl", io.TeeReader(u, asked))
	if err := u.end(err); err != nil {
		return err
	}
	spec.InputFile, once.Asked = f.ID, [sha256.Size]byte(asked.Sum(nil))
	b, err := a.accept(w, r, &spec, once)
	// None was made, or its key had made one already. What is not answered may have been made.
	if b.InputFile != f.ID && !errors.Is(err, queue.ErrUnavailable) {
		a.dropFile(r.Context(), tenant, f.ID)
	}
	return err
}

// specOf reads what a batch is to do from a query.
func specOf(query url.Values) (s batch.Spec, err error) {
	texts := map[string]*string{
		"endpoint": &s.Endpoint, "model": &s.Model, "model_version": &s.Version, "completion_window": &s.Window,
		"webhook": &s.Webhook, "output_url": &s.OutputURL, "error_url": &s.ErrorURL,
	}
	for name, values := range query {
		value := values[len(values)-1]
		if into, ok := texts[name]; ok {
			*into = value
			continue
		}
		switch name {
		case "windows":
			s.Windows = values
		case "max_rate":
			s.MaxRate, err = strconv.ParseFloat(value, 64)
		case "lines_per_job":
			s.LinesPerJob, err = strconv.Atoi(value)
		case "plain":
			s.Plain, err = strconv.ParseBool(value)
		case "ordered":
			s.Ordered, err = strconv.ParseBool(value)
		default:
			return s, malformed(model.Excerpt(name), "not known in the query of this route")
		}
		if err != nil {
			return s, malformed(name, "expected another type of value")
		}
	}
	return s, nil
}
