package blobstore

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"cloud.google.com/go/storage"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// Object is an object that is read. It is safe for concurrent use.
type Object struct {
	l      location
	ctx    context.Context //nolint:containedctx // io.ReaderAt has no other way to end a read
	stop   context.CancelFunc
	bucket *blob.Bucket
	is     stamp
	blocks blocks
}

// Open looks at an object. It is read until Close, or until ctx ends.
func Open(ctx context.Context, text string) (*Object, error) {
	l, err := parse(text)
	if err != nil {
		return nil, err
	}
	b, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	a, err := b.Attributes(ctx, l.key)
	if err != nil {
		return nil, errors.Join(l.fault(ctx, "read", err), ignore(b.Close()))
	}
	o := &Object{l: l, bucket: b, is: stamp{size: a.Size, etag: a.ETag, at: a.ModTime}}
	if gcs := (storage.ObjectAttrs{}); a.As(&gcs) {
		o.is.generation = gcs.Generation
	}
	o.ctx, o.stop = context.WithCancel(ctx)
	o.blocks.init(o)
	return o, nil
}

// Size is the object's size in bytes.
func (o *Object) Size() int64 { return o.is.size }

// Identity is another when the object is another.
func (o *Object) Identity() string { return o.is.String() }

// Close ends what reads the object.
func (o *Object) Close() error {
	o.stop()
	return o.bucket.Close()
}

// From reads on from an offset. A connection that breaks is made again where it broke, a few times.
func (o *Object) From(offset int64) (io.ReadCloser, error) {
	r := &stream{o: o, at: offset}
	if err := r.connect(); err != nil {
		return nil, err
	}
	return r, nil
}

// ReaderAt reads anywhere, by blocks of which some are kept.
func (o *Object) ReaderAt() io.ReaderAt { return o }

// part opens a range of the object, and makes sure that it is still the same.
func (o *Object) part(offset, length int64) (*blob.Reader, error) {
	r, err := o.bucket.NewRangeReader(o.ctx, o.l.key, offset, length, &blob.ReaderOptions{BeforeRead: o.sameVersion})
	switch gcerrors.Code(err) {
	case gcerrors.FailedPrecondition:
		err = ErrChanged
	case gcerrors.NotFound: // that generation, or any: it was there when it was opened
		err = ErrChanged
	default:
	}
	if err != nil {
		return nil, o.l.fault(o.ctx, "read", err)
	}
	// The header of a part tells seconds.
	if !r.ModTime().Truncate(time.Second).Equal(o.is.at.Truncate(time.Second)) || r.Size() != o.is.size {
		return nil, errors.Join(fmt.Errorf("read %s: %w; begin anew", o.l.name, ErrChanged), ignore(r.Close()))
	}
	return r, nil
}

// sameVersion asks for the version that was opened, where the service can be asked so.
func (o *Object) sameVersion(as func(any) bool) error {
	var get *s3.GetObjectInput
	if as(&get) && o.is.etag != "" {
		get.IfMatch = &o.is.etag
	}
	var handle **storage.ObjectHandle
	if o.is.generation > 0 && as(&handle) {
		*handle = (*handle).Generation(o.is.generation)
	}
	return nil
}

// stream reads an object to its end.
type stream struct {
	o      *Object
	at     int64
	r      *blob.Reader
	broken int // times in a row
}

// reconnects is how often in a row a broken connection is made again.
const reconnects = 5

func (s *stream) connect() error {
	if s.at >= s.o.is.size {
		return nil
	}
	var err error
	s.r, err = s.o.part(s.at, -1)
	return err
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	for {
		if s.at >= s.o.is.size {
			return 0, io.EOF
		}
		var err error
		if s.r == nil {
			err = s.connect()
		}
		if err == nil {
			var n int
			n, err = s.r.Read(p)
			s.at += int64(n)
			if n > 0 {
				s.broken = 0
				return n, nil
			}
		}
		_ = s.Close()
		if s.broken++; s.broken > reconnects || errors.Is(err, ErrChanged) || s.o.ctx.Err() != nil {
			return 0, s.o.l.fault(s.o.ctx, "read", err)
		}
	}
}

// Close implements io.Closer.
func (s *stream) Close() error {
	if s.r == nil {
		return nil
	}
	err := s.r.Close()
	s.r = nil
	return err
}

const (
	// blockBytes is how much is asked for at a time where an object is read here and there, keptBlocks how many of these are
	// kept: one for each column of a wide table.
	blockBytes = 512 << 10
	keptBlocks = 128
)

// blocks keeps what was read last.
type blocks struct {
	o *Object

	mu    sync.Mutex
	known map[int64]*list.Element // of *block
	used  *list.List              // the last used first
}

type block struct {
	index int64
	once  sync.Once
	data  []byte
	err   error
}

func (b *blocks) init(o *Object) { b.o, b.known, b.used = o, map[int64]*list.Element{}, list.New() }

// get returns a block; those who ask at the same time share one request.
func (b *blocks) get(index int64) ([]byte, error) {
	b.mu.Lock()
	e, ok := b.known[index]
	if ok {
		b.used.MoveToFront(e)
	} else {
		e = b.used.PushFront(&block{index: index})
		b.known[index] = e
		if b.used.Len() > keptBlocks {
			last := b.used.Remove(b.used.Back()).(*block) //nolint:forcetypeassert // the list's own
			delete(b.known, last.index)
		}
	}
	b.mu.Unlock()
	k := e.Value.(*block) //nolint:forcetypeassert // the list's own
	k.once.Do(func() { k.data, k.err = b.o.load(index) })
	if k.err != nil {
		b.mu.Lock()
		if b.known[index] == e {
			b.used.Remove(e)
			delete(b.known, index)
		}
		b.mu.Unlock()
	}
	return k.data, k.err
}

// load reads a block, again if the connection breaks.
func (o *Object) load(index int64) ([]byte, error) {
	offset := index * blockBytes
	data := make([]byte, min(blockBytes, o.is.size-offset))
	s := stream{o: o, at: offset}
	var err error
	if s.r, err = o.part(offset, int64(len(data))); err != nil {
		return nil, err
	}
	defer s.Close() //nolint:errcheck // only read
	if _, err := io.ReadFull(&s, data); err != nil {
		return nil, o.l.fault(o.ctx, "read", err)
	}
	return data, nil
}

// ReadAt implements io.ReaderAt.
func (o *Object) ReadAt(p []byte, offset int64) (int, error) {
	n := 0
	for n < len(p) {
		at := offset + int64(n)
		if at >= o.is.size {
			return n, io.EOF
		}
		data, err := o.blocks.get(at / blockBytes)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], data[at%blockBytes:])
	}
	return n, nil
}
