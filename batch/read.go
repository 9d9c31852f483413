package batch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/sheafml/sheaf/job"
)

// outputReader reads an output from a byte to where the record that it knows ends. Segments are put together while the
// batch runs: one that is gone has its bytes in another, which the record of now names.
type outputReader struct {
	s   *Service
	ctx context.Context
	r   *record
	of  Output
	at  int64

	object io.ReadCloser // of the segment that at is in
	left   int64         // bytes of it
	lost   int           // how often a segment was gone since there was something to read
}

func (s *Service) readOutput(ctx context.Context, r *record, of Output, from int64) *outputReader {
	return &outputReader{s: s, ctx: ctx, r: r, of: of, at: from}
}

// maxLost is how often in a row a segment may be gone.
const maxLost = 5

// Read implements io.Reader.
func (o *outputReader) Read(p []byte) (int, error) {
	for {
		if o.object == nil {
			if err := o.open(); err != nil {
				return 0, err
			}
			if o.object == nil {
				continue
			}
		}
		n, err := o.object.Read(p[:min(int64(len(p)), o.left)])
		o.at += int64(n)
		o.left -= int64(n)
		if o.left == 0 {
			o.close()
			err = nil
		}
		if n > 0 {
			o.lost = 0
			return n, nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			o.close()
			err = o.reload()
		}
		if err != nil {
			return 0, err
		}
	}
}

// open opens the segment that comes next. No object and no error: the record has changed, look again.
func (o *outputReader) open() error {
	begin := int64(0)
	for i := range o.r.out(o.of).Segments {
		seg := &o.r.out(o.of).Segments[i]
		if o.at >= begin+seg.Bytes {
			begin += seg.Bytes
			continue
		}
		object, _, err := o.s.objects.Open(o.ctx, o.r.object(o.of, seg))
		if errors.Is(err, job.ErrNotFound) {
			return o.reload()
		}
		if err == nil {
			_, err = io.CopyN(io.Discard, object, o.at-begin)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return o.reload()
		}
		if err != nil {
			return err
		}
		o.object, o.left = object, begin+seg.Bytes-o.at
		return nil
	}
	return io.EOF
}

// reload reads the record again, because a segment that it names is gone.
func (o *outputReader) reload() error {
	if o.lost++; o.lost > maxLost {
		return errors.New("an output of the batch is not whole: a segment of it is gone")
	}
	r, _, err := o.s.records.get(o.ctx, o.r.Tenant, o.r.ID)
	if err == nil {
		o.r = r
	}
	return err
}

func (o *outputReader) close() {
	if o.object != nil {
		_ = o.object.Close() // it was only read
		o.object = nil
	}
}

// Close implements io.Closer.
func (o *outputReader) Close() error {
	o.close()
	return nil
}

const (
	// followEvery is how often it is looked whether there is more of an output.
	followEvery = 250 * time.Millisecond
	// followBytes is how much of it is given at a time, unless a line is longer.
	followBytes = 256 << 10
)

// Follow reads an output of a batch from a byte on, while the batch runs and until its end. After an error nothing
// follows.
func (s *Service) Follow(ctx context.Context, tenant, id string, of Output, from int64) iter.Seq2[Lines, error] {
	return func(yield func(Lines, error) bool) {
		at := max(0, from)
		for {
			r, _, err := s.records.get(ctx, tenant, id)
			if err == nil {
				var more bool
				if at, more, err = s.follow(ctx, r, of, at, yield); err == nil && !more {
					return
				}
			}
			if err == nil && r.Status.Final() {
				return
			}
			if err == nil {
				err = rest(ctx, followEvery)
			}
			if err != nil {
				yield(Lines{}, err)
				return
			}
		}
	}
}

// follow gives what there is of an output; more says that more is wanted.
func (s *Service) follow(ctx context.Context, r *record, of Output, at int64, yield func(Lines, error) bool) (next int64, more bool, err error) {
	from := s.readOutput(ctx, r, of, at)
	defer from.close()
	var buf []byte
	for {
		buf = append(buf, make([]byte, followBytes)...)
		n, err := io.ReadFull(from, buf[len(buf)-followBytes:])
		buf = buf[:len(buf)-followBytes+n]
		ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !ended {
			return at, false, err
		}
		whole := bytes.LastIndexByte(buf, '\n') + 1
		if whole > 0 {
			at += int64(whole)
			if !yield(Lines{Data: bytes.Clone(buf[:whole]), Next: at}, nil) {
				return at, false, nil
			}
			buf = append(buf[:0], buf[whole:]...)
		}
		if ended {
			return at, true, nil
		}
	}
}
