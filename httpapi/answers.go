package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/sheafml/sheaf/gateway"
)

// answers are the lines of an answer that is written while the request still comes. A goroutine of its own writes them,
// so that a client which sends everything before it reads anything is not waited for, up to answerBytes.
type answers struct {
	w    *response
	rc   *http.ResponseController
	slow time.Duration // how long a client may take to read

	mu      sync.Mutex
	changed sync.Cond
	buf     []byte // not written yet
	due     bool   // to be written now
	closed  bool
	err     error
	begun   bool      // the headers are written, or about to be
	moved   time.Time // when the write deadline was moved last; zero while nothing is being written

	over sync.WaitGroup
}

// answerBytes bounds what waits for a client that does not read.
const answerBytes = 8 << 20

// newAnswers begins an answer, with its headers at once or with the first line, or when the client is alive.
func newAnswers(w *response, rc *http.ResponseController, slow time.Duration, atOnce bool) *answers {
	o := &answers{w: w, rc: rc, slow: slow, due: atOnce}
	o.changed.L = &o.mu
	o.over.Go(o.write)
	return o
}

// append adds lines to what is written with the next flush.
func (o *answers) append(lines func([]byte) []byte) {
	o.mu.Lock()
	o.buf = lines(o.buf)
	o.mu.Unlock()
}

// flush has what was appended written, and waits only for a client that leaves too much unread.
func (o *answers) flush() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.due = true
	o.changed.Broadcast()
	for o.err == nil && len(o.buf) > answerBytes {
		o.changed.Wait()
	}
	return o.err
}

// alive says that the client has sent something: it may be reading nothing because it is still sending.
func (o *answers) alive() {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch now := time.Now(); {
	case !o.begun:
		o.due = true
		o.changed.Broadcast()
	case !o.moved.IsZero() && now.Sub(o.moved) > o.slow/8:
		o.moved = now
		_ = o.rc.SetWriteDeadline(now.Add(o.slow))
	}
}

// close writes what is left and waits until that is done.
func (o *answers) close() error {
	o.mu.Lock()
	o.due, o.closed = true, true
	o.changed.Broadcast()
	o.mu.Unlock()
	o.over.Wait()
	return o.err
}

// write writes what is due until close.
func (o *answers) write() {
	var spare []byte
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		for !o.due && !o.closed {
			o.changed.Wait()
		}
		if o.err != nil || o.closed && !o.due {
			return
		}
		b := o.buf
		o.buf, o.due, o.begun, o.moved = spare[:0], false, true, time.Now()
		_ = o.rc.SetWriteDeadline(o.moved.Add(o.slow))
		o.mu.Unlock()
		err := o.send(b)
		o.mu.Lock()
		o.moved = time.Time{}
		if spare = b; cap(spare) > maxPooled {
			spare = nil
		}
		if err != nil {
			o.err = fmt.Errorf("%w: %w", gateway.ErrClientGone, err)
		}
		o.changed.Broadcast()
	}
}

// send writes lines, the headers before the first.
func (o *answers) send(b []byte) error {
	if o.w.status == 0 {
		o.w.WriteHeader(http.StatusOK)
	}
	if len(b) > 0 {
		if _, err := o.w.Write(b); err != nil {
			return err
		}
	}
	if err := o.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}
