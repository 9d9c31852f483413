package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// Files keeps files of any size in a JetStream object store, as NATS's own tools know it.
//
// It reads and writes a chunk at a time by requests of their own. What a reader or a writer waits for may take as long as
// it likes, and a server that restarts meanwhile is waited for.
type Files struct {
	q    *Queue
	name string // as the server knows it
}

// FilesLimits bounds a store. MaxBytes -1 is no limit, MaxAge 0 for ever; the limits of an existing store are raised to
// these, never lowered. The server reserves MaxBytes of its storage.
type FilesLimits struct {
	MaxBytes int64
	MaxAge   time.Duration
}

// FileInfo is what is known of a file.
type FileInfo struct {
	Name    string
	Size    int64
	Created time.Time
	Meta    map[string]string
}

// Files returns the store of a name such as "files", which the server knows as "sheaf-files". It asks nobody.
func (q *Queue) Files(name string) *Files { return &Files{q: q, name: bucketPrefix + name} }

func (f *Files) stream() string          { return "OBJ_" + f.name }
func (f *Files) chunks(id string) string { return "$O." + f.name + ".C." + id }

// Ensure creates the store if there is none, safely in many processes at once.
func (f *Files) Ensure(ctx context.Context, limits FilesLimits) error {
	ctx, cancel := context.WithTimeout(ctx, f.q.cfg.ConnectTimeout)
	defer cancel()
	want := jetstream.StreamConfig{
		Name:        f.stream(),
		Description: "Sheaf: " + strings.TrimPrefix(f.name, bucketPrefix),
		Subjects:    []string{"$O." + f.name + ".C.>", "$O." + f.name + ".M.>"},
		MaxAge:      limits.MaxAge,
		MaxBytes:    limits.MaxBytes,
		Storage:     jetstream.FileStorage,
		Replicas:    f.q.cfg.Replicas,
		Discard:     jetstream.DiscardNew,
		Duplicates:  f.q.cfg.DuplicateWindow,
		AllowRollup: true,
		AllowDirect: true,
	}
	if want.MaxAge > 0 {
		want.Duplicates = min(want.Duplicates, want.MaxAge)
	}
	err := f.q.patiently(ctx, func(ctx context.Context) error { return f.q.ensureStream(ctx, want) })
	return f.q.noRoom(want, requestError("prepare the store "+f.name, err))
}

// Info returns what is known of a file; job.ErrNotFound if there is none, or no store.
func (f *Files) Info(ctx context.Context, name string) (FileInfo, error) {
	o, err := f.info(ctx, name)
	if err != nil {
		return FileInfo{}, err
	}
	return fileInfo(o), nil
}

func (f *Files) info(ctx context.Context, name string) (*jetstream.ObjectInfo, error) {
	var o *jetstream.ObjectInfo
	err := f.with(ctx, "look for", name, func(ctx context.Context, s jetstream.ObjectStore) (err error) {
		o, err = s.GetInfo(ctx, name)
		return err
	})
	return o, err
}

// Delete removes a file. It is no error if there is none.
func (f *Files) Delete(ctx context.Context, name string) error {
	err := f.with(ctx, "delete", name, func(ctx context.Context, s jetstream.ObjectStore) error {
		if _, err := s.GetInfo(ctx, name); err != nil {
			return err
		}
		return s.Delete(ctx, name)
	})
	if errors.Is(err, job.ErrNotFound) {
		return nil
	}
	return err
}

// List lists the files whose names begin so. It looks at every file of the store.
func (f *Files) List(ctx context.Context, prefix string) ([]FileInfo, error) {
	var list []FileInfo
	err := f.with(ctx, "list", prefix, func(ctx context.Context, s jetstream.ObjectStore) error {
		all, err := s.List(ctx)
		for _, o := range all {
			if strings.HasPrefix(o.Name, prefix) {
				list = append(list, fileInfo(o))
			}
		}
		return err
	})
	if errors.Is(err, job.ErrNotFound) {
		return nil, nil
	}
	return list, err
}

// Open reads a file from its beginning; job.ErrNotFound if there is none. A file that is deleted while it is read ends
// with io.ErrUnexpectedEOF.
func (f *Files) Open(ctx context.Context, name string) (io.ReadCloser, FileInfo, error) {
	o, err := f.info(ctx, name)
	if err != nil {
		return nil, FileInfo{}, err
	}
	return &fileReader{ctx: ctx, f: f, subject: f.chunks(o.NUID), left: int64(o.Size)}, fileInfo(o), nil //nolint:gosec // a size of ours
}

func (f *Files) with(ctx context.Context, what, name string, do func(context.Context, jetstream.ObjectStore) error) error {
	ctx, cancel := context.WithTimeout(ctx, f.q.cfg.RequestTimeout)
	defer cancel()
	s, err := f.q.js.ObjectStore(ctx, f.name)
	if err == nil {
		err = do(ctx, s)
	}
	for _, none := range []error{jetstream.ErrObjectNotFound, jetstream.ErrBucketNotFound, jetstream.ErrStreamNotFound, jetstream.ErrNoObjectsFound} {
		if errors.Is(err, none) {
			return job.ErrNotFound
		}
	}
	return requestError(what+" file "+name, err)
}

func fileInfo(o *jetstream.ObjectInfo) FileInfo {
	return FileInfo{Name: o.Name, Size: int64(o.Size), Created: o.ModTime, Meta: o.Metadata} //nolint:gosec // a size of ours
}

// fileReader reads the chunks of a file, each by a request.
type fileReader struct {
	ctx     context.Context
	f       *Files
	subject string
	stream  jetstream.Stream
	seq     uint64 // of the last chunk
	chunk   []byte // what is left of it
	left    int64  // bytes behind it
	closed  bool
}

// Read implements io.Reader.
func (r *fileReader) Read(p []byte) (int, error) {
	for len(r.chunk) == 0 {
		switch {
		case r.closed:
			return 0, io.ErrClosedPipe
		case r.left == 0:
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.chunk)
	r.chunk = r.chunk[n:]
	return n, nil
}

// Close implements io.Closer.
func (r *fileReader) Close() error {
	r.closed, r.chunk = true, nil
	return nil
}

// next fetches the next chunk. A server that does not answer is waited for, for the request timeout.
func (r *fileReader) next() error {
	ctx, cancel := context.WithTimeout(r.ctx, r.f.q.cfg.RequestTimeout)
	defer cancel()
	var m *jetstream.RawStreamMsg
	err := r.f.q.patiently(ctx, func(ctx context.Context) (err error) {
		if r.stream == nil {
			if r.stream, err = r.f.q.js.Stream(ctx, r.f.stream()); err != nil {
				return err
			}
		}
		m, err = r.stream.GetMsg(ctx, r.seq+1, jetstream.WithGetMsgSubject(r.subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			m, err = r.f.q.messageAt(ctx, r.f.stream(), r.seq+1, r.subject) // a replica can lag
		}
		return err
	})
	if errors.Is(err, job.ErrNotFound) {
		return fmt.Errorf("the file was deleted while it was read: %w", io.ErrUnexpectedEOF)
	}
	if err != nil {
		return requestError("read a file", err)
	}
	if int64(len(m.Data)) > r.left {
		return fmt.Errorf("a file has more bytes than it says: %w", io.ErrUnexpectedEOF)
	}
	r.seq, r.chunk, r.left = m.Sequence, m.Data, r.left-int64(len(m.Data))
	return nil
}
