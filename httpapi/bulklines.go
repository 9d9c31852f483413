package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
)

// line is one line of a bulk request that is not blank.
type line struct {
	index int    // among those that are not blank
	text  []byte // part of block
	block *block
	fault error // why there is no text
	short bool  // the input came as {"input": …}
}

// release says that nothing points into the text any more.
func (l *line) release() {
	if l.block != nil {
		l.block.release()
	}
}

// block is a piece of a body. It is used again when the reader and every line in it have let go of it.
type block struct {
	buf   []byte
	users atomic.Int32
	pool  *sync.Pool
}

const blockSize = 64 << 10

func newBlock(pool *sync.Pool, size int) *block {
	b, _ := pool.Get().(*block)
	if b == nil {
		b = &block{pool: pool}
	}
	if cap(b.buf) < size {
		b.buf = make([]byte, 0, size)
	}
	b.buf = b.buf[:0]
	b.users.Store(1)
	return b
}

func (b *block) release() {
	if b.users.Add(-1) == 0 && cap(b.buf) <= maxPooled {
		b.pool.Put(b)
	}
}

// lineReader reads the lines of a body. It reads no further than lines are taken.
type lineReader struct {
	pool    *sync.Pool // of *block
	body    io.Reader
	before  func() // is called before each read
	after   func() // and after each that brought something
	longest int    // bytes of a line
	most    int    // lines

	count int
	end   error // why there are no more lines; nil at the end of the body
}

// all is an iterator over the lines. The lines have to be released.
func (r *lineReader) all(yield func(line) bool) {
	b := newBlock(r.pool, blockSize)
	defer func() { b.release() }()
	start, skipping := 0, false // the line that is being read begins at start, or is too long to be kept
	for {
		if len(b.buf) == cap(b.buf) {
			b, start = r.next(b, start), 0
		}
		r.before()
		from := len(b.buf)
		n, err := r.body.Read(b.buf[from:cap(b.buf)])
		b.buf = b.buf[:from+n]
		if n > 0 {
			r.after()
		}
		for {
			i := bytes.IndexByte(b.buf[from:], '\n')
			if i < 0 {
				break
			}
			if !skipping && !r.emit(b, b.buf[start:from+i], yield) {
				return
			}
			skipping = false
			from += i + 1
			start = from
		}
		if skipping {
			start = len(b.buf)
		} else if len(b.buf)-start > r.longest {
			if !r.emit(b, b.buf[start:], yield) {
				return
			}
			skipping, start = true, len(b.buf)
		}
		if errors.Is(err, io.EOF) {
			if !skipping {
				r.emit(b, b.buf[start:], yield)
			}
			return
		}
		if err != nil {
			r.end = err
			return
		}
	}
}

// next returns a block that begins with the line at the end of a full one, and has room for more.
func (r *lineReader) next(full *block, start int) *block {
	rest := full.buf[start:]
	b := newBlock(r.pool, max(blockSize, min(2*len(rest), r.longest+blockSize)))
	b.buf = append(b.buf, rest...)
	full.release()
	return b
}

// emit gives a line away, unless it is blank; false if no more are wanted.
func (r *lineReader) emit(b *block, text []byte, yield func(line) bool) bool {
	if len(bytes.TrimSpace(text)) == 0 {
		return true
	}
	if r.count == r.most {
		r.end = &gateway.Problem{Code: job.CodeTooLarge, Detail: fmt.Sprintf("expected at most %d jobs in one request; those from index %d on were not taken", r.most, r.most)}
		return false
	}
	l := line{index: r.count}
	if len(text) > r.longest {
		l.fault = &gateway.Problem{Code: job.CodeTooLarge, Detail: fmt.Sprintf("expected a line of at most %d bytes", r.longest)}
	} else {
		b.users.Add(1)
		l.text, l.block = text, b
	}
	r.count++
	if !yield(l) {
		r.count--
		l.release()
		return false
	}
	return true
}
