package grpcapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/sheafpb"
)

// bulkItem is one message of a BulkSubmit.
type bulkItem struct {
	index uint64
	body  []byte
}

// bulk is one BulkSubmit.
type bulk struct {
	a       *API
	s       *callStream
	ctx     context.Context //nolint:containedctx // that of the stream, which the bulk does not outlive
	replies *replies
	broken  error // why no more messages came; for after the items
	stop    chan struct{}
}

// bulkSubmit answers BulkSubmit. Jobs that are in hand at the same time travel in the same messages.
func (a *API) bulkSubmit(s *callStream) error {
	select {
	case a.bulks <- struct{}{}:
		defer func() { <-a.bulks }()
	default:
		return &gateway.Problem{Code: gateway.CodeBusy, Busy: true, Detail: "as many streams of BulkSubmit as allowed are open already; try again later, or over another one"}
	}
	b := &bulk{a: a, s: s, ctx: s.Context(), replies: newReplies(s), stop: make(chan struct{})}
	err := gateway.SubmitAll(b.ctx, a.deps.Jobs, b.items, gateway.Bulk[bulkItem]{
		Read: b.read, Done: b.done, Flush: b.replies.flush, Interrupt: func() { close(b.stop) },
		Size:     func(item *bulkItem) int { return len(item.body) },
		Patience: a.cfg.BulkPatience,
	})
	if lost := b.replies.close(); lost != nil {
		return lost
	}
	switch {
	case err != nil:
		return err
	case b.broken != nil:
		return b.broken
	case a.isClosing():
		return errGoingDown()
	}
	return nil
}

// items yields the messages until the client ends the stream or the server goes down.
func (b *bulk) items(yield func(bulkItem) bool) {
	messages, broken, over := make(chan bulkItem), make(chan error, 1), make(chan struct{})
	defer close(over)
	// The reader is not waited for: only the end of the call ends its RecvMsg.
	go func() {
		defer close(messages)
		for i := uint64(0); ; i++ {
			f := new(frame)
			if err := b.s.RecvMsg(f); err != nil {
				if !errors.Is(err, io.EOF) {
					broken <- err
				}
				return
			}
			select {
			case messages <- bulkItem{i, f.b}:
			case <-over:
				return
			}
		}
	}()
	for {
		select {
		case item, more := <-messages:
			if !more {
				select {
				case b.broken = <-broken:
				default:
				}
				return
			}
			b.s.idle.begin()
			if !yield(item) {
				b.s.idle.end()
				return
			}
		case <-b.stop:
			return
		case <-b.s.idle.over:
			b.broken = b.s.idle.problem()
			return
		case <-b.a.closing:
			return
		}
	}
}

// read makes the submission of an item.
func (b *bulk) read(item *bulkItem, to *gateway.Submission) error {
	q, _, err := b.a.readSubmit(b.ctx, item.body, job.Bulk)
	*to = q.Submission
	return err
}

// done writes the answer to an item.
func (b *bulk) done(item *bulkItem, s *gateway.Submission, err error) {
	defer b.s.idle.end()
	a, answer := b.a, &sheafpb.BulkReply{Index: item.index, RequestId: s.Request.RequestID}
	if err == nil {
		answer.Id, answer.Duplicate = s.Ticket.String(), s.Duplicate
	} else {
		err = explain(err, &s.Info)
		answer.Error = a.jobError(gateway.ProblemOf(err))
	}
	code := a.statusOf(b.ctx, err).Code()
	a.metrics.streamed.WithLabelValues(b.s.method, code.String()).Inc()
	if err != nil {
		a.report(b.ctx, b.s.method, code, err)
	}
	b.replies.add(answer)
}

// replies are the answers of a stream. A goroutine of its own sends them, so that a client which sends everything before
// it reads anything is not waited for, up to replyBytes.
type replies struct {
	s *callStream

	mu      sync.Mutex
	changed sync.Cond
	list    [][]byte // not sent yet
	bytes   int      // of them, and of those being sent
	closed  bool
	err     error

	over sync.WaitGroup
}

const (
	// replyBytes bounds what waits for a client that does not read.
	replyBytes = 1 << 20
	// replyOverhead is what an answer takes besides its bytes.
	replyOverhead = 64
)

func newReplies(s *callStream) *replies {
	r := &replies{s: s}
	r.changed.L = &r.mu
	r.over.Go(r.send)
	return r
}

// add has an answer sent with the next flush.
func (r *replies) add(m proto.Message) {
	b, err := proto.Marshal(m)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("encode an answer: %w", err)
	}
	r.list = append(r.list, b)
	r.bytes += len(b) + replyOverhead
}

// flush has what was added sent, and waits only for a client that leaves too much unread.
func (r *replies) flush() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed.Broadcast()
	r.s.idle.hold()
	defer r.s.idle.release()
	for r.err == nil && r.bytes > replyBytes {
		r.changed.Wait()
	}
	return r.err
}

// close sends what is left and waits until that is done.
func (r *replies) close() error {
	r.mu.Lock()
	r.closed = true
	r.changed.Broadcast()
	r.mu.Unlock()
	r.over.Wait()
	return r.err
}

// send sends what there is until close.
func (r *replies) send() {
	var sending [][]byte
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		for len(r.list) == 0 && !r.closed && r.err == nil {
			r.changed.Wait()
		}
		if r.err != nil || len(r.list) == 0 {
			return
		}
		sending, r.list = r.list, sending[:0]
		r.mu.Unlock()
		sent, err := 0, error(nil)
		for i, b := range sending {
			if err = r.s.SendMsg(&frame{b}); err != nil {
				break
			}
			sent += len(b) + replyOverhead
			sending[i] = nil
		}
		r.mu.Lock()
		r.bytes -= sent
		r.err = err
		r.changed.Broadcast()
	}
}
